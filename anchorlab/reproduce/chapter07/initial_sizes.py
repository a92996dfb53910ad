"""One data set, three sizes of initialization: what is learned, and where the neurons go (sections 7.1 and 7.2)."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure

from anchorlab.phenomena.neurons import Neurons, condensed_share, relative_distance
from anchorlab.report.style import BLUE, GREEN, GREY, SMALL, VERMILLION, finish, new_figure

from ..by_seed import by_seed
from ..claims import Claim, Condition, Value
from ..reproduction import Measured, Reproduction
from ..study import Study
from .book import FOUR_POINTS, Cell, Trained, fitted_condition, fitted_values, points, train_cells
from .relative_distance import CONDENSED, CRITICAL, LINEAR, TRAINING

ANGLE_BINS, HEAVY_BINS = 360, 8
"""Condensed: the amplitude within 8 of 360 degrees, wherever they are."""

_GRID_POINTS = 401
_HEAVY_KINKS = 8  # of 399: a kink between two grid points shows at both
_KINK = 0.05  # of the largest: smaller kinks do not turn a curve


def _trained(study: Study) -> dict[Cell, Trained]:
    settings = study.settings
    cells = [Cell(rate, 0.0, settings["width"], seed) for rate in settings["rates"] for seed in study.seeds]
    return train_cells(study, dict.fromkeys(cells, points("four points")), settings["training"])


def outputs(neurons: Neurons, inputs: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Σ a_k ReLU(w_k x + b_k) at numbers x."""
    fields = inputs[:, None] * neurons.weights[:, 0] + neurons.weights[:, 1]
    found: Float[np.ndarray, " n"] = np.maximum(fields, 0) @ neurons.outputs
    return found


class Shape:
    """How much a function on an even grid bends: `bending` is the variation of its slope.

    `heavy_share` is what its heaviest 8 grid points have of it: near 1 for a piecewise linear function of few pieces.
    `turns` is how many times it begins to bend to the other side.
    """

    def __init__(self, inputs: Float[np.ndarray, " n"], values: Float[np.ndarray, " n"]):
        bends = np.diff(np.diff(values) / np.diff(inputs))
        kinks = np.abs(bends)
        sides = np.sign(bends[kinks > _KINK * kinks.max()])
        self.turns = math.nan if np.isnan(kinks).any() else float((np.diff(sides) != 0).sum())
        self.bending = float(kinks.sum())
        self.heavy_share = float(np.sort(kinks)[-_HEAVY_KINKS:].sum() / self.bending)


def shape_values(curves: pd.DataFrame) -> list[Value]:
    """For every seed: how much more the curve at γ = 0.5 bends than that at 1, shares of the kinks, and turns.

    `curves` has columns rate, seed, x, f.
    """
    values = []
    for seed, found in by_seed(curves):
        shapes = {rate: Shape(rows["x"].to_numpy(), rows["f"].to_numpy()) for rate, rows in found.groupby("rate")}
        values += [
            Value(seed, "jagged", shapes[LINEAR].bending / shapes[CRITICAL].bending),
            Value(seed, "turns", shapes[LINEAR].turns),
            Value(seed, "smooth", shapes[CRITICAL].heavy_share),
            Value(seed, "smooth turns", shapes[CRITICAL].turns),
            Value(seed, "piecewise", shapes[CONDENSED].heavy_share),
        ]
    return values


def curve_table(trained: Mapping[Cell, Trained]) -> pd.DataFrame:
    """What every net learned between -1 and 1: columns rate, seed, x, f (NaN where not fitted)."""
    grid = np.linspace(-1, 1, _GRID_POINTS)
    rows = [
        {"rate": cell.rate, "seed": cell.seed, "x": grid, "f": outputs(found.end, grid) if found.fitted else math.nan}
        for cell, found in trained.items()
    ]
    return pd.concat(map(pd.DataFrame, rows), ignore_index=True)


def _measure_outputs(study: Study) -> Measured:
    trained = _trained(study)
    curves = curve_table(trained)
    return Measured(values=[*shape_values(curves), *fitted_values(trained)], tables={"curves": curves})


def _draw_outputs(result: Mapping[str, pd.DataFrame]) -> Figure:
    curves = result["curves"]
    figure = new_figure(9.6, 3.2)
    plots = figure.subplots(1, curves["rate"].nunique(), squeeze=False, sharey=True)[0]
    for axes, (rate, found) in zip(plots, curves.groupby("rate"), strict=True):
        for seed, rows in found.groupby("seed"):
            first = seed == found["seed"].min()
            axes.plot(rows["x"], rows["f"], color=VERMILLION if first else GREY, linewidth=1.6 if first else 0.6)
        axes.plot(*FOUR_POINTS, "*", color=BLUE, markersize=10)
        finish(axes, x="x", title=f"γ = {rate:g}, γ' = 0")
    return figure


