"""What a tuple of anchors does to a key: composed operations (eq. 12.5) and exceptions to them (eq. 12.4)."""

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
    """The operation of each anchor, and of the tuples that break the rule of composition."""

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
        first_is_innermost: bool = True,
    ) -> Rules:
        """Read the operation strings; the keys of `overrides` are anchor names joined by commas."""
        exceptions = {}
        for joined, text in overrides.items():
            names = tuple(part.strip() for part in joined.split(","))
            check_tuple("overrides", names, operations, links)
            exceptions[names] = parse(text, numbers)
        return cls({name: parse(text, numbers) for name, text in operations.items()}, exceptions, first_is_innermost)

    def table(self, tuples: Sequence[Names], numbers: tuple[int, int]) -> Int[np.ndarray, "tuples keys"]:
        """Return the label of every key under every tuple of anchors."""
        labels = np.empty((len(tuples), numbers[1] - numbers[0] + 1), np.int64)
        keys = np.arange(numbers[0], numbers[1] + 1)
        for row, names in enumerate(tuples):
            values = keys
            for operation in self._in_turn(names):
                values = operation.apply(values[:, None])
            labels[row] = values
        return labels

    def _in_turn(self, names: Names) -> list[Operation]:
        if names in self.overrides:
            return [self.overrides[names]]
        return [self.operations[name] for name in (names if self.first_is_innermost else reversed(names))]

    def label_of(self, names: Names, key: int) -> int:
        """Return the label of one key in plain integers (the oracle's way)."""
        if names in self.overrides:
            return self.overrides[names].apply_one(key)
        return self._compose(names, key)

    def _compose(self, names: Names, key: int) -> int:
        if not names:
            return key
        outermost, inner = (names[-1], names[:-1]) if self.first_is_innermost else (names[0], names[1:])
        return self.operations[outermost].apply_one(self._compose(inner, key))


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
    key: Int[np.ndarray, " n"],
) -> Int[np.ndarray, " n"]:
    """Return the label of each row, worked out once per different (anchors, key)."""
    rows, back = np.unique(np.column_stack([anchors, key]), axis=0, return_inverse=True)
    labels = [rules.label_of(tuple(names[anchor] for anchor in row[:-1]), row[-1]) for row in rows.tolist()]
    return np.array(labels, np.int16)[back.reshape(-1)]
