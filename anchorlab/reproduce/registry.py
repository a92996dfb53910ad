"""All reproductions by id: what the modules of the chapters declare."""

import difflib
import re
from functools import cache
from importlib import import_module
from pkgutil import walk_packages

from anchorlab.errors import InputError

from .reproduction import Reproduction


def names() -> tuple[str, ...]:
    """All ids, in the order of chapters and figures."""
    return tuple(_all())


def get(name: str) -> Reproduction:
    """The reproduction of an id; raises InputError, with the nearest ids, for an unknown one."""
    if name not in _all():
        folded = {one.casefold(): one for one in _all()}
        near = [folded[one] for one in difflib.get_close_matches(name.casefold(), folded, n=3)]
        hint = f"nearest: {', '.join(near)}" if near else "`anchorlab reproduce list` shows all"
        raise InputError(f"id: unknown {name!r}; {hint}")
    return _all()[name]


@cache
def _all() -> dict[str, Reproduction]:
    package = import_module(__package__)
    modules = (module.name for module in walk_packages(package.__path__, f"{__package__}."))
    chapters = [import_module(name) for name in modules if name.startswith(f"{__package__}.chapter")]
    found: list[Reproduction] = [one for module in chapters for one in getattr(module, "REPRODUCTIONS", ())]
    ordered = {one.id: one for one in sorted(found, key=lambda one: _natural(one.id))}
    assert len(ordered) == len(found), "two reproductions have one id"
    return ordered


def _natural(name: str) -> tuple[list[int], str]:
    """Figures in the order of their numbers; names without a number at the end."""
    return [int(part) for part in re.findall(r"\d+", name)] or [10**6], name
