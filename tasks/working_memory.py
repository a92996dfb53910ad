"""Two anchors with irrelevant tokens between them (section 12.6.5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import product
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Int
from pydantic import Field
from pydantic.dataclasses import dataclass

from anchorlab.errors import InputError

from .base import LARGEST_LENGTH, STRICT, Located, Range, Task, check_rows, check_tokens, find_anchors, is_number
from .cells import Cells, Variant
from .operations import Operation
from .randomness import Stream
from .registry import register_task
from .rules import Names, Rules, check_tuple, solve_rows
from .splits import HeldOutPairs
from .vocabulary import LARGEST_SIZE, AnchorName, place_anchors


@register_task
@dataclass(frozen=True, kw_only=True, config=STRICT)
class WorkingMemory(Task):
    """The first anchor directly follows the key; the second acts on the result, after irrelevant tokens.

    1: x, 2: x+1 for the first anchor, 3: x, 4: x−2 for the second (fig. 12.10). The number of tokens between the
    anchors is drawn uniformly from those that fit.
    """

    name: ClassVar[str] = "working_memory"
    source: ClassVar[str] = "section 12.6.5, fig. 12.10, eq. 12.5; arXiv 2401.08309"
    preset_fields: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "book": {},
        "arxiv-2401.08309": {"vocabulary_size": 201},
    }

    length: int = Field(default=20, ge=4, le=LARGEST_LENGTH, description="number of tokens in a row")
    first: dict[AnchorName, str] = Field(
        default={"1": "identity", "2": "add:1"}, min_length=1, description="operations of the first anchors"
    )
    second: dict[AnchorName, str] = Field(
        default={"3": "identity", "4": "add:-2"}, min_length=1, description="operations of the second anchors"
    )
    anchor_ids: dict[AnchorName, int] | None = Field(
        default=None, description="token id of each anchor; none: 1, 2, … in order"
    )
    smallest_gap: int = Field(default=1, ge=0, description="fewest tokens between the two anchors")
    largest_gap: int | None = Field(default=None, ge=0, description="most tokens between them; none: as many as fit")
    key_positions: Range | None = Field(
        default=None, description="range of positions of the key; none: wherever the anchors fit after it"
    )
    held_out: tuple[tuple[AnchorName, AnchorName], ...] = Field(
        default=(), description="pairs of anchors that only ood has"
    )
    ood_keys: Literal["all", "test"] = Field(
        default="all", description="keys of the ood split: all, or only those that would be test keys"
    )

    _operation_field: ClassVar[str] = "second"
    _grid_fields: ClassVar[tuple[str, str, str]] = ("first", "length", "numbers")

    def _check(self) -> None:
        if len(self.first) * len(self.second) >= LARGEST_SIZE:
            raise InputError(
                f"first: {len(self.first)} first and {len(self.second)} second anchors make too many pairs"
            )
        if both := sorted(set(self.first) & set(self.second)):
            raise InputError(f"second: anchor {both[0]!r} is also a first anchor; the two kinds have different names")
        for names in self.held_out:
            check_tuple("held_out", names, {**self.first, **self.second}, 2)
            if names[0] not in self.first or names[1] not in self.second:
                raise InputError(f"held_out: {','.join(names)!r} is not allowed; a pair is a first and a second anchor")
        if self.smallest_gap > self.length - 3:
            raise InputError(f"smallest_gap: {self.smallest_gap} does not fit; allowed: 0..{self.length - 3}")
        if self.key_positions and not 0 <= self.key_positions[0] <= self.key_positions[1] <= self._last_key_position:
            raise InputError(
                f"key_positions: {self.key_positions} is not allowed; allowed: ranges in 0..{self._last_key_position}"
            )
        if self.largest_gap is not None and self.largest_gap < self.smallest_gap:
            raise InputError(f"largest_gap: {self.largest_gap} is less than smallest_gap {self.smallest_gap}")

    @cached_property
    def _rules(self) -> Rules:
        return Rules.parse({**self.first, **self.second}, {}, self.numbers, links=2)

    @cached_property
    def _tuples(self) -> Sequence[Names]:
        return list(product(self.first, self.second))

    @cached_property
    def _label_table(self) -> Int[np.ndarray, "variants keys"]:
        return self._rules.table(self._tuples, self.numbers)

    @cached_property
    def _label_values(self) -> Int[np.ndarray, " values"]:
        return np.unique(self._label_table)

    @cached_property
    def _anchors(self) -> Mapping[str, int]:
        names = [*self.first, *self.second]
        given = self.anchor_ids or {name: place + 1 for place, name in enumerate(names)}
        return place_anchors(names, given, highest_number=0, highest_label=0)

    @cached_property
    def _variants(self) -> Sequence[Variant]:
        return [
            Variant((self._anchors[one], self._anchors[two]), group) for group, (one, two) in enumerate(self._tuples)
        ]

    @cached_property
    def _key_positions(self) -> Sequence[int]:
        low, high = self.key_positions or (0, self._last_key_position)
        return range(low, high + 1)

    @property
    def _last_key_position(self) -> int:
        return self.length - 3 - self.smallest_gap

    @property
    def _held_out(self) -> HeldOutPairs | None:
        if not self.held_out:
            return None
        return HeldOutPairs(tuple((self._anchors[one], self._anchors[two]) for one, two in self.held_out))

    @property
    def single_anchors(self) -> Mapping[int, Operation]:
        """g(·; a) of eq. 13.2 by the id of the anchor a, of both kinds."""
        return self._rules.on_one_item(self._anchors)

    @property
    def _ood_keys(self) -> Literal["all", "test"]:
        return self.ood_keys

    @property
    def group_names(self) -> tuple[str, ...]:
        """One group per pair of anchors, such as ``1,3``."""
        return tuple(",".join(names) for names in self._tuples)

    def _fill(
        self, cells: Cells, chosen: Int[np.ndarray, " n"], stream: Stream
    ) -> tuple[Int[np.ndarray, "n length"], Int[np.ndarray, " n"]]:
        count = len(chosen)
        rows, key_at = np.arange(count), cells.key_position[chosen].astype(np.int64)
        largest = self.length - 3 - key_at
        if self.largest_gap is not None:
            largest = np.minimum(largest, min(self.largest_gap, self.length))
        gap = self.smallest_gap + stream.below(largest - self.smallest_gap + 1, count)
        tokens = stream.numbers(*self.noise, count, self.length)
        tokens[rows, key_at] = cells.key[chosen]
        tokens[rows, key_at + 1] = cells.anchors[chosen, 0]
        tokens[rows, key_at + 2 + gap] = cells.anchors[chosen, 1]
        return tokens, self._label_table[cells.variant[chosen], cells.key[chosen] - self.numbers[0]]

    def locate(self, tokens: Int[np.ndarray, "n length"]) -> Located:
        """Find both anchors by their ids and the key before the first. Raises `InputError` for malformed rows."""
        tokens = check_tokens(self, tokens)
        anchors, positions = find_anchors(tokens, list(self._anchors.values()), 2)
        for column, kind in enumerate((self.first, self.second)):
            ids = [self._anchors[name] for name in kind]
            check_rows(np.isin(anchors[:, column], ids), f"has the wrong kind of anchor in place {column + 1}")
        key_at = positions[:, 0] - 1
        check_rows(key_at >= 0, "has no key before its first anchor")
        key = np.take_along_axis(tokens, key_at[:, None], axis=1)[:, 0]
        check_rows(is_number(self, key), "has no number before its first anchor")
        return Located(key, key_at, anchors, positions)

    def solve(self, tokens: Int[np.ndarray, "n length"]) -> Int[np.ndarray, " n"]:
        """Apply the operations of the anchors found in each row, first one first, to the key found before them."""
        found = self.locate(tokens)
        names = {anchor: name for name, anchor in self._anchors.items()}
        return solve_rows(self._rules, names, found.anchors, found.key[:, None])
