"""Operations of anchors, g_a of eqs. 12.3-12.5, named by short strings such as ``add:5``; nothing is evaluated.

Own operations: subclass `Operation`, give it a `name`, define `apply_one`, and decorate the class with `register`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Int

from anchorlab.errors import InputError
from anchorlab.validation import unknown_name

from .randomness import Stream

LARGEST_ARGUMENT = 2**31 - 1  # chains of such offsets stay far inside 64 bits


class Operation(ABC):
    """A map from the values of the key items to one number.

    `apply_one` is the definition, in plain integers, and all that the oracle of a task uses; `apply` does many rows at
    once for the generator. The default `apply` calls `apply_one`, so the oracle checks an operation only if it
    overrides `apply`; otherwise it checks everything around the operation. An operation of arity m reads the first m
    key items.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    arity: ClassVar[int | None] = 1  # None: any number of key items
    argument_rule: ClassVar[Literal["none", "optional", "required"]] = "none"

    def __init__(self, argument: int | None, numbers: tuple[int, int]) -> None:
        self.argument = argument
        self.numbers = numbers

    @abstractmethod
    def apply_one(self, *values: int) -> int:
        """Return the result for the key items of one row."""

    def apply(self, values: Int[np.ndarray, "rows items"]) -> Int[np.ndarray, " rows"]:
        """Return the result for each row of key items."""
        rows, back = np.unique(values, axis=0, return_inverse=True)
        return np.array([self.apply_one(*row) for row in rows.tolist()], np.int64)[back.reshape(-1)]

    def extent(self, low: int, high: int, items: int) -> tuple[int, int]:
        """Return the smallest and largest result for key items in low..high."""
        if items != 1:
            raise InputError(f"operation: {self.name!r} does not say its extent for {items} key items; define `extent`")
        results = self.apply(np.arange(low, high + 1)[:, None])
        return int(results.min()), int(results.max())


_OPERATIONS: dict[str, type[Operation]] = {}


def register(operation: type[Operation]) -> type[Operation]:
    """Make an `Operation` subclass known by its name (a class decorator). A name can be taken once: `InputError`."""
    if operation.name in _OPERATIONS:
        raise InputError(f"operation: the name {operation.name!r} is taken; choose another")
    _OPERATIONS[operation.name] = operation
    return operation


def operations() -> dict[str, type[Operation]]:
    """Return the known operations by name."""
    return dict(_OPERATIONS)


def parse(text: str, numbers: tuple[int, int], items: int | None = 1) -> Operation:
    """Return the operation that `text` names (``name`` or ``name:argument``) over the numbers low..high.

    Raises `InputError` for an unknown name, a missing, superfluous, non-integer or too large argument, and, unless
    `items` is None, an operation that does not take this number of key items.
    """
    name, colon, argument = text.partition(":")
    if name not in _OPERATIONS:
        raise unknown_name("operation", name, _OPERATIONS)
    kind = _OPERATIONS[name]
    if kind.argument_rule == "none" and colon:
        raise InputError(f"operation: {text!r} has an argument; {name!r} takes none")
    if kind.argument_rule == "required" and not colon:
        raise InputError(f"operation: {text!r} needs an argument, for example '{name}:5'")
    if items is not None and kind.arity is not None and kind.arity != items:
        raise InputError(f"operation: {text!r} takes {kind.arity} key item(s), here there are {items}")
    return kind(_argument(text, argument) if colon else None, numbers)


def _argument(text: str, argument: str) -> int:
    """Return the argument of the operation `text`; `InputError` if it is no integer or too large."""
    try:
        number = int(argument)
    except ValueError:
        raise InputError(f"operation: the argument of {text[:50]!r} is not an integer of at most ten digits") from None
    if abs(number) > LARGEST_ARGUMENT:
        raise InputError(
            f"operation: the argument of {text[:50]!r} is too large; allowed: {-LARGEST_ARGUMENT}..{LARGEST_ARGUMENT}"
        )
    return number


@register
class Identity(Operation):
    """The key item itself (eq. 12.1)."""

    name = "identity"
    summary = "x"

    def apply_one(self, *values: int) -> int:
        """Return the key item."""
        return values[0]

    def apply(self, values: Int[np.ndarray, "rows items"]) -> Int[np.ndarray, " rows"]:
        """Return the key items."""
        return values[:, 0].astype(np.int64)


@register
class Add(Operation):
    """Adds a constant; these operations commute (eq. 13.2)."""

    name = "add"
    summary = "x + k"
    argument_rule = "required"

    def apply_one(self, *values: int) -> int:
        """Return the key item plus the constant."""
        return values[0] + (self.argument or 0)

    def apply(self, values: Int[np.ndarray, "rows items"]) -> Int[np.ndarray, " rows"]:
        """Return the key items plus the constant."""
        results: Int[np.ndarray, " rows"] = values[:, 0].astype(np.int64) + (self.argument or 0)
        return results


