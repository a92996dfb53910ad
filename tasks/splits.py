"""The three ways of splitting (section 12.5), each a predicate on (key value, key position, anchors)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int


@runtime_checkable
class Split(Protocol):
    """Says which cells are kept out of training."""

    def selects(
        self,
        key: Int[np.ndarray, "*#cells"],
        key_position: Int[np.ndarray, "*#cells"],
        anchors: Int[np.ndarray, "*#cells links"],
    ) -> Bool[np.ndarray, "*#cells"]:
        """Return True for the cells that belong to the other side of the split (arguments broadcast)."""
        ...


@dataclass(frozen=True)
class ModRemainder:
    """Mod-remainder split: test keys x at position i have x mod `modulus` = i mod `modulus`.

    The first position has i = `position_base`: 1 as section 12.5.1 writes rows (x_1 .. x_n), 0 as programs count. The
    book takes the modulus equal to the row length n.
    """

    modulus: int
    position_base: int = 0

    def selects(
        self,
        key: Int[np.ndarray, "*#cells"],
        key_position: Int[np.ndarray, "*#cells"],
        anchors: Int[np.ndarray, "*#cells links"],
    ) -> Bool[np.ndarray, "*#cells"]:
        """Return True where key and position leave the same remainder."""
        same: Bool[np.ndarray, "*#cells"] = (key - key_position - self.position_base) % self.modulus == 0
        return same & np.ones(anchors.shape[:-1], np.bool_)


@dataclass(frozen=True)
class AnchorRanges:
    """Anchor-based split: the keys low..high of an anchor are test keys, G_a is the rest; `ranges` is by anchor id."""

    ranges: Mapping[int, tuple[int, int]]

    def selects(
        self,
        key: Int[np.ndarray, "*#cells"],
        key_position: Int[np.ndarray, "*#cells"],
        anchors: Int[np.ndarray, "*#cells links"],
    ) -> Bool[np.ndarray, "*#cells"]:
        """Return True where the key lies in the range of the (first) anchor."""
        inside = np.zeros(np.broadcast_shapes(key.shape, key_position.shape, anchors.shape[:-1]), np.bool_)
        for anchor, (low, high) in self.ranges.items():
            inside |= (anchors[..., 0] == anchor) & (key >= low) & (key <= high)
        return inside


@dataclass(frozen=True)
class HeldOutPairs:
    """Composite-anchor split: whole tuples of anchors, given by their ids, are never seen in training."""

    tuples: tuple[tuple[int, ...], ...]

    def selects(
        self,
        key: Int[np.ndarray, "*#cells"],
        key_position: Int[np.ndarray, "*#cells"],
        anchors: Int[np.ndarray, "*#cells links"],
    ) -> Bool[np.ndarray, "*#cells"]:
        """Return True for every key and position of a held-out tuple."""
        held = np.zeros(np.broadcast_shapes(key.shape, key_position.shape, anchors.shape[:-1]), np.bool_)
        for ids in self.tuples:
            held |= (anchors == np.array(ids)).all(axis=-1)
        return held
