"""Explanations of two small untrained networks, with a recorded history, and the page that shows both."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_experiments import brief_figures, brief_geometry

from anchorlab import models, report, tasks
from anchorlab.analysis import Explanation, explain


class HeldRun:
    """A run that exists in memory only."""

    status = "finished"

    def __init__(self, name: str, task: tasks.Task | None, *, model: str = "post_ln", rate: float = 0.5, **shape: Any):
        self.name = name
        shown = task or tasks.create("composite")
        self._model = models.build(model, shown.vocabulary.size, shown.length, **({"layers": 2, "width": 16} | shape))
        settings = {"model": model, "layers": 2, "heads": 1, "width": 16, "initialization_rate": rate, "seed": 3}
        self.config = {"task": None if task is None else task.config(), **settings}
        self.environment = {"python": "3.11", "packages": {"torch": "2.13.0"}, "status": self.status}
        self._splits = ("train", "test") if task is None else task.splits

    def metrics(self) -> pd.DataFrame:
        rows = [
            (step, split, "", metric, value)
            for step in (0, 50, 100)
            for split in self._splits
            for metric, value in (("loss", 4.0 / (1 + step)), ("accuracy", step / 100))
        ]
        return pd.DataFrame(rows, columns=["step", "split", "group", "metric", "value"])

    def checkpoints(self) -> list[int]:
        return []

    def model(self, step: int | None = None) -> Any:
        return self._model


@pytest.fixture(scope="session")
def held_run() -> type[HeldRun]:
    return HeldRun


@pytest.fixture(scope="session")
def explanations() -> list[Explanation]:
    task, rates = tasks.create("composite"), {"memorising": 0.3, "reasoning": 0.5}
    with brief_geometry():
        found = [explain(HeldRun(name, task, rate=rate), samples=200) for name, rate in rates.items()]
    return [with_attention_at_three_steps(explanation) for explanation in found]


def with_attention_at_three_steps(explanation: Explanation) -> Explanation:
    """As if its attention had been even at first and half as it is now in the middle."""
    assert explanation.attention is not None
    last = explanation.attention.trained
    even = np.tril(np.ones_like(last)) / np.arange(1, last.shape[-1] + 1)[:, None]
    history = np.stack([even, (even + last) / 2, last])
    return replace(explanation, attention=replace(explanation.attention, steps=(0, 50, 100), weights=history))


@pytest.fixture(scope="session")
def report_path(explanations: list[Explanation], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    with brief_figures():
        assert report.write(explanations, path, command="anchorlab run composite --seed 0") == path
    return path
