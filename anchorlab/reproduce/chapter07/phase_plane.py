"""The scaling exponent S_w over the plane of (γ, γ') on points of a line and on images (section 7.3.2, figure 7.5)."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anchorlab.phenomena.neurons import relative_distance, scaling_exponent, theoretical_boundary, zero_crossings
from anchorlab.report.style import BLACK, SMALL, finish, new_figure

from ..claims import Claim, Condition, Value
from ..reproduction import Measured, Reproduction
from ..study import Study
from .book import Cell, points, train_cells
from .relative_distance import TRAINING

LINE, IMAGES = "line", "images"
"""The four points and the images, as the settings and tables name them."""

_KEYS = ["data", "rate", "rate_ratio", "seed"]
_GRID_STEP = 0.25
_NEAR = 0.2  # cells as close to the theoretical boundary, where S_w is about 0, have no sign to be right about
_IMAGE_TRAINING = {"stability": 0.5, "steps": 4000, "evaluate_every": 50, "target_loss": 0.4, "dtype": "float32"}


def _measure(study: Study) -> Measured:
    distances = pd.concat([distance_table(study, plane) for plane in (LINE, IMAGES)], ignore_index=True)
    exponents = exponent_table(distances)
    crossings = crossing_table(exponents)
    values = [*fitted_values(distances), *map_values(exponents, crossings), *agreement_values(exponents)]
    tables = {"exponents": exponents, "crossings": crossings, "distances": distances}
    return Measured(values=values, tables=tables)


def plane_cells(plane: Mapping[str, Any], seeds: range) -> list[Cell]:
    """All networks of one plane's settings: `rates`, `rate_ratios`, `widths`."""
    return [
        Cell(rate, ratio, width, seed)
        for width in plane["widths"]
        for rate in plane["rates"]
        for ratio in plane["rate_ratios"]
        for seed in seeds
    ]


def distance_table(study: Study, data: str) -> pd.DataFrame:
    """RD of every network of one plane: columns data, rate, rate_ratio, width, seed, distance.

    NaN for one that did not reach the target loss.
    """
    plane = study.settings[data]
    learned = points(plane["data"], plane["rows"])
    trained = train_cells(study, dict.fromkeys(plane_cells(plane, study.seeds), learned), plane["training"])
    rows = [
        (data, *cell, relative_distance(found.start, found.end) if found.fitted else math.nan)
        for cell, found in trained.items()
    ]
    return pd.DataFrame(rows, columns=["data", *Cell._fields, "distance"])


def exponent_table(distances: pd.DataFrame) -> pd.DataFrame:
    """S_w of every cell and seed from the widths that have a distance; NaN with fewer than two of them.

    Columns data, rate, rate_ratio, seed, exponent, standard_error.
    """
    rows = []
    for key, found in distances.groupby(_KEYS, sort=False):
        measured = found.dropna(subset=["distance"])
        several = measured["width"].nunique() > 1
        fitted = scaling_exponent(measured["width"].tolist(), measured["distance"].tolist()) if several else None
        rows.append((*key, *((math.nan, math.nan) if fitted is None else fitted[:2])))
    return pd.DataFrame(rows, columns=[*_KEYS, "exponent", "standard_error"])


def crossing_table(exponents: pd.DataFrame) -> pd.DataFrame:
    """The zero crossings of every seed's map, and the theoretical boundary beside them."""
    tables = [
        zero_crossings(found).assign(data=data, seed=seed)  # type: ignore[arg-type]
        for (data, seed), found in exponents.groupby(["data", "seed"], sort=False)
    ]
    return pd.concat(tables, ignore_index=True)


def fitted_values(distances: pd.DataFrame) -> list[Value]:
    """For every seed the share of networks that reached the target loss, on the data where it is smaller."""
    shares = distances["distance"].notna().groupby([distances["seed"], distances["data"]]).mean()
    return [Value(int(seed), "fitted", float(share)) for seed, share in _named(shares.groupby("seed").min())]


