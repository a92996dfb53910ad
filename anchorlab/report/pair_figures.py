"""Figures of what a network answers: accuracy by anchor pair, classes of answers, deviations."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from anchorlab.analysis import CLASSES, PairMatrix

from .style import BLUE, GREY, ORANGE, SMALL, TEXT, VERMILLION, WIDTH, finish, new_figure

_CLASS_STYLE = {"inferential": (BLUE, ""), "symmetric": (ORANGE, "///"), "other": (GREY, "...")}
_MOST_NAMED = 12


def accuracy_by_pair(matrix: PairMatrix) -> Figure:
    """Heat map of accuracy, first anchor down, second across; pairs never trained are outlined.

    Cells and anchors are named as long as there is room for it.
    """
    count = len(matrix.anchors)
    figure = new_figure(WIDTH, 4.3)
    axes = figure.subplots()
    image = axes.imshow(matrix.accuracy, cmap="cividis", vmin=0, vmax=1)
    named = count <= _MOST_NAMED
    for row, column in np.argwhere(~np.isnan(matrix.accuracy)) if named else ():
        value = matrix.accuracy[row, column]
        colour = "white" if value < 0.55 else "black"
        axes.text(
            column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=TEXT if count <= 6 else 7
        )
    axes.set_xticks(np.arange(count - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(count - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    for row, column in np.argwhere(matrix.unseen):
        outline = Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, fill=False, edgecolor=VERMILLION)
        outline.set_linewidth(3.5 if named else 0.8)
        axes.add_patch(outline)
    axes.set_xticks(range(count) if named else [], matrix.anchors if named else [])
    axes.set_yticks(range(count) if named else [], matrix.anchors if named else [])
    finish(axes, x="second anchor", y="first anchor")
    axes.spines[:].set_visible(False)
    axes.tick_params(which="both", length=0, labelsize=TEXT)
    figure.colorbar(image, ax=axes, shrink=0.85).set_label("accuracy (outlined: pair never trained)", fontsize=SMALL)
    return figure


def answer_classes(table: pd.DataFrame) -> Figure:
    """Stacked bars: fraction of inferential, symmetric and other answers for each unseen pair and for all."""
    figure = new_figure(WIDTH, 1.3 + 0.42 * len(table))
    axes = figure.subplots()
    left = np.zeros(len(table))
    for name in CLASSES:
        width = table[name].to_numpy(float)
        colour, hatch = _CLASS_STYLE[name]
        bars = axes.barh(table["pair"], width, left=left, color=colour, hatch=hatch, edgecolor="white", label=name)
        labels = [f"{value:.0%}" if value >= 0.08 else "" for value in width]
        axes.bar_label(
            bars,
            labels,
            label_type="center",
            fontsize=SMALL,
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none"},
        )
        left += width
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    finish(axes, x="fraction of answers")
    axes.tick_params(axis="y", labelsize=TEXT)
    figure.legend(loc="outside upper center", ncols=3, fontsize=SMALL, frameon=False)
    return figure


def deviation_histogram(table: pd.DataFrame, *, limit: int | None = None) -> Figure:
    """Fraction of answers by their distance from the truth; the right ones, at 0, stand out.

    `limit` is the largest distance shown, so that several networks share one axis; the share beyond it is written.
    """
    figure = new_figure(WIDTH, 2.8)
    axes = figure.subplots()
    limit = limit if limit is not None else deviation_limit([table])
    known = table.dropna(subset=["deviation"])
    shown = known[known["deviation"].abs() <= limit]
    distance = shown["deviation"].to_numpy(int)
    axes.bar(distance, shown["fraction"], width=0.85, color=[BLUE if value == 0 else VERMILLION for value in distance])
    axes.set_xlim(-limit - 0.7, limit + 0.7)
    axes.set_ylim(0, max(0.05, 1.1 * float(shown["fraction"].max()) if len(shown) else 0.05))
    finish(axes, x="answer − right answer (blue: right)", y="fraction of answers")
    beyond = 1 - float(shown["fraction"].sum())
    if beyond >= 0.0005:
        text = f"{beyond:.1%} of the answers are not on this axis"
        axes.text(1, 1, text, transform=axes.transAxes, ha="right", va="top", fontsize=SMALL, color=GREY)
    return figure


def deviation_limit(tables: list[pd.DataFrame], *, coverage: float = 0.9, least: int = 10) -> int:
    """Distance within which `coverage` of the answers lie in every one of several tables, at least `least`."""
    limits = [least]
    for table in tables:
        known = table.dropna(subset=["deviation"])
        by_distance = known.groupby(known["deviation"].abs().astype(int))["fraction"].sum().cumsum()
        inside = by_distance[by_distance >= coverage]
        limits.append(
            int(inside.index[0]) if len(inside) else int(by_distance.index.max()) if len(by_distance) else least
        )
    return max(limits)
