"""Reciting what follows or what precedes (section 12.6.7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Int
from pydantic import Field
from pydantic.dataclasses import dataclass

from anchorlab.errors import InputError

from .base import LARGEST_LENGTH, STRICT, Located, Range, Task, check_rows, check_tokens, find_anchors, is_number
from .cells import Cells, Variant
from .randomness import Stream
from .registry import register_task
from .vocabulary import LARGEST_SIZE

FORWARD, BACKWARD = 0, 1


@register_task
@dataclass(frozen=True, kw_only=True, config=STRICT)
class Recitation(Task):
    """(…, m, 3, n, …, m) → n is *forward*: given m, recite what follows. (…, m, 3, n, …, n) → m is *backward*.

    The source names the directions the other way round in one sentence; the meaning above is the one of its
    introduction and of fig. 12.12. The key is the recited number; m and n are never equal.
    """

    name: ClassVar[str] = "recitation"
    source: ClassVar[str] = "section 12.6.7, fig. 12.12; arXiv 2401.08309"
    preset_fields: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "book": {},
        "arxiv-2401.08309": {"vocabulary_size": 201},
    }

    length: int = Field(default=9, ge=4, le=LARGEST_LENGTH, description="number of tokens in a row")
    _anchor_field: ClassVar[str] = "anchor_id"

    anchor_id: int = Field(default=3, ge=1, lt=LARGEST_SIZE, description="token id of the anchor")
    anchor_positions: Range | None = Field(
        default=None, description="range of positions of the anchor; none: anywhere between two numbers"
    )
    forward_percent: int = Field(default=50, ge=0, le=100, description="how many of every 100 rows are forward")

    @cached_property
    def _anchors(self) -> Mapping[str, int]:
        return {str(self.anchor_id): self.anchor_id}

    @cached_property
    def _label_values(self) -> Int[np.ndarray, " values"]:
        return np.arange(self.numbers[0], self.numbers[1] + 1)

    @cached_property
    def _variants(self) -> Sequence[Variant]:
        return [Variant((self.anchor_id,), FORWARD), Variant((self.anchor_id,), BACKWARD)]

    @cached_property
    def _key_positions(self) -> Sequence[int]:
        return range(self.length - 1)

    @property
    def _possible(self) -> Bool[np.ndarray, "variants positions keys"]:
        positions = np.arange(self.length - 1)
        low, high = self.anchor_positions or (1, self.length - 3)
        fits = np.stack([(low <= anchor) & (anchor <= high) for anchor in (positions - 1, positions + 1)])
        used = np.array([self.forward_percent > 0, self.forward_percent < 100])
        keys = self.numbers[1] - self.numbers[0] + 1
        return np.repeat((fits & used[:, None])[:, :, None], keys, axis=2)

    @property
    def group_names(self) -> tuple[str, ...]:
        """The two directions."""
        return ("forward", "backward")

    @property
    def _completions(self) -> int | None:
        span, keys = (high - low + 1 for low, high in (self.noise, self.numbers))
        return int((keys - 1) * span ** (self.length - 4))

    @cached_property
    def _directions(self) -> Int[np.ndarray, " period"]:
        places = np.arange(1, 101) * self.forward_percent // 100
        return np.where(np.diff(places, prepend=0) > 0, FORWARD, BACKWARD)

    def _mix(self, split: str) -> Int[np.ndarray, " period"] | None:
        return self._directions

    def _check(self) -> None:
        last = self.length - 3
        if self.anchor_positions and not 1 <= self.anchor_positions[0] <= self.anchor_positions[1] <= last:
            raise InputError(f"anchor_positions: {self.anchor_positions} is not allowed; allowed: ranges in 1..{last}")
        needed = [
            name
            for percent, name in ((self.forward_percent, "forward"), (100 - self.forward_percent, "backward"))
            if percent
        ]
        for split, cells in self._cells.items():
            present = {("forward", "backward")[variant] for variant in np.unique(cells.variant)}
            if missing := [name for name in needed if name not in present]:
                modulus = self.modulus or self.length
                raise InputError(f"modulus: {modulus} leaves no {missing[0]} rows in the {split} split; change it")

    def _fill(
        self, cells: Cells, chosen: Int[np.ndarray, " n"], stream: Stream
    ) -> tuple[Int[np.ndarray, "n length"], Int[np.ndarray, " n"]]:
        count = len(chosen)
        rows, key, key_at = np.arange(count), cells.key[chosen], cells.key_position[chosen]
        low, high = self.numbers
        cue = stream.numbers(low, high - 1, count, 1)[:, 0]
        cue += cue >= key
        toward_cue = np.where(cells.variant[chosen] == FORWARD, -1, 1)
        tokens = stream.numbers(*self.noise, count, self.length)
        tokens[rows, key_at] = key
        tokens[rows, key_at + toward_cue] = self.anchor_id
        tokens[rows, key_at + 2 * toward_cue] = cue
        tokens[:, -1] = cue
        return tokens, key

    def locate(self, tokens: Int[np.ndarray, "n length"]) -> Located:
        """Find the anchor and, of its two neighbours, the one that the last token is not: the key."""
        tokens = check_tokens(self, tokens)
        anchors, positions = find_anchors(tokens, [self.anchor_id], 1)
        place, rows = positions[:, 0], np.arange(len(tokens))
        check_rows((place >= 1) & (place <= self.length - 3), "has no room for a number on each side of its anchor")
        before, after, last = tokens[rows, place - 1], tokens[rows, place + 1], tokens[:, -1]
        check_rows(is_number(self, before) & is_number(self, after), "has no number on each side of its anchor")
        check_rows((last == before) != (last == after), "does not end with exactly one neighbour of its anchor")
        key_at = np.where(last == before, place + 1, place - 1)
        return Located(tokens[rows, key_at], key_at, anchors, positions)

    def solve(self, tokens: Int[np.ndarray, "n length"]) -> Int[np.ndarray, " n"]:
        """Read the three tokens around the anchor and answer with the one that was not given."""
        self.locate(tokens)
        labels = []
        for row in np.asarray(tokens).tolist():
            place = row.index(self.anchor_id)
            labels.append(row[place + 1] if row[-1] == row[place - 1] else row[place - 1])
        return np.array(labels, np.int16)
