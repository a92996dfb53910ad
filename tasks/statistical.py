"""Identity learning whose labels follow a distribution (section 12.6.8)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Int
from pydantic import Field
from pydantic.dataclasses import dataclass

from anchorlab.errors import InputError

from .base import STRICT, Sample
from .cells import Cells
from .operations import Operation, parse
from .randomness import Stream
from .registry import register_task
from .single_anchor import SingleAnchorTask
from .vocabulary import LARGEST_SIZE, check_labels


@register_task
@dataclass(frozen=True, kw_only=True, config=STRICT)
class Statistical(SingleAnchorTask):
    """``3x → x`` for 80 % of the rows and ``3x → x+1`` for 20 %, in all splits.

    Construction 1: every row occurs five times in succession and the last copy is relabelled (one input, two labels).
    Construction 2: each row occurs once and is relabelled with probability 0.2. Groups are by kind of label: ``x``,
    ``x+1``. `solve` returns the majority label x, since no function of the tokens gives the other.
    """

    name: ClassVar[str] = "statistical"
    source: ClassVar[str] = "section 12.6.8, fig. 12.13; arXiv 2401.08309"
    preset_fields: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "book": {},
        "arxiv-2401.08309": {"vocabulary_size": 201},
    }

    _operation_field: ClassVar[str] = "minority"
    _anchor_field: ClassVar[str] = "anchor_id"

    construction: Literal[1, 2] = Field(default=1, description="1: five copies, the last relabelled; 2: by chance")
    probability: float = Field(default=0.2, gt=0, lt=1, description="chance that a row is relabelled in construction 2")
    minority: str = Field(default="add:1", description="operation that gives the rarer label")
    anchor_id: int = Field(default=3, ge=1, lt=LARGEST_SIZE, description="token id of the anchor")

    def _check(self) -> None:
        super()._check()
        if self.construction == 1 and self.probability != 1 / self.row_copies:
            raise InputError(
                f"probability: {self.probability} has no effect in construction 1, which relabels one copy in "
                f"{self.row_copies}; choose construction 2"
            )

    @property
    def _operations(self) -> Mapping[str, str]:
        return {str(self.anchor_id): "identity"}

    @cached_property
    def _anchors(self) -> Mapping[str, int]:
        return {str(self.anchor_id): self.anchor_id}

    @cached_property
    def _rarer(self) -> Operation:
        return parse(self.minority, self.numbers)

    @cached_property
    def _label_values(self) -> Int[np.ndarray, " values"]:
        low, high = self._rarer.extent(*self.numbers, 1)
        check_labels(self._operation_field, np.array([low, high]))
        return np.union1d(np.arange(self.numbers[0], self.numbers[1] + 1), np.arange(low, high + 1))

    @property
    def group_names(self) -> tuple[str, ...]:
        """The two kinds of labels."""
        return ("x", "x+1" if self.minority == "add:1" else self.minority)

    @property
    def row_copies(self) -> int:
        """Five in construction 1."""
        return 5 if self.construction == 1 else 1

    def _make(self, cells: Cells, chosen: Int[np.ndarray, " n"], stream: Stream) -> Sample:
        once = super()._make(cells, chosen, stream)
        copies = np.arange(len(once)).repeat(self.row_copies)
        if self.construction == 1:
            rare = np.arange(len(copies)) % self.row_copies == self.row_copies - 1
        else:
            rare = stream.units(len(copies)) < self.probability
        label = once.label[copies]
        label[rare] = self._rarer.apply(label[rare, None])
        return Sample(
            tokens=once.tokens[copies],
            label=label,
            key=once.key[copies],
            key_position=once.key_position[copies],
            anchors=once.anchors[copies],
            group=rare.astype(np.int16),
        )
