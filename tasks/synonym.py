"""Learning a rare anchor through a synonym (section 12.6.6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int
from pydantic import Field
from pydantic.dataclasses import dataclass

from anchorlab.errors import InputError

from .base import STRICT
from .chain import ChainTask
from .registry import register_task
from .rules import Names, check_tuple
from .vocabulary import AnchorName

Pairs = tuple[tuple[AnchorName, AnchorName], ...]


@register_task
@dataclass(frozen=True, kw_only=True, config=STRICT)
class Synonym(ChainTask):
    """Composite pairs in which the rare anchor 9 never meets 4; its synonym 3, which does the same, meets all others.

    The training split is an endless repetition of a mix of `total_rows` rows (M): in any M consecutive rows that start
    at a multiple of M, each seen pair with the rare anchor has exactly `rare_rows` rows and every other seen pair
    (M − 4·100)/12, rounded up or down; the pairs are spread evenly. Without the synonym all seen pairs have equally
    many rows. The source gives no offsets: chapter 13's are used. The ids are those after the largest label.
    """

    name: ClassVar[str] = "synonym"
    source: ClassVar[str] = "section 12.6.6, fig. 12.11; arXiv 2401.08309"
    preset_fields: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "book": {},
        "arxiv-2401.08309": {"vocabulary_size": 201, "order": "right_to_left", "key_side": "after"},
    }

    operations: dict[AnchorName, str] = Field(
        default={"1": "add:5", "2": "add:1", "4": "add:-8", "9": "add:-2"},
        min_length=1,
        description="operation of each anchor, by anchor name; the synonym copies that of the rare anchor",
    )
    rare: AnchorName = Field(default="9", description="the anchor that is rare in training")
    synonym: AnchorName = Field(default="3", description="name of the anchor that does the same as the rare one")
    with_synonym: bool = Field(default=True, description="whether the synonym's pairs are in the data")
    pairs: Pairs = Field(
        default=(
            ("1", "9"), ("2", "9"), ("9", "1"), ("9", "2"), ("1", "2"),
            ("1", "4"), ("2", "1"), ("4", "1"), ("2", "4"), ("4", "2"),
        ),
        min_length=1,
        description="seen pairs without the synonym",
    )  # fmt: skip
    synonym_pairs: Pairs = Field(
        default=(("1", "3"), ("3", "1"), ("2", "3"), ("3", "2"), ("4", "3"), ("3", "4")),
        description="seen pairs with the synonym",
    )
    held_out: tuple[tuple[AnchorName, ...], ...] = Field(
        default=(("4", "9"), ("9", "4")), description="pairs of anchors that only the ood split has"
    )
    total_rows: int = Field(default=3000, ge=1, le=10_000_000, description="M, the period of the training mix in rows")
    rare_rows: int = Field(default=100, ge=1, description="rows of M for each seen pair with the rare anchor")

    @property
    def _links(self) -> int:
        return 2

    @property
    def _all_operations(self) -> Mapping[str, str]:
        if self.rare not in self.operations or self.synonym in self.operations:
            raise InputError(
                f"synonym: {self.synonym!r} for {self.rare!r} is not allowed; the rare anchor is one of "
                f"{', '.join(self.operations)} and its synonym none of them"
            )
        return {**self.operations, self.synonym: self.operations[self.rare]}

    @property
    def _seen(self) -> Sequence[Names]:
        return [*self.pairs, *(self.synonym_pairs if self.with_synonym else ())]

    @cached_property
    def _tuples(self) -> Sequence[Names]:
        return [*self._seen, *self.held_out]

    def _check(self) -> None:
        for names in self._seen:
            check_tuple("pairs", names, self._all_operations, 2)
        super()._check()
        if len(set(self._tuples)) < len(self._tuples):
            raise InputError("pairs: a pair is listed twice; pairs, synonym_pairs and held_out must be all different")
        if min(self._rows_per_pair) < 1:
            raise InputError(
                f"total_rows: {self.total_rows} is too small for {len(self._seen)} pairs, "
                f"{sum(self._is_rare)} of them with {self.rare_rows} rows"
            )

    @property
    def _is_rare(self) -> list[bool]:
        return [self.with_synonym and self.rare in names for names in self._seen]

    @property
    def _rows_per_pair(self) -> list[int]:
        """Rows of each seen pair among the M rows of the training mix."""
        rare = self._is_rare
        common = rare.count(False)
        rest = self.total_rows - self.rare_rows * rare.count(True)
        if common == 0:
            return [self.rare_rows] * len(rare) if rest == 0 else [0]
        each, more = divmod(rest, common)
        shares = iter([each + 1] * more + [each] * (common - more))
        return [self.rare_rows if is_rare else next(shares) for is_rare in rare]

    @cached_property
    def _training_mix(self) -> Int[np.ndarray, " period"]:
        counts = self._rows_per_pair
        times = np.concatenate([(np.arange(count) + 0.5) / count for count in counts])
        return np.repeat(np.arange(len(counts)), counts)[np.argsort(times, kind="stable")]

    def _mix(self, split: str) -> Int[np.ndarray, " period"] | None:
        return self._training_mix if split == "train" else None
