"""Figures of a phase diagram: the map over γ and λ (figure 13.6) and its slices at one λ (figure 13.5)."""

from itertools import groupby
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from anchorlab.analysis import PhaseGrid, Thresholds
from anchorlab.analysis.phase_grid import DECAY, RATE
from anchorlab.analysis.run_table import row_dicts

from .style import BLUE, GREEN, GREY, SMALL, TEXT, VERMILLION, WIDTH, finish, new_figure

PHASE_COLOURS = {1: "#E6E6E6", 2: "#FBE6CC", 3: "#D3ECE3"}

_SCALE = mpl.colormaps["cividis"]
_CELL = 0.46  # inches
_MOST_IN_ONE_ROW = 2
_LINES = (("id_accuracy", BLUE, "seen pairs (ID)"), ("ood_accuracy", VERMILLION, "unseen pairs (OOD)"))


def ood_colours(accuracy: float) -> tuple[str, str]:
    """The colour that stands for an OOD accuracy and the one in which to write on it."""
    return to_hex(_SCALE(accuracy)), "#ffffff" if accuracy < 0.48 else "#000000"


def scale_colours(count: int) -> list[str]:
    """`count` evenly spaced colours of the scale from 0 to 1."""
    return [to_hex(_SCALE(value)) for value in np.linspace(0, 1, count)]


def phase_map(grid: PhaseGrid) -> Figure:
    """Heat map of the mean final OOD accuracy, γ across and λ upwards, one panel for each value of the other settings.

    Hatching marks poor ID accuracy, triangles poor commutativity, numbers the phase; a combination without a finished
    run stays blank.
    """
    panels = grid.panels
    columns = min(len(panels), _MOST_IN_ONE_ROW)
    rows = -(-len(panels) // columns)
    size = max(WIDTH, 1.1 + _CELL * len(grid.rates)), max(1.6, 1.0 + _CELL * len(grid.decays))
    figure = new_figure(1.0 + columns * size[0], 0.8 + rows * size[1])
    plots = figure.subplots(rows, columns, squeeze=False)
    for axes, panel in zip(plots.flat, panels, strict=False):
        image = _draw_map(axes, panel.cells, grid)
        finish(axes, x="initialization rate γ", y="weight decay λ", title=panel.label)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    for axes in plots.flat[len(panels) :]:
        axes.set_axis_off()
    figure.colorbar(image, ax=plots, shrink=0.85).set_label("mean OOD accuracy", fontsize=SMALL)
    figure.legend(
        handles=_map_legend(grid), loc="outside upper center", ncols=3, fontsize=SMALL, frameon=False, handlelength=1.6
    )
    return figure


def _draw_map(axes: Axes, cells: pd.DataFrame, grid: PhaseGrid) -> Any:
    rates, decays, limits = grid.rates, grid.decays, grid.runs.thresholds
    values: Float[np.ndarray, "decays rates"] = np.full((len(decays), len(rates)), np.nan)
    for cell in row_dicts(cells[cells["seeds"] > 0]):
        row, column = decays.index(cell[DECAY]), rates.index(cell[RATE])
        values[row, column] = cell["ood_accuracy_mean"]
        ink = ood_colours(values[row, column])[1]
        if cell["id_accuracy_mean"] < limits.id:
            area = Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, hatch="////", edgecolor=ink, linewidth=0)
            area.set_alpha(0.55)
            axes.add_patch(area)
        if cell["commutativity_mean"] < limits.commutativity:
            axes.scatter(
                column + 0.3, row - 0.28, marker="^", s=34, color=GREEN, edgecolors="white", linewidths=0.9, zorder=3
            )
        box = {"boxstyle": "circle,pad=0.12", "facecolor": ood_colours(values[row, column])[0], "edgecolor": "none"}
        axes.text(
            column, row, str(cell["phase"]), ha="center", va="center", color=ink, fontsize=SMALL, zorder=3, bbox=box
        )
    image = axes.imshow(values, cmap=_SCALE, vmin=0, vmax=1, origin="lower", aspect="auto")
    axes.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates])
    axes.set_yticks(range(len(decays)), [f"{decay:g}" for decay in decays])
    axes.set_xticks(np.arange(len(rates) - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(len(decays) - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.2)
    axes.tick_params(which="minor", length=0)
    return image


def _map_legend(grid: PhaseGrid) -> list[Patch | Line2D]:
    limits = grid.runs.thresholds
    handles: list[Patch | Line2D] = [
        Patch(facecolor="white", edgecolor=GREY, hatch="////", linewidth=0.5, label=f"ID < {limits.id:g}")
    ]
    if grid.cells["commutativity_mean"].notna().any():
        label = f"commutativity < {limits.commutativity:g}"
        handles.append(Line2D([], [], marker="^", linestyle="", color=GREEN, markersize=6, label=label))
    return [
        *handles,
        Line2D(
            [],
            [],
            linestyle="",
            marker="$1$",
            color=GREY,
            markersize=6,
            label=f"phase (3: ID ≥ {limits.id:g}, OOD ≥ {limits.ood:g})",
        ),
    ]


def rate_slice(cells: pd.DataFrame, limits: Thresholds, *, title: str = "") -> Figure:
    """ID and OOD accuracy over γ for the cells of one λ: the mean as a line, smallest to largest seed as a band.

    The background shows the phase; dotted lines are its thresholds. A γ without a finished run leaves a gap.
    """
    ordered = cells.sort_values(RATE)
    figure = new_figure(WIDTH, 3.1)
    axes = figure.subplots()
    _draw_phases(axes, ordered)
    rates = ordered[RATE].to_numpy(float)
    for name, colour, label in _LINES:
        low, mean, high = (ordered[f"{name}_{part}"].to_numpy(float) for part in ("min", "mean", "max"))
        axes.fill_between(rates, low, high, color=colour, alpha=0.22, linewidth=0)
        axes.plot(rates, mean, color=colour, marker="o", markersize=3.5, linewidth=1.8, label=label)
    for limit in sorted({limits.id, limits.ood}):
        axes.axhline(limit, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_ylim(-0.03, 1.03)
    finish(axes, x="initialization rate γ", y="accuracy")
    axes.set_title(title, fontsize=TEXT, pad=20 if title else None)
    figure.legend(loc="outside upper center", ncols=2, fontsize=SMALL, frameon=False)
    return figure


def _draw_phases(axes: Axes, ordered: pd.DataFrame) -> None:
    edges = _edges(ordered[RATE].to_numpy(float))
    axes.set_xlim(edges[0], edges[-1])
    phases = ordered["phase"].fillna(0).tolist()
    for number, places in groupby(range(len(phases)), key=phases.__getitem__):
        if not number:
            continue
        span = list(places)
        left, right = edges[span[0]], edges[span[-1] + 1]
        axes.axvspan(left, right, color=PHASE_COLOURS[number], linewidth=0, zorder=0)
        name = f"phase {number}" if (right - left) / (edges[-1] - edges[0]) > 0.15 else str(number)
        axes.text(
            (left + right) / 2,
            1.02,
            name,
            transform=axes.get_xaxis_transform(),
            ha="center",
            va="bottom",
            fontsize=SMALL,
        )


def _edges(rates: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n_plus_1"]:
    """The limits between neighbouring rates, and the same distance beyond the first and the last."""
    if len(rates) == 1:
        return np.array([rates[0] - 0.05, rates[0] + 0.05])
    middles = (rates[1:] + rates[:-1]) / 2
    return np.array([2 * rates[0] - middles[0], *middles, 2 * rates[-1] - middles[-1]])
