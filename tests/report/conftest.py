"""Explanations of two small untrained networks, with a recorded history."""

from typing import Any

import pandas as pd
import pytest

from anchorlab import models, tasks
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
    task = tasks.create("composite")
    return [
        explain(HeldRun(name, task, rate=rate), samples=200) for name, rate in (("memorising", 0.3), ("reasoning", 0.5))
    ]
