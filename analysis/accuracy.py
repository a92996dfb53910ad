"""Accuracy by group of rows, and by anchor pair as a matrix."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from .pairs import TaskPairs


@dataclass(frozen=True)
class PairMatrix:
    """Accuracy of every ordered anchor pair: rows are the first anchor, columns the second.

    `seen` marks the pairs of the training split and `unseen` the task's other pairs; `accuracy` is NaN where the task
    has no such pair or none of its rows was drawn.
    """

    anchors: tuple[str, ...]
    accuracy: Float[np.ndarray, "anchors anchors"]
    seen: Bool[np.ndarray, "anchors anchors"]
    unseen: Bool[np.ndarray, "anchors anchors"]

    @property
    def undrawn(self) -> int:
        """Number of the task's pairs of which no row was drawn."""
        return int(((self.seen | self.unseen) & np.isnan(self.accuracy)).sum())

    def mean(self, *, unseen: bool) -> float:
        """Mean over the unseen or the seen pairs that were drawn, each counting once; NaN if there are none."""
        chosen = self.accuracy[(self.unseen if unseen else self.seen) & ~np.isnan(self.accuracy)]
        return float(chosen.mean()) if len(chosen) else float("nan")


def accuracy_table(split: str, groups: Sequence[str], correct: Bool[np.ndarray, " n"]) -> pd.DataFrame:
    """Accuracy per group of one split: columns split, group, rows, accuracy; groups in order of their names."""
    frame = pd.DataFrame({"group": list(groups), "correct": correct})
    table = frame.groupby("group")["correct"].agg(rows="size", accuracy="mean").reset_index()
    table.insert(0, "split", split)
    return table


def pair_matrix(pairs: Sequence[str], correct: Bool[np.ndarray, " n"], task: TaskPairs) -> PairMatrix:
    """Accuracy by anchor pair of rows whose pairs are named `first,second`, all of them among the task's pairs."""
    means = pd.Series(np.asarray(correct, float)).groupby(np.asarray(pairs, object)).mean()
    anchors = tuple(sorted({anchor for pair in task.seen | task.unseen for anchor in pair.split(",")}))
    names = [[f"{first},{second}" for second in anchors] for first in anchors]
    return PairMatrix(
        anchors,
        accuracy=np.array([[means.get(name, np.nan) for name in row] for row in names], dtype=float),
        seen=np.array([[name in task.seen for name in row] for row in names]),
        unseen=np.array([[name in task.unseen for name in row] for row in names]),
    )
