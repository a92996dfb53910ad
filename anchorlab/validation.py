"""Clear errors for wrong settings: one line that tells what to write instead."""

import dataclasses
import difflib
import functools
from collections.abc import Iterable
from typing import TypeVar

from pydantic import ValidationError

from anchorlab.errors import InputError

Class = TypeVar("Class", bound=type)

_LONGEST_VALUE = 100


def checked(cls: Class) -> Class:
    """Make a pydantic dataclass raise InputError instead of pydantic's own error."""
    construct = cls.__init__  # type: ignore[misc]

    @functools.wraps(construct)
    def __init__(self: object, *args: object, **kwargs: object) -> None:  # noqa: N807 - it becomes the class's own
        known = [field.name for field in dataclasses.fields(cls)]
        for name in kwargs:
            check_known("setting", name, known)
        try:
            construct(self, *args, **kwargs)
        except ValidationError as error:
            raise from_validation_error(error) from None

    cls.__init__ = __init__  # type: ignore[misc]
    return cls


def from_validation_error(error: ValidationError) -> InputError:
    """The first problem of `error` in one line: field, value, what is allowed."""
    first, *others = error.errors()
    if isinstance(cause := first.get("ctx", {}).get("error"), InputError):
        return cause
    # Where several types are allowed, each has its own error and pydantic's name for the type in its place.
    field = _field(first["loc"])
    alternatives = dict.fromkeys(one["msg"] for one in (first, *others) if _field(one["loc"]) == field)
    allowed = ", or ".join(f"{message[0].lower()}{message[1:]}" for message in alternatives)
    return InputError(f"{field}={_short(first['input'])}: {allowed}")


def _field(place: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in place if isinstance(part, int) or part.isidentifier())


def check_known(field: str, value: str, known: Iterable[str]) -> None:
    """Raise InputError, with the nearest known name, unless `value` is among `known`."""
    names = list(known)
    if value not in names:
        raise unknown_name(field, value, names)


def unknown_name(field: str, value: object, known: Iterable[str]) -> InputError:
    """The error for a `value` that is not among the `known` names, with the nearest of them."""
    names = list(known)
    near = difflib.get_close_matches(str(value), names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names) or 'none'}"
    return InputError(f"{field}: unknown value {value!r}; {hint}")


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= _LONGEST_VALUE else f"{shown[:_LONGEST_VALUE]}…"
