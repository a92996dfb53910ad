"""Networks as solutions: PINN (least squares) and Deep Ritz (energy), trained by the engine in run folders."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from pydantic.dataclasses import dataclass
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
from anchorlab.engine.store import ENDED, check_folder
from anchorlab.errors import InputError
from anchorlab.models.mlp import MLP, load_mlp
from anchorlab.models.mlp_initialization import Initialization
from anchorlab.setting_types import NonNegativeWhole, Positive, PositiveWhole, Wholes, known
from anchorlab.validation import checked

from .collocation import Collocation
from .equation import PDE
from .problem import COEFFICIENTS, ResidualProblem
from .refinement import refined_points
from .solution import Solution, history_of
from .trial import Trial, Wrapping

_BEFORE = "goes_on_from"
_RATES: Mapping[str, float] = {"adam": 1e-3, "adamw": 1e-3, "sgd": 1e-2, "gd": 1e-2, "lbfgs": 1.0}
_KINDS, _DTYPES = ("pinn", "ritz"), ("float32", "float64")


class Stage(NamedTuple):
    """Some steps of one optimizer; `cosine` lets the learning rate fall to 0; `refinement` adds points before it."""

    optimizer: OptimizerName
    steps: int
    learning_rate: float
    cosine: bool = False
    refinement: int = 0


@checked
@dataclass(frozen=True, kw_only=True)
class NetworkMethod:
    """How a network solves an equation.

    - `kind`: `pinn` (mean squared residual) or `ritz` (energy);
    - `widths`, `activation`: hidden layers; `network` replaces both; `initialization`: a rule or an `Initialization`;
    - `points`: which points are used, see `Collocation`; `equation_weight` multiplies the equation's loss;
    - `optimizer`, `learning_rate` (None: 1e-3 for Adam, 1e-2 for `gd`, 1 for `lbfgs`), `steps`, `cosine`;
      `lbfgs_steps` of L-BFGS follow;
    - `refinements`: how often a fifth of `interior` is added while L-BFGS trains, most of it where the residual is
      large; they cut its steps into equal parts (`pinn` only);
    - `dtype`: `float32`, or `float64`, which L-BFGS needs for small errors;
    - `evaluate_every` (None: 20 times), `evaluate_at`: when errors are measured; `keep_checkpoints` keeps parameters.

    Raises InputError for values that cannot be used.
    """

    kind: Annotated[Literal["pinn", "ritz"], known("kind", _KINDS)] = "pinn"
    widths: Wholes = (50, 50, 50)
    activation: str = "tanh"
    network: MLP | None = None
    initialization: str | Initialization = "xavier"
    points: Collocation = field(default_factory=Collocation)
    equation_weight: Positive = 1.0
    optimizer: Annotated[OptimizerName, known("optimizer", _RATES)] = "adam"
    learning_rate: Positive | None = None
    steps: PositiveWhole = 5000
    cosine: bool = False
    lbfgs_steps: NonNegativeWhole = 0
    refinements: NonNegativeWhole = 0
    dtype: Annotated[Literal["float32", "float64"], known("dtype", _DTYPES)] = "float32"
    evaluate_every: PositiveWhole | None = None
    evaluate_at: Wholes = ()
    keep_checkpoints: bool = False

    def __post_init__(self) -> None:
        self.shape_of(1, 1)
        if isinstance(self.initialization, str):
            Initialization.named(self.initialization)
        if self.refinements and self.refinements >= self.lbfgs_steps:
            raise InputError(
                f"refinements={self.refinements}: must be from 0 to below lbfgs_steps={self.lbfgs_steps}, which they "
                "cut into parts"
            )
        if self.refinements and self.kind == "ritz":
            raise InputError(f"refinements={self.refinements}: only for 'pinn'; an energy needs points of equal weight")
        if self.points.resample_every is not None and "lbfgs" in (self.optimizer, self.lbfgs_steps and "lbfgs"):
            raise InputError("resample_every: L-BFGS needs the same points in every step; leave it out")

    def shape(self, pde: PDE) -> MLP:
        """The network for an equation."""
        return self.shape_of(pde.domain.dimensions, pde.outputs)

    def shape_of(self, inputs: int, outputs: int) -> MLP:
        """The network from so many coordinates to so many functions; raises InputError for a shape that cannot be."""
        return self.network or MLP(inputs=inputs, widths=self.widths, outputs=outputs, activation=self.activation)

    @property
    def stages(self) -> list[Stage]:
        """The optimizers in their order."""
        rate = _RATES[self.optimizer] if self.learning_rate is None else self.learning_rate
        first = Stage(self.optimizer, self.steps, rate, self.cosine)
        if not self.lbfgs_steps:
            return [first]
        parts = self.refinements + 1
        ends = [self.lbfgs_steps * number // parts for number in range(parts + 1)]
        steps = [end - start for start, end in pairwise(ends)]
        return [first, *(Stage("lbfgs", count, 1.0, refinement=number) for number, count in enumerate(steps))]

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
    """The problem's own measurements, with the seconds of training until then, those of measuring left out.

    `folders` are the members' runs: what an interrupted one had spent before is where it goes on.
    """

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        self._seconds = max(map(_seconds_before, folders), default=0.0)
        self._since = time.perf_counter()

    def observe(self, population: Population, step: int) -> list[Measurement]:
        """Evaluate every member."""
        self._seconds += time.perf_counter() - self._since
        found = population.evaluate()
        found += [Measurement(member, "", "", "seconds", self._seconds) for member in population.members]
        self._since = time.perf_counter()
        return found


def _seconds_before(folder: Path) -> float:
    """Seconds until the newest checkpoint of a run that has not ended; those since the last measurement by its pace."""
    if not (folder / "environment.json").is_file() or not (folder / "config.json").is_file():
        return 0.0
    run = Run.open(folder)
    metrics = run.metrics()
    known = metrics[metrics.metric == "seconds"]
    steps = run.checkpoints()
    if run.status in ENDED or not steps or known.empty:
        return 0.0
    known = known[known.step <= steps[-1]]
    last = known.iloc[-1]
    pace = float(last.value) / float(last.step) if last.step else 0.0
    return float(last.value) + pace * (steps[-1] - int(last.step))


def train_networks(
    pde: PDE,
    method: NetworkMethod,
    seeds: Sequence[int],
    folders: Sequence[Path],
    monitor: Monitor = Monitor(),  # noqa: B008
) -> list[Solution]:
    """Train one network for every seed, together, into these run folders; ended ones are not trained again.

    With two optimizers the first one's runs are beside those folders, named with its name at the end, and so are all
    parts of L-BFGS but the last, with their number; a seed that diverged there has no further run. Raises InputError
    for folders that hold something else, before any training.
    """
    keep_freed_memory()
    check_folders(pde, method, seeds, folders)
    runs: dict[int, list[Run]] = {place: [] for place in range(len(seeds))}
    inside: dict[int, np.ndarray] = {}
    for number in range(len(method.stages)):
        going = [place for place, before in runs.items() if not before or before[-1].status != "diverged"]
        if not going:
            break
        start = [_last_parameters(runs[place][-1]) for place in going] if number else None
        own = [seeds[place] for place in going]
        if refinement := method.stages[number].refinement:
            for place, parameters in zip(going, start or [], strict=True):
                inside[place] = refined_points(
                    pde, method.shape(pde), parameters, method.points, seeds[place], refinement, inside.get(place)
                )
        points = [inside[place] for place in going] if inside else None
        found = _train_stage(pde, method, number, own, [folders[place] for place in going], start, points, monitor)
        for place, run in zip(going, found, strict=True):
            runs[place].append(run)
    return [_solution(pde, method, seed, stages) for seed, stages in zip(seeds, runs.values(), strict=True)]


def check_folders(pde: PDE, method: NetworkMethod, seeds: Sequence[int], folders: Sequence[Path]) -> None:
    """Raise InputError unless the folders of all stages are new or hold runs of the same settings."""
    for number in range(len(method.stages)):
        for record in _records(pde, method, number, seeds, folders):
            check_folder(record.folder, record.config)


def _stage_folder(method: NetworkMethod, number: int, folder: Path) -> Path:
    """Where a stage's run is: the last one's in the folder itself."""
    if number == len(method.stages) - 1:
        return folder
    return folder.with_name(f"{folder.name}-{method.stages[number].optimizer}{f'-{number}' if number else ''}")


def _records(
    pde: PDE, method: NetworkMethod, number: int, seeds: Sequence[int], folders: Sequence[Path]
) -> list[MemberRecord]:
    stage, found = method.stages[number], []
    config = method.record(pde) | stage._asdict() | {"total_steps": stage.steps}
    for seed, folder in zip(seeds, folders, strict=True):
        place = _stage_folder(method, number, folder)
        before = _stage_folder(method, number - 1, folder) if number else None
        # Relative, so that both folders can be moved together.
        goes_on = {_BEFORE: os.path.relpath(before, place)} if before else {}
        found.append(MemberRecord(place, config | {"seed": seed} | goes_on))
    return found


def _train_stage(
    pde: PDE,
    method: NetworkMethod,
    number: int,
    seeds: Sequence[int],
    folders: Sequence[Path],
    start: Sequence[Mapping[str, Tensor]] | None,
    inside: Sequence[np.ndarray] | None,
    monitor: Monitor,
) -> list[Run]:
    stage, rule = method.stages[number], method.initialization
    records = _records(pde, method, number, seeds, folders)
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
        inside=inside,
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
        observers=(_Timed([record.folder for record in records]),),
        evaluate_at=frozenset(method.evaluate_at),
    )
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
    """The function that a network with these parameters (member axis of 1) is.

    From points [n, axes] to values [n], of several outputs [n, outputs].
    """
    trial = Trial(network, pde.domain, pde.conditions, [()])
    own = {name: tensor.cpu() for name, tensor in parameters.items() if name != COEFFICIENTS}
    dtype = own["layers.0.weight"].dtype

    def evaluate(points: Float[np.ndarray, "n axes"]) -> Float[np.ndarray, "n *outputs"]:
        placed = torch.as_tensor(points, dtype=torch.float64)
        wrapping = None
        if trial.wrapped:
            wrapping = Wrapping(*(part[None].to(dtype) for part in trial.wrapping(placed)))
        with torch.no_grad():
            values: np.ndarray = trial(own, placed.to(dtype)[None], wrapping)[()][0].double().numpy()
        return values if pde.outputs > 1 else values[:, 0]

    return evaluate


def stage_runs(folder: Path) -> list[Run]:
    """The run in a folder after those of the stages that it goes on from, as far as they are still beside it."""
    runs = [Run.open(folder)]
    while before := runs[0].config.get(_BEFORE):
        earlier = Path(os.path.normpath(runs[0].folder / before))
        if not (earlier / "config.json").is_file():
            break
        runs.insert(0, Run.open(earlier))
    return runs


def load_network(pde: PDE, folder: Path) -> Solution:
    """The solution in a run folder of `train_networks`, with the history of all stages that `stage_runs` finds.

    Raises InputError for a training that has not ended.
    """
    runs = stage_runs(folder)
    last = runs[-1]
    if not (folder / "model").is_dir():
        raise InputError(f"folder={str(folder)!r}: its training has not ended; solve with the same settings again")
    network, _ = load_mlp(folder / "model")
    method = NetworkMethod(kind=last.config["method"], network=network, steps=1)
    return replace(_solution(pde, method, last.config["seed"], runs), folder=folder)
