"""Equation 15.1: Newton's law solved by a polynomial (least squares) and by a network."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from anchorlab import pde
from anchorlab.pde.errors import errors_of
from anchorlab.report.style import BLACK, BLUE, SMALL, VERMILLION, finish, new_figure

from ..claims import Claim, Condition, Value
from ..reproduction import Measured, Reproduction
from ..study import Study
from .solving import solved

_DEGREES = (2, 3, 4)  # of b t² + c t³ + d t⁴; a = e = 0 by the initial conditions


def newton_law(end: float) -> pde.PDE:
    """s″ = sin t + t (m = 1) until `end`, s(0) = s′(0) = 0; the solution is t - sin t + t³/6."""
    return pde.PDE(
        name="newton",
        domain=pde.Box({"t": (0.0, end)}, time="t"),
        equation=lambda at, s: s.d("t", "t") - torch.sin(at.t) - at.t,
        conditions=[pde.Initial(), pde.Initial(order=1)],
        exact=lambda at: at.t - torch.sin(at.t) + at.t**3 / 6,
    )


def polynomial(end: float, points: int, seed: int) -> np.ndarray:
    """b, c, d that minimize eq. 15.2 at random times."""
    t = end * np.random.Generator(np.random.Philox(seed)).random(points)
    columns = np.stack([n * (n - 1) * t ** (n - 2) for n in _DEGREES], 1)
    found: np.ndarray = np.linalg.lstsq(columns, np.sin(t) + t, rcond=None)[0]
    return found


def _measure(study: Study) -> Measured:
    end, points = study.settings["end"], study.settings["points"]
    problem = newton_law(end)
    networks = solved(study, "network", problem, "pinn", interior=points, **study.settings["network"])
    t = np.linspace(0, end, 201)
    exact = problem.exact_values(t[:, None])
    assert exact is not None
    values, tables = [], []
    for seed, network in zip(study.seeds, networks, strict=True):
        factors = polynomial(end, points, seed)
        fitted = sum(factor * t**n for factor, n in zip(factors, _DEGREES, strict=True))
        found = {"polynomial": np.asarray(fitted), "network": np.asarray(network(t))}
        values += [Value(seed, name, errors_of(one, exact)["relative_l2"]) for name, one in found.items()]
        tables.append(pd.DataFrame({"seed": seed, "t": t, "exact": exact, **found}))
    return Measured(values=values, tables={"solutions": pd.concat(tables, ignore_index=True)})


def _figure(tables: Mapping[str, pd.DataFrame]) -> Figure:
    table = tables["solutions"]
    figure = new_figure(8.4, 3.6)
    left, right = figure.subplots(1, 2)
    first = table[table.seed == table.seed.min()]
    left.plot(first.t, first.exact, color=BLACK, linewidth=3, alpha=0.4, label="exact")
    for name, colour in (("polynomial", VERMILLION), ("network", BLUE)):
        left.plot(first.t, first[name], color=colour, linewidth=1.5, linestyle="--", label=name)
        for _, rows in table.groupby("seed"):
            right.plot(rows.t, (rows[name] - rows.exact).abs().clip(lower=1e-9), color=colour, linewidth=1)
    right.set_yscale("log")
    left.legend(fontsize=SMALL, frameon=False)
    finish(left, x="t", y="s", title="solutions")
    finish(right, x="t", y="|error|", title="all seeds")
    return figure


_LAPTOP: dict[str, Any] = {
    "seeds": 3,
    "end": 2.0,
    "points": 100,
    "network": {"widths": [20, 20], "steps": 1500, "lbfgs_steps": 200, "dtype": "float64"},
}
_SMOKE = _LAPTOP | {"seeds": 1, "network": {"widths": [10], "steps": 50, "lbfgs_steps": 10, "dtype": "float64"}}
_LIMIT = 0.01

REPRODUCTIONS = (
    Reproduction(
        id="ode15.1",
        title="A polynomial and a network both solve Newton's law",
        source="section 15.1, equations 15.1 and 15.2",
        claim=Claim(
            text="Least squares of s″ - sin t - t finds a polynomial b t² + c t³ + d t⁴ and a network near the "
            "solution.",
            conditions=tuple(
                Condition(
                    quantity=name,
                    text=f"relative L2 error of the {name} on (0, T)",
                    at_most=_LIMIT,
                    source="solves the equation approximately",
                )
                for name in ("polynomial", "network")
            ),
        ),
        scales={"smoke": _SMOKE, "laptop": _LAPTOP, "paper": _LAPTOP | {"seeds": 10, "points": 1000}},
        measure=_measure,
        figure=_figure,
        notes=(
            f"The section gives no numbers: m = 1, T = 2 and the limit of {_LIMIT:g} are chosen here. The network has "
            "the initial conditions in its loss, as the section describes; Adam, then L-BFGS, in float64."
        ),
    ),
)
