"""Networks as solutions: PINN (least squares) and Deep Ritz (energy), trained by the engine in run folders."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from anchorlab.engine import (
    MemberRecord,
    Monitor,
    OptimizerSettings,
    Population,
    Run,
    Schedule,
    TrainingPlan,
    train_population,
)
from anchorlab.engine.memory import keep_freed_memory
from anchorlab.engine.optimizers import OptimizerName
from anchorlab.engine.problem import Measurement
from anchorlab.errors import InputError
from anchorlab.models.mlp import MLP, load_mlp
from anchorlab.models.mlp_initialization import Initialization
from anchorlab.validation import check_known

from .collocation import Collocation
from .equation import PDE
from .problem import COEFFICIENTS, ResidualProblem
from .solution import Solution, history_of
from .trial import Trial, Wrapping

_RATES: Mapping[str, float] = {"adam": 1e-3, "adamw": 1e-3, "sgd": 1e-2, "gd": 1e-2, "lbfgs": 1.0}


class Stage(NamedTuple):
    """Some steps of one optimizer; `cosine` lets the learning rate fall to 0."""

    optimizer: OptimizerName
    steps: int
    learning_rate: float
    cosine: bool = False


@dataclass(frozen=True, kw_only=True)
class NetworkMethod:
    """How a network solves an equation.

    - `kind`: `pinn` (mean squared residual) or `ritz` (energy);
    - `widths`, `activation`: hidden layers; `network` replaces both; `initialization`: a rule or an `Initialization`;
    - `points`: which points are used, see `Collocation`; `equation_weight` multiplies the equation's loss;
    - `optimizer`, `learning_rate` (None: 1e-3 for Adam, 1e-2 for `gd`, 1 for `lbfgs`), `steps`, `cosine`;
      `lbfgs_steps` of L-BFGS follow;
    - `dtype`: `float32`, or `float64`, which L-BFGS needs for small errors;
    - `evaluate_every` (None: 20 times), `evaluate_at`: when errors are measured; `keep_checkpoints` keeps parameters.

    Raises InputError for values that cannot be used.
    """

    kind: Literal["pinn", "ritz"] = "pinn"
    widths: tuple[int, ...] = (50, 50, 50)
    activation: str = "tanh"
    network: MLP | None = None
    initialization: str | Initialization = "xavier"
    points: Collocation = field(default_factory=Collocation)
    equation_weight: float = 1.0
    optimizer: OptimizerName = "adam"
    learning_rate: float | None = None
    steps: int = 5000
    cosine: bool = False
    lbfgs_steps: int = 0
    dtype: Literal["float32", "float64"] = "float32"
    evaluate_every: int | None = None
    evaluate_at: tuple[int, ...] = ()
    keep_checkpoints: bool = False

    def __post_init__(self) -> None:
        check_known("optimizer", self.optimizer, _RATES)
        check_known("dtype", self.dtype, ("float32", "float64"))
        if self.steps < 1 or self.lbfgs_steps < 0:
            raise InputError(f"steps={self.steps}, lbfgs_steps={self.lbfgs_steps}: must be at least 1 and 0")
        if self.learning_rate is not None and not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise InputError(f"learning_rate={self.learning_rate}: must be a positive number")
        if self.evaluate_every is not None and self.evaluate_every < 1:
            raise InputError(f"evaluate_every={self.evaluate_every}: must be at least 1")
        if self.points.resample_every is not None and "lbfgs" in (self.optimizer, self.lbfgs_steps and "lbfgs"):
            raise InputError("resample_every: L-BFGS needs the same points in every step; leave it out")

    def shape(self, pde: PDE) -> MLP:
        """The network for an equation."""
        inputs, outputs = pde.domain.dimensions, pde.outputs
        return self.network or MLP(inputs=inputs, widths=self.widths, outputs=outputs, activation=self.activation)

    @property
    def stages(self) -> list[Stage]:
        """The optimizers in their order."""
        rate = _RATES[self.optimizer] if self.learning_rate is None else self.learning_rate
        first = Stage(self.optimizer, self.steps, rate, self.cosine)
        return [first] + ([Stage("lbfgs", self.lbfgs_steps, 1.0)] if self.lbfgs_steps else [])

    def record(self, pde: PDE) -> dict[str, Any]:
        """All settings, for the run folder."""
        chosen = self.initialization
        plain = ("kind", "equation_weight", "dtype", "evaluate_every", "evaluate_at", "keep_checkpoints")
        return {
            **pde.record(),
            "method": self.kind,
            "network": asdict(self.shape(pde)),
            "initialization": chosen if isinstance(chosen, str) else asdict(chosen),
            "points": asdict(self.points),
            **{name: getattr(self, name) for name in plain if name != "kind"},
        }


class _Timed:
    """The problem's own measurements, with the seconds of training until then, those of measuring left out."""

    def __init__(self) -> None:
        self._seconds, self._since = 0.0, time.perf_counter()

    def observe(self, population: Population, step: int) -> list[Measurement]:
        """Evaluate every member."""
        self._seconds += time.perf_counter() - self._since
        found = population.evaluate()
        found += [Measurement(member, "", "", "seconds", self._seconds) for member in population.members]
        self._since = time.perf_counter()
        return found


