"""One worked example: a row of the task with its key and anchors marked, and what the model answers to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from anchorlab.tasks import Task
from anchorlab.tasks.example import example_row

from .predictions import logits


@dataclass(frozen=True)
class Example:
    """A row in words: token names, each token's role (`key`, `anchor 1`, … or empty), the label and the model's answer.

    `probability` is the softmax probability the model gives its answer, `label_probability` the one of the label.
    """

    split: str
    group: str
    tokens: tuple[str, ...]
    roles: tuple[str, ...]
    label: str
    answer: str
    probability: float
    label_probability: float

    @property
    def correct(self) -> bool:
        """Whether the model's answer is the label."""
        return self.answer == self.label


def worked_example(model: nn.Module, task: Task, split: str, seed: int) -> Example:
    """The first row that `seed` gives: not chosen for what the model makes of it."""
    row = example_row(task, split, seed)
    probabilities = torch.softmax(logits(model, np.array([row["input_ids"]]))[0].double(), dim=-1)
    answer, label = int(probabilities.argmax()), task.vocabulary.token_id(row["label"])
    return Example(
        split=split,
        group=row["group"],
        tokens=tuple(row["tokens"]),
        roles=tuple(row["marks"]),
        label=row["label"],
        answer=task.vocabulary.token_name(answer),
        probability=float(probabilities[answer]),
        label_probability=float(probabilities[label]),
    )
