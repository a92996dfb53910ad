"""Networks on the composite task over γ and λ, which several figures of chapter 13 share.

At laptop scale the task has three anchors, a: x + 1, b: x + 2 and c: x + 3, with (a, c) and (c, a) unseen: the unseen
pair does what the seen pair (b, b) does, which puts the rule within reach of a network of two layers and one head.
Figures that ask for a place (γ, λ) of the same training get the same networks.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from anchorlab.analysis import Thresholds, phase
from anchorlab.engine import Run
from anchorlab.experiments.experiment import Experiment

from ..study import Study

LIMITS = Thresholds()  # figure 13.6: ID 0.9, commutativity 0.7

Place = tuple[float, float]
"""Initialization rate γ and weight decay λ."""

_TASK: dict[str, Any] = {
    "operations": {"a": "add:1", "b": "add:2", "c": "add:3"},
    "held_out": [["a", "c"], ["c", "a"]],
}
LAPTOP: dict[str, Any] = {
    "task": "composite",
    "task_fields": _TASK,
    "train_rows": 60_000,
    "test_rows": 1_000,
    "ood_rows": 1_000,
    "model": "post_ln",
    "layers": 2,
    "heads": 1,
    "width": 64,
    "feed_forward_width": 192,
    "batch_size": 256,
    "learning_rate": 2e-3,
    "steps": 2_000,
    "precision": "bfloat16",
    "evaluate_every": 500,
    "evaluation_rows": 1_000,
    "checkpoint_every": 2_000,
}
LAPTOP_SIZE = (
    "Laptop: anchors x + 1, x + 2 and x + 3, (a, c) and (c, a) unseen; post-LN Transformer with 2 layers, 1 head and "
    "width 64, 2000 steps."
)
SMOKE: dict[str, Any] = LAPTOP | {
    "train_rows": 600,
    "test_rows": 100,
    "ood_rows": 100,
    "evaluation_rows": 100,
    "width": 16,
    "feed_forward_width": 32,
    "batch_size": 32,
    "steps": 20,
    "evaluate_every": 10,
    "checkpoint_every": 20,
    "precision": "float32",
}
_PUBLISHED: dict[str, Any] = {
    "task": "composite",
    "preset": "book",
    "test_rows": 10_000,
    "ood_rows": 10_000,
    "batch_size": 2_048,
    "evaluation_rows": 10_000,
}
PAPER_DEEP: dict[str, Any] = _PUBLISHED | {
    "train_rows": 157_500,
    "model": "gpt2",
    "layers": 10,
    "heads": 10,
    "width": 640,
    "feed_forward_width": 1_280,
    "initialization_rule": "arxiv-2501.08537",
    "learning_rate": 3e-5,
    "initial_learning_rate": 1e-5,
    "final_learning_rate": 1e-5,
    "schedule_unit": "epoch",
    "warmup": 50,
    "epochs": 1_050,
}
"""Settings of arXiv 2501.08537, from which figures 13.5 and 13.6 are: 11,250 rows for each of 14 seen pairs."""
PAPER: dict[str, Any] = _PUBLISHED | {
    "train_rows": 708_750,
    "model": "post_ln",
    "layers": 2,
    "heads": 1,
    "width": 400,
    "head_width": 200,
    "feed_forward_width": 1_200,
    "learning_rate": 2.5e-4,
    "initial_learning_rate": 1e-5,
    "final_learning_rate": 1e-5,
    "warmup": 3_460,  # 10 epochs
    "epochs": 210,
}
"""Settings of arXiv 2405.05409, whose two-layer network with one head figures 13.8 to 13.12 examine.

50,625 rows for each of the book's 14 seen pairs.
"""


def experiment(training: Mapping[str, Any], place: Place, seed: int, **changed: Any) -> Experiment:
    """The training of one network at a place; `seed` draws weights and rows."""
    rate, decay = place
    named: dict[str, Any] = {"initialization_rate": rate, "weight_decay": decay, "seed": seed, "data_seed": seed}
    return Experiment(**{**training, **named, **changed})


def train_places(study: Study, places: Iterable[Place]) -> dict[tuple[Place, int], Run]:
    """A network for every place and seed."""
    training = study.settings["training"]
    return study.train(
        {(place, seed): experiment(training, place, seed) for place in dict.fromkeys(places) for seed in study.seeds}
    )


def scores(run: Run) -> dict[str, Any]:
    """What a network answers after its last step: ID and OOD accuracy, commutativity on unseen pairs, and its phase."""
    id_accuracy, ood_accuracy = run.final("test"), run.final("ood")
    return {
        "id_accuracy": id_accuracy,
        "ood_accuracy": ood_accuracy,
        "commutativity": run.final("ood", "commutativity"),
        "phase": phase(id_accuracy, ood_accuracy, id_threshold=LIMITS.id, ood_threshold=LIMITS.ood).number,
    }


def score_table(runs: Mapping[tuple[Place, int], Run]) -> pd.DataFrame:
    """One row a network: initialization_rate, weight_decay, seed and its `scores`."""
    return pd.DataFrame(
        [
            {"initialization_rate": rate, "weight_decay": decay, "seed": seed, **scores(run)}
            for ((rate, decay), seed), run in runs.items()
        ]
    )


def by_seed(table: pd.DataFrame) -> Iterator[tuple[int, pd.DataFrame]]:
    """The rows of every seed, by column seed."""
    for seed in sorted(set(table["seed"].tolist())):
        yield seed, table[table["seed"] == seed]
