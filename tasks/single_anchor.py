"""Rows with one anchor whose key items lie at fixed offsets from it (eq. 12.3)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int
from pydantic import Field
from pydantic.dataclasses import dataclass

from anchorlab.errors import InputError

from .base import LARGEST_LENGTH, STRICT, Located, Range, Task, check_rows, check_tokens, find_anchors, is_number
from .cells import Cells, Variant
from .operations import Operation, parse
from .randomness import Stream
from .vocabulary import check_labels


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SingleAnchorTask(Task):
    """One anchor a at position i; the label is g_a of the tokens at i + I_a, of which the first is the key."""

    length: int = Field(default=9, ge=2, le=LARGEST_LENGTH, description="number of tokens in a row")
    offsets: tuple[int, ...] = Field(
        default=(1,), min_length=1, description="where the key items are, relative to the anchor; the first is the key"
    )
    anchor_positions: Range | None = Field(
        default=None, description="range of positions of the anchor; none: wherever all key items fit"
    )

    @property
    @abstractmethod
    def _operations(self) -> Mapping[str, str]:
        """Operation strings by anchor name."""

    @property
    def _offsets(self) -> Mapping[str, tuple[int, ...]]:
        """I_a by anchor name."""
        return dict.fromkeys(self._operations, self.offsets)

    @cached_property
    def _parsed(self) -> Mapping[str, Operation]:
        return {name: parse(text, self.numbers, len(self._offsets[name])) for name, text in self._operations.items()}

    def _check(self) -> None:
        for name, offsets in self._offsets.items():
            self._check_offsets(offsets, *self._fitting_positions(name))

    def _check_offsets(self, offsets: tuple[int, ...], first: int, last: int) -> None:
        if 0 in offsets or len(set(offsets)) < len(offsets):
            raise InputError(f"offsets: {offsets} is not allowed; offsets are different from each other and from 0")
        if first > last:
            raise InputError(f"offsets: {offsets} do not fit into a row of length {self.length}")
        given = self.anchor_positions
        if given is not None and not first <= given[0] <= given[1] <= last:
            raise InputError(f"anchor_positions: {given} is not allowed; allowed: ranges in {first}..{last}")

    def _fitting_positions(self, name: str) -> Range:
        """Where an anchor can be so that all of its key items are inside the row."""
        return max(0, -min(self._offsets[name])), self.length - 1 - max(0, *self._offsets[name])

    @cached_property
    def _label_values(self) -> Int[np.ndarray, " values"]:
        extents = [one.extent(*self.numbers, len(self._offsets[name])) for name, one in self._parsed.items()]
        check_labels(self._operation_field, np.array(extents).reshape(-1))
        return np.unique(np.concatenate([np.arange(low, high + 1) for low, high in extents]))

    @cached_property
    def _key_ranges(self) -> Sequence[Range]:
        """Where the key of each anchor can be."""
        ranges = [
            (self.anchor_positions or self._fitting_positions(name), key[0]) for name, key in self._offsets.items()
        ]
        return [(low + offset, high + offset) for (low, high), offset in ranges]

    @cached_property
    def _key_positions(self) -> Sequence[int]:
        lows, highs = zip(*self._key_ranges, strict=True)
        return range(min(lows), max(highs) + 1)

    @property
    def _possible(self) -> Bool[np.ndarray, "variants positions keys"] | None:
        if len(set(self._key_ranges)) == 1:
            return None
        lows, highs = np.array(self._key_ranges).T[:, :, None]
        positions = np.array(self._key_positions)
        fits = (lows <= positions) & (positions <= highs)
        return np.repeat(fits[:, :, None], self.numbers[1] - self.numbers[0] + 1, axis=2)

    @cached_property
    def _variants(self) -> Sequence[Variant]:
        return [Variant((anchor,), group) for group, anchor in enumerate(self._anchors.values())]

    @property
    def group_names(self) -> tuple[str, ...]:
        """One group per anchor."""
        return tuple(self._anchors)

    @property
    def single_anchors(self) -> Mapping[int, Operation]:
        """g(·; a) of eq. 12.2 by the id of the anchor a; empty if an anchor reads several key items."""
        if any(len(offsets) > 1 for offsets in self._offsets.values()):
            return {}
        return {self._anchors[name]: operation for name, operation in self._parsed.items()}

    @property
    def _completions(self) -> int | None:
        counts = {len(offsets) for offsets in self._offsets.values()}
        if len(counts) > 1:
            return None
        others = counts.pop() - 1
        span, keys = (high - low + 1 for low, high in (self.noise, self.numbers))
        return int(span ** (self.length - 2 - others) * keys**others)

    def _fill(
        self, cells: Cells, chosen: Int[np.ndarray, " n"], stream: Stream
    ) -> tuple[Int[np.ndarray, "n length"], Int[np.ndarray, " n"]]:
        count, variant, key_at = len(chosen), cells.variant[chosen], cells.key_position[chosen]
        rows, listed = np.arange(count), list(self._offsets.values())
        anchor_at = key_at - np.array([offsets[0] for offsets in listed])[variant]
        tokens = stream.numbers(*self.noise, count, self.length)
        tokens[rows, anchor_at] = cells.anchors[chosen, 0]
        tokens[rows, key_at] = cells.key[chosen]
        others = stream.numbers(*self.numbers, count, max(map(len, listed)) - 1)
        label = np.empty(count, np.int64)
        for number, (offsets, operation) in enumerate(zip(listed, self._parsed.values(), strict=True)):
            mine = rows if len(listed) == 1 else np.flatnonzero(variant == number)
            for column, offset in enumerate(offsets[1:]):
                tokens[mine, anchor_at[mine] + offset] = others[mine, column]
            items = np.stack([tokens[mine, anchor_at[mine] + offset] for offset in offsets], axis=1)
            label[mine] = operation.apply(items)
        return tokens, label

    def locate(self, tokens: Int[np.ndarray, "n length"]) -> Located:
        """Find the anchor by its id and the key at its first offset. Raises `InputError` for malformed rows."""
        tokens = check_tokens(self, tokens)
        anchors, positions = find_anchors(tokens, list(self._anchors.values()), 1)
        key_at = np.empty(len(tokens), np.int64)
        for name, offsets in self._offsets.items():
            others = anchors[:, 0] != self._anchors[name]
            for offset in offsets:
                place = positions[:, 0] + offset
                inside = (place >= 0) & (place < self.length)
                check_rows(others | inside, f"has no room for the key item at offset {offset}")
                item = np.take_along_axis(tokens, np.where(inside, place, 0)[:, None], axis=1)[:, 0]
                check_rows(others | is_number(self, item), f"has no number at offset {offset} from its anchor")
            key_at = np.where(others, key_at, positions[:, 0] + offsets[0])
        return Located(tokens[np.arange(len(tokens)), key_at], key_at, anchors, positions)

    def solve(self, tokens: Int[np.ndarray, "n length"]) -> Int[np.ndarray, " n"]:
        """Apply the anchor's operation, in plain integers, to the key items read off each row."""
        found = self.locate(tokens)
        names = {anchor: name for name, anchor in self._anchors.items()}
        labels = [
            self._parsed[names[anchor]].apply_one(*(row[place + offset] for offset in self._offsets[names[anchor]]))
            for row, anchor, place in zip(
                np.asarray(tokens).tolist(),
                found.anchors[:, 0].tolist(),
                found.anchor_positions[:, 0].tolist(),
                strict=True,
            )
        ]
        return np.array(labels, np.int16)
