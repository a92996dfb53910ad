"""Accuracy by group of rows, and by anchor pair as a matrix."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float


@dataclass(frozen=True)
class PairMatrix:
    """Accuracy of every ordered anchor pair: rows are the first anchor, columns the second.

    `accuracy` is NaN where the task has no such pair; `unseen` marks the pairs kept out of training.
    """

    anchors: tuple[str, ...]
    accuracy: Float[np.ndarray, "anchors anchors"]
    unseen: Bool[np.ndarray, "anchors anchors"]

    def mean(self, *, unseen: bool) -> float:
        """Mean over the unseen or the seen pairs, each counting once; NaN if there are none."""
        chosen = self.accuracy[(self.unseen == unseen) & ~np.isnan(self.accuracy)]
        return float(chosen.mean()) if len(chosen) else float("nan")


def accuracy_table(split: str, groups: Sequence[str], correct: Bool[np.ndarray, " n"]) -> pd.DataFrame:
    """Accuracy per group of one split: columns split, group, rows, accuracy; groups in order of their names."""
    frame = pd.DataFrame({"group": list(groups), "correct": correct})
    table = frame.groupby("group")["correct"].agg(rows="size", accuracy="mean").reset_index()
    table.insert(0, "split", split)
    return table


def pair_matrix(pairs: Sequence[str], correct: Bool[np.ndarray, " n"], unseen: Collection[str]) -> PairMatrix:
    """Accuracy by anchor pair of rows whose pairs are named `first,second`; `unseen` lists the pairs never trained."""
    means = pd.Series(np.asarray(correct, float)).groupby(np.asarray(pairs, object)).mean()
    anchors = tuple(sorted({anchor for pair in means.index for anchor in str(pair).split(",")}))
    names = [[f"{first},{second}" for second in anchors] for first in anchors]
    accuracy = np.array([[means.get(name, np.nan) for name in row] for row in names], dtype=float)
    return PairMatrix(anchors, accuracy, np.array([[name in unseen for name in row] for row in names]))
