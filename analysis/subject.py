"""A run under examination: its model, task and fresh rows, each made once and shared by all measurements."""

from __future__ import annotations

from functools import cached_property
from hashlib import sha256
from typing import Any, Protocol

import numpy as np
import pandas as pd
from jaxtyping import Int
from transformers import PreTrainedModel

from anchorlab import tasks
from anchorlab.errors import InputError
from anchorlab.tasks import Task

from .evaluation import Evaluation, Exchange, evaluate, exchange
from .interventions import Counterparts, counterparts
from .pairs import TaskPairs, task_pairs


class TrainedRun(Protocol):
    """What `explain` needs of a run; `anchorlab.engine.Run` has it."""

    @property
    def name(self) -> str:
        """The member's name."""
        ...

    @property
    def status(self) -> str:
        """How training ended."""
        ...

    @property
    def config(self) -> dict[str, Any]:
        """The resolved settings; `task` is `{"name", "fields"}`, or None for the user's own data."""
        ...

    @property
    def environment(self) -> dict[str, Any]:
        """Versions, device, seeds, wall time."""
        ...

    def metrics(self) -> pd.DataFrame:
        """The recorded history: columns step, split, group, metric, value."""
        ...

    def checkpoints(self) -> list[int]:
        """Steps whose parameters were kept."""
        ...

    def model(self, step: int | None = None) -> PreTrainedModel:
        """The trained model, or what it was after a step of `checkpoints()`."""
        ...


class Subject:
    """A run with what its measurements share.

    Properties raise `InputError`, with the reason in one line, for what the run's task or architecture does not have.
    """

    def __init__(self, run: TrainedRun, samples: int, seed: int):
        self.run, self.samples, self.seed = run, samples, seed
        self.model = run.model()
        if run.config.get("task") is not None:
            _check_size(self.task, self.model)

    @cached_property
    def task(self) -> Task:
        """The task that the run was trained on."""
        if self.run.config.get("task") is None:
            raise InputError("trained on the user's own data: there is no task to draw fresh rows from")
        return tasks.from_config(self.run.config["task"])

    @property
    def row_seed(self) -> int:
        """The seed of the fresh rows."""
        return fresh_row_seed(self.seed, self.run.config.get("data_seed"))

    @property
    def splits(self) -> list[str]:
        """All splits of the task but `train`."""
        return [split for split in self.task.splits if split != "train"]

    def rows(self, split: str, most: int) -> Int[np.ndarray, "n length"]:
        """The first fresh rows of a split, at most `most` of the subject's `samples`."""
        return self.evaluations[split].tokens[:most]

    @cached_property
    def evaluations(self) -> dict[str, Evaluation]:
        """The model's answers on the fresh rows of every split."""
        task, seed = self.task, self.row_seed
        return {split: evaluate(self.model, task, split, self.samples, seed) for split in self.splits}

    @cached_property
    def unseen(self) -> Evaluation:
        """The answers on pairs that were kept out of training."""
        if "ood" not in self.evaluations:
            raise InputError("the task keeps no anchor pair out of training")
        return self.evaluations["ood"]

    @cached_property
    def pairs(self) -> TaskPairs:
        """The task's anchor pairs."""
        known = task_pairs(self.task)
        if known is None:
            raise InputError("the task has no anchor pairs")
        return known

    @cached_property
    def exchanged(self) -> dict[str, Exchange]:
        """The answers on the same rows with the anchors exchanged."""
        if not self.pairs.exchangeable:
            raise InputError("exchanging the two anchors of a pair gives no pair of the task")
        return {split: exchange(self.model, self.task, rows) for split, rows in self.evaluations.items()}

    @cached_property
    def counterparts(self) -> Counterparts:
        """Rows in pairs that differ in their keys, for the causal checks."""
        return counterparts(self.model, self.task, self.rows("test", 200))

    @cached_property
    def checkpoints(self) -> list[int]:
        """The steps whose parameters were kept, or none if it is the last step alone; at most 24, evenly chosen."""
        steps = self.run.checkpoints()
        if len(steps) < 2:
            return []
        return [steps[place] for place in np.unique(np.linspace(0, len(steps) - 1, 24).round().astype(int))]


def _check_size(task: Task, model: PreTrainedModel) -> None:
    positions = getattr(model.config, "max_position_embeddings", task.length)
    if model.config.vocab_size < task.vocabulary.size or positions < task.length:
        raise InputError(
            f"run: the model has {model.config.vocab_size} token ids and {positions} positions, the task "
            f"{task.vocabulary.size} and {task.length}; config.json and model/ do not belong together"
        )


def fresh_row_seed(seed: int, data_seed: int | None) -> int:
    """The seed that `Task.sample` gets for the explanation `seed`: a stream of its own, never the run's `data_seed`."""
    drawn = int.from_bytes(sha256(f"explain/{seed}".encode()).digest()[:4])
    return drawn + 1 if drawn == data_seed else drawn
