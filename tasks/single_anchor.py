"""Rows with one anchor whose key items lie at fixed offsets from it (eq. 12.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Int
from pydantic import Field
from pydantic.dataclasses import dataclass

from anchorlab.errors import InputError

from .base import STRICT, Located, Range, Task, check_rows, check_tokens, find_anchors, is_number
from .cells import Cells, Variant
from .operations import Operation, parse
from .randomness import Stream


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SingleAnchorTask(Task):
    """One anchor a at position i; the label is g_a of the tokens at i + offsets, of which the first is the key."""

    length: int = Field(default=9, ge=2, description="number of tokens in a row")
    offsets: tuple[int, ...] = Field(
        default=(1,), min_length=1, description="where the key items are, relative to the anchor; the first is the key"
    )
    anchor_positions: Range | None = Field(
        default=None, description="range of positions of the anchor; none: wherever all key items fit"
    )

    @property
    def _operations(self) -> Mapping[str, str]:
        """Operation strings by anchor name."""
        raise NotImplementedError

    @cached_property
    def _parsed(self) -> Mapping[str, Operation]:
        return {name: parse(text, self.numbers, len(self.offsets)) for name, text in self._operations.items()}

    def _check(self) -> None:
        if 0 in self.offsets or len(set(self.offsets)) < len(self.offsets):
            raise InputError(
                f"offsets: {self.offsets} is not allowed; offsets are different from each other and from 0"
            )
        first, last = max(0, -min(self.offsets)), self.length - 1 - max(0, *self.offsets)
        if first > last:
            raise InputError(f"offsets: {self.offsets} do not fit into a row of length {self.length}")
        if (
            self.anchor_positions is not None
            and not first <= self.anchor_positions[0] <= self.anchor_positions[1] <= last
        ):
            raise InputError(
                f"anchor_positions: {self.anchor_positions} is not allowed; allowed: ranges in {first}..{last}"
            )

    @cached_property
    def _label_values(self) -> Int[np.ndarray, " values"]:
        extents = [one.extent(*self.numbers, len(self.offsets)) for one in self._parsed.values()]
        return np.unique(np.concatenate([np.arange(low, high + 1) for low, high in extents]))

    @cached_property
    def _key_positions(self) -> Sequence[int]:
        first, last = max(0, -min(self.offsets)), self.length - 1 - max(0, *self.offsets)
        low, high = self.anchor_positions or (first, last)
        return range(low + self.offsets[0], high + self.offsets[0] + 1)

    @cached_property
    def _variants(self) -> Sequence[Variant]:
        return [Variant((anchor,), group) for group, anchor in enumerate(self._anchors.values())]

    @property
    def group_names(self) -> tuple[str, ...]:
        """One group per anchor."""
        return tuple(self._anchors)

    @property
    def _completions(self) -> int | None:
        others = len(self.offsets) - 1
        span, keys = (high - low + 1 for low, high in (self.noise, self.numbers))
        return int(span ** (self.length - 2 - others) * keys**others)

    def _fill(
        self, cells: Cells, chosen: Int[np.ndarray, " n"], stream: Stream
    ) -> tuple[Int[np.ndarray, "n length"], Int[np.ndarray, " n"]]:
        count = len(chosen)
        rows, anchor_at = np.arange(count), cells.key_position[chosen] - self.offsets[0]
        tokens = stream.numbers(*self.noise, count, self.length)
        tokens[rows, anchor_at] = cells.anchors[chosen, 0]
        tokens[rows, anchor_at + self.offsets[0]] = cells.key[chosen]
        others = stream.numbers(*self.numbers, count, len(self.offsets) - 1)
        for column, offset in enumerate(self.offsets[1:]):
            tokens[rows, anchor_at + offset] = others[:, column]
        items = np.stack([tokens[rows, anchor_at + offset] for offset in self.offsets], axis=1)
        label = np.empty(count, np.int64)
        for variant, operation in enumerate(self._parsed.values()):
            mine = cells.variant[chosen] == variant
            label[mine] = operation.apply(items[mine])
        return tokens, label

    def locate(self, tokens: Int[np.ndarray, "n length"]) -> Located:
        """Find the anchor by its id and the key at the first offset. Raises `InputError` for malformed rows."""
        tokens = check_tokens(self, tokens)
        anchors, positions = find_anchors(tokens, list(self._anchors.values()), 1)
        for offset in self.offsets:
            place = positions[:, 0] + offset
            check_rows((place >= 0) & (place < self.length), f"has no room for the key item at offset {offset}")
            item = np.take_along_axis(tokens, place[:, None], axis=1)[:, 0]
            check_rows(is_number(self, item), f"has no number at offset {offset} from its anchor")
        key_at = positions[:, 0] + self.offsets[0]
        return Located(tokens[np.arange(len(tokens)), key_at], key_at, anchors, positions)

    def solve(self, tokens: Int[np.ndarray, "n length"]) -> Int[np.ndarray, " n"]:
        """Apply the anchor's operation, in plain integers, to the key items read off each row."""
        found = self.locate(tokens)
        names = {anchor: name for name, anchor in self._anchors.items()}
        labels = [
            self._parsed[names[anchor]].apply_one(*(row[place + offset] for offset in self.offsets))
            for row, anchor, place in zip(
                np.asarray(tokens).tolist(),
                found.anchors[:, 0].tolist(),
                found.anchor_positions[:, 0].tolist(),
                strict=True,
            )
        ]
        return np.array(labels, np.int16)
