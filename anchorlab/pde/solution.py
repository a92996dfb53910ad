"""A solution: a function of points, its errors and history, its figure, and its run folder."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from anchorlab.engine import Run
from anchorlab.errors import InputError

from .equation import PDE
from .errors import errors_of, measured_points
from .figures import solution_figure
from .unknown import At

Evaluate = Callable[[Float[np.ndarray, "n axes"]], Float[np.ndarray, "n *outputs"]]
ERRORS = ("relative_l2", "max_error")


@dataclass(frozen=True)
class Solution:
    """What a method found for `pde`.

    - calling it with points [n, axes] (or [n] on a line) gives values [n], of a system [n, outputs]; with an `At` it
      gives a tensor, so that it can be another problem's `exact`;
    - `history`: one row per measurement: step, seconds, loss and its parts, errors, coefficients, as far as there are;
    - `coefficients`: the unknown numbers that were found;
    - `status`: `finished` or `diverged`, with the `reason`; `seconds`: of solving, without measuring;
    - `folder`: the run folder.
    """

    pde: PDE
    method: str
    evaluate: Evaluate
    history: pd.DataFrame
    seconds: float
    coefficients: Mapping[str, float] = field(default_factory=dict)
    seed: int | None = None
    status: str = "finished"
    reason: str | None = None
    folder: Path | None = None

    def __call__(self, points: "Float[np.ndarray, '*n axes'] | At") -> "Float[np.ndarray, 'n *outputs'] | Tensor":
        """Values at points; raises InputError for points of another shape."""
        if isinstance(points, At):
            placed = points.points
            flat = placed.detach().double().cpu().reshape(-1, placed.shape[-1]).numpy()
            found = torch.as_tensor(self.evaluate(flat)).to(placed)
            return found.reshape(*placed.shape[:-1], *found.shape[1:])
        placed_points = np.asarray(points, dtype=float)
        if placed_points.ndim == 1 and self.pde.domain.dimensions == 1:
            placed_points = placed_points[:, None]
        if placed_points.ndim != 2 or placed_points.shape[1] != self.pde.domain.dimensions:
            raise InputError(
                f"points: shape {list(placed_points.shape)} must be [n, {self.pde.domain.dimensions}], one column for "
                f"each of {', '.join(self.pde.domain.names)}"
            )
        return self.evaluate(placed_points)

    def error(self, reference: "Callable[[At], Tensor] | None" = None) -> dict[str, float]:
        """Relative L2 and largest error on a grid, against the problem's solution or another reference.

        Raises InputError if there is none.
        """
        points = measured_points(self.pde.domain)
        if reference is not None:
            exact = self.pde.values_of(reference, points, "reference")
        else:
            known = self.pde.exact_values(points)
            if known is None:
                raise InputError(
                    f"error: {self.pde.name} has no exact solution; give a reference, such as an fd solution"
                )
            exact = known
        return errors_of(self.evaluate(points), exact)

    @property
    def best(self) -> dict[str, float]:
        """The smallest of each error in the history; empty without an exact solution."""
        return {name: float(self.history[name].min()) for name in ERRORS if name in self.history}

    @property
    def final(self) -> dict[str, float]:
        """The errors of the last row of the history; empty without an exact solution."""
        return {name: float(self.history[name].iloc[-1]) for name in ERRORS if name in self.history}

    def figure(self) -> Figure:
        """The solution, its error where an exact one is known, and the history."""
        return solution_figure(self.pde, self.evaluate, self.history, self.method)


def history_of(run: Run) -> pd.DataFrame:
    """A run's measurements, one row per step: `loss`, `loss <part>`, errors, coefficients by name, seconds."""
    metrics = run.metrics()
    names = [
        metric if metric in ERRORS or not group else group if metric == "coefficient" else f"{metric} {group}"
        for metric, group in zip(metrics.metric, metrics.group, strict=True)
    ]
    table = metrics.assign(name=names).pivot_table(index="step", columns="name", values="value", sort=False)
    ordered = [name for name in ("seconds", "loss", *ERRORS) if name in table]
    return table[ordered + [name for name in table if name not in ordered]].reset_index().rename_axis(columns=None)