@register
class Reflect(Operation):
    """Reflects at a point; does not commute with `add`."""

    name = "reflect"
    summary = "k − x"
    argument_rule = "required"

    def apply_one(self, *values: int) -> int:
        """Return the constant minus the key item."""
        return (self.argument or 0) - values[0]

    def apply(self, values: Int[np.ndarray, "rows items"]) -> Int[np.ndarray, " rows"]:
        """Return the mirror images of the key items: as far from k/2 as they are, on the other side."""
        centre_doubled = self.argument or 0
        doubled_distance = 2 * values[:, 0].astype(np.int64) - centre_doubled
        results: Int[np.ndarray, " rows"] = (centre_doubled - doubled_distance) // 2
        return results


@register
class Permute(Operation):
    """A fixed random permutation of the numbers; different seeds do not commute. Values outside the numbers stay."""

    name = "permute"
    summary = "π(x), the random permutation of the numbers with seed k"
    argument_rule = "required"

    def __init__(self, argument: int | None, numbers: tuple[int, int]) -> None:
        super().__init__(argument, numbers)
        if argument is not None and argument < 0:
            raise InputError(f"operation: the seed of 'permute:{argument}' is negative; allowed: 0 and above")

    def _order(self) -> Int[np.ndarray, " numbers"]:
        low, high = self.numbers
        return Stream("permute", self.argument or 0, low, high).permutation(high - low + 1)

    @cached_property
    def _images(self) -> dict[int, int]:
        low = self.numbers[0]
        return {low + place: low + image for place, image in enumerate(self._order().tolist())}

    def apply_one(self, *values: int) -> int:
        """Return the image of the key item."""
        return self._images.get(values[0], values[0])

    def apply(self, values: Int[np.ndarray, "rows items"]) -> Int[np.ndarray, " rows"]:
        """Return the images of the key items."""
        low, high = self.numbers
        keys = values[:, 0].astype(np.int64)
        return np.where((keys >= low) & (keys <= high), low + self._order()[np.clip(keys, low, high) - low], keys)


@register
class Sum(Operation):
    """Adds all key items."""

    name = "sum"
    summary = "x₁ + x₂ + …"
    arity = None

    def apply_one(self, *values: int) -> int:
        """Return the sum of the key items."""
        return sum(values)

    def apply(self, values: Int[np.ndarray, "rows items"]) -> Int[np.ndarray, " rows"]:
        """Return the sum of each row."""
        results: Int[np.ndarray, " rows"] = values.sum(axis=1, dtype=np.int64)
        return results

    def extent(self, low: int, high: int, items: int) -> tuple[int, int]:
        """Return the sums of the smallest and of the largest items."""
        return low * items, high * items


@register
class Difference(Operation):
    """Subtracts the second key item from the first; shifted by k (100 unless given) because labels are positive."""

    name = "difference"
    summary = "x₁ − x₂ + k"
    arity = 2
    argument_rule = "optional"

    @property
    def _shift(self) -> int:
        return 100 if self.argument is None else self.argument

    def apply_one(self, *values: int) -> int:
        """Return the shifted difference of the two key items."""
        return values[0] - values[1] + self._shift

    def apply(self, values: Int[np.ndarray, "rows items"]) -> Int[np.ndarray, " rows"]:
        """Return the shifted difference of each row."""
        results: Int[np.ndarray, " rows"] = values[:, 0].astype(np.int64) + self._shift - values[:, 1]
        return results

    def extent(self, low: int, high: int, items: int) -> tuple[int, int]:
        """Return the shifted differences of the extreme items."""
        return low - high + self._shift, high - low + self._shift


@register
class Maximum(Operation):
    """The largest key item."""

    name = "max"
    summary = "max(x₁, x₂, …)"
    arity = None

    def apply_one(self, *values: int) -> int:
        """Return the largest key item."""
        return max(values)

    def apply(self, values: Int[np.ndarray, "rows items"]) -> Int[np.ndarray, " rows"]:
        """Return the largest item of each row."""
        results: Int[np.ndarray, " rows"] = values.max(axis=1).astype(np.int64)
        return results

    def extent(self, low: int, high: int, items: int) -> tuple[int, int]:
        """Return the range of the items."""
        return low, high


@register
class Minimum(Maximum):
    """The smallest key item."""

    name = "min"
    summary = "min(x₁, x₂, …)"

    def apply_one(self, *values: int) -> int:
        """Return the smallest key item."""
        return min(values)

    def apply(self, values: Int[np.ndarray, "rows items"]) -> Int[np.ndarray, " rows"]:
        """Return the smallest item of each row."""
        results: Int[np.ndarray, " rows"] = values.min(axis=1).astype(np.int64)
        return results


def additive(offsets: Iterable[int]) -> dict[str, str]:
    """Return operations ``add:k`` for anchors named a, b, c, … (a0, a1, … beyond 26)."""
    return _named(f"add:{offset}" for offset in offsets)


def permutations(count: int, seed: int = 0) -> dict[str, str]:
    """Return `count` non-commuting operations ``permute:seed``, ``permute:seed+1``, … for anchors named as above."""
    return _named(f"permute:{seed + index}" for index in range(count))


def _named(texts: Iterable[str]) -> dict[str, str]:
    listed = list(texts)
    names = (
        [chr(ord("a") + i) for i in range(len(listed))] if len(listed) <= 26 else [f"a{i}" for i in range(len(listed))]
    )
    return dict(zip(names, listed, strict=True))
