"""Cells: the (anchors, key position, key) triples that a split may use.

Splits are sets of cells, so they cannot leak into each other: a row belongs to one cell, a cell to one split.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int

from anchorlab.errors import InputError

from .splits import AnchorRanges, ModRemainder, Split

LARGEST_GRID = 20_000_000


@dataclass(frozen=True)
class Variant:
    """One kind of row: the ids of the anchors that decide the label, and the group it is reported in."""

    anchors: tuple[int, ...]
    group: int


@dataclass(frozen=True)
class Cells:
    """The cells of one split, one entry each, ordered by variant, then position, then key."""

    variant: Int[np.ndarray, " cells"]
    key_position: Int[np.ndarray, " cells"]
    key: Int[np.ndarray, " cells"]
    anchors: Int[np.ndarray, "cells links"]
    group: Int[np.ndarray, " cells"]
    variants: int

    def __len__(self) -> int:
        return len(self.key)

    @cached_property
    def per_variant(self) -> Int[np.ndarray, " variants"]:
        """Number of cells of each variant."""
        return np.bincount(self.variant, minlength=self.variants)

    @cached_property
    def first_of_variant(self) -> Int[np.ndarray, " variants"]:
        """Index of each variant's first cell."""
        return np.concatenate([[0], np.cumsum(self.per_variant)[:-1]])

    def by_group(self, names: Sequence[str]) -> dict[str, int]:
        """Return the number of cells in each named group."""
        counts = np.bincount(self.group, minlength=len(names))
        return {name: int(count) for name, count in zip(names, counts, strict=False)}


def build_cells(
    variants: Sequence[Variant],
    positions: Sequence[int],
    numbers: tuple[int, int],
    *,
    test: Split,
    held_out: Split | None,
    ood_keys: Literal["all", "test"],
    possible: Bool[np.ndarray, "variants positions keys"] | None,
    fields: tuple[str, str, str],
) -> Mapping[str, Cells]:
    """Return the cells of train, test and (with `held_out`) ood.

    ood holds the cells of the held-out tuples: all of them, or those that `test` selects. Raises `InputError` if there
    are too many cells, naming which of the three `fields` (for variants, positions, keys) to reduce, and if a split is
    left empty.
    """
    keys = np.arange(numbers[0], numbers[1] + 1)
    shape = (len(variants), len(positions), len(keys))
    if math.prod(shape) > LARGEST_GRID:
        raise InputError(
            f"{fields[int(np.argmax(shape))]}: {shape[0]} tuples of anchors, {shape[1]} key positions and {shape[2]} "
            f"keys make {math.prod(shape)} cells; allowed: up to {LARGEST_GRID}"
        )
    grid = (
        keys[None, None, :],
        np.array(positions)[None, :, None],
        np.array([variant.anchors for variant in variants])[:, None, None, :],
    )
    exists = np.ones(shape, np.bool_) if possible is None else possible
    unseen = np.zeros(shape, np.bool_) if held_out is None else held_out.selects(*grid)
    tested = test.selects(*grid)
    masks = {"train": exists & ~unseen & ~tested, "test": exists & ~unseen & tested}
    if held_out is not None:
        masks["ood"] = exists & unseen & (tested | (ood_keys == "all"))
    for split, mask in masks.items():
        if not mask.any():
            raise InputError(_emptied_by(test, split, len(keys)))
    return {split: _list_cells(mask, variants, positions, keys) for split, mask in masks.items()}


def _emptied_by(test: Split, split: str, keys: int) -> str:
    """Name the field that left a split empty, and what would not."""
    if isinstance(test, ModRemainder) and not 2 <= test.modulus <= keys:
        return f"modulus: {test.modulus} leaves the {split} split empty; allowed: 2..{keys}"
    if isinstance(test, AnchorRanges) and split == "test":
        return "test_ranges: nothing is left for the test split; give some anchor a range"
    return f"held_out: nothing is left for the {split} split; allowed: some but not all tuples of anchors"


def _list_cells(
    mask: Bool[np.ndarray, "variants positions keys"],
    variants: Sequence[Variant],
    positions: Sequence[int],
    keys: Int[np.ndarray, " keys"],
) -> Cells:
    variant, position, key = np.nonzero(mask)
    return Cells(
        variant=variant,
        key_position=np.array(positions, np.int16)[position],
        key=keys.astype(np.int16)[key],
        anchors=np.array([one.anchors for one in variants], np.int16)[variant],
        group=np.array([one.group for one in variants], np.int16)[variant],
        variants=len(variants),
    )
