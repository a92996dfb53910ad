"""Train experiments: from settings to run folders."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from transformers import PreTrainedModel

from anchorlab import models
from anchorlab.engine import (
    MemberRecord,
    Monitor,
    Population,
    Run,
    SequenceMember,
    SequenceProblem,
    TrainingPlan,
    train_in_processes,
    train_population,
)
from anchorlab.engine.progress import progress_bars
from anchorlab.errors import InputError

from .data import ExperimentData, load_data
from .experiment import Experiment

Placement = Literal["auto", "pool", "stacked"]


def train(experiment: Experiment, out: Path | str | None = None, *, progress: bool | None = None) -> Run:
    """Train one network and return its run.

    `out` is the run folder (default: a name made of the settings, under `runs/`). If it holds an unfinished run of the
    same settings, that run continues from its last checkpoint; a finished one is returned as it is. `progress` shows a
    bar on standard error (default: if that is a terminal).

    Raises InputError for wrong settings or a folder that holds something else, Interrupted when stopped.
    """
    folder = Path(out) if out is not None else Path("runs") / default_name(experiment)
    with progress_bars(enabled=progress) as monitor:
        (run,) = _train_stacked([experiment], [folder], monitor)
    return run


def train_all(
    experiments: Sequence[Experiment],
    folders: Sequence[Path],
    *,
    placement: Placement = "auto",
    progress: bool | None = None,
) -> list[Run]:
    """Train several networks into one run folder each.

    Placements: `pool` trains each in a single-threaded process of its own, as many at a time as there are cores;
    `stacked` trains all as one population (they must have the same shapes, batch size and number of steps); `auto` is
    `pool` on a CPU and `stacked` on a GPU. Errors are those of `train`.
    """
    if not experiments:
        return []
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError("folders: every run needs a folder of its own")
    with progress_bars(enabled=progress) as monitor:
        if placement == "stacked" or (placement == "auto" and _device(experiments[0]) == "cuda"):
            return _train_stacked(experiments, folders, monitor)
        return train_in_processes(_train_one, list(zip(experiments, folders, strict=True)), monitor=monitor)


def default_name(experiment: Experiment) -> str:
    """A folder name from what is varied most: data, model, γ, λ, seed."""
    data = Path(experiment.data).stem if experiment.data else experiment.task
    rate = "" if experiment.rate is None else f"-gamma{experiment.rate:g}"
    return f"{data}-{experiment.model}{rate}-decay{experiment.weight_decay:g}-seed{experiment.seed}"


def _train_one(item: tuple[Experiment, Path], monitor: Monitor) -> Path:
    experiment, folder = item
    _train_stacked([experiment], [folder], monitor)
    return folder


def _train_stacked(experiments: Sequence[Experiment], folders: Sequence[Path], monitor: Monitor) -> list[Run]:
    first = experiments[0]
    device = _device(first)
    loaded = [load_data(experiment) for experiment in experiments]
    model = _build(first, loaded[0])
    _check_one_shape(experiments, loaded)
    problem = SequenceProblem(
        model,
        [_member(experiment, data) for experiment, data in zip(experiments, loaded, strict=True)],
        batch_size=first.rows_per_step,
        evaluation_rows=first.evaluation_rows,
        device=device,
    )
    steps = _steps(first, problem.steps_per_epoch)
    units = steps if first.schedule_unit == "step" else -(-steps // problem.steps_per_epoch)
    settings = [experiment.optimizer_settings(units) for experiment in experiments]
    population = Population(problem, settings, precision=first.precision, device=device)
    sizes = {
        "vocabulary_size": loaded[0].vocabulary_size,
        "length": loaded[0].length,
        "parameters": model.num_parameters(),
        "total_steps": steps,
    }
    records = [
        MemberRecord(folder, experiment.record() | sizes | {"data_hash": data.digest()})
        for experiment, folder, data in zip(experiments, folders, loaded, strict=True)
    ]
    plan = TrainingPlan(
        steps=steps,
        evaluate_every=first.evaluate_every or max(1, steps // 20),
        checkpoint_every=first.checkpoint_every or max(1, steps // 5),
        keep_checkpoints=first.keep_checkpoints,
    )
    return train_population(population, records, plan, monitor=monitor)


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


def _build(experiment: Experiment, data: ExperimentData) -> PreTrainedModel:
    return models.build(
        experiment.model,
        data.vocabulary_size,
        data.length,
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


def _device(experiment: Experiment) -> str:
    if experiment.device == "cuda" and not torch.cuda.is_available():
        raise InputError("device='cuda': this machine has no usable GPU; use 'cpu' or 'auto'")
    if experiment.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return experiment.device


_SHARED = (
    *("model", "layers", "heads", "width", "head_width", "feed_forward_width", "model_options"),
    *("batch_size", "steps", "epochs", "precision", "device", "schedule_unit"),
    *("evaluate_every", "evaluation_rows", "checkpoint_every", "keep_checkpoints"),
)


def _check_one_shape(experiments: Sequence[Experiment], loaded: Sequence[ExperimentData]) -> None:
    for name in _SHARED:
        values = {repr(getattr(experiment, name)) for experiment in experiments}
        if len(values) > 1:
            raise InputError(f"{name}: members of one stack need the same value, got {', '.join(sorted(values))}")
    if len({(data.vocabulary_size, data.length) for data in loaded}) > 1:
        raise InputError("task: members trained as one stack need the same vocabulary size and row length")
