"""What splits share: counted for cells, proved for rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Int

from .cells import Cells

REASON = (
    "a row determines its cell (key, key position, anchors): the oracle reads the cell off the tokens; "
    "splits without a common cell therefore have no common row"
)


@dataclass(frozen=True)
class LeakReport:
    """Overlap between splits, and what is known about duplicates inside one.

    `shared_cells` is counted over all cells that the splits can draw, not over a sample. `shared_rows` is 0 for a pair
    without shared cells (`reason` says why) and None otherwise. `rows_per_cell` is the number of equally likely rows of
    a cell, None where they are not equally likely. `copies` is the number of times each row is repeated on purpose.
    """

    cells: Mapping[str, int]
    shared_cells: Mapping[tuple[str, str], int]
    shared_rows: Mapping[tuple[str, str], int | None]
    reason: str
    rows_per_cell: int | None
    copies: int

    @classmethod
    def of(cls, cells: Mapping[str, Cells], rows_per_cell: int | None, copies: int) -> LeakReport:
        """Count the cells that each pair of splits has in common."""
        shared = {
            (one, other): len(np.intersect1d(_codes(cells[one]), _codes(cells[other])))
            for one, other in combinations(cells, 2)
        }
        return cls(
            cells={split: len(table) for split, table in cells.items()},
            shared_cells=shared,
            shared_rows={pair: 0 if count == 0 else None for pair, count in shared.items()},
            reason=REASON,
            rows_per_cell=rows_per_cell,
            copies=copies,
        )

    def expected_duplicates(self, split: str, rows: int) -> float | None:
        """Return how many of `rows` drawn rows are expected to repeat an earlier one by chance (None if unknown)."""
        if self.rows_per_cell is None:
            return None
        drawn, possible = rows / self.copies, self.cells[split] * self.rows_per_cell
        if possible > 1e18:  # too large for the exact formula in floating point; its leading term
            return drawn * float(Fraction(rows, 2 * self.copies * possible))
        return drawn + possible * math.expm1(drawn * math.log1p(-1 / possible)) if possible > 1 else drawn - 1

    def as_json(self) -> dict[str, Any]:
        """Return the report in JSON types; a pair of splits is written ``train & test``."""
        return {
            "cells": dict(self.cells),
            "shared_cells": {" & ".join(pair): count for pair, count in self.shared_cells.items()},
            "shared_rows": {" & ".join(pair): count for pair, count in self.shared_rows.items()},
            "reason": self.reason,
            "rows_per_cell": _json_integer(self.rows_per_cell),
            "copies": self.copies,
        }


def _json_integer(value: int | None) -> int | str | None:
    """Return the number, or its size in words where JSON readers would not keep all of its digits."""
    return value if value is None or value < 2**53 else f"about 10^{round(math.log10(value))}"


def _codes(cells: Cells) -> Int[np.ndarray, " cells"]:
    """One number per cell."""
    places = cells.key_position.astype(np.int64)
    codes: Int[np.ndarray, " cells"] = (cells.variant.astype(np.int64) << 32) | (places << 16) | cells.key
    return codes
