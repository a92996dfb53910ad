"""The package's HTML templates and style sheets."""

from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined


def resource(name: str) -> str:
    """The text of a file beside this module."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def render_template(name: str, **values: Any) -> str:
    """A template filled in; everything is escaped that is not marked safe, and a missing value raises."""
    environment = Environment(loader=FunctionLoader(resource), autoescape=True, undefined=StrictUndefined)
    environment.trim_blocks = environment.lstrip_blocks = True
    return environment.get_template(name).render(**values)
