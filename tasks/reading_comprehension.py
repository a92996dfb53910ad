"""Finding the passage that a question is about (section 12.6.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int
from pydantic.dataclasses import dataclass

from .base import STRICT, Located, check_rows
from .cells import Cells
from .paired import PairedTask
from .randomness import Stream
from .registry import register_task


@register_task
@dataclass(frozen=True, kw_only=True, config=STRICT)
class ReadingComprehension(PairedTask):
    """(a1, x1, a2, x2, a3, x3, a4, x4, a) → the number after the anchor that equals the last token.

    The anchors of a row are all different. A cell's anchor is the asked one; `locate` gives both places of it. All
    numbers of a row come from `numbers`; `noise` is not used.
    """

    name: ClassVar[str] = "reading_comprehension"
    source: ClassVar[str] = "section 12.6.2; arXiv 2401.08309"
    preset_fields: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "book": {},
        "arxiv-2401.08309": {"vocabulary_size": 201},
    }
    _number_place: ClassVar[int] = 1

    @cached_property
    def _label_values(self) -> Int[np.ndarray, " values"]:
        return np.arange(self.numbers[0], self.numbers[1] + 1)

    @property
    def _completions(self) -> int | None:
        numbers = self.numbers[1] - self.numbers[0] + 1
        return int(math.perm(self.anchors - 1, self.pairs - 1) * numbers ** (self.pairs - 1))

    def _fill(
        self, cells: Cells, chosen: Int[np.ndarray, " n"], stream: Stream
    ) -> tuple[Int[np.ndarray, "n length"], Int[np.ndarray, " n"]]:
        key = cells.key[chosen]
        numbers = stream.numbers(*self.numbers, len(chosen), self.pairs)
        numbers[np.arange(len(chosen)), cells.key_position[chosen] // 2] = key
        anchors = self._pair_anchors(cells, chosen, stream)
        return self._interleave(anchors, numbers, cells.anchors[chosen, 0]), key

    def locate(self, tokens: Int[np.ndarray, "n length"]) -> Located:
        """Find the pair whose anchor is the last token. `anchors` [n, 2] are that pair's anchor and the question."""
        tokens, anchors, numbers = self._read_pairs(tokens)
        asked = anchors == tokens[:, -1:]
        check_rows(asked.any(axis=1), "asks for an anchor that it does not have")
        pair = np.argmax(asked, axis=1)
        key = np.take_along_axis(numbers, pair[:, None], axis=1)[:, 0]
        places = np.stack([2 * pair, np.full(len(tokens), self.length - 1)], axis=1)
        return Located(key, 2 * pair + 1, np.take_along_axis(tokens, places, axis=1), places)

    def solve(self, tokens: Int[np.ndarray, "n length"]) -> Int[np.ndarray, " n"]:
        """Look the last token up among the pairs of its row."""
        self._read_pairs(tokens)
        labels = []
        for number, row in enumerate(np.asarray(tokens).tolist()):
            pairs = dict(zip(row[0:-1:2], row[1:-1:2], strict=True))
            check_rows(np.array([row[-1] in pairs]), f"({number}) asks for an anchor that it does not have")
            labels.append(pairs[row[-1]])
        return np.array(labels, np.int16)
