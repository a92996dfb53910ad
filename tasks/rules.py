"""What a tuple of anchors does to its key items: composed operations (eq. 12.5) and any others (eq. 12.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from anchorlab.errors import InputError
from anchorlab.validation import unknown_name

from .operations import Operation, parse

Names = tuple[str, ...]


@dataclass(frozen=True)
class Rules:
    """The operation of each anchor, and of the tuples that break the rule of composition.

    The operation that acts first, and that of an exception, reads the key items (the first m of them if it takes m);
    every later operation reads the one value that the operation before it returned.
    """

    operations: Mapping[str, Operation]
    overrides: Mapping[Names, Operation]
    first_is_innermost: bool

    @classmethod
    def parse(
        cls,
        operations: Mapping[str, str],
        overrides: Mapping[str, str],
        numbers: tuple[int, int],
        *,
        links: int,
        items: int = 1,
        first_is_innermost: bool = True,
    ) -> Rules:
        """Read the operation strings; the keys of `overrides` are anchor names joined by commas.

        Raises `InputError` for an operation of several key items where there are fewer `items`.
        """
        exceptions = {}
        for joined, text in overrides.items():
            names = tuple(part.strip() for part in joined.split(","))
            check_tuple("overrides", names, operations, links)
            exceptions[names] = _parse("overrides", joined, text, numbers, items)
        own = {name: _parse("operation", name, text, numbers, items) for name, text in operations.items()}
        return cls(own, exceptions, first_is_innermost)

    def check_places(self, tuples: Sequence[Names]) -> None:
        """Raise `InputError` if an operation of several key items acts on the result of another anchor."""
        several = {name for name, operation in self.operations.items() if operation.arity != 1}
        for names in tuples if several else ():
            later = names[1:] if self.first_is_innermost else names[:-1]
            if names not in self.overrides and (wrong := several.intersection(later)):
                raise InputError(
                    f"operations: {min(wrong)!r} takes several key items but acts on one value in {','.join(names)!r}; "
                    "give such an operation to `overrides`, or override every tuple in which its anchor acts later"
                )

    def apply(self, names: Names, items: Int[np.ndarray, "n items"]) -> Int[np.ndarray, " n"]:
        """Return the label of each row of key items under one tuple of anchors."""
        first, *later = self._in_turn(names)
        values = first.apply(items[:, : first.arity])
        for operation in later:
            values = operation.apply(values[:, None])
        return values

    def table(self, tuples: Sequence[Names], numbers: tuple[int, int]) -> Int[np.ndarray, "tuples keys"]:
        """Return the label of every key under every tuple of anchors, for one key item."""
        labels = np.empty((len(tuples), numbers[1] - numbers[0] + 1), np.int64)
        keys = np.arange(numbers[0], numbers[1] + 1)[:, None]
        for row, names in enumerate(tuples):
            labels[row] = self.apply(names, keys)
        return labels

    def reachable(self, tuples: Sequence[Names], numbers: tuple[int, int], items: int) -> Int[np.ndarray, " values"]:
        """Return the labels that occur, for `items` key items (of an operation of several: its whole extent)."""
        return np.unique(np.concatenate([self._results(names, numbers, items) for names in tuples]))

    def _results(self, names: Names, numbers: tuple[int, int], items: int) -> Int[np.ndarray, " values"]:
        first, *later = self._in_turn(names)
        low, high = first.extent(*numbers, items if first.arity is None else first.arity)
        values = np.arange(low, high + 1)
        for operation in later:
            values = np.unique(operation.apply(values[:, None]))
        return values

    def on_one_item(self, ids: Mapping[str, int]) -> dict[int, Operation]:
        """Return the operation of every anchor by its id; empty if one of them takes several key items."""
        if any(operation.arity != 1 for operation in self.operations.values()):
            return {}
        return {ids[name]: operation for name, operation in self.operations.items()}

    def _in_turn(self, names: Names) -> list[Operation]:
        if names in self.overrides:
            return [self.overrides[names]]
        return [self.operations[name] for name in (names if self.first_is_innermost else reversed(names))]

    def label_of(self, names: Names, items: Sequence[int]) -> int:
        """Return the label of one row of key items in plain integers (the oracle's way)."""
        if names in self.overrides:
            return _apply_one(self.overrides[names], items)
        return self._compose(names, items)

    def _compose(self, names: Names, items: Sequence[int]) -> int:
        outermost, inner = (names[-1], names[:-1]) if self.first_is_innermost else (names[0], names[1:])
        operation = self.operations[outermost]
        return operation.apply_one(self._compose(inner, items)) if inner else _apply_one(operation, items)


def _parse(field: str, name: str, text: str, numbers: tuple[int, int], items: int) -> Operation:
    operation = parse(text, numbers, None)
    needed = 2 if operation.arity is None else operation.arity
    if needed > items:
        more = f"{needed} key items" if operation.arity else "several key items"
        raise InputError(f"{field}: {text!r} of {name!r} takes {more}; here there is {items}")
    return operation


def _apply_one(operation: Operation, items: Sequence[int]) -> int:
    return operation.apply_one(*items[: operation.arity])


def check_tuple(field: str, names: Names, known: Mapping[str, object], links: int) -> None:
    """Raise `InputError` unless `names` are `links` known anchors."""
    for name in names:
        if name not in known:
            raise unknown_name(field, name, known)
    if len(names) != links:
        raise InputError(f"{field}: {','.join(names)!r} has {len(names)} anchors; allowed: exactly {links}")


def solve_rows(
    rules: Rules,
    names: Mapping[int, str],
    anchors: Int[np.ndarray, "n links"],
    items: Int[np.ndarray, "n items"],
) -> Int[np.ndarray, " n"]:
    """Return the label of each row, worked out once per different (anchors, key items)."""
    links = anchors.shape[1]
    rows, back = np.unique(np.column_stack([anchors, items]), axis=0, return_inverse=True)
    labels = [rules.label_of(tuple(names[one] for one in row[:links]), row[links:]) for row in rows.tolist()]
    return np.array(labels, np.int16)[back.reshape(-1)]
