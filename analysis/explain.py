"""Explain a run: load its model once and measure everything a report tells about it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int
from rich.console import Console
from rich.progress import Progress
from torch import nn

from anchorlab.errors import InputError
from anchorlab.tasks import Task
from anchorlab.validation import check_known

from .accuracy import PairMatrix, accuracy_table, pair_matrix
from .answers import class_table, classify, deviations
from .attention import attention_maps, record_attention, sees_later_positions, visible_sources
from .commutativity import commutativity_table
from .condensation import (
    Condensation,
    CondensationSurvey,
    condensation_along_training,
    measure_condensation,
    survey_condensation,
)
from .embedding import EmbeddingGeometry, embedding_geometry
from .example import Example, worked_example
from .explanation import Attention, Explanation
from .heads import HeadScores, score_heads
from .interventions import Effects, ablate_heads, patch
from .learning_speed import LearningSpeed, learning_speed
from .neurons import neuron_weights, query_weights
from .output_geometry import KeyMasked, SecondAnchorMasked, mask_key, mask_second_anchor
from .pairs import swapped_name
from .path import PathGraph, path_graph
from .phases import Phase, phase
from .places import find_places, move_rows
from .readout import Readout, read_out
from .subject import Subject, TrainedRun

_HEAD_ROWS, _READOUT_ROWS = 500, 1000
_MOST_SAMPLES = 1_000_000


def explain(
    run: TrainedRun,
    *,
    only: Collection[str] | None = None,
    samples: int = 2000,
    seed: int = 0,
    progress: bool = False,
) -> Explanation:
    """Measure a run's model on `samples` fresh rows of every split its task has but `train`.

    The rows are those of `fresh_row_seed`, never those that the run's learning curves were measured on, and the same
    for all runs of one task. `only` names fields of `Explanation` to measure, by default all (`analyses()`); `progress`
    shows a bar on standard error.

    What does not exist for the run's task or architecture is left out with a reason in `Explanation.absent`. Raises
    `InputError` while the run has no model, and for a name in `only` that is unknown or cannot be measured.
    """
    if only is not None and not only:
        raise InputError(f"only='': names no analysis; known: {', '.join(_MEASURES)}")
    for name in only or ():
        check_known("only", name, _MEASURES)
    if not 1 <= samples <= _MOST_SAMPLES:
        raise InputError(f"samples={samples}: must be 1 to {_MOST_SAMPLES:,}")
    subject = Subject(run, samples, seed)
    measured, absent = {}, {}
    for name in _shown([name for name in _MEASURES if only is None or name in only], progress):
        try:
            measured[name] = _MEASURES[name](subject)
        except InputError as error:
            if only is not None:
                raise InputError(f"{name}: {error}") from None
            absent[name] = str(error)
    return Explanation(
        name=run.name,
        status=run.status,
        config=run.config,
        environment=run.environment,
        samples=samples,
        seed=seed,
        row_seed=None if run.config.get("task") is None else subject.row_seed,
        parameters=sum(parameter.numel() for parameter in subject.model.parameters()),
        **({"metrics": run.metrics()} | measured),
        absent=absent,
    )


def analyses() -> tuple[str, ...]:
    """The names that `explain` takes in `only`."""
    return tuple(_MEASURES)


def _shown(names: list[str], enabled: bool) -> Iterable[str]:
    with Progress(console=Console(stderr=True), disable=not enabled, transient=True) as bar:
        task = bar.add_task("", total=len(names))
        for name in names:
            bar.update(task, description=name.replace("_", " "))
            yield name
            bar.advance(task)


def _accuracy(subject: Subject) -> pd.DataFrame:
    tables = [accuracy_table(rows.split, rows.groups, rows.correct) for rows in subject.evaluations.values()]
    return pd.concat(tables, ignore_index=True)


def _phase(subject: Subject) -> Phase:
    return phase(subject.evaluations["test"].accuracy, subject.unseen.accuracy)


def _pair_matrix(subject: Subject) -> PairMatrix:
    known, rows = subject.pairs, list(subject.evaluations.values())
    return pair_matrix(_pair_names(subject), np.concatenate([evaluation.correct for evaluation in rows]), known)


def _pair_names(subject: Subject) -> list[str]:
    return [pair for evaluation in subject.evaluations.values() for pair in evaluation.pairs or ()]


def _answer_classes(subject: Subject) -> pd.DataFrame:
    known, ood = subject.pairs, subject.unseen
    swap = subject.exchanged["ood"]
    trained = np.array([swapped_name(pair) in known.seen for pair in ood.pairs or ()])
    return class_table(classify(ood.answers, ood.truth, swap.answers, swap.truth, trained), ood.pairs or ())


def _deviations(subject: Subject) -> pd.DataFrame:
    assert subject.pairs
    return deviations(subject.unseen.answers, subject.unseen.truth, _number_ids(subject.task))


def _number_ids(task: Task) -> Int[np.ndarray, " m"]:
    words = task.vocabulary
    low, high = min(words.low, words.labels[0]), max(words.high, words.labels[1])
    return np.setdiff1d(np.arange(low, high + 1), list(words.anchors.values()))


def _commutativity(subject: Subject) -> pd.DataFrame:
    answers = np.concatenate([rows.answers for rows in subject.evaluations.values()])
    swapped = np.concatenate([rows.answers for rows in subject.exchanged.values()])
    return commutativity_table(answers, swapped, _pair_names(subject), subject.pairs.unseen)


def _examples(subject: Subject) -> tuple[Example, ...]:
    return tuple(worked_example(subject.model, subject.task, split, subject.row_seed) for split in subject.splits)


def _attention(subject: Subject) -> Attention:
    task, split, seed = subject.task, subject.splits[-1], subject.row_seed
    row = task.sample(split, 1, seed).tokens[0]
    steps = subject.checkpoints or [_last_step(subject.run)]
    models = (subject.run.model(step) for step in subject.checkpoints) if subject.checkpoints else [subject.model]
    return Attention(
        example=worked_example(subject.model, task, split, seed),
        steps=tuple(steps),
        weights=np.stack([attention_maps(model, row) for model in models]),
        masked=not sees_later_positions(subject.model),
    )


def _last_step(run: TrainedRun) -> int:
    return int(run.environment.get("step", run.metrics()["step"].max()))


def _heads(subject: Subject) -> HeadScores:
    task, model, rows = subject.task, subject.model, subject.rows("test", _HEAD_ROWS)
    moved = None
    try:
        kept, moved = move_rows(task, rows)
        rows = rows[kept]
    except InputError:
        pass  # the task fixes where its anchors stand, and scores say that they were not tested so
    return score_heads(
        lambda: record_attention(model, rows, places=find_places(task, rows)),
        visible=visible_sources(model, task.length),
        moved=None if moved is None else lambda: record_attention(model, moved, places=find_places(task, moved)),
    )


def _readout(subject: Subject) -> dict[str, Readout]:
    return {
        split: read_out(subject.model, subject.task, subject.rows(split, _READOUT_ROWS)) for split in subject.splits
    }


def _key_masked(subject: Subject) -> KeyMasked:
    return mask_key(subject.model, subject.task, subject.row_seed)


def _second_anchor_masked(subject: Subject) -> SecondAnchorMasked:
    return mask_second_anchor(subject.model, subject.task, subject.row_seed)


def _patching(subject: Subject) -> Effects:
    return patch(subject.model, subject.counterparts)


def _ablation(subject: Subject) -> Effects:
    return ablate_heads(subject.model, subject.counterparts)


def _path(subject: Subject) -> PathGraph:
    return path_graph(subject.model, subject.counterparts)


def _embedding(subject: Subject) -> EmbeddingGeometry:
    words, table = subject.task.vocabulary, subject.model.get_input_embeddings()
    if not isinstance(table, nn.Embedding):
        raise InputError(f"model: {type(subject.model).__name__} has no token embedding")
    values = np.arange(words.low, words.high + 1)
    return embedding_geometry(table.weight.detach().float().cpu().numpy()[values], values)


def _condensation(subject: Subject) -> Condensation:
    return measure_condensation(query_weights(subject.model))


def _condensation_survey(subject: Subject) -> CondensationSurvey:
    return survey_condensation(neuron_weights(subject.model))


def _condensation_history(subject: Subject) -> pd.DataFrame:
    run = subject.run
    return condensation_along_training((step, neuron_weights(run.model(step))) for step in subject.checkpoints)


def _learning_speed(subject: Subject) -> LearningSpeed:
    return learning_speed(subject.run.metrics())


def _metrics(subject: Subject) -> pd.DataFrame:
    return subject.run.metrics()


_MEASURES: dict[str, Callable[[Subject], Any]] = {
    "metrics": _metrics,
    "accuracy": _accuracy,
    "pair_matrix": _pair_matrix,
    "answer_classes": _answer_classes,
    "deviations": _deviations,
    "commutativity": _commutativity,
    "phase": _phase,
    "examples": _examples,
    "learning_speed": _learning_speed,
    "attention": _attention,
    "heads": _heads,
    "readout": _readout,
    "path": _path,
    "patching": _patching,
    "ablation": _ablation,
    "key_masked": _key_masked,
    "second_anchor_masked": _second_anchor_masked,
    "embedding": _embedding,
    "condensation": _condensation,
    "condensation_survey": _condensation_survey,
    "condensation_history": _condensation_history,
}
