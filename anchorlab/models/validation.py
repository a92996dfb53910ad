"""Checks of user values that more than one model shares."""

from typing import Any

from anchorlab.errors import InputError


def check_positive_integer(field: str, value: Any) -> int:
    """The value itself; raises `InputError` unless it is an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{field}: must be an integer of at least 1, got {value!r}")
    return value


def check_positive_number(field: str, value: Any) -> float:
    """The value as a float; raises `InputError` unless it is a finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise InputError(f"{field}: must be a finite number above 0, got {value!r}")
    return float(value)


def head_width_of(width: int, heads: int, head_width: int | None) -> int:
    """Columns of one head: as given, else `width / heads`; raises `InputError` when that is not whole."""
    if head_width is not None:
        return check_positive_integer("head_width", head_width)
    if width % heads:
        raise InputError(f"width: must be divisible by heads={heads} when head_width is not given, got {width}")
    return width // heads
