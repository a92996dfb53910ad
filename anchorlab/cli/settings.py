"""Settings written as NAME=VALUE."""

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

from anchorlab.errors import InputError

Set = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="any other setting of Experiment; task.NAME sets a task's parameter, model.NAME an option of the model",
    ),
]


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """Return the settings as a mapping; a value is read as JSON and, if it is none, as a string.

    Raises `InputError` for a setting without a name or "=", and for a name that is given twice.
    """
    parsed: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        name = name.strip()
        if not equals or not name:
            raise InputError(f"--set: {setting!r} is not a setting; allowed: NAME=VALUE, for example modulus=8")
        if name in parsed:
            raise InputError(f"--set: {name!r} is given twice; give it once")
        try:
            parsed[name] = json.loads(text)
        except json.JSONDecodeError:
            parsed[name] = text
    return parsed


def merge_settings(chosen: dict[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of Experiment: those `chosen` by options, and `settings`, where task.NAME and model.NAME may occur.

    Raises `InputError` for a setting that has an option or argument of its own.
    """
    fields = {"task": "task_fields", "model": "model_options"}
    merged = dict(chosen)
    for name, value in settings.items():
        prefix, dot, rest = name.partition(".")
        if dot and prefix in fields:
            merged.setdefault(fields[prefix], {})[rest] = value
        elif name in ("task", "data", *fields.values(), *chosen):
            raise InputError(f"--set: {name!r} has an option or argument of its own, or is written task.… or model.…")
        else:
            merged[name] = value
    return merged
