"""Types of settings: numbers, also those of numpy but never true or false, and known names."""

from collections.abc import Collection
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from anchorlab.errors import InputError
from anchorlab.validation import check_known


def _number(value: Any) -> Any:
    if _is_boolean(value):  # which Python would take for 1 or 0
        raise PydanticCustomError("number", "must be a number, not true or false")
    return value.item() if isinstance(value, np.generic) else value  # pydantic would read it through a float


def _is_boolean(value: Any) -> bool:
    return isinstance(value, bool | np.bool_)


def _listed(value: Any) -> Any:
    return tuple(value) if isinstance(value, np.ndarray | range) else value


Whole = Annotated[int, BeforeValidator(_number)]
NonNegativeWhole = Annotated[Whole, Field(ge=0)]
PositiveWhole = Annotated[Whole, Field(gt=0)]
Seed = Annotated[Whole, Field(ge=0, lt=2**63)]
Finite = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
NonNegative = Annotated[Finite, Field(ge=0)]
Positive = Annotated[Finite, Field(gt=0)]
Share = Annotated[Finite, Field(ge=0, le=1)]
Wholes = Annotated[tuple[Whole, ...], BeforeValidator(_listed)]
Positives = Annotated[tuple[Positive, ...], BeforeValidator(_listed)]


def known(field: str, names: Collection[str]) -> BeforeValidator:
    """A check that a value is among `names`; the error has the nearest of them."""

    def check(value: Any) -> Any:
        check_known(field, value, names)
        return value

    return BeforeValidator(check)


def whole(field: str, value: Any, least: int = 0) -> int:
    """A whole number as an int, those of numpy included; raises InputError for others and for less than `least`."""
    if _is_boolean(value) or not isinstance(value, int | np.integer) or not least <= value < 2**63:
        raise InputError(f"{field}={value!r}: must be a whole number of at least {least}")
    return int(value)
