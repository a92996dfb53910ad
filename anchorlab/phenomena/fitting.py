"""Fit functions with fully connected nets: many at once, each in a run folder of its own."""

import json
import os
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import InstanceOf
from pydantic.dataclasses import dataclass
from torch import Tensor

from anchorlab.engine import (
    Evaluation,
    MemberRecord,
    Monitor,
    Observer,
    OptimizerSettings,
    Population,
    Run,
    Schedule,
    StoppingRule,
    TrainingPlan,
    train_in_processes,
    train_population,
)
from anchorlab.engine.functions import FunctionLoss, FunctionMember, FunctionProblem, Points, check_points
from anchorlab.engine.optimizers import OptimizerName
from anchorlab.engine.progress import progress_bar_of_all
from anchorlab.errors import InputError
from anchorlab.models.mlp import MLP
from anchorlab.models.mlp_initialization import Initialization
from anchorlab.setting_types import NonNegative, NonNegativeWhole, Positive, PositiveWhole, Seed
from anchorlab.validation import checked

_STACK_NUMBERS = 400_000  # of one layer of a population: more would leave a core's cache


@checked
@dataclass(frozen=True, kw_only=True)
class Fit:
    """One network and how it is trained.

    - `network`, `initialization`, `seed`: the net, how its weights are drawn, and from which seed;
    - `data`: points by split; `train` is learned, the loss on the others is measured;
    - `loss`, `gradient_weight`, `batch_size` (None: the full batch): as in `FunctionProblem`;
    - `optimizer`, `learning_rate`, `weight_decay`, `momentum`, `steps`: `adam`, `adamw`, `sgd`, `gd`, or `lbfgs` (the
      full batch, no decay); the learning rate is 1e-3, or 1 for `lbfgs`; `schedule` replaces it;
    - `dtype`: `float32` or `float64`;
    - `evaluate_every` (default: a twentieth of the steps), `evaluate_at`: when to measure; `keep_checkpoints` keeps the
      parameters after each of these `evaluate_at`, of step 0 and of the last;
    - `observers`, `stopping`: what else is measured, and when to end early.

    Raises InputError for a setting that is not allowed, and for points that do not fit the network.
    """

    network: InstanceOf[MLP]
    initialization: InstanceOf[Initialization]
    data: InstanceOf[Mapping[str, Points]]
    seed: Seed = 0
    loss: FunctionLoss = "mse"
    gradient_weight: NonNegative = 0.0
    batch_size: PositiveWhole | None = None
    optimizer: OptimizerName = "adam"
    learning_rate: Positive | None = None
    schedule: InstanceOf[Schedule] | None = None
    weight_decay: NonNegative = 0.0
    momentum: NonNegative = 0.0
    steps: PositiveWhole = 1000
    dtype: Literal["float32", "float64"] = "float32"
    evaluate_every: PositiveWhole | None = None
    evaluate_at: tuple[NonNegativeWhole, ...] = ()
    keep_checkpoints: bool = False
    observers: InstanceOf[tuple[Observer, ...]] = ()
    stopping: InstanceOf[tuple[StoppingRule, ...]] = ()

    def __post_init__(self) -> None:
        check_points(self.network, self.data, self.loss, self.gradient_weight)
        if self.optimizer == "lbfgs" and (self.batch_size or self.weight_decay or self.momentum):
            raise InputError("optimizer='lbfgs': must have neither batch_size nor weight_decay nor momentum")

    @property
    def rates(self) -> Schedule:
        """The learning rate over the steps."""
        return self.schedule or Schedule.constant(self.learning_rate or (1.0 if self.optimizer == "lbfgs" else 1e-3))

    def record(self) -> dict[str, Any]:
        """All settings for the run folder; data by a hash of their numbers."""
        plain = ("seed", "loss", "gradient_weight", "batch_size", "optimizer", "weight_decay")
        more = ("momentum", "steps", "dtype", "evaluate_every", "evaluate_at", "keep_checkpoints")
        return {
            "network": asdict(self.network),
            "initialization": asdict(self.initialization),
            **{name: getattr(self, name) for name in (*plain, *more)},
            "schedule": asdict(self.rates),
            "observers": [repr(one) for one in self.observers],
            "stopping": [repr(one) for one in self.stopping],
            "data_hash": {name: _digest(points) for name, points in self.data.items()},
            "parameters": self.network.parameter_count,
            "total_steps": self.steps,
        }

    @property
    def shape(self) -> Hashable:
        """Equal for fits that can be members of one population."""
        own = (
            "seed",
            "initialization",
            "schedule",
            "weight_decay",
            "momentum",
            "data_hash",
            "stopping",
        )
        record = {name: value for name, value in self.record().items() if name not in own}
        sizes = [(name, len(points.inputs), points.gradients is None) for name, points in self.data.items()]
        return repr((record, sizes))


