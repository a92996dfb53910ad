"""Relative distance against width at three points of the plane (section 7.2.2, figure 7.4)."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from anchorlab.phenomena.neurons import relative_distance, scaling_exponent
from anchorlab.report.style import BLUE, GREY, SMALL, finish, new_figure

from ..by_seed import by_seed
from ..claims import Claim, Condition, Value
from ..reproduction import Measured, Reproduction
from ..study import Study
from .book import Cell, fitted_condition, fitted_values, points, train_cells

LINEAR, CRITICAL, CONDENSED = 0.5, 1.0, 1.75
"""γ of the three regimes at γ' = 0."""


def _measure(study: Study) -> Measured:
    settings, data = study.settings, points("four points")
    networks = settings["networks"]
    cells = [
        Cell(rate, 0.0, width, number)
        for rate in settings["rates"]
        for width in settings["widths"]
        for number in range(networks * len(study.seeds))
    ]
    trained = train_cells(study, dict.fromkeys(cells, data), settings["training"])
    distances = pd.DataFrame(
        [
            (cell.rate, cell.width, cell.seed // networks, relative_distance(found.start, found.end))
            for cell, found in trained.items()
            if found.fitted
        ],
        columns=["rate", "width", "seed", "distance"],
    )
    slopes = slope_table(distances)
    values = [*slope_values(slopes), *fitted_values(trained, networks)]
    return Measured(values=values, tables={"distances": distances, "slopes": slopes})


def slope_table(distances: pd.DataFrame) -> pd.DataFrame:
    """S_w of every γ and seed (eq. 7.13) over all its networks: columns rate, seed, exponent, standard_error.

    NaN with fewer than two widths.
    """
    rows = []
    for (rate, seed), found in distances.groupby(["rate", "seed"]):
        several = found["width"].nunique() > 1
        fitted = scaling_exponent(found["width"].tolist(), found["distance"].tolist()) if several else None
        rows.append((rate, seed, *((math.nan, math.nan) if fitted is None else fitted[:2])))
    return pd.DataFrame(rows, columns=["rate", "seed", "exponent", "standard_error"])


def slope_values(slopes: pd.DataFrame) -> list[Value]:
    """Every seed's slope at each γ, and the largest standard error of its slopes."""
    values = [
        Value(int(seed), f"slope at {rate:g}", float(exponent))
        for rate, seed, exponent in slopes[["rate", "seed", "exponent"]].itertuples(index=False)
    ]
    errors = [Value(seed, "standard error", float(rows["standard_error"].max())) for seed, rows in by_seed(slopes)]
    return [*values, *errors]


def _figure(result: Mapping[str, pd.DataFrame]) -> Figure:
    distances, slopes = result["distances"], result["slopes"]
    figure = new_figure(9.6, 3.4)
    plots = figure.subplots(1, distances["rate"].nunique(), squeeze=False)[0]
    for axes, (rate, found) in zip(plots, distances.groupby("rate"), strict=True):
        exponent = slopes.loc[slopes["rate"] == rate, "exponent"].mean()
        axes.loglog(found["width"], found["distance"], "o", color=BLUE, markersize=3.5, alpha=0.6)
        width, distance = found.sort_values("width")[["width", "distance"]].to_numpy(dtype=float).T
        line = np.exp(np.log(distance).mean() + exponent * (np.log(width) - np.log(width).mean()))
        axes.loglog(width, line, color=GREY, linewidth=1.2, label=f"slope {exponent:.2f}")
        axes.set_ylim(distance.min() / 2, distance.max() * 2)
        axes.legend(fontsize=SMALL, frameon=False)
        finish(axes, x="width m", title=f"γ = {rate:g}, γ' = 0")
    plots[0].set_ylabel("RD of the input weights")
    return figure


TRAINING = {"stability": 0.5, "steps": 4000, "evaluate_every": 50, "target_loss": 1e-4, "dtype": "float64"}
"""Of all experiments on the four points."""


def _scale(widths: tuple[int, ...], seeds: int = 5, networks: int = 3, **training: Any) -> dict[str, Any]:
    return {
        "seeds": seeds,
        "networks": networks,
        "rates": (LINEAR, CRITICAL, CONDENSED),
        "widths": widths,
        "training": {**TRAINING, **training},
    }


REPRODUCTIONS = (
    Reproduction(
        id="fig7.4",
        title="Relative distance follows a power law of the width, whose sign tells the regime",
        source="section 7.2.2, figure 7.4; arXiv 2007.07497",
        claim=Claim(
            text="RD of the input weights is a power law of the width m: its slope is negative in the linear regime, "
            "about 0 in the critical and positive in the condensed one.",
            conditions=(
                fitted_condition(at_least=0.95),
                Condition(
                    quantity=f"slope at {LINEAR:g}",
                    text=f"slope of log RD in log m at γ = {LINEAR:g}, γ' = 0 (infinitely wide: -0.5)",
                    at_most=-0.25,
                    source="negative",
                ),
                Condition(
                    quantity=f"slope at {CRITICAL:g}",
                    text=f"slope at γ = {CRITICAL:g}, γ' = 0 (infinitely wide: 0)",
                    at_least=-0.1,
                    at_most=0.1,
                    source="about 0",
                ),
                Condition(
                    quantity=f"slope at {CONDENSED:g}",
                    text=f"slope at γ = {CONDENSED:g}, γ' = 0 (infinitely wide: 0.375)",
                    at_least=0.19,
                    source="positive",
                ),
                Condition(
                    quantity="standard error",
                    text="largest standard error of the three slopes: how straight the lines are",
                    at_most=0.1,
                    source="approximately a power law",
                ),
            ),
        ),
        scales={
            "smoke": _scale((64, 128), seeds=1, networks=1, steps=500),
            "laptop": _scale((1000, 5000, 10000, 20000, 40000)),
            "paper": _scale((1000, 5000, 10000, 20000, 40000), seeds=10),
        },
        measure=_measure,
        figure=_figure,
        notes="The widths are the source's. It shows four points without their numbers: here (-1, 0.9), (-1/3, 0.1), "
        "(1/3, 0.2), (1, 0.6). Full-batch gradient descent until the loss is 1e-4. Limits are half of the slopes that "
        "counting powers of m gives for infinite width: γ - 1 for γ < 1, (γ - 1) / 2 above. A seed is three networks "
        "of each width: at γ = 0.5 a net starts as a random function of size 1 at any width, and RD of a single one "
        "scatters. With one network each, tried first, the standard errors were 0.04 to 0.18 and the slopes at "
        "γ = 0.5 were -0.58 to -0.23. That 95 % of the networks have to reach the target loss was added after a first "
        "measurement, in which all had.",
    ),
)