def map_values(exponents: pd.DataFrame, crossings: pd.DataFrame) -> list[Value]:
    """For every seed and data: share of cells whose sign is the theory's, and mean distance of crossings from it.

    Cells within 0.2 of the theoretical boundary in γ are left out of the first; a γ' without a crossing makes the
    second infinite.
    """
    values = []
    known = exponents.dropna(subset=["exponent"])
    boundary = known["rate_ratio"].map(theoretical_boundary)
    away = (known["rate"] - boundary).abs() > _NEAR
    right = (known["exponent"] > 0) == (known["rate"] > boundary)
    for (data, seed), share in _named(right[away].groupby([known["data"], known["seed"]]).mean()):
        values.append(Value(int(seed), f"{data} signs", float(share)))
    errors = (crossings["rate"] - crossings["boundary"]).abs().fillna(math.inf)
    for (data, seed), error in _named(errors.groupby([crossings["data"], crossings["seed"]]).mean()):
        values.append(Value(int(seed), f"{data} boundary", float(error)))
    return values


def agreement_values(exponents: pd.DataFrame) -> list[Value]:
    """For every seed the share of the cells that both maps have, off the boundary, where S_w has one sign in both."""
    off = exponents[(exponents["rate"] - exponents["rate_ratio"].map(theoretical_boundary)).abs() > _NEAR]
    table = off.pivot_table(index=["seed", "rate", "rate_ratio"], columns="data", values="exponent").dropna()
    if not {LINE, IMAGES} <= set(table.columns):
        return []
    same = (table[LINE] > 0) == (table[IMAGES] > 0)
    return [Value(int(seed), "agreement", float(share)) for seed, share in _named(same.groupby("seed").mean())]


def _named(values: "pd.Series[Any]") -> Iterator[tuple[Any, float]]:
    """A series as pairs of index and value."""
    return zip(values.index.tolist(), values.tolist(), strict=True)