def train_fits(
    fits: Mapping[str, Fit], out: Path | str, *, members_at_once: int | None = None, progress: bool | None = None
) -> list[Run]:
    """Train every fit into the run folder `out/<its name>`; return the runs in the order of `fits`.

    Fits that differ only in seed, initialization, data of the same size and hyperparameters are stacked into
    populations of `members_at_once` (default: as many as keep a core's cache busy, on all cores). Ended runs are not
    trained again; a stopped call continues. `progress` shows a bar (default: on a terminal).

    Raises InputError for settings that do not fit together or a folder that holds something else; Interrupted.
    """
    if not fits:
        raise InputError("fits: there are none")
    groups: dict[Hashable, list[tuple[Fit, Path]]] = defaultdict(list)
    for name, one in fits.items():
        groups[one.shape].append((one, Path(out) / name))
    populations = [part for group in groups.values() for part in _cut(group, members_at_once)]
    populations.sort(key=lambda members: -_numbers(members[0][0]) * members[0][0].steps * len(members))
    steps = sum(one.steps for one in fits.values())
    with progress_bar_of_all(len(fits), steps, enabled=progress) as monitor:
        train_in_processes(train_population_of_fits, populations, monitor=monitor)
    return [Run.open(Path(out) / name) for name in fits]


def train_population_of_fits(members: Sequence[tuple[Fit, Path]], monitor: Monitor = Monitor()) -> None:  # noqa: B008
    """Train fits of one shape as one population in this process."""
    first = members[0][0]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    problem = FunctionProblem(
        first.network,
        [FunctionMember(one.data, one.initialization, one.seed, order_seed=one.seed) for one, _ in _shared(members)],
        loss=first.loss,
        gradient_weight=first.gradient_weight,
        batch_size=first.batch_size,
        dtype=getattr(torch, first.dtype),
        device=device,
    )
    settings = [
        OptimizerSettings(
            one.optimizer,
            one.rates,
            weight_decay=one.weight_decay,
            momentum=one.momentum,
        )
        for one, _ in members
    ]
    plan = TrainingPlan(
        steps=first.steps,
        evaluate_every=first.evaluate_every or max(1, first.steps // 20),
        checkpoint_every=first.steps,
        keep_checkpoints=first.keep_checkpoints,
        observers=(Evaluation(), *first.observers),
        evaluate_at=frozenset(first.evaluate_at),
    )
    records = [MemberRecord(folder, one.record(), one.stopping) for one, folder in members]
    train_population(Population(problem, settings, device=device), records, plan, monitor=monitor)


def parameters_of(run: Run, step: int | None = None) -> dict[str, Tensor]:
    """A run's parameters with a member axis of 1, at the end or after a kept step."""
    steps = run.checkpoints()
    return {name: tensor[None] for name, tensor in run.parameters(steps[-1] if step is None else step).items()}


def _shared(members: Sequence[tuple[Fit, Path]]) -> list[tuple[Fit, Path]]:
    """Members with equal data made to hold the same object: it is then kept once."""
    held: dict[str, Mapping[str, Points]] = {}
    found = []
    for one, folder in members:
        key = json.dumps(one.record()["data_hash"])
        data = held.setdefault(key, one.data)
        found.append((one if data is one.data else replace(one, data=data), folder))
    return found


def _cut(group: Sequence[tuple[Fit, Path]], members_at_once: int | None) -> list[list[tuple[Fit, Path]]]:
    cores = len(os.sched_getaffinity(0))
    size = members_at_once or max(1, min(-(-len(group) // cores), _STACK_NUMBERS // _numbers(group[0][0])))
    return [list(group[start : start + size]) for start in range(0, len(group), size)]


def _numbers(one: Fit) -> int:
    """How many numbers the widest layer of one member holds in a step."""
    rows = one.batch_size or len(one.data["train"].inputs)
    return rows * max(one.network.widths)


def _digest(points: Points) -> str:
    content = sha256()
    for part in (points.inputs, points.targets, points.gradients):
        if part is not None:
            content.update(repr(tuple(part.shape)).encode() + part.double().numpy().tobytes())
    return content.hexdigest()[:16]
