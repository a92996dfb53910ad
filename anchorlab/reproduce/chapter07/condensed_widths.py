"""What wider nets do to condensation, over the plane of (γ, γ') (section 7.3.3, figures 7.6 and 7.7)."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from anchorlab.phenomena.neurons import Neurons, condensed_share, theoretical_boundary
from anchorlab.report.style import BLUE, ORANGE, SMALL, VERMILLION, finish, new_figure

from ..by_seed import by_seed
from ..claims import Claim, Condition, Value
from ..reproduction import Measured, Reproduction
from ..study import Study
from .book import Cell, Trained, fitted_condition, fitted_values, points, train_cells
from .initial_sizes import ANGLE_BINS, HEAVY_BINS, angle_share
from .phase_plane import IMAGE_PLANE, PAPER_ROWS, plane_cells
from .relative_distance import TRAINING

PROJECTION_BINS, HEAVY_PROJECTIONS = 400, 8
"""Of images: the amplitude within 8 of 400 parts of the projections -1 .. 1."""

_NEAR = 0.2  # in γ: cells as close to the boundary are critical
_SHOWN_NEURONS = 400  # of each net in the figure, drawn at random
_COLOURS = (BLUE, VERMILLION, ORANGE)

Share = Callable[[Neurons], float]
Place = Callable[[Neurons], np.ndarray]


def projections(neurons: Neurons) -> np.ndarray:
    """ŵ·p on the direction p = (1, …, 1) / √d, of any neurons (section 7.3.3)."""
    found: np.ndarray = neurons.directions.sum(1) / math.sqrt(neurons.weights.shape[1])
    return found


def projection_share(neurons: Neurons) -> float:
    """The share of the amplitude within 8 of 400 parts of the projections -1 .. 1."""
    parts = {"bins": PROJECTION_BINS, "heaviest": HEAVY_PROJECTIONS}
    return condensed_share(projections(neurons), neurons.amplitudes, low=-1, high=1, **parts)


def outside_table(trained: Mapping[Cell, Trained], share: Share) -> pd.DataFrame:
    """The share of amplitude outside of the heaviest places, over the same of the neurons at the start.

    Of few neurons some places are heavy by chance, at the start, too. Columns of the cell, outside; NaN where not
    fitted.
    """
    rows = [
        (*cell, (1 - share(found.end)) / (1 - share(found.start)) if found.fitted else math.nan)
        for cell, found in trained.items()
    ]
    return pd.DataFrame(rows, columns=[*Cell._fields, "outside"])


def regime(rate: float, rate_ratio: float) -> str:
    """`linear`, `critical` or `condensed`, by the theoretical boundary; critical within 0.2 of it in γ."""
    distance = rate - theoretical_boundary(rate_ratio)
    return "critical" if abs(distance) <= _NEAR else "linear" if distance < 0 else "condensed"


def sharpening_values(outside: pd.DataFrame) -> list[Value]:
    """For every seed and regime: what is outside at the largest width over what is at the smallest.

    The geometric mean over the regime's cells; below 1, condensation becomes sharper with the width. `condensed end`
    and `linear end` are the means of what is outside at the largest width.
    """
    values = []
    for seed, found in by_seed(outside):
        widths = found.pivot_table(index=["rate", "rate_ratio"], columns="width", values="outside").dropna()
        logs = (widths[widths.columns.max()] / widths[widths.columns.min()]).map(np.log)
        regimes = [regime(rate, ratio) for rate, ratio in widths.index]
        means = logs.groupby(regimes).mean()
        values += [Value(seed, str(name), math.exp(mean)) for name, mean in means.items()]
        ends = widths[widths.columns.max()].groupby(regimes).mean()
        values += [Value(seed, f"{name} end", float(end)) for name, end in ends.items() if name != "critical"]
    return values


def _measure(study: Study, share: Share, place: Place) -> Measured:
    plane = study.settings
    learned = points(plane["data"], plane["rows"])
    trained = train_cells(study, dict.fromkeys(plane_cells(plane, study.seeds), learned), plane["training"])
    outside = outside_table(trained, share)
    neurons = pd.concat([_shown(cell, found.end, place) for cell, found in trained.items() if cell.seed == 0])
    values = [*sharpening_values(outside), *fitted_values(trained)]
    return Measured(values=values, tables={"outside": outside, "neurons": neurons})


def _shown(cell: Cell, end: Neurons, place: Place) -> pd.DataFrame:
    """Place and height, over that of the largest, of 400 neurons chosen at random."""
    width = len(end.amplitudes)
    chosen = np.random.Generator(np.random.Philox(0)).permutation(width)[:_SHOWN_NEURONS]
    height = end.amplitudes / end.amplitudes.max()
    return pd.DataFrame({**cell._asdict(), "place": place(end)[chosen], "height": height[chosen]})


def _figure(result: Mapping[str, pd.DataFrame], place: str) -> Figure:
    neurons = result["neurons"]
    rates, ratios = (sorted(neurons[name].unique()) for name in ("rate", "rate_ratio"))
    figure = new_figure(1.2 + 2.2 * len(rates), 0.8 + 1.5 * len(ratios))
    plots = figure.subplots(len(ratios), len(rates), squeeze=False, sharex=True, sharey=True)
    for row, ratio in zip(plots, reversed(ratios), strict=True):
        for axes, rate in zip(row, rates, strict=True):
            found = neurons[(neurons["rate"] == rate) & (neurons["rate_ratio"] == ratio)]
            for colour, (width, rows) in zip(_COLOURS, found.groupby("width"), strict=False):
                axes.plot(rows["place"], rows["height"], ".", color=colour, markersize=2, label=f"m = {width:,}")
            title = f"γ = {rate:g}, γ' = {ratio:g}, {regime(rate, ratio)}"
            axes.set_title(title, fontsize=SMALL)
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(labelsize=8)
    finish(plots[-1, 0], x=place, y="A / largest")
    plots[-1, 0].set_title(f"γ = {rates[0]:g}, γ' = {ratios[0]:g}, {regime(rates[0], ratios[0])}", fontsize=SMALL)
    handles = plots[0, 0].get_legend_handles_labels()
    title = f"{_SHOWN_NEURONS} neurons of each net, chosen at random"
    figure.legend(
        *handles,
        title=title,
        loc="outside upper center",
        ncols=len(_COLOURS),
        fontsize=SMALL,
        title_fontsize=SMALL,
        markerscale=4,
    )
    return figure


def _conditions(what: str) -> tuple[Condition, ...]:
    text = f"amplitude outside of {what}, over that at the start, at the largest width over that at the smallest"
    return (
        fitted_condition(at_least=0.95),
        Condition(
            quantity="condensed",
            text=f"condensed regime: {text}",
            at_most=0.8,
            source="condensation becomes ever clearer",
        ),
        Condition(
            quantity="condensed end",
            text=f"condensed regime: amplitude outside of {what} at the largest width, over that at the start",
            at_most=0.5,
            source="condensation",
        ),
        Condition(
            quantity="critical",
            text=f"critical cells: {text}",
            at_least=0.67,
            at_most=1.5,
            source="seems unchanged",
        ),
        Condition(
            quantity="linear",
            text=f"linear regime: {text}",
            at_least=0.9,
            source="in the condensed regime only",
        ),
        Condition(
            quantity="linear end",
            text=f"linear regime: amplitude outside of {what} at the largest width, over that at the start",
            at_least=0.9,
            source="in the condensed regime only",
        ),
    )


def _line(rates: tuple[float, ...], ratios: tuple[float, ...], widths: tuple[int, ...], seeds: int) -> dict[str, Any]:
    plane = {"data": "four points", "rows": None, "rates": rates, "rate_ratios": ratios, "widths": widths}
    return {"seeds": seeds, **plane, "training": TRAINING}


_LIMITS = (
    "Limits: a fifth less in the condensed regime, less than a tenth less in the linear one; critical cells, those "
    "within 0.2 of the theoretical boundary in γ, may change by half either way. After a first measurement the shares "
    "were divided by those of the neurons at the start (by chance alone, wider nets had 6 to 14 % more outside), and "
    "the condition on the share that was fitted was added. Two on the largest width alone came later: half of what was "
    "outside at the start has to be gathered, and less than a tenth of it in the linear regime. Without them a fifth "
    "less than nearly all would do. "
)

REPRODUCTIONS = (
    Reproduction(
        id="fig7.6",
        title="Wider nets condense more sharply, in the condensed regime only",
        source="section 7.3.3, figure 7.6; arXiv 2007.07497",
        claim=Claim(
            text="As the width grows the neurons of a net condense more sharply in the condensed regime, while in the "
            "critical regime the degree of condensation seems unchanged and the linear one has none.",
            conditions=_conditions(f"{HEAVY_BINS} of {ANGLE_BINS} degrees"),
        ),
        scales={
            "smoke": _line((0.5, 2.0), (0.0,), (32, 64), 1),
            "laptop": _line((0.5, 1.0, 1.5, 2.0), (-0.5, 0.0, 0.5), (1000, 10_000, 100_000), 3),
            "paper": _line((0.5, 1.0, 1.5, 2.0), (-0.5, 0.0, 0.5), (1000, 10_000, 1_000_000), 5),
        },
        measure=lambda study: _measure(study, angle_share, lambda neurons: neurons.angles),
        figure=lambda result: _figure(result, "angle of (w, b)"),
        notes=_LIMITS + "Laptop: widths up to 1e5 instead of 1e6.",
    ),
    Reproduction(
        id="fig7.7",
        title="On images, too, wider nets condense more sharply in the condensed regime",
        source="section 7.3.3, figure 7.7; arXiv 2007.07497",
        claim=Claim(
            text="On images the projections of the neurons' directions condense in the condensed regime, and more so "
            "in wider nets.",
            conditions=_conditions(f"{HEAVY_PROJECTIONS} of {PROJECTION_BINS} parts of the projections"),
        ),
        scales={
            "smoke": {
                "seeds": 1,
                **IMAGE_PLANE,
                "rows": 20,
                "rates": (0.5, 2.0),
                "rate_ratios": (0.0,),
                "widths": (32, 64),
            },
            "laptop": {"seeds": 5, **IMAGE_PLANE},
            "paper": {
                "seeds": 5,
                **IMAGE_PLANE,
                "data": "mnist",
                "rows": PAPER_ROWS,
                "widths": (1000, 10_000, 250_000),
                "training": {**IMAGE_PLANE["training"], "steps": 40_000},
            },
        },
        measure=lambda study: _measure(study, projection_share, projections),
        figure=lambda result: _figure(result, "ŵ·p"),
        notes=_LIMITS + "Laptop: the networks of figure 7.5, 100 digits of 8×8 pixels and widths up to 3200, in place "
        "of MNIST and 2.5e5. Paper: the first 10 000 images of MNIST, since all would need more memory than a GPU has.",
    ),
)
