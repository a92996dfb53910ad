"""Lists of values as they are written on the command line and in sweep files."""

import json
import math
import re
from decimal import Decimal, DecimalException
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from anchorlab.errors import InputError
from anchorlab.validation import check_known

from .axes import is_part
from .experiment import Experiment

MOST_VALUES = 100_000

_INTEGER = re.compile(r"\s*[+-]?\d+\s*")


def parse_values(field: str, text: str) -> list[Any]:
    """The values that `text` lists for `field`, a field of Experiment, `task.NAME` or `model.NAME`.

    Allowed are a JSON list, or values separated by commas. A value is JSON, a range `start:stop:step` of exact decimals
    that includes `stop`, or else a string; for fields that hold text it is always a string. Raises InputError.
    """
    if not is_part(field):
        check_known("vary", field, Experiment.__dataclass_fields__)
    listed = _json_list(text)
    if listed is not None:
        return listed
    return [value for item in text.split(",") for value in _parse(field, item.strip(), text)]


def _json_list(text: str) -> list[Any] | None:
    """A JSON list, or several lists separated by commas."""
    if not text.lstrip().startswith("["):
        return None
    for attempt in (text, f"[{text}]"):
        try:
            found: list[Any] = json.loads(attempt)
        except json.JSONDecodeError:
            continue
        return found
    return None


def _parse(field: str, item: str, text: str) -> list[Any]:
    if not item:
        raise InputError(f"{field}={text!r}: a value is missing; write values separated by commas")
    if not is_part(field) and _holds_text(field):
        return [item]
    if (parts := item.split(":"))[1:] and (not is_part(field) or _is_range(parts)):
        return _range(field, item, parts)
    try:
        return [json.loads(item)]
    except json.JSONDecodeError:
        return [item]


def _holds_text(field: str) -> bool:
    return all(kind is str or isinstance(kind, str) for kind in _kinds(get_type_hints(Experiment)[field]))


def _kinds(annotation: Any) -> list[Any]:
    """The types and literal values that an annotation allows, None apart."""
    if get_origin(annotation) in (Union, UnionType):
        return [kind for option in get_args(annotation) for kind in _kinds(option)]
    if get_origin(annotation) is Annotated:
        return _kinds(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [] if annotation is NoneType else [annotation]


def _is_range(parts: list[str]) -> bool:
    return len(parts) == 3 and all(_decimal(part) is not None for part in parts)


def _range(field: str, item: str, parts: list[str]) -> list[Any]:
    where = f"{field}={item!r}"
    numbers = [number for part in parts if (number := _decimal(part)) is not None]
    if len(parts) != 3 or len(numbers) != 3:
        raise InputError(f"{where}: is not a range; write start:stop:step, for example 0.3:0.9:0.05")
    start, stop, step = numbers
    if step == 0:
        raise InputError(f"{where}: the step of a range must not be 0")
    if (stop - start) * step < 0:
        raise InputError(f"{where}: this step leads away from the stop; change its sign")
    try:
        count = int(min((stop - start) / step, Decimal(MOST_VALUES))) + 1
    except DecimalException:
        count = MOST_VALUES + 1
    if count > MOST_VALUES:
        raise InputError(f"{where}: gives more than {MOST_VALUES:,} values; use a larger step")
    kind = int if all(_INTEGER.fullmatch(part) for part in parts) else float
    return [kind(start + index * step) for index in range(count)]


def _decimal(text: str) -> Decimal | None:
    try:
        number = Decimal(text.strip())
    except DecimalException:
        return None
    return number if number.is_finite() and math.isfinite(float(number)) else None
