"""Rows of tokens with what a network outputs below each, as the book prints them (figures 12.8 and 12.10)."""

import pandas as pd
from matplotlib.axes import Axes

from anchorlab.report.style import BLACK, GREY, SMALL, VERMILLION

_LINE = 0.42  # distance of a row's two lines; rows are 1 apart


def draw_token_rows(axes: Axes, table: pd.DataFrame, colours: dict[str, str]) -> None:
    """Draw rows from columns row, position, token, anchor (whether it is one), output and reading.

    `colours` gives the background of an output by its reading; a reading without a colour is printed in grey.
    """
    columns = ["row", "position", "token", "anchor", "output", "reading"]
    for row, position, token, anchor, output, reading in table[columns].itertuples(index=False):
        weight, colour = ("bold", VERMILLION) if anchor else ("normal", BLACK)
        axes.text(position, row, token, ha="center", va="center", fontsize=SMALL, color=colour, weight=weight)
        tint = colours.get(reading)
        axes.text(
            position,
            row + _LINE,
            output,
            ha="center",
            va="center",
            fontsize=SMALL,
            color=BLACK if tint else GREY,
            bbox={"facecolor": tint or "white", "edgecolor": "none", "alpha": 0.4 if tint else 0.0, "pad": 1.6},
        )
    axes.set_xlim(-0.6, table["position"].max() + 0.6)
    axes.set_ylim(table["row"].max() + 0.8, -0.4)
    rows = range(table["row"].max() + 1)
    axes.set_yticks(
        [y for row in rows for y in (row, row + _LINE)], [name for _ in rows for name in ("input", "output")]
    )
    axes.set_xticks([])
    axes.tick_params(length=0, labelsize=SMALL)
    axes.spines[:].set_visible(False)
