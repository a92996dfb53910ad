"""Models whose answers are known by construction, and runs that hold them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from anchorlab import models, tasks

Rule = Callable[[np.ndarray], np.ndarray]


class PlannedModel(models.PostLNForCausalLM):
    """A small Transformer whose logits are replaced: it answers what a plain function of the tokens gives."""

    def __init__(self, task: tasks.Task, rule: Rule):
        super().__init__(models.build("post_ln", task.vocabulary.size, task.length, layers=2, heads=1, width=16).config)
        self.rule = rule

    def forward(self, input_ids: torch.Tensor, **options: Any) -> Any:
        output = super().forward(input_ids, **options)
        answers = torch.from_numpy(self.rule(input_ids.numpy().astype(np.int16)).astype(np.int64))
        output.logits = torch.zeros_like(output.logits)
        output.logits[torch.arange(len(answers)), -1, answers] = 5.0
        return output


class HeldRun:
    """A run that exists in memory only."""

    name = "member"
    status = "finished"

    def __init__(self, model: nn.Module, task: tasks.Task | None):
        self._model = model
        self.config: dict[str, Any] = {"task": None if task is None else task.config(), "seed": 3}
        self.environment = {"python": "3.11"}

    def metrics(self) -> pd.DataFrame:
        return pd.DataFrame([(0, "test", "", "accuracy", 0.5)], columns=["step", "split", "group", "metric", "value"])

    def checkpoints(self) -> list[int]:
        return []

    def model(self, step: int | None = None) -> nn.Module:
        return self._model


@pytest.fixture(scope="session")
def composite() -> tasks.Task:
    return tasks.create("composite")


@pytest.fixture
def planned() -> type[PlannedModel]:
    return PlannedModel


@pytest.fixture(scope="session")
def held_run() -> type[HeldRun]:
    return HeldRun


@pytest.fixture
def rules(composite: tasks.Task) -> dict[str, Rule]:
    """Four ways to answer the composite task: by the rule, symmetric but wrong, per order and wrong, at random."""
    unseen = {composite.vocabulary.anchors[name] for name in "cd"}

    def off(tokens: np.ndarray, shift: Callable[[np.ndarray], Any]) -> np.ndarray:
        anchors = composite.locate(tokens).anchors
        is_unseen = np.array([set(pair) == unseen for pair in anchors.tolist()])
        return composite.solve(tokens) + np.where(is_unseen, shift(anchors), 0)

    def at_random(tokens: np.ndarray) -> np.ndarray:
        return (
            20 + (tokens.astype(np.int64) @ np.array([7919, 104729, 1299709, 15485863, 3, 31, 337, 4001, 50021])) % 81
        )

    return {
        "rule": composite.solve,
        "symmetric": lambda tokens: off(tokens, lambda anchors: 3),
        "per order": lambda tokens: off(tokens, lambda anchors: np.where(anchors[:, 0] > anchors[:, 1], 5, 2)),
        "random": at_random,
    }
