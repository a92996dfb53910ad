"""Explain a run: load its model once and measure everything a report tells about it."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Protocol

import numpy as np
import pandas as pd
from jaxtyping import Int
from torch import nn
from transformers import PreTrainedModel

from anchorlab import tasks
from anchorlab.tasks import Task

from .accuracy import accuracy_table, pair_matrix
from .answers import class_table, classify, deviations
from .attention import NoAttentionError, attention_maps
from .commutativity import commutativity_table
from .condensation import Condensation, measure_condensation, query_weights
from .embedding import FEWEST_NUMBERS, EmbeddingPCA, embedding_pca
from .evaluation import Evaluation, evaluate, exchange
from .example import worked_example
from .explanation import Attention, Explanation
from .pairs import TaskPairs, swapped_name, task_pairs
from .phases import Phase, phase


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

    def model(self) -> PreTrainedModel:
        """The trained model."""
        ...


@dataclass(frozen=True)
class _Absent:
    reason: str


_NO_TASK = _Absent("trained on the user's own data: there is no task to draw fresh rows from")
_NO_PAIRS = _Absent("the task has no anchor pairs")
_NO_UNSEEN = _Absent("the task keeps no anchor pair out of training")
_NO_EXCHANGE = _Absent("exchanging the two anchors of a pair gives no pair of the task")

_FROM_TASK = (
    "accuracy",
    "pair_matrix",
    "answer_classes",
    "deviations",
    "commutativity",
    "phase",
    "examples",
    "attention",
    "embedding",
)


def explain(run: TrainedRun, *, samples: int = 2000, seed: int = 0) -> Explanation:
    """Measure a run's model on `samples` fresh rows of every split its task has but `train`.

    The rows are those of `fresh_row_seed`, never those that the run's learning curves were measured on, and the same
    for all runs of one task.

    What does not exist for the run's task or architecture is left out with a reason in `Explanation.absent`. Raises
    `InputError` while the run has no model.
    """
    model = run.model()
    row_seed = None
    if run.config.get("task") is None:
        measured: dict[str, Any] = dict.fromkeys(_FROM_TASK, _NO_TASK)
    else:
        row_seed = fresh_row_seed(seed, run.config.get("data_seed"))
        measured = _measure(model, tasks.from_config(run.config["task"]), samples, row_seed)
    measured["condensation"] = _condensation(model)
    return Explanation(
        name=run.name,
        status=run.status,
        config=run.config,
        environment=run.environment,
        metrics=run.metrics(),
        samples=samples,
        seed=seed,
        row_seed=row_seed,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        **{field: value for field, value in measured.items() if not isinstance(value, _Absent)},
        absent={field: value.reason for field, value in measured.items() if isinstance(value, _Absent)},
    )


def fresh_row_seed(seed: int, data_seed: int | None) -> int:
    """The seed that `Task.sample` gets for the explanation `seed`: a stream of its own, never the run's `data_seed`."""
    drawn = int.from_bytes(sha256(f"explain/{seed}".encode()).digest()[:4])
    return drawn + 1 if drawn == data_seed else drawn


def _measure(model: PreTrainedModel, task: Task, samples: int, seed: int) -> dict[str, Any]:
    splits = [split for split in task.splits if split != "train"]
    evaluations = {split: evaluate(model, task, split, samples, seed) for split in splits}
    tables = [accuracy_table(rows.split, rows.groups, rows.correct) for rows in evaluations.values()]
    return {
        "accuracy": pd.concat(tables, ignore_index=True),
        "phase": _phase(evaluations),
        "examples": tuple(worked_example(model, task, split, seed) for split in splits),
        "attention": _attention(model, task, splits[-1], seed),
        "embedding": _embedding(model, task),
        **_pair_sections(model, task, evaluations),
    }


def _phase(evaluations: dict[str, Evaluation]) -> Phase | _Absent:
    if "ood" not in evaluations:
        return _NO_UNSEEN
    return phase(evaluations["test"].accuracy, evaluations["ood"].accuracy)


def _pair_sections(model: PreTrainedModel, task: Task, evaluations: dict[str, Evaluation]) -> dict[str, Any]:
    known = task_pairs(task)
    if known is None:
        return dict.fromkeys(("pair_matrix", "answer_classes", "deviations", "commutativity"), _NO_PAIRS)
    rows = list(evaluations.values())
    pairs = [pair for evaluation in rows for pair in evaluation.pairs or ()]
    ood = evaluations.get("ood")
    return {
        "pair_matrix": pair_matrix(pairs, np.concatenate([evaluation.correct for evaluation in rows]), known),
        "deviations": deviations(ood.answers, ood.truth, _number_ids(task)) if ood else _NO_UNSEEN,
        **_exchange_sections(model, task, evaluations, pairs, known),
    }


def _number_ids(task: Task) -> Int[np.ndarray, " m"]:
    words = task.vocabulary
    low, high = min(words.low, words.labels[0]), max(words.high, words.labels[1])
    return np.setdiff1d(np.arange(low, high + 1), list(words.anchors.values()))


def _exchange_sections(
    model: PreTrainedModel, task: Task, evaluations: dict[str, Evaluation], pairs: list[str], known: TaskPairs
) -> dict[str, Any]:
    if not known.exchangeable:
        return {"commutativity": _NO_EXCHANGE, "answer_classes": _NO_EXCHANGE if known.unseen else _NO_UNSEEN}
    exchanged = {split: exchange(model, task, rows) for split, rows in evaluations.items()}
    answers = np.concatenate([rows.answers for rows in evaluations.values()])
    swapped = np.concatenate([rows.answers for rows in exchanged.values()])
    classes: pd.DataFrame | _Absent = _NO_UNSEEN
    if "ood" in evaluations:
        ood, swap = evaluations["ood"], exchanged["ood"]
        trained = np.array([swapped_name(pair) in known.seen for pair in ood.pairs or ()])
        classes = class_table(classify(ood.answers, ood.truth, swap.answers, swap.truth, trained), ood.pairs or ())
    return {"commutativity": commutativity_table(answers, swapped, pairs, known.unseen), "answer_classes": classes}


def _attention(model: PreTrainedModel, task: Task, split: str, seed: int) -> Attention | _Absent:
    tokens = task.sample(split, 1, seed).tokens[0]
    try:
        return Attention(worked_example(model, task, split, seed), attention_maps(model, tokens))
    except NoAttentionError as error:
        return _Absent(str(error))


def _embedding(model: PreTrainedModel, task: Task) -> EmbeddingPCA | _Absent:
    table = model.get_input_embeddings()
    if not isinstance(table, nn.Embedding):
        return _Absent(f"model: {type(model).__name__} has no token embedding")
    values = np.arange(task.vocabulary.low, task.vocabulary.high + 1)
    if len(values) < FEWEST_NUMBERS:
        return _Absent(f"the task has fewer than {FEWEST_NUMBERS} numbers")
    return embedding_pca(table.weight.detach().float().cpu().numpy()[values], values)


def _condensation(model: PreTrainedModel) -> Condensation | _Absent:
    try:
        return measure_condensation(query_weights(model))
    except NoAttentionError as error:
        return _Absent(str(error))
