"""From the settings of members of one shape to a population, and from there to their run folders."""

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from anchorlab import models, tasks
from anchorlab.engine import (
    LanguageProblem,
    MemberRecord,
    Monitor,
    Population,
    Run,
    SequenceMember,
    SequenceProblem,
    TrainingPlan,
    train_population,
)
from anchorlab.engine.memory import is_out_of_memory
from anchorlab.errors import InputError
from anchorlab.validation import check_known

from .data import ExperimentData, load_data
from .experiment import Experiment

_SHARED = (
    *("model", "layers", "heads", "width", "head_width", "feed_forward_width", "model_options"),
    *("data", "train_rows", "test_rows", "ood_rows", "rows_per_step", "steps", "epochs", "optimizer", "schedule_unit"),
    *("precision", "compile", "device", "evaluate_every", "evaluation_rows", "checkpoint_every", "keep_checkpoints"),
)
"""What members of one population have in common. Everything else may differ from member to member."""


def shape_of(experiment: Experiment) -> Hashable:
    """Equal for experiments that can be members of one population."""
    sizes: tuple[Any, ...] = ()
    if experiment.data is None:
        task = tasks.create(experiment.task, experiment.preset, **experiment.task_fields)
        sizes = (task.vocabulary.size, task.length, task.splits, task.group_names)
    return repr([getattr(experiment, name) for name in _SHARED]), sizes


def check_members(experiments: Mapping[str, Experiment]) -> None:
    """Raise InputError, naming the member, for settings of which no network or training can be made.

    Members that read the user's own files are checked when they are loaded.
    """
    checked: set[Hashable] = set()
    for name, experiment in experiments.items():
        shape = shape_of(experiment)
        if shape in checked or experiment.data is not None:
            continue
        checked.add(shape)
        try:
            _check(experiment)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None


def _check(experiment: Experiment) -> None:
    task = tasks.create(experiment.task, experiment.preset, **experiment.task_fields)
    _build(experiment, task.vocabulary.size, task.length)
    rows = experiment.train_rows
    batch = experiment.rows_per_step or rows
    if batch > rows:
        raise InputError(f"batch_size={batch}: must be between 1 and the {rows} training rows")
    _steps(experiment, rows // batch)
    for split in experiment.stop_accuracy:
        check_known("stop_accuracy", split, task.splits)


@dataclass(frozen=True)
class Assembly:
    """A population that is ready to train, the settings of each member for its run folder, and the plan."""

    population: Population
    configs: list[dict[str, Any]]
    plan: TrainingPlan


def assemble(experiments: Sequence[Experiment]) -> Assembly:
    """Load the data, build the network and draw the initial weights of members of one shape (see `shape_of`).

    Members with the same data share them. Raises InputError for settings that do not fit the data.
    """
    first = experiments[0]
    device = device_of(first)
    loaded = _load_each_once(experiments)
    model = _build(first, loaded[0].vocabulary_size, loaded[0].length)
    make = LanguageProblem if loaded[0].has_labels_inside else SequenceProblem
    problem = make(
        model,
        [_member(experiment, data) for experiment, data in zip(experiments, loaded, strict=True)],
        batch_size=first.rows_per_step,
        evaluation_rows=first.evaluation_rows,
        device=device,
    )
    steps = _steps(first, problem.steps_per_epoch)
    units = steps if first.schedule_unit == "step" else -(-steps // problem.steps_per_epoch)
    settings = [experiment.optimizer_settings(units) for experiment in experiments]
    sizes = {
        "vocabulary_size": loaded[0].vocabulary_size,
        "length": loaded[0].length,
        "parameters": model.num_parameters(),
        "total_steps": steps,
    }
    hashes = {id(data): data.digest() for data in loaded}
    return Assembly(
        Population(problem, settings, precision=first.precision, compiled=first.compile, device=device),
        [
            experiment.record() | sizes | {"data_hash": hashes[id(data)]}
            for experiment, data in zip(experiments, loaded, strict=True)
        ],
        TrainingPlan(
            steps=steps,
            evaluate_every=first.evaluate_every or max(1, steps // 20),
            checkpoint_every=first.checkpoint_every or max(1, steps // 5),
            keep_checkpoints=first.keep_checkpoints,
        ),
    )


def train_members(experiments: Sequence[Experiment], folders: Sequence[Path], monitor: Monitor) -> list[Run]:
    """Train members of one shape as one population, or as smaller ones if they do not fit into memory together.

    Raises InputError, Interrupted as `train_population` does; InputError if even one member does not fit.
    """
    runs = _train_together(experiments, folders, monitor)
    if runs is not None:
        return runs
    if len(experiments) == 1:
        raise InputError(f"batch_size={experiments[0].rows_per_step or 'all'}: one member alone needs too much memory")
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = len(experiments) // 2
    return [
        *train_members(experiments[:half], folders[:half], monitor),
        *train_members(experiments[half:], folders[half:], monitor),
    ]


def _train_together(experiments: Sequence[Experiment], folders: Sequence[Path], monitor: Monitor) -> list[Run] | None:
    """The runs, or None if there was too little memory; then nothing refers to the attempt's tensors any more."""
    try:
        assembly = assemble(experiments)
        members = zip(experiments, folders, assembly.configs, strict=True)
        records = [MemberRecord(folder, config, one.stopping_rules()) for one, folder, config in members]
        return train_population(assembly.population, records, assembly.plan, monitor=monitor)
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            return None
        raise


def device_of(experiment: Experiment) -> torch.device:
    """Where the experiment trains on this machine; InputError for a GPU that is not there."""
    if experiment.device == "cuda" and not torch.cuda.is_available():
        raise InputError("device='cuda': this machine has no usable GPU; use 'cpu' or 'auto'")
    if experiment.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(experiment.device)


def _load_each_once(experiments: Sequence[Experiment]) -> list[ExperimentData]:
    loaded: dict[str, ExperimentData] = {}
    keys = [_data_key(experiment.record()) for experiment in experiments]
    for key, experiment in zip(keys, experiments, strict=True):
        if key not in loaded:
            loaded[key] = load_data(experiment)
    return [loaded[key] for key in keys]


def _data_key(record: Mapping[str, Any]) -> str:
    return json.dumps([record[name] for name in ("task", "data", "train_rows", "test_rows", "ood_rows", "data_seed")])


def _member(experiment: Experiment, data: ExperimentData) -> SequenceMember:
    def initialize(model: PreTrainedModel) -> None:
        models.initialize(
            model,
            rule=experiment.initialization_rule,
            rate=experiment.rate,
            component_rates=experiment.component_rates,
            distribution=experiment.initialization_distribution,
            generator=torch.Generator().manual_seed(experiment.seed),
        )

    return SequenceMember(data.splits, initialize, order_seed=experiment.data_seed)


def _build(experiment: Experiment, vocabulary_size: int, length: int) -> PreTrainedModel:
    return models.build(
        experiment.model,
        vocabulary_size,
        length,
        layers=experiment.layers,
        heads=experiment.heads,
        width=experiment.width,
        head_width=experiment.head_width,
        feed_forward_width=experiment.feed_forward_width,
        **experiment.model_options,
    )


def _steps(experiment: Experiment, steps_per_epoch: int) -> int:
    if experiment.epochs is not None:
        return experiment.epochs * steps_per_epoch
    if experiment.steps is None:
        raise InputError("steps: give steps or epochs")
    return experiment.steps
