"""What is measured of function fits while they train."""

from dataclasses import dataclass, field
from hashlib import sha256

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from anchorlab.engine import Measurement, Population, Run
from anchorlab.engine.functions import FunctionProblem
from anchorlab.errors import InputError

from .spectra import frequency_name, relative_error

_ERROR, _OUTPUT = "frequency_error", "output"


@dataclass(frozen=True, eq=False, repr=False)
class FrequencyError:
    """Δ_F(k) of a net of one output at `points` with target `values`, by frequency (section 4.1.3).

    Rows have the metric `frequency_error` and a group such as `k=3`. Raises InputError for a frequency that the values
    do not have. An output that is not finite is as wrong as can be: its error is infinite.
    """

    points: Float[Tensor, "n inputs"]
    values: Float[Tensor, "n 1"]
    frequencies: tuple[float | tuple[float, ...], ...]
    _at: Tensor = field(init=False)

    def __post_init__(self) -> None:
        if not self.frequencies:
            raise InputError("frequencies: there are none")
        if self.values.shape != (len(self.points), 1):
            raise InputError(f"values: have shape {list(self.values.shape)}; must be [{len(self.points)}, 1]")
        object.__setattr__(self, "_at", torch.tensor(self.frequencies, dtype=torch.float64))
        relative_error(self.points, self.values[:, 0], self.values[:, 0], self._at)

    def __repr__(self) -> str:
        return f"FrequencyError({_digest(self.points, self.values)}, {self.frequencies})"

    def observe(self, population: Population, step: int) -> list[Measurement]:
        """Every member's error at every frequency."""
        outputs = _outputs(population, self.points)[..., 0]
        finite = outputs.isfinite().all(1)
        errors = relative_error(self.points, torch.where(finite[:, None], outputs, 0), self.values[:, 0], self._at)
        errors[~finite] = torch.inf
        return [
            Measurement(member, "", frequency_name(frequency), _ERROR, value)
            for member, row in zip(population.members, errors.tolist(), strict=True)
            for frequency, value in zip(self._at, row, strict=True)
        ]


@dataclass(frozen=True, eq=False, repr=False)
class OutputOnGrid:
    """The net's outputs at `points` after each of `steps` (empty: at every evaluation).

    Rows have the metric `output` and the group `point=17`; with several outputs `point=17 output=1`. The steps must be
    among those that are evaluated (`Fit.evaluate_at`).
    """

    points: Float[Tensor, "n inputs"]
    steps: tuple[int, ...] = ()

    def __repr__(self) -> str:
        return f"OutputOnGrid({_digest(self.points)}, {self.steps})"

    def observe(self, population: Population, step: int) -> list[Measurement]:
        """Every member's outputs."""
        if self.steps and step not in self.steps:
            return []
        outputs = _outputs(population, self.points)
        names = [
            f"point={point}" if outputs.shape[-1] == 1 else f"point={point} output={output}"
            for point in range(outputs.shape[1])
            for output in range(outputs.shape[2])
        ]
        return [
            Measurement(member, "", name, _OUTPUT, value)
            for member, row in zip(population.members, outputs.flatten(1).tolist(), strict=True)
            for name, value in zip(names, row, strict=True)
        ]


def frequency_errors(run: Run) -> pd.DataFrame:
    """What `FrequencyError` measured: columns step, k (the first input's), error."""
    rows = _rows(run, _ERROR)
    k = rows["group"].str.removeprefix("k=").str.split(",").str[0].astype(float)
    return pd.DataFrame({"step": rows["step"], "k": k, "error": rows["value"]}).reset_index(drop=True)


def outputs_on_grid(run: Run) -> dict[int, Float[Tensor, "n outputs"]]:
    """What `OutputOnGrid` measured, by step; raises InputError if it measured nothing."""
    rows = _rows(run, _OUTPUT)
    if rows.empty:
        raise InputError(f"{run.folder}: no outputs were measured; train with OutputOnGrid among the observers")
    first = rows[rows["step"] == rows["step"].iloc[0]]
    points = first["group"].str.split(" ").str[0].nunique()
    return {
        int(step): torch.tensor(found["value"].to_numpy(), dtype=torch.float64).view(points, -1)  # type: ignore[arg-type]
        for step, found in rows.groupby("step")
    }


def _rows(run: Run, metric: str) -> pd.DataFrame:
    table = run.metrics()
    return table[table["metric"] == metric]


def _outputs(population: Population, points: Tensor) -> Float[Tensor, "member n outputs"]:
    problem = population.problem
    if not isinstance(problem, FunctionProblem):
        raise InputError(f"observers: measure function fits, not {type(problem).__name__}")
    first = next(iter(population.parameters.values()))
    with torch.no_grad():
        return problem.network(population.parameters, points.to(first)).cpu().double()


def _digest(*tensors: Tensor) -> str:
    """Who has the same points has the same name: the settings of a run hold it."""
    content = sha256()
    for one in tensors:
        content.update(repr(tuple(one.shape)).encode() + one.detach().cpu().double().numpy().tobytes())
    return content.hexdigest()[:8]
