"""A key beside k anchors in a row, each acting on the result of the one before (eqs. 12.4, 12.5, 13.1)."""

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

from .base import STRICT, Located, Range, Task, check_rows, check_tokens, find_anchors, is_number
from .cells import Cells, Variant
from .randomness import Stream
from .registry import register_task
from .rules import Names, Rules, check_tuple, solve_rows
from .splits import HeldOutPairs
from .vocabulary import place_anchors

LARGEST_NUMBER_OF_TUPLES = 1_000_000


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ChainTask(Task):
    """What `chain`, `composite` and `synonym` share."""

    length: int = Field(default=9, ge=3, description="number of tokens in a row")
    operations: dict[str, str] = Field(
        default={"a": "add:5", "b": "add:1", "c": "add:-2", "d": "add:-8"},
        min_length=1,
        description="operation of each anchor, by anchor name",
    )
    anchor_ids: dict[str, int] | None = Field(
        default=None, description="token id of each anchor; none: the ids after the largest number and label"
    )
    held_out: tuple[tuple[str, ...], ...] = Field(
        default=(), description="tuples of anchors that only the ood split has"
    )
    overrides: dict[str, str] = Field(
        default={}, description='operations of tuples that break the rule, such as {"c,d": "add:-6"} (eq. 12.4)'
    )
    key_side: Literal["before", "after"] = Field(
        default="before", description="whether the key stands before or after its anchors"
    )
    order: Literal["left_to_right", "right_to_left"] = Field(
        default="left_to_right", description="which anchor acts first: g(g(x;a1);a2) or g_a1(g_a2(x))"
    )
    key_positions: Range | None = Field(
        default=None, description="range of positions of the key; none: wherever the anchors fit beside it"
    )
    modulus: int = Field(default=9, ge=1, description="modulus of the mod-remainder split (the sources use 7, 8 and 9)")

    @property
    def _links(self) -> int:
        raise NotImplementedError

    @property
    def _all_operations(self) -> Mapping[str, str]:
        return self.operations

    @cached_property
    def _tuples(self) -> Sequence[Names]:
        """Every tuple of anchors that can occur."""
        if len(self.operations) ** self._links > LARGEST_NUMBER_OF_TUPLES:
            raise InputError(
                f"links: {len(self.operations)} anchors in {self._links} places make too many tuples; "
                f"allowed: up to {LARGEST_NUMBER_OF_TUPLES}"
            )
        return list(product(self.operations, repeat=self._links))

    @cached_property
    def _rules(self) -> Rules:
        return Rules.parse(
            self._all_operations,
            self.overrides,
            self.numbers,
            links=self._links,
            first_is_innermost=self.order == "left_to_right",
        )

    def _check(self) -> None:
        for names in self.held_out:
            check_tuple("held_out", names, self._all_operations, self._links)
        for name in self._all_operations:
            if "," in name or not name:
                raise InputError(f"operations: the anchor name {name!r} is not allowed; allowed: names without commas")
        if self._links >= self.length:
            raise InputError(f"length: {self.length} has no room for a key and {self._links} anchors")
        first, last = self._widest_positions
        if self.key_positions and not first <= self.key_positions[0] <= self.key_positions[1] <= last:
            raise InputError(f"key_positions: {self.key_positions} is not allowed; allowed: ranges in {first}..{last}")

    @property
    def _widest_positions(self) -> Range:
        if self.key_side == "before":
            return 0, self.length - 1 - self._links
        return self._links, self.length - 1

    @cached_property
    def _key_positions(self) -> Sequence[int]:
        low, high = self.key_positions or self._widest_positions
        return range(low, high + 1)

    @cached_property
    def _label_table(self) -> Int[np.ndarray, "variants keys"]:
        return self._rules.table(self._tuples, self.numbers)

    @cached_property
    def _label_values(self) -> Int[np.ndarray, " values"]:
        return np.unique(self._label_table)

    @cached_property
    def _anchors(self) -> Mapping[str, int]:
        return place_anchors(
            self._all_operations,
            self.anchor_ids,
            highest_number=max(self.numbers[1], self.noise[1]),
            highest_label=int(self._label_values.max()),
        )

    @cached_property
    def _variants(self) -> Sequence[Variant]:
        return [
            Variant(tuple(self._anchors[name] for name in names), group) for group, names in enumerate(self._tuples)
        ]

    @property
    def group_names(self) -> tuple[str, ...]:
        """One group per tuple of anchors, such as ``a,b``."""
        return tuple(",".join(names) for names in self._tuples)

    @property
    def _held_out(self) -> HeldOutPairs | None:
        if not self.held_out:
            return None
        return HeldOutPairs(tuple(tuple(self._anchors[name] for name in names) for names in self.held_out))

    @property
    def _completions(self) -> int | None:
        return int((self.noise[1] - self.noise[0] + 1) ** (self.length - 1 - self._links))

    def _fill(
        self, cells: Cells, chosen: Int[np.ndarray, " n"], stream: Stream
    ) -> tuple[Int[np.ndarray, "n length"], Int[np.ndarray, " n"]]:
        count = len(chosen)
        tokens = stream.numbers(*self.noise, count, self.length)
        key, anchors = cells.key[chosen], cells.anchors[chosen]
        flat, key_at = tokens.reshape(-1), np.arange(count) * self.length + cells.key_position[chosen]
        flat[key_at] = key
        first = 1 if self.key_side == "before" else -self._links
        for link in range(self._links):
            flat[key_at + (first + link)] = anchors[:, link]
        return tokens, self._label_table[cells.variant[chosen], key - self.numbers[0]]

    def locate(self, tokens: Int[np.ndarray, "n length"]) -> Located:
        """Find the row of anchors by their ids and the key beside them. Raises `InputError` for malformed rows."""
        tokens = check_tokens(self, tokens)
        anchors, positions = find_anchors(tokens, list(self._anchors.values()), self._links)
        check_rows((np.diff(positions, axis=1) == 1).all(axis=1), "has anchors that are not in a row")
        key_at = positions[:, 0] - 1 if self.key_side == "before" else positions[:, -1] + 1
        check_rows((key_at >= 0) & (key_at < self.length), f"has no key {self.key_side} its anchors")
        key = np.take_along_axis(tokens, key_at[:, None], axis=1)[:, 0]
        check_rows(is_number(self, key), f"has no number {self.key_side} its anchors")
        return Located(key, key_at, anchors, positions)

    def solve(self, tokens: Int[np.ndarray, "n length"]) -> Int[np.ndarray, " n"]:
        """Apply the operations of the anchors found in each row to the key found beside them."""
        found = self.locate(tokens)
        names = {anchor: name for name, anchor in self._anchors.items()}
        return solve_rows(self._rules, names, found.anchors, found.key)


@register_task
@dataclass(frozen=True, kw_only=True, config=STRICT)
class Chain(ChainTask):
    """A key and `links` anchors in a row; the label is the key after all of their operations in turn.

    With two links and the same operations this is `composite`. Offsets stay small by default, so that three or four
    links keep the labels positive; permutations (``permute:1``) keep the labels within the numbers for any number of
    links, and make the order of the anchors matter.
    """

    name: ClassVar[str] = "chain"
    source: ClassVar[str] = "eq. 12.5 repeated; not an experiment of the book"
    preset_fields: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    links: int = Field(default=3, ge=2, description="number of anchors in a row")
    operations: dict[str, str] = Field(
        default={"a": "add:5", "b": "add:1", "c": "add:-2", "d": "add:-4"},
        min_length=1,
        description="operation of each anchor, by anchor name",
    )

    @property
    def _links(self) -> int:
        return self.links
