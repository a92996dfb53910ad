"""Counter-based random numbers: a stream is named by what it is for, so any part of a dataset can be made alone.

Only the raw Philox words are taken from NumPy, whose bit streams are frozen for good; how words become numbers is
defined here, so a dataset does not change with the NumPy version.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
from jaxtyping import Float, Int, UInt32

_WORD_BITS = 32
_SHORT_BITS = 8
_FINE_BOUND = 1 << 16  # above it, 32-bit words would prefer some results by more than 1 in 65536


class Stream:
    """A Philox stream keyed by the SHA-256 of its name; streams of different names share nothing."""

    def __init__(self, *name: str | int) -> None:
        digest = hashlib.sha256(json.dumps(name).encode()).digest()
        self._bits = np.random.Philox(key=int.from_bytes(digest[:16], "little"))

    def _words(self, count: int) -> UInt32[np.ndarray, " count"]:
        raw = self._bits.random_raw((count + 1) // 2)
        words: UInt32[np.ndarray, " count"] = raw.astype("<u8", copy=False).view("<u4")[:count]
        return words

    def units(self, count: int) -> Float[np.ndarray, " count"]:
        """Return `count` numbers in [0, 1) on the grid of 2^-53."""
        units: Float[np.ndarray, " count"] = (self._bits.random_raw(count) >> np.uint64(11)) * 2.0**-53
        return units

    def below(self, bound: int | Int[np.ndarray, " count"], count: int) -> Int[np.ndarray, " count"]:
        """Return `count` integers in [0, bound), where `bound` is one number or one per row."""
        if count == 0:
            return np.empty(0, np.int64)
        if np.max(bound) > _FINE_BOUND:
            fine: Int[np.ndarray, " count"] = np.floor(self.units(count) * bound).astype(np.int64)
            return fine
        wide = self._words(count).astype(np.uint64)
        wide *= np.asarray(bound, np.uint64)
        wide >>= np.uint64(_WORD_BITS)
        return wide.astype(np.int64)

    def numbers(self, low: int, high: int, rows: int, columns: int) -> Int[np.ndarray, "rows columns"]:
        """Return int16 numbers drawn uniformly from low..high, both included."""
        span, count = high - low + 1, rows * columns
        if span > 1 << _SHORT_BITS:
            drawn = self.below(span, count).astype(np.int16)
        else:  # the upper 24 bits are enough, and the product stays within 32 bits: twice as fast
            words = self._words(count) >> np.uint32(_SHORT_BITS)
            words *= np.uint32(span)
            words >>= np.uint32(_WORD_BITS - _SHORT_BITS)
            drawn = words.astype(np.int16)
        drawn += np.int16(low)
        return drawn.reshape(rows, columns)

    def permutation(self, count: int) -> Int[np.ndarray, " count"]:
        """Return a random order of 0..count-1."""
        return np.argsort(self._bits.random_raw(count), kind="stable")

    def distinct(self, pool: Int[np.ndarray, "rows pool"], count: int) -> Int[np.ndarray, "rows count"]:
        """Return `count` different entries of each row of `pool` (a Fisher-Yates shuffle of all rows at once)."""
        pool, rows = pool.copy(), np.arange(len(pool))
        for column in range(count):
            other = column + self.below(pool.shape[1] - column, len(pool))
            chosen = pool[rows, other]
            pool[rows, other] = pool[:, column]
            pool[:, column] = chosen
        return pool[:, :count]
