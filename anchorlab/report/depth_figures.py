"""Strength of attention patterns over depth, of one model or several, and what it says about section 12.7.3."""

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from anchorlab.analysis.run_table import row_dicts
from anchorlab.pretrained_probe.depth import DepthClaim, DepthTrend, Tendency

from .style import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, SMALL, TEXT, VERMILLION, WIDTH, finish, new_figure

_DASHED = (0, (4, 2))
_Look = tuple[str, str, Any]  # colour, marker (none: no band either), line
_LOOKS: dict[str, _Look] = {
    "shift": (BLUE, "o", "solid"),
    "broadcast": (VERMILLION, "s", "solid"),
    "sink": (GREEN, "^", "solid"),
    "induction": (PURPLE, "D", "solid"),
    "duplicate": (ORANGE, "v", _DASHED),
    "self": (SKY, "P", "dashdot"),
    "entropy": (BLACK, "X", (0, (1, 1.2))),
    "coverage": (GREY, "x", _DASHED),
}
_MODELS: tuple[_Look, ...] = (
    (BLUE, "o", "solid"),
    (VERMILLION, "s", _DASHED),
    (GREEN, "^", (0, (1, 1.2))),
    (PURPLE, "D", "dashdot"),
    (ORANGE, "v", "solid"),
    (SKY, "P", _DASHED),
    (BLACK, "X", (0, (1, 1.2))),
)
_KIND, _WEIGHTED = " heads", "value-weighted "
_COMPARED = ("shift", "broadcast", "sink")
_MOST_MARKED = 16  # layers


def depth_figure(trend: DepthTrend) -> Figure:
    """Means and bands of `DepthTrend.by_layer` over layers.

    From the top: strength of shift, broadcast and sink, and dashed and without bands that of the value-weighted ones;
    share of the heads of each kind; strength of the other scores.
    """
    groups = [
        ("mean strength", [*_COMPARED, *(f"{_WEIGHTED}{name}" for name in _COMPARED)]),
        ("share of heads", [f"{name}{_KIND}" for name in _LOOKS]),
        ("mean strength", [name for name in _LOOKS if name not in _COMPARED]),
    ]
    known = set(trend.correlations["score"])
    shown = [(title, names) for title, group in groups if (names := [name for name in group if name in known])]
    figure = new_figure(WIDTH, 0.4 + 2.4 * len(shown))
    panels = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (title, names) in zip(panels, shown, strict=True):
        for name in names:
            own = trend.by_layer[trend.by_layer["score"] == name]
            _draw(axes, own, own["layer"], _look(name), name)
        finish(axes, y=title)
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=2, fontsize=SMALL, frameon=False, columnspacing=1.2
        )
    panels[-1].set_xlabel("layer", fontsize=TEXT)
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _look(score: str) -> _Look:
    colour, marker, line = _LOOKS[score.removeprefix(_WEIGHTED).removesuffix(_KIND)]
    return (colour, "", _DASHED) if score.startswith(_WEIGHTED) else (colour, marker, line)


def depth_comparison(trends: Mapping[str, DepthTrend]) -> Figure:
    """Shift, broadcast and sink of several models over relative depth, the middle of each layer from 0 to 1."""
    figure = new_figure(WIDTH, 5.6 + 0.2 * len(trends))
    panels = figure.subplots(len(_COMPARED), 1, sharex=True)
    for axes, score in zip(panels, _COMPARED, strict=True):
        for (name, trend), look in zip(trends.items(), cycle(_MODELS), strict=False):
            own = trend.by_layer[trend.by_layer["score"] == score]
            _draw(axes, own, (own["layer"] - 0.5) / trend.by_layer["layer"].max(), look, name)
        finish(axes, y=score)
        axes.set_xlim(0, 1)
    panels[-1].set_xlabel("relative depth", fontsize=TEXT)
    figure.supylabel("mean strength", fontsize=TEXT)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", fontsize=SMALL, frameon=False)
    return figure


def _draw(axes: Axes, own: pd.DataFrame, depth: "pd.Series[Any]", look: _Look, label: str) -> None:
    colour, marker, line = look
    every = -(-len(own) // _MOST_MARKED)
    if marker:
        axes.fill_between(depth, own["low"], own["high"], color=colour, alpha=0.15, linewidth=0)
    axes.plot(
        depth, own["mean"], color=colour, marker=marker, markersize=4, markevery=every, linestyle=line, label=label
    )
    axes.axhline(0, color=GREY, linewidth=0.6)


def about_trend(trend: DepthTrend) -> str:
    """Which of shift, broadcast, sink and the shares of heads rise or fall, and which do neither."""
    told = trend.correlations["score"].isin(_COMPARED) | trend.correlations["score"].str.endswith(_KIND)
    rows = row_dicts(trend.correlations[told])
    parts = []
    for verdict, plural in (("falls", "fall"), ("rises", "rise")):
        own = [_with_correlation(row) for row in rows if row["verdict"] == verdict]
        if own:
            parts.append(f"{_listed(own)} {verdict if len(own) == 1 else plural} with depth")
    undecided = [_with_correlation(row) for row in rows if row["verdict"] == "undecided"]
    if undecided:
        parts.append(f"no clear trend is found of {_listed(undecided)}")
    text = "; ".join(parts or ["the prompts are too short for shift, broadcast and sink"])
    return f"{text[0].upper()}{text[1:]}."


def _with_correlation(row: Mapping[str, Any]) -> str:
    return f"{_name(row['score'])} (ρ {signed(row['correlation'])})"


def _name(score: str) -> str:
    return f"the share of {score}" if score.endswith(_KIND) else score


def about_comparison(trends: Mapping[str, DepthTrend]) -> str:
    """The correlations with depth, model by model."""
    parts = []
    for name, trend in trends.items():
        found = trend.correlations.set_index("score")["correlation"]
        parts.append(f"{name} " + ", ".join(f"{score} {signed(found[score])}" for score in _COMPARED if score in found))
    return f"Correlation with depth: {'; '.join(parts)}."


def about_claim(found: DepthClaim) -> str:
    """Both halves of the claim with their numbers."""
    text = "; ".join(map(about_tendency, found.tendencies))
    return f"{text[0].upper()}{text[1:]}."


def about_tendency(part: Tendency) -> str:
    """What a score does with depth, with correlation, interval and p where it has them."""
    if math.isnan(part.correlation):
        return f"{_name(part.score)} has no correlation with depth: it is the same in all heads"
    what = "shows no clear trend with depth" if part.found == "undecided" else f"{part.found} with depth"
    return f"{_name(part.score)} {what} ({correlation_text(vars(part))})"


def correlation_text(row: Mapping[str, Any]) -> str:
    """Correlation, 95 % interval if there is one, and p of a row of `DepthTrend.correlations`."""
    span = "" if pd.isna(row["low"]) else f", 95 % from {signed(row['low'])} to {signed(row['high'])}"
    return f"ρ {signed(row['correlation'])}{span}, p {p_text(row['p'])}"


def p_text(p: float) -> str:
    """p with three digits; `< 0.001` below that."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def signed(value: float) -> str:
    """Two digits with a minus sign; `–` for NaN."""
    return "–" if pd.isna(value) else f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


def _listed(parts: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(parts[:-1]), parts[-1]) if part)