def neuron_table(cell: Cell, found: Trained) -> pd.DataFrame:
    """Angle and amplitude of every neuron before and after: columns of the cell, and stage, angle, amplitude."""
    stages = {"start": found.start, "end": found.end}
    tables = [
        pd.DataFrame({**cell._asdict(), "stage": stage, "angle": one.angles, "amplitude": one.amplitudes})
        for stage, one in stages.items()
    ]
    return pd.concat(tables, ignore_index=True)


def angle_share(neurons: Neurons) -> float:
    """The share of the amplitude within 8 of 360 degrees."""
    circle = {"low": -np.pi, "high": np.pi}
    return condensed_share(neurons.angles, neurons.amplitudes, bins=ANGLE_BINS, heaviest=HEAVY_BINS, **circle)


def effective_neurons(neurons: Neurons) -> float:
    """(Σ A)² / Σ A²: the number of neurons among equal ones, about 1 where one has nearly all of the amplitude."""
    amplitudes = neurons.amplitudes
    return float(amplitudes.sum() ** 2 / (amplitudes @ amplitudes))


def share_table(trained: Mapping[Cell, Trained]) -> pd.DataFrame:
    """Columns of the cell, and distance (RD), start_share, end_share (`angle_share`), neurons (`effective_neurons`).

    NaN where not fitted.
    """
    rows = [
        (
            *cell,
            relative_distance(found.start, found.end) if found.fitted else math.nan,
            angle_share(found.start),
            angle_share(found.end) if found.fitted else math.nan,
            effective_neurons(found.end) if found.fitted else math.nan,
        )
        for cell, found in trained.items()
    ]
    return pd.DataFrame(rows, columns=[*Cell._fields, "distance", "start_share", "end_share", "neurons"])


def neuron_values(shares: pd.DataFrame) -> list[Value]:
    """For every seed: RD where it should be small and large, what condensed in the linear regime and in the last.

    `order` is the smaller of the two steps in the condensed share from γ = 0.5 to 1 and from 1 to 1.75.
    """
    values = []
    for seed, found in by_seed(shares):
        by_rate = found.set_index("rate")
        share = by_rate["end_share"]
        measured = {
            "linear distance": by_rate["distance"][LINEAR],
            "condensed distance": by_rate["distance"][CONDENSED],
            "linear gain": share[LINEAR] - by_rate["start_share"][LINEAR],
            "condensed share": share[CONDENSED],
            "condensed neurons": by_rate["neurons"][CONDENSED],
            # Of numpy, since Python's min passes over a NaN that comes second.
            "order": np.minimum(share[CRITICAL] - share[LINEAR], share[CONDENSED] - share[CRITICAL]),
        }
        values += [Value(seed, quantity, float(value)) for quantity, value in measured.items()]
    return values


def _measure_neurons(study: Study) -> Measured:
    trained = _trained(study)
    shares = share_table(trained)
    shown = pd.concat([neuron_table(cell, found) for cell, found in trained.items() if cell.seed == 0])
    values = [*neuron_values(shares), *fitted_values(trained)]
    return Measured(values=values, tables={"shares": shares, "neurons": shown})


def _draw_neurons(result: Mapping[str, pd.DataFrame]) -> Figure:
    neurons = result["neurons"]
    figure = new_figure(9.6, 3.2)
    plots = figure.subplots(1, neurons["rate"].nunique(), squeeze=False, sharey=True)[0]
    for axes, (rate, found) in zip(plots, neurons.groupby("rate"), strict=True):
        for stage, colour, marker in (("start", GREEN, "^"), ("end", VERMILLION, "o")):
            rows = found[found["stage"] == stage]
            height = rows["amplitude"] / found["amplitude"].max()
            axes.plot(rows["angle"], height, marker, color=colour, markersize=2.5, alpha=0.7, label=stage)
        finish(axes, x="angle of (w, b)", title=f"γ = {rate:g}, γ' = 0")
    plots[0].set_ylabel("amplitude / largest")
    plots[0].legend(fontsize=SMALL, frameon=False)
    return figure


def _scale(width: int, seeds: int = 5, **training: Any) -> dict[str, Any]:
    rates = (LINEAR, CRITICAL, CONDENSED)
    return {"seeds": seeds, "width": width, "rates": rates, "training": {**TRAINING, **training}}


