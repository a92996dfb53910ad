"""A sweep that trains nothing: run folders with chosen histories of accuracy."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from anchorlab.engine import Run
from anchorlab.experiments import Experiment

History = Mapping[tuple[str, str], Mapping[int, float]]
"""Accuracy by step, for every (split, group)."""


def planted_run(folder: Path, experiment: Experiment, history: History, *, status: str = "finished") -> Run:
    """A run folder of this experiment with these accuracies, and 0.123 for everything else that a run measures."""
    folder.mkdir(parents=True)
    rows = [
        (step, split, group, metric, value if metric == "accuracy" else 0.123)
        for (split, group), values in history.items()
        for step, value in values.items()
        for metric in ("loss", "accuracy")
    ]
    table = pd.DataFrame(rows, columns=["step", "split", "group", "metric", "value"])
    table.to_parquet(folder / "metrics.parquet", index=False)
    sizes = {"parameters": 1234, "total_steps": experiment.steps}
    (folder / "config.json").write_text(json.dumps(experiment.record() | sizes))
    (folder / "environment.json").write_text(json.dumps({"status": status}))
    return Run.open(folder)


class PlantedSweep:
    """Takes the place of `sweep`; `history` says what a training gave, or raises."""

    def __init__(self, history: Callable[[Experiment], History]):
        self.history = history
        self.members: Mapping[str, Experiment] = {}

    def __call__(self, members: Mapping[str, Experiment], out: Path, **options: Any) -> list[Run]:
        """Write the runs."""
        self.members = members
        return [planted_run(Path(out) / name, one, self.history(one)) for name, one in members.items()]
