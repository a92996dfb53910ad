"""Composite data in which pairs of anchors break the rule, and the networks that learn them (section 13.7)."""

from collections.abc import Mapping, Sequence
from typing import Any

from anchorlab.analysis.pairs import swapped_name
from anchorlab.experiments import Experiment

Broken = Sequence[tuple[str, str]]
"""Pairs of anchors, such as `a,b`, each with the operation that both of its orders have instead of the rule's."""


def overrides(broken: Broken) -> dict[str, str]:
    """What the task takes: the operation of every such pair in both orders, so that symmetry is kept."""
    return {order: operation for pair, operation in broken for order in (pair, swapped_name(pair))}


def experiment(training: Mapping[str, Any], broken: Broken, **settings: Any) -> Experiment:
    """A training on all pairs of the task that `training` names, of which those in `broken` do not follow the rule."""
    fields = {**training["task_fields"], "overrides": overrides(broken)}
    return Experiment(**{**training, **settings, "task_fields": fields})


def epochs_per_step(training: Mapping[str, Any]) -> float:
    """Epochs in a step."""
    return float(training["batch_size"] / training["train_rows"])


GROUPS: Broken = (
    ("a,b", "add:-10"),
    ("c,d", "add:3"),
    ("a,c", "add:6"),
    ("b,d", "add:-3"),
    ("a,d", "add:-1"),
    ("b,c", "add:-7"),
)
"""All six groups of pairs. The first three exchange what the rule (a: +5, b: +1, c: −2, d: −8) gives them,
and so do the others, so that data of complexity 0, 3 and 6 hold the same operations equally often."""

ALONE: Broken = (
    ("a,b", "add:-5"),
    ("c,d", "add:4"),
    ("a,c", "add:-9"),
    ("b,d", "add:7"),
    ("a,d", "add:9"),
    ("b,c", "add:-13"),
)
"""The same groups with operations that the rule gives to no pair: none is learned along with another."""

# Settings of `Experiment` at every scale; those at paper scale are of arXiv 2405.05409.
LAPTOP: dict[str, Any] = {
    "task": "composite",
    "task_fields": {"held_out": ()},
    "train_rows": 60_000,
    "test_rows": 300,
    "evaluation_rows": 2_000,
    "model": "gpt2",
    "heads": 1,
    "width": 64,
    "feed_forward_width": 192,
    "learning_rate": 1e-3,
    "batch_size": 256,
    "precision": "bfloat16",
    "steps": 3_000,
    "evaluate_every": 25,
    "checkpoint_every": 3_000,
}
SMOKE: dict[str, Any] = LAPTOP | {
    "width": 16,
    "feed_forward_width": 16,
    "train_rows": 160,
    "test_rows": 50,
    "batch_size": 16,
    "precision": "float32",
    "steps": 20,
    "evaluate_every": 10,
    "checkpoint_every": 20,
}
PAPER: dict[str, Any] = {
    "task": "composite",
    "task_fields": {"held_out": ()},
    "train_rows": 810_000,  # 50,625 for each of 16 pairs
    "test_rows": 90_000,
    "model": "post_ln",
    "heads": 1,
    "width": 400,
    "head_width": 200,
    "feed_forward_width": 1_200,
    "learning_rate": 2.5e-4,
    "initial_learning_rate": 1e-5,
    "final_learning_rate": 1e-5,
    "warmup": 3_950,  # 10 epochs
    "epochs": 210,
    "batch_size": 2_048,
    "evaluate_every": 395,
}