def train_networks(
    pde: PDE,
    method: NetworkMethod,
    seeds: Sequence[int],
    folders: Sequence[Path],
    monitor: Monitor = Monitor(),  # noqa: B008
) -> list[Solution]:
    """Train one network for every seed, together, into these run folders; ended ones are not trained again.

    With two optimizers the first one's runs are beside those folders, named with its name at the end.
    """
    keep_freed_memory()
    runs: list[list[Run]] = []
    start: list[dict[str, Tensor]] | None = None
    for number, stage in enumerate(method.stages):
        last = number == len(method.stages) - 1
        places = [one if last else one.with_name(f"{one.name}-{stage.optimizer}") for one in folders]
        runs.append(_train_stage(pde, method, stage, seeds, places, start, monitor))
        start = [_last_parameters(run) for run in runs[-1]]
        if any(run.status == "diverged" for run in runs[-1]):
            break
    return [
        _solution(pde, method, seed, list(stages)) for seed, stages in zip(seeds, zip(*runs, strict=True), strict=True)
    ]


def _train_stage(
    pde: PDE,
    method: NetworkMethod,
    stage: Stage,
    seeds: Sequence[int],
    folders: Sequence[Path],
    start: Sequence[Mapping[str, Tensor]] | None,
    monitor: Monitor,
) -> list[Run]:
    rule = method.initialization
    device = "cuda" if torch.cuda.is_available() else "cpu"
    problem = ResidualProblem(
        pde,
        method.shape(pde),
        Initialization.named(rule) if isinstance(rule, str) else rule,
        seeds,
        method.points,
        loss="energy" if method.kind == "ritz" else "residual",
        equation_weight=method.equation_weight,
        dtype=getattr(torch, method.dtype),
        start=start,
        device=device,
    )
    rate = stage.learning_rate
    schedule = Schedule(rate, rate, 0.0, 0, stage.steps) if stage.cosine else Schedule.constant(rate)
    population = Population(problem, [OptimizerSettings(stage.optimizer, schedule)] * len(seeds), device=device)
    plan = TrainingPlan(
        steps=stage.steps,
        evaluate_every=method.evaluate_every or max(1, stage.steps // 20),
        checkpoint_every=max(1, min(stage.steps, 5000)),
        keep_checkpoints=method.keep_checkpoints,
        observers=(_Timed(),),
        evaluate_at=frozenset(method.evaluate_at),
    )
    config = method.record(pde) | stage._asdict() | {"total_steps": stage.steps}
    records = [MemberRecord(folder, config | {"seed": seed}) for seed, folder in zip(seeds, folders, strict=True)]
    return train_population(population, records, plan, monitor=monitor)


def _last_parameters(run: Run) -> dict[str, Tensor]:
    return run.parameters(run.checkpoints()[-1])


def _solution(pde: PDE, method: NetworkMethod, seed: int, runs: Sequence[Run]) -> Solution:
    history: list[pd.DataFrame] = []
    steps, seconds = 0, 0.0
    for run in runs:
        table = history_of(run)
        history.append(
            table.assign(step=table.step + steps, seconds=table.seconds + seconds).iloc[int(bool(history)) :]
        )
        steps, seconds = int(history[-1].step.iloc[-1]), float(history[-1].seconds.iloc[-1])
    last = runs[-1]
    parameters = {name: tensor[None] for name, tensor in _last_parameters(last).items()}
    found = parameters.get(COEFFICIENTS)
    return Solution(
        pde,
        method.kind,
        evaluator(pde, method.shape(pde), parameters),
        pd.concat(history, ignore_index=True),
        seconds,
        {} if found is None else dict(zip(pde.coefficients, found[0].tolist(), strict=True)),
        seed,
        last.status,
        last.environment.get("reason"),
        last.folder,
    )


def evaluator(pde: PDE, network: MLP, parameters: Mapping[str, Tensor]) -> Any:
    """The function that a network with these parameters (member axis of 1) is: from points [n, axes] to values [n]."""
    trial = Trial(network, pde.domain, pde.conditions, [()])
    own = {name: tensor.cpu() for name, tensor in parameters.items() if name != COEFFICIENTS}
    dtype = own["layers.0.weight"].dtype

    def evaluate(points: Float[np.ndarray, "n axes"]) -> Float[np.ndarray, " n"]:
        placed = torch.as_tensor(points, dtype=torch.float64)
        wrapping = None
        if trial.wrapped:
            wrapping = Wrapping(*(part[None].to(dtype) for part in trial.wrapping(placed)))
        with torch.no_grad():
            values: Float[np.ndarray, " n"] = trial(own, placed.to(dtype)[None], wrapping)[()][0, :, 0].double().numpy()
        return values

    return evaluate


def load_network(pde: PDE, folder: Path) -> Solution:
    """The solution in a run folder of `train_networks`."""
    run = Run.open(folder)
    network, _ = load_mlp(folder / "model")
    method = NetworkMethod(kind=run.config["method"], network=network, steps=1)
    found = _solution(pde, method, run.config["seed"], [run])
    return replace(found, folder=folder)
