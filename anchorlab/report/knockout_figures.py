"""What is left of a language model's answers without some of its heads or edges, beside random ones."""

import textwrap
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from anchorlab.analysis.run_table import row_dicts
from anchorlab.pretrained_probe.knockouts import MATTERS, UNDECIDED, Knockouts

from .style import BLACK, GREY, SKY, SMALL, VERMILLION, WIDTH, finish, new_figure

_LABEL = 24  # characters of a line
_BESIDE = 0.24  # of a row: how far the random sets are below it
_LOOKS: dict[str, dict[str, Any]] = {
    MATTERS: {"color": VERMILLION, "marker": "o", "markerfacecolor": VERMILLION},
    "no more than random": {"color": BLACK, "marker": "o", "markerfacecolor": "white"},
    UNDECIDED: {"color": GREY, "marker": "x"},
}
_RANDOM: dict[str, Any] = {"color": SKY, "marker": "D", "markeredgecolor": BLACK, "markersize": 4.5}


def knockout_figure(knockouts: Knockouts) -> Figure:
    """One row a knock-out: the change of the answers' mean log-probability, and that of random sets below it.

    Points are means; bars hold 95 % over prompts and over random sets. Rows with few random sets, or none, say so.
    """
    rows = row_dicts(knockouts.table)
    figure = new_figure(WIDTH, 1.5 + 0.46 * len(rows))
    axes = figure.subplots()
    axes.axvline(0, color=GREY, linewidth=0.8, zorder=0)
    for y, row in enumerate(rows):
        if row["random_sets"]:
            beside = y + _BESIDE
            axes.plot([row["random_low"], row["random_high"]], [beside] * 2, color=SKY, linewidth=4)
            axes.plot(row["random_mean"], beside, **_RANDOM)
        look = next(look for verdict, look in _LOOKS.items() if row["verdict"].startswith(verdict))
        axes.plot([row["low"], row["high"]], [y, y], color=look["color"], linewidth=1.4)
        axes.plot(row["change"], y, **look)
    axes.set_yticks(range(len(rows)), [_label(row) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    finish(axes, x="change of log-probability (nats)")
    axes.xaxis.label.set_fontsize(SMALL + 1)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    handles = [Line2D([], [], linewidth=1.4, label=verdict, **look) for verdict, look in _LOOKS.items()]
    handles.append(Line2D([], [], linewidth=4, label="random sets", **_RANDOM))
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=SMALL, frameon=False)
    return figure


def _label(row: dict[str, Any]) -> str:
    few = row["note"].partition(":")[0]
    return "\n".join([*textwrap.wrap(row["what"], _LABEL), *([f"({few})"] if few else [])])


def about_knockouts(knockouts: Knockouts) -> str:
    """How well the model answers, and which knock-outs matter, with the changes in nats."""
    intact = (
        f"The intact model says the answer in {knockouts.intact_accuracy:.0%} of {knockouts.prompts} prompts (mean "
        f"log-probability {_signed(knockouts.intact_log_probability)})"
    )
    if not knockouts.better_than_chance:
        return (
            f"{intact} and holds it for the most probable of the {knockouts.answers} answers in "
            f"{knockouts.choice_accuracy:.0%}, no better than chance ({knockouts.chance:.0%}): what knocking heads out "
            f"changes tells nothing."
        )
    verdicts = sorted(
        knockouts.table["verdict"].unique(), key=lambda verdict: (verdict != MATTERS, verdict == UNDECIDED, verdict)
    )
    parts = []
    for verdict in verdicts:
        own = [_described(row) for row in row_dicts(knockouts.table[knockouts.table["verdict"] == verdict])]
        parts.append(f"{verdict.capitalize()}: {', '.join(own)}.")
    return f"{intact}. Changes in nats without heads or edges. {' '.join(parts)}"


def _described(row: dict[str, Any]) -> str:
    compared = row["note"] or f"random {row['control']} {_signed(row['random_mean'])}"
    return f"{row['what']} ({_signed(row['change'])}; {compared})"


def _signed(value: float) -> str:
    return f"{np.round(value, 2) + 0.0:.2f}".replace("-", "−")
