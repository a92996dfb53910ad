"""Several anchors, one per row, split by anchor (section 12.6.9)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from anchorlab.errors import InputError
from anchorlab.validation import unknown_name

from .base import STRICT, Range
from .registry import register_task
from .single_anchor import SingleAnchorTask
from .splits import AnchorRanges, Split
from .vocabulary import AnchorName, place_anchors


def _book_operations() -> dict[str, str]:
    return {str(a): f"add:{a}" for a in range(1, 11)}


@register_task
@dataclass(frozen=True, kw_only=True, config=STRICT)
class MultiAnchor(SingleAnchorTask):
    """Ten anchors with f_a(x) = x + a; each anchor has test keys of its own that it never sees in training.

    Every number is a training key of some anchor, so the test asks whether the operation was learned and not only
    the translation of a known (anchor, key) pair.
    """

    name: ClassVar[str] = "multi_anchor"
    source: ClassVar[str] = "section 12.6.9, eq. 12.4 with one anchor a row; arXiv 2401.08309"
    preset_fields: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "book": {},
        "arxiv-2401.08309": {"vocabulary_size": 201},
    }

    operations: dict[AnchorName, str] = Field(
        default_factory=_book_operations, min_length=1, description="operation of each anchor, by anchor name"
    )
    anchor_ids: dict[AnchorName, int] | None = Field(
        default=None, description="token id of each anchor; none: 1, 2, … in order"
    )
    split: Literal["anchor_ranges", "mod_remainder"] = Field(
        default="anchor_ranges", description="how train and test keys are told apart"
    )
    test_ranges: dict[AnchorName, Range] | None = Field(
        default=None,
        description="test keys of each anchor, by name; none: 12+8a .. 12+8(a+1)−1 for the a-th, cut to the numbers",
    )
    anchor_offsets: dict[AnchorName, tuple[int, ...]] = Field(
        default={}, description="offsets of anchors that do not read the items at `offsets`, by name (I_a of eq. 12.3)"
    )

    @property
    def _operations(self) -> Mapping[str, str]:
        return self.operations

    @cached_property
    def _offsets(self) -> Mapping[str, tuple[int, ...]]:
        return {name: self.anchor_offsets.get(name, self.offsets) for name in self.operations}

    @cached_property
    def _anchors(self) -> Mapping[str, int]:
        given = self.anchor_ids or {name: place + 1 for place, name in enumerate(self.operations)}
        return place_anchors(self.operations, given, highest_number=0, highest_label=0)

    @property
    def ranges(self) -> dict[str, Range]:
        """Test keys of each anchor."""
        if self.test_ranges is not None:
            return self.test_ranges
        low, high = self.numbers
        return {
            name: (max(low, 12 + 8 * place), min(high, 12 + 8 * (place + 1) - 1))
            for place, name in enumerate(self.operations, start=1)
        }

    @property
    def _test_split(self) -> Split:
        if self.split == "mod_remainder":
            return super()._test_split
        return AnchorRanges({self._anchors[name]: bounds for name, bounds in self.ranges.items()})

    def _check(self) -> None:
        for name, offsets in self.anchor_offsets.items():
            if name not in self.operations:
                raise unknown_name("anchor_offsets", name, self.operations)
            if not offsets:
                raise InputError(f"anchor_offsets: anchor {name!r} has no offset; allowed: at least one")
        super()._check()
        if self.split == "mod_remainder":
            if self.test_ranges is not None:
                raise InputError("test_ranges: ranges have no effect if the split is 'mod_remainder'")
            return
        if self.modulus is not None or self.position_base != 0:
            field = "modulus" if self.modulus is not None else "position_base"
            value = getattr(self, field)
            raise InputError(f"{field}: {value} has no effect if the split is 'anchor_ranges'; choose 'mod_remainder'")
        for name, (low, high) in self.ranges.items():
            if name not in self.operations:
                raise unknown_name("test_ranges", name, self.operations)
            if not self.numbers[0] <= low <= high <= self.numbers[1]:
                raise InputError(
                    f"test_ranges: anchor {name!r} has {low}..{high}; "
                    f"allowed: ranges in {self.numbers[0]}..{self.numbers[1]}"
                )
        untrained = [
            key
            for key in range(self.numbers[0], self.numbers[1] + 1)
            if len(self.ranges) == len(self.operations) and all(lo <= key <= hi for lo, hi in self.ranges.values())
        ]
        if untrained:
            raise InputError(
                f"test_ranges: key {untrained[0]} is a test key of every anchor; some anchor must train it"
            )
