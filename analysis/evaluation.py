"""A model's answers on fresh rows of one split, and on the same rows with their anchors exchanged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int
from torch import nn

from anchorlab.tasks import Task

from .pairs import pair_names, swap_anchors
from .predictions import answers


@dataclass(frozen=True)
class Evaluation:
    """Rows of one split with the model's answers.

    `labels` are the data's, `truth` what the task's rule gives (they differ where labels are drawn at random). `pairs`
    names each row's ordered anchor pair and is None for a task whose rows do not hold exactly two anchors.
    """

    split: str
    tokens: Int[np.ndarray, "n length"]
    labels: Int[np.ndarray, " n"]
    truth: Int[np.ndarray, " n"]
    answers: Int[np.ndarray, " n"]
    groups: list[str]
    pairs: list[str] | None

    @property
    def correct(self) -> Bool[np.ndarray, " n"]:
        """Where the answer is the data's label."""
        correct: Bool[np.ndarray, " n"] = self.answers == self.labels
        return correct

    @property
    def accuracy(self) -> float:
        """Fraction of rows answered with the data's label."""
        return float(self.correct.mean())


@dataclass(frozen=True)
class Exchange:
    """The rows of an evaluation with their two anchors exchanged: the model's answers and the rule's."""

    answers: Int[np.ndarray, " n"]
    truth: Int[np.ndarray, " n"]


def evaluate(model: nn.Module, task: Task, split: str, samples: int, seed: int) -> Evaluation:
    """Answer `samples` fresh rows of a split."""
    rows = task.sample(split, samples, seed)
    pairs = pair_names(rows.anchors, task.vocabulary.anchors) if rows.anchors.shape[1] == 2 else None
    return Evaluation(
        split=split,
        tokens=rows.tokens,
        labels=rows.label.astype(np.int64),
        truth=task.solve(rows.tokens).astype(np.int64),
        answers=answers(model, rows.tokens),
        groups=[task.group_names[group] for group in rows.group],
        pairs=pairs,
    )


def exchange(model: nn.Module, task: Task, evaluation: Evaluation) -> Exchange:
    """Exchange the anchors of every row and answer again; the exchanged pairs must belong to the task."""
    swapped = swap_anchors(evaluation.tokens, task.locate(evaluation.tokens).anchor_positions)
    return Exchange(answers(model, swapped), task.solve(swapped).astype(np.int64))
