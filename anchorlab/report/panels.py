"""Plots that many figures are made of."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from .style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION

COLOURS = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, GREY)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def banded_lines(
    axes: Axes,
    table: pd.DataFrame,
    *,
    x: str,
    y: str,
    by: str,
    colours: Mapping[Any, str] | Sequence[str] = COLOURS,
    names: Mapping[Any, str] | None = None,
) -> None:
    """One line for every value of column `by`: the mean of `y` over rows of equal `x`, with a band from least to most.

    Lines come in the order in which their values first occur. `colours` and `names` go by that value, or `colours` by
    its place. Call `axes.legend` for the names.
    """
    for place, value in enumerate(dict.fromkeys(table[by])):
        rows = table[table[by] == value].groupby(x)[y].agg(["mean", "min", "max"])
        colour = colours[value] if isinstance(colours, Mapping) else colours[place % len(colours)]
        name = str(value) if names is None else names[value]
        marker = MARKERS[place % len(MARKERS)] if len(rows) <= 20 else None
        axes.plot(rows.index, rows["mean"], color=colour, marker=marker, markersize=4, linewidth=1.8, label=name)
        axes.fill_between(rows.index, rows["min"], rows["max"], color=colour, alpha=0.18, linewidth=0)
