"""Answering with the anchor of the nearest number (section 12.6.3)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import Field
from pydantic.dataclasses import dataclass

from anchorlab.errors import InputError

from .base import STRICT, Located, check_rows, is_number
from .cells import LARGEST_GRID, Cells
from .paired import PairedTask
from .randomness import Stream
from .registry import register_task


@register_task
@dataclass(frozen=True, kw_only=True, config=STRICT)
class Classification(PairedTask):
    """(x1, a1, x2, a2, x3, a3, x4, a4, x) → the anchor after the number nearest to x.

    The key is that nearest number. The source leaves ties open: with `ties` ``first`` the leftmost nearest number
    counts, with ``exclude`` rows with two nearest numbers do not occur. A row is drawn uniformly from all rows of its
    split, so numbers and question are as independent and uniform as the split allows (unique rows, one for each cell,
    are not). `noise` is not used.
    """

    name: ClassVar[str] = "classification"
    source: ClassVar[str] = "section 12.6.3, fig. 12.7; arXiv 2401.08309"
    preset_fields: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "book": {},
        "arxiv-2401.08309": {"vocabulary_size": 201},
    }
    _number_place: ClassVar[int] = 0
    _labels_are_anchors: ClassVar[bool] = True

    ties: Literal["first", "exclude"] = Field(default="first", description="what counts if two numbers are nearest")

    def _check(self) -> None:
        super()._check()
        count = self.numbers[1] - self.numbers[0] + 1
        if self.pairs * count**2 > LARGEST_GRID:
            raise InputError(f"numbers: {count} are too many for {self.pairs} pairs; allowed: a shorter range")
        if count**self.pairs >= 2**53:
            raise InputError(f"pairs: {self.pairs} pairs of {count} numbers are too many to draw exactly")

    @cached_property
    def _label_values(self) -> Int[np.ndarray, " values"]:
        return np.arange(1, self.anchors + 1)

    @cached_property
    def _rows_per_question(self) -> Int[np.ndarray, "pairs keys questions"]:
        """How many choices of the other numbers make the key of each pair the nearest, for each question."""
        size, key = self.numbers[1] - self.numbers[0] + 1, np.arange(self.numbers[1] - self.numbers[0] + 1)
        distance = np.abs(key[:, None] - key[None, :])
        farther = _outside(key[None, :], distance, size)
        not_nearer = _outside(key[None, :], distance - 1, size) if self.ties == "first" else farther
        return np.stack([farther**slot * not_nearer ** (self.pairs - 1 - slot) for slot in range(self.pairs)])

    @cached_property
    def _sums_by_split(self) -> Mapping[str, Float[np.ndarray, " cells"]]:
        """Running sums of the number of rows of each cell."""
        rows, low = self._rows_per_question.sum(axis=2, dtype=np.float64), self.numbers[0]
        return {
            split: np.cumsum(rows[cells.key_position // 2, cells.key - low]) for split, cells in self._cells.items()
        }

    def _weight_sums(self, split: str) -> Float[np.ndarray, " cells"] | None:
        return self._sums_by_split[split]

    @property
    def _possible(self) -> Bool[np.ndarray, "variants positions keys"]:
        some = self._rows_per_question.sum(axis=2) > 0
        return np.broadcast_to(some, (self.anchors, *some.shape)).copy()

    def _fill(
        self, cells: Cells, chosen: Int[np.ndarray, " n"], stream: Stream
    ) -> tuple[Int[np.ndarray, "n length"], Int[np.ndarray, " n"]]:
        low, count = self.numbers[0], len(chosen)
        size, key, slot = (
            self.numbers[1] - low + 1,
            cells.key[chosen].astype(np.int64) - low,
            cells.key_position[chosen] // 2,
        )
        question = self._draw_questions(slot, key, stream)
        distance, numbers = np.abs(key - question), np.empty((count, self.pairs), np.int16)
        for pair in range(self.pairs):
            strict = (pair < slot) | (self.ties == "exclude")
            barred = distance - np.where(strict, 0, 1)
            place = stream.below(np.maximum(_outside(question, barred, size), 1), count)
            below = np.clip(question - barred, 0, size)  # numbers smaller than the barred ones
            skipped = np.minimum(question + barred + 1, size) - below
            numbers[:, pair] = low + place + np.where(place >= below, np.maximum(skipped, 0), 0)
        numbers[np.arange(count), slot] = key + low
        anchors = self._pair_anchors(cells, chosen, stream)
        return self._interleave(anchors, numbers, question + low), cells.anchors[chosen, 0]

    def _draw_questions(
        self, slot: Int[np.ndarray, " n"], key: Int[np.ndarray, " n"], stream: Stream
    ) -> Int[np.ndarray, " n"]:
        """Draw the last token of each row, weighted by the number of rows that it allows."""
        cumulative = np.cumsum(self._rows_per_question, axis=2)
        size = cumulative.shape[-1]
        ticket = np.floor(stream.units(len(key)) * cumulative[slot, key, -1]).astype(np.int64)
        # one sorted list for all (slot, key): each gets its own interval, so a single search serves all rows
        base = np.arange(cumulative[..., 0].size) * (int(cumulative.max()) + 1)
        row = slot.astype(np.int64) * size + key
        found = np.searchsorted((cumulative.reshape(-1, size) + base[:, None]).reshape(-1), ticket + base[row], "right")
        question: Int[np.ndarray, " n"] = found - row * size
        return question

    def locate(self, tokens: Int[np.ndarray, "n length"]) -> Located:
        """Find the number nearest to the last token, and its anchor, by the rule for ties."""
        tokens, _, numbers = self._read_pairs(tokens)
        check_rows(is_number(self, tokens[:, -1]), "does not end with a number")
        distance = np.abs(numbers.astype(np.int64) - tokens[:, -1:])
        pair = np.argmin(distance, axis=1)
        if self.ties == "exclude":
            nearest = distance == distance.min(axis=1, keepdims=True)
            check_rows(nearest.sum(axis=1) == 1, "has two nearest numbers")
        key = np.take_along_axis(numbers, pair[:, None], axis=1)[:, 0]
        places = (2 * pair + 1)[:, None]
        return Located(key, 2 * pair, np.take_along_axis(tokens, places, axis=1), places)

    def solve(self, tokens: Int[np.ndarray, "n length"]) -> Int[np.ndarray, " n"]:
        """Go through the pairs of each row and keep the anchor of the nearest number."""
        self.locate(tokens)
        labels = []
        for row in np.asarray(tokens).tolist():
            numbered = zip(row[0:-1:2], row[1:-1:2], strict=True)
            labels.append(min(numbered, key=lambda pair: abs(pair[0] - row[-1]))[1])
        return np.array(labels, np.int16)


def _outside(
    centre: Int[np.ndarray, "*#shape"], radius: Int[np.ndarray, "*#shape"], size: int
) -> Int[np.ndarray, "*#shape"]:
    """Return how many of 0..size-1 are farther than `radius` from `centre` (all of them for radius -1)."""
    left = np.maximum(centre - radius, 0)
    right = np.maximum(size - 1 - centre - radius, 0)
    return np.where(radius < 0, size, left + right)
