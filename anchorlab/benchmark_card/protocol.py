"""The protocol of the benchmark: the same rows, optimizer and most steps for every network, declared once."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any

from anchorlab import tasks
from anchorlab.errors import InputError
from anchorlab.experiments import Experiment
from anchorlab.validation import check_known, unknown_name

LEARNED = 0.9
"""Accuracy from which a task counts as learned."""

_REVISION = 1  # to be raised when the meaning of a number on a card changes


@dataclass(frozen=True, kw_only=True)
class BenchmarkTask:
    """One task of the benchmark: its parameters, and the group of rows that accuracy is of (empty: all rows)."""

    name: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    group: str = ""

    @property
    def task(self) -> tasks.Task:
        """The anchor function."""
        return tasks.create(self.name, **self.fields)


# Of the statistical rows only those with the usual label can be answered: the others have theirs by chance.
TASKS = {
    task.name: task
    for task in (
        BenchmarkTask(name="identity"),
        BenchmarkTask(name="reading_comprehension"),
        BenchmarkTask(name="classification"),
        BenchmarkTask(name="composite"),
        BenchmarkTask(name="working_memory"),
        BenchmarkTask(name="synonym"),
        BenchmarkTask(name="recitation"),
        BenchmarkTask(name="statistical", fields={"construction": 2}, group="x"),
        BenchmarkTask(name="multi_anchor"),
    )
}


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What every network does at one scale.

    Attributes:
        scale: `smoke`, `laptop` or `paper`.
        rows: sizes of the training set, ascending; data and task generalization are read at the largest.
        test_rows: rows of the test split, and of the ood split where there is one.
        seeds: trials if no other number is asked for; seed k draws the weights, the rows and their order.
        training: settings of `Experiment` for every training.
        networks: settings of the networks of this package that have a row, by name.
        until_solved: training ends early when, at an evaluation, all rows that were not trained are answered.
    """

    scale: str
    rows: tuple[int, ...]
    test_rows: int
    seeds: int
    training: Mapping[str, Any]
    networks: Mapping[str, Mapping[str, Any]]
    until_solved: bool = True

    @property
    def key(self) -> str:
        """A hash of all that decides a number on a card: only cards with the same one can be compared.

        Of how many seeds and tasks a card is stands on the card.
        """
        content = asdict(self) | {
            "tasks": {name: [task.task.config(), task.group] for name, task in TASKS.items()},
            "generator": tasks.GENERATOR_VERSION,
            "learned": LEARNED,
            "revision": _REVISION,
        }
        del content["seeds"]
        return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    def experiments(
        self, network: Mapping[str, Any], names: Sequence[str], seeds: int
    ) -> dict[tuple[str, int, int], Experiment]:
        """The trainings of a network (settings of `Experiment`), by task, number of training rows and seed."""
        return {
            (name, rows, seed): Experiment(
                task=name,
                task_fields=dict(TASKS[name].fields),
                train_rows=rows,
                test_rows=self.test_rows,
                ood_rows=self.test_rows,
                data_seed=seed,
                seed=seed,
                stop_accuracy=self._solved(name),
                **network,
                **self.training,
            )
            for seed in range(seeds)
            for name in names
            for rows in self.rows
        }

    def _solved(self, name: str) -> dict[str, float]:
        splits = TASKS[name].task.splits if self.until_solved else ()
        return {split: 1.0 for split in splits if split != "train"}

    def network(self, name: str) -> dict[str, Any]:
        """Settings of `Experiment` for a network of this package by its name, or for a factory by where it stands.

        Each begins with the weights that its own constructor draws.

        Raises InputError for another name and for a factory that there is not.
        """
        if name in self.networks:
            return {"model": name, **self.networks[name], "initialization_rule": "pytorch"}
        if ":" not in name:
            known = unknown_name("network", name, self.networks)
            raise InputError(f"{known}; a network of your own is FILE.py:FUNCTION or package.module:FUNCTION")
        return {"model": "factory", "model_options": {"factory": name}, "initialization_rule": "own"}


PROTOCOLS = {
    protocol.scale: protocol
    for protocol in (
        Protocol(
            scale="smoke",
            rows=(100, 200),
            test_rows=100,
            seeds=1,
            training={
                **{"optimizer": "adamw", "learning_rate": 1e-3, "weight_decay": 0.01, "clip_norm": 1.0},
                **{"batch_size": 50, "steps": 20, "evaluate_every": 10, "checkpoint_every": 20},
                **{"evaluation_rows": 100},
            },
            networks={
                "gpt2": {"layers": 2, "heads": 2, "width": 32},
                "post_ln": {"layers": 2, "heads": 2, "width": 32},
                "lstm": {"layers": 1, "width": 32},
                "fnn": {"layers": 2, "width": 64},
            },
        ),
        Protocol(
            scale="laptop",
            rows=(1000, 4000, 16000),
            test_rows=500,
            seeds=3,
            training={
                **{"optimizer": "adamw", "learning_rate": 2e-3, "weight_decay": 0.01, "clip_norm": 1.0},
                **{"batch_size": 100, "steps": 1200, "evaluate_every": 100, "checkpoint_every": 1200},
                **{"evaluation_rows": 500},
            },
            networks={
                "gpt2": {"layers": 2, "heads": 2, "width": 64},
                "post_ln": {"layers": 2, "heads": 2, "width": 64},
                "lstm": {"layers": 2, "width": 64},
                "fnn": {"layers": 3, "width": 128},
            },
        ),
        # Section 12.8.3: batch, rates and epochs; section 12.6 and arXiv 2401.08309: sizes of nets and training sets.
        Protocol(
            scale="paper",
            rows=(600, 1000, 2200, 4000, 10_000, 30_000),
            test_rows=500,
            seeds=10,
            training={
                **{"optimizer": "adamw", "weight_decay": 0.01, "clip_norm": 1.0, "batch_size": 100, "epochs": 4000},
                **{"schedule_unit": "epoch", "warmup": 400, "initial_learning_rate": 2e-5},
                **{"learning_rate": 2e-4, "final_learning_rate": 2e-5, "evaluation_rows": 500},
            },
            networks={
                "gpt2": {"layers": 4, "heads": 4, "width": 400, "feed_forward_width": 1200},
                "post_ln": {
                    **{"layers": 4, "heads": 4, "width": 400, "head_width": 64, "feed_forward_width": 1200},
                },
                "lstm": {"layers": 4, "width": 400},
                "fnn": {"layers": 4, "width": 400},
            },
            until_solved=False,
        ),
    )
}


def protocol_of(scale: str) -> Protocol:
    """The protocol of a scale; raises InputError for an unknown one."""
    check_known("scale", scale, PROTOCOLS)
    return PROTOCOLS[scale]
