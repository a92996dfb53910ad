"""Rows of (anchor, number) pairs that end with a question (sections 12.6.2, 12.6.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Int
from pydantic import Field
from pydantic.dataclasses import dataclass

from anchorlab.errors import InputError

from .base import LARGEST_LENGTH, STRICT, Task, check_rows, check_tokens, is_number
from .cells import Cells, Variant
from .randomness import Stream


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PairedTask(Task):
    """Pairs of different anchors and any numbers, then one token that says which pair the label comes from."""

    pairs: int = Field(
        default=4,
        ge=2,
        le=(LARGEST_LENGTH - 1) // 2,
        description="number of (anchor, number) pairs before the last token",
    )
    anchors: int = Field(default=8, ge=2, description="number of anchors; their token ids are 1, 2, …")

    _uses_noise: ClassVar[bool] = False
    _anchor_field: ClassVar[str] = "anchors"
    _grid_fields: ClassVar[tuple[str, str, str]] = ("anchors", "pairs", "numbers")
    _number_place: ClassVar[int]  # place of the number inside its pair

    @property
    def length(self) -> int:
        """Number of tokens in a row: two for each pair and the last one."""
        return 2 * self.pairs + 1

    def _check(self) -> None:
        if self.anchors < self.pairs:
            raise InputError(f"anchors: {self.anchors} is too few for {self.pairs} pairs of different anchors")
        if self.anchors >= self.numbers[0]:
            raise InputError(
                f"anchors: {self.anchors} anchors have the ids 1..{self.anchors}, of which {self.numbers[0]} is also a "
                f"number; allowed: at most {self.numbers[0] - 1}"
            )
        if self.anchors > LARGEST_LENGTH:
            raise InputError(f"anchors: {self.anchors} is not allowed; allowed: at most {LARGEST_LENGTH}")

    @cached_property
    def _anchors(self) -> Mapping[str, int]:
        return {str(anchor): anchor for anchor in range(1, self.anchors + 1)}

    @cached_property
    def _variants(self) -> Sequence[Variant]:
        return [Variant((anchor,), anchor - 1) for anchor in range(1, self.anchors + 1)]

    @cached_property
    def _key_positions(self) -> Sequence[int]:
        return range(self._number_place, 2 * self.pairs, 2)

    @property
    def group_names(self) -> tuple[str, ...]:
        """One group per anchor of the pair that answers."""
        return tuple(self._anchors)

    def _pair_anchors(self, cells: Cells, chosen: Int[np.ndarray, " n"], stream: Stream) -> Int[np.ndarray, "n pairs"]:
        """Return different anchors for the pairs of each row, with the cell's anchor in the cell's pair."""
        answer, slot = cells.anchors[chosen, 0], cells.key_position[chosen] // 2
        others = np.tile(np.arange(1, self.anchors, dtype=np.int16), (len(chosen), 1))
        others += others >= answer[:, None]
        drawn = stream.distinct(others, self.pairs - 1)
        anchors = np.empty((len(chosen), self.pairs), np.int16)
        anchors[~_one_hot(slot, self.pairs)] = drawn.reshape(-1)
        anchors[np.arange(len(chosen)), slot] = answer
        return anchors

    def _interleave(
        self, anchors: Int[np.ndarray, "n pairs"], numbers: Int[np.ndarray, "n pairs"], last: Int[np.ndarray, " n"]
    ) -> Int[np.ndarray, "n length"]:
        tokens = np.empty((len(anchors), self.length), np.int16)
        tokens[:, self._number_place : 2 * self.pairs : 2] = numbers
        tokens[:, 1 - self._number_place : 2 * self.pairs : 2] = anchors
        tokens[:, -1] = last
        return tokens

    def _read_pairs(
        self, tokens: Int[np.ndarray, "n length"]
    ) -> tuple[Int[np.ndarray, "n length"], Int[np.ndarray, "n pairs"], Int[np.ndarray, "n pairs"]]:
        """Return tokens, anchors and numbers of the pairs; `InputError` if something else stands in their places."""
        tokens = check_tokens(self, tokens)
        numbers = tokens[:, self._number_place : 2 * self.pairs : 2]
        anchors = tokens[:, 1 - self._number_place : 2 * self.pairs : 2]
        ordered = np.sort(anchors, axis=1)
        different = np.asarray(np.diff(ordered, axis=1) > 0).all(axis=1)
        known = (ordered[:, 0] >= 1) & (ordered[:, -1] <= self.anchors)
        check_rows(np.asarray(different & known), f"does not have {self.pairs} different anchors in their places")
        check_rows(np.asarray(is_number(self, numbers).all(axis=1)), "does not have a number beside each anchor")
        return tokens, anchors, numbers


def _one_hot(slot: Int[np.ndarray, " n"], pairs: int) -> Bool[np.ndarray, "n pairs"]:
    hot: Bool[np.ndarray, "n pairs"] = slot[:, None] == np.arange(pairs)
    return hot