def _figure(result: Mapping[str, pd.DataFrame]) -> Figure:
    exponents, crossings = result["exponents"], result["crossings"]
    figure = new_figure(9.6, 4.2)
    plots = figure.subplots(1, 2)
    names = {LINE: "four points", IMAGES: "images"}
    for axes, data in zip(plots, names, strict=True):
        cells = exponents[exponents["data"] == data]
        grid = cells.pivot_table(index="rate_ratio", columns="rate", values="exponent", dropna=False)
        image = _draw_map(axes, grid)
        figure.colorbar(image, ax=axes, shrink=0.85).set_label("S_w", fontsize=SMALL)
        stars = crossings[crossings["data"] == data].groupby("rate_ratio")["rate"].mean()
        axes.plot(stars, stars.index, "*", color=BLACK, markersize=9, label="S_w = 0")
        low, high = axes.get_ylim()
        ratios = np.linspace(low, high, 200)
        axes.plot([theoretical_boundary(one) for one in ratios], ratios, "--", color=BLACK, label="theory")
        finish(axes, x="γ", y="γ'", title=names[data])
    figure.legend(*plots[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=SMALL)
    return figure


def _draw_map(axes: Axes, grid: pd.DataFrame) -> Any:
    rates, ratios = (_edges(index.to_numpy(dtype=float)) for index in (grid.columns, grid.index))
    # Red is linear, blue is condensed, as in the source; a scale up to 1 leaves the small slopes visible.
    image = axes.pcolormesh(rates, ratios, grid.to_numpy(), cmap="RdBu", vmin=-1, vmax=1)
    axes.set_xlim(rates[0], rates[-1])
    axes.set_ylim(ratios[0], ratios[-1])
    return image


def _edges(centres: np.ndarray) -> np.ndarray:
    middles = (centres[1:] + centres[:-1]) / 2
    first, last = (middles[0], middles[-1]) if len(middles) else (centres[0] + 0.5, centres[0] - 0.5)
    return np.concatenate([[2 * centres[0] - first], middles, [2 * centres[-1] - last]])


def _plane(
    data: str,
    rows: int | None,
    rates: tuple[float, ...],
    ratios: tuple[float, ...],
    widths: tuple[int, ...],
    **own: Any,
) -> dict[str, Any]:
    usual = TRAINING if data == "four points" else _IMAGE_TRAINING
    axes = {"rates": rates, "rate_ratios": ratios, "widths": widths}
    return {"data": data, "rows": rows, **axes, "training": {**usual, **own}}


_RATES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
_RATIOS = (-0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75)
IMAGE_PLANE = _plane("digits", 100, (0.5, 1.0, 1.5, 2.0), (-0.5, 0.0, 0.5), (200, 800, 3200))
"""The images of the laptop scale, which figure 7.7 uses, too."""

PAPER_ROWS = 10_000
"""Images of MNIST at the paper scale: at a width of 4e5 one float32 array of all 60 000 by the neurons is 96 GB."""

REPRODUCTIONS = (
    Reproduction(
        id="fig7.5",
        title="The phase diagram: where S_w changes its sign",
        source="section 7.3.2, figure 7.5; arXiv 2007.07497",
        claim=Claim(
            text="Over the plane of (γ, γ') the exponent S_w is negative on one side and positive on the other of a "
            "boundary near the theoretical one, γ = 1 + max(γ', 0); points of a line and images agree.",
            conditions=(
                Condition(
                    quantity="fitted",
                    text="share of networks that reached the target loss",
                    at_least=0.95,
                ),
                Condition(
                    quantity=f"{LINE} signs",
                    text="four points: share of cells off the boundary where S_w has the theory's sign",
                    at_least=0.9,
                    source="two regions",
                ),
                Condition(
                    quantity=f"{LINE} boundary",
                    text="four points: mean distance in γ of the zero crossings from the theoretical boundary",
                    at_most=_GRID_STEP,
                    source="near",
                ),
                Condition(
                    quantity=f"{IMAGES} signs",
                    text="images: share of cells off the boundary where S_w has the theory's sign",
                    at_least=0.9,
                    source="two regions",
                ),
                Condition(
                    quantity=f"{IMAGES} boundary",
                    text="images: mean distance in γ of the zero crossings from the theoretical boundary",
                    at_most=_GRID_STEP,
                    source="near",
                ),
                Condition(
                    quantity="agreement",
                    text="share of cells of both maps off the boundary where S_w has the same sign",
                    at_least=0.9,
                    source="highly consistent",
                ),
            ),
        ),
        scales={
            "smoke": {
                "seeds": 1,
                LINE: _plane("four points", None, (0.5, 1.5), (0.0,), (32, 64), steps=500),
                IMAGES: _plane("digits", 20, (0.5, 1.5), (0.0,), (32, 64), steps=500),
            },
            "laptop": {
                "seeds": 5,
                LINE: _plane("four points", None, _RATES, _RATIOS, (250, 1000, 4000)),
                IMAGES: IMAGE_PLANE,
            },
            "paper": {
                "seeds": 5,
                LINE: _plane("four points", None, _RATES, _RATIOS, (1000, 5000, 10000, 20000, 40000)),
                IMAGES: _plane("mnist", PAPER_ROWS, _RATES, _RATIOS, (1000, 10000, 50000, 250000, 400000), steps=40000),
            },
        },
        measure=_measure,
        figure=_figure,
        notes="Laptop: widths 250, 1000 and 4000 on the four points of figure 7.4, and 200, 800 and 3200 on the first "
        "100 of scikit-learn's digits (8×8 pixels) in place of MNIST, with the label as a number; both until the loss "
        "7.6 reaches a target (1e-4, and 0.4 where all-zero outputs have 13). Near the boundary means one step of the "
        "finer grid, 0.25; cells within 0.2 of it have no sign to be right about and are left out of the signs. "
        "Without published numbers of points, learning rates and steps those are chosen here. Paper: the first 10 000 "
        "images of MNIST, since an array of all 60 000 by 4e5 neurons is 96 GB, and the learning rate from the "
        "curvature over 1000 of them.",
    ),
)
