"""Tasks by name."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic.fields import FieldInfo

from anchorlab.errors import InputError
from anchorlab.validation import checked, unknown_name

from .base import Task, as_json

Kind = TypeVar("Kind", bound=type)
_SHORT_TYPES = {
    "Pairs": "tuple[tuple[str, str], ...]",
    "Range": "tuple[int, int]",
    "AnchorName": "str",
}
_TASKS: dict[str, type[Task]] = {}


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One field of a task: its type as written, its default in JSON types, and what it means."""

    name: str
    type: str
    default: Any
    description: str


def register_task(kind: Kind) -> Kind:
    """Make a task class known by its name (a class decorator). A name can be taken once: `InputError`."""
    if not issubclass(kind, Task):
        raise InputError(f"task: {kind.__name__} is not a kind of Task")
    if kind.name in _TASKS:
        raise InputError(f"task: the name {kind.name!r} is taken; choose another")
    _TASKS[kind.name] = kind
    checked(kind)
    return kind


def names() -> tuple[str, ...]:
    """Return the names that `create` takes."""
    return tuple(_TASKS)


def task_class(name: str) -> type[Task]:
    """Return the class of a task; `InputError` for an unknown name."""
    if name not in _TASKS:
        raise unknown_name("task", name, _TASKS)
    return _TASKS[name]


def presets(name: str) -> tuple[str, ...]:
    """Return the names of a task's presets."""
    return tuple(task_class(name).preset_fields)


def parameters(name: str) -> tuple[Parameter, ...]:
    """Return the fields of a task with their defaults and meanings."""
    described = []
    for field in dataclasses.fields(task_class(name)):
        info: Any = field.default
        if not isinstance(info, FieldInfo):
            raise InputError(
                f"task: field {field.name!r} of {name!r} is not described; declare it with pydantic's Field"
            )
        default = as_json(info.get_default(call_default_factory=True, validated_data={}))
        described.append(Parameter(field.name, _readable(str(field.type)), default, info.description or ""))
    return tuple(described)


def _readable(annotation: str) -> str:
    """Write the short type names of the task modules out."""
    for short, long in _SHORT_TYPES.items():
        annotation = re.sub(rf"\b{short}\b", long, annotation)
    return annotation


def create(name: str, preset: str | None = None, **fields: Any) -> Task:
    """Return a task: its defaults, changed by a preset, changed by `fields`.

    Raises `InputError`, one line, for an unknown task, preset or field, and for values that are not allowed.
    """
    kind = task_class(name)
    if preset is not None and preset not in kind.preset_fields:
        raise unknown_name("preset", preset, kind.preset_fields)
    return kind(**{**(kind.preset_fields[preset] if preset is not None else {}), **fields})


def from_config(config: Mapping[str, Any]) -> Task:
    """Return the task that `Task.config` described."""
    if set(config) != {"name", "fields"} or not isinstance(config["fields"], Mapping):
        raise InputError(f"task: {dict(config)!r} is not a task; allowed: {{'name': ..., 'fields': {{...}}}}")
    return create(config["name"], **config["fields"])