_SCALES = {"smoke": _scale(64, seeds=1, steps=500), "laptop": _scale(1000), "paper": _scale(1000, seeds=10)}
_NOTES = (
    "The width is the source's. It gives neither its four points (here those of figure 7.4) nor the sizes of its "
    "initializations: here γ = 0.5, 1 and 1.75 at γ' = 0, one in each regime. That all three networks of a seed have "
    "to reach the target loss was added after a first measurement, in which all had. "
)

REPRODUCTIONS = (
    Reproduction(
        id="fig7.1",
        title="Smaller initialization: from jagged over smooth to piecewise linear",
        source="section 7.1, figure 7.1; arXiv 2007.07497",
        claim=Claim(
            text="A two-layer ReLU net fits four points with a jagged function from a large initialization, with a "
            "smooth one like a spline from a smaller one, and with a nearly piecewise linear one from a small one.",
            conditions=(
                fitted_condition(at_least=1),
                Condition(
                    quantity="jagged",
                    text=f"variation of the slope at γ = {LINEAR:g}, over that at {CRITICAL:g}",
                    at_least=2,
                    source="slightly jagged",
                ),
                Condition(
                    quantity="turns",
                    text=f"how many times the curve at γ = {LINEAR:g} begins to bend to the other side",
                    at_least=10,
                    source="slightly jagged",
                ),
                Condition(
                    quantity="smooth",
                    text=f"share of the slope's variation at {_HEAVY_KINKS} of {_GRID_POINTS - 2} places, "
                    f"γ = {CRITICAL:g}",
                    at_most=0.5,
                    source="like a cubic spline",
                ),
                Condition(
                    quantity="smooth turns",
                    text=f"the same number, γ = {CRITICAL:g}; a cubic spline through four points turns at most twice",
                    at_most=2,
                    source="like a cubic spline",
                ),
                Condition(
                    quantity="piecewise",
                    text=f"the same share, γ = {CONDENSED:g}",
                    at_least=0.9,
                    source="nearly piecewise linear",
                ),
            ),
        ),
        scales=_SCALES,
        measure=_measure_outputs,
        figure=_draw_outputs,
        notes=_NOTES + "The limits say: at least twice as bent, bent all over, bent at few places only. Those on turns "
        "came later, since a large zigzag would meet the others, and a jagged curve the one of the spline.",
    ),
    Reproduction(
        id="fig7.3",
        title="Smaller initialization: neurons leave their place and condense",
        source="section 7.2.1, figure 7.3; arXiv 2007.07497",
        claim=Claim(
            text="From a large initialization the neurons (angle, amplitude) hardly move; from smaller ones they move "
            "farther, and those of large amplitude gather in few directions, moderately and then strongly.",
            conditions=(
                fitted_condition(at_least=1),
                Condition(
                    quantity="linear distance",
                    text=f"relative distance of the input weights at γ = {LINEAR:g}",
                    at_most=0.2,
                    source="start and end nearly coincide",
                ),
                Condition(
                    quantity="condensed distance",
                    text=f"relative distance at γ = {CONDENSED:g}",
                    at_least=1,
                    source="clearly different",
                ),
                Condition(
                    quantity="linear gain",
                    text=f"growth of the share of amplitude within {HEAVY_BINS} of {ANGLE_BINS} degrees, "
                    f"γ = {LINEAR:g}",
                    at_most=0.05,
                    source="no condensation",
                ),
                Condition(
                    quantity="condensed share",
                    text=f"share of amplitude within {HEAVY_BINS} of {ANGLE_BINS} degrees, γ = {CONDENSED:g}",
                    at_least=0.9,
                    source="strong condensation",
                ),
                Condition(
                    quantity="condensed neurons",
                    text=f"how many neurons have it, (Σ A)² / Σ A², γ = {CONDENSED:g}: one alone gathers with no other",
                    at_least=10,
                    source="neurons condense",
                ),
                Condition(
                    quantity="order",
                    text=f"how much more condensed {CRITICAL:g} is than {LINEAR:g}, and {CONDENSED:g} than "
                    f"{CRITICAL:g}, the smaller",
                    at_least=0.05,
                    source="none, moderate, strong",
                ),
            ),
        ),
        scales=_SCALES,
        measure=_measure_neurons,
        figure=_draw_neurons,
        notes=_NOTES + "So was the condition on the number of neurons, without which one neuron of large amplitude, "
        "beside others that stayed where they were, would do.",
    ),
)
