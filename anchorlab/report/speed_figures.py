"""Learning speed by group of rows: figure 13.19, and what it shows in a sentence."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from anchorlab.analysis.learning_speed import LearningSpeed

from .sentences import listed
from .style import BLACK, BLUE, SMALL, VERMILLION, WIDTH, finish, new_figure, split_names

_MOST_NAMED = 40


def speed_by_group(speed: LearningSpeed) -> Figure:
    """Bars of the step at which each group reached the threshold, the fastest on top; slow groups are hatched.

    The whisker spans the steps in which it happened: from the recorded step before to that at the bar's end. The bar of
    a group that never got there is open and ends at the last step. Many groups stand without names and whiskers.
    """
    named = len(speed.table) <= _MOST_NAMED
    figure = new_figure(WIDTH, 1.5 + (0.26 * len(speed.table) if named else 4.0))
    axes = figure.subplots()
    _draw_bars(axes, speed.table.fillna({"step": speed.last_step}), speed.table["step"].isna(), named=named)
    if speed.slow:
        axes.axvline(speed.slow_after, color=BLACK, linewidth=1, linestyle=(0, (4, 2)))
    axes.set_yticks(range(len(speed.table)) if named else [], speed.table["group"] if named else [])
    axes.set_ylim(len(speed.table) - 0.4, -0.6)
    split = split_names([speed.split])[speed.split]
    finish(axes, x=f"step of {speed.threshold:.0%} accuracy ({split})", y="" if named else "group")
    axes.tick_params(axis="y", length=0)
    figure.legend(handles=_legend(speed), loc="outside upper center", ncols=2, fontsize=SMALL, frameon=False)
    return figure


def _draw_bars(axes: Axes, table: pd.DataFrame, never: "pd.Series[bool]", *, named: bool) -> None:
    ends = table["step"].to_numpy(float)
    colours = [VERMILLION if slow else BLUE for slow in table["slow"]]
    bars = axes.barh(range(len(table)), ends, height=0.72 if named else 1, color=colours, edgecolor="white")
    for bar, slow, open_end, colour in zip(bars, table["slow"], never, colours, strict=True):
        bar.set(hatch="///" if slow else "", linewidth=0.5 if named else 0)
        if open_end:
            bar.set(facecolor="white", edgecolor=colour, linewidth=1.2 if named else 0)
    if named:
        reached = ~never.to_numpy()
        widths = (ends - table["below"].fillna(table["step"]).to_numpy(float))[reached]
        whiskers = np.stack([widths, np.zeros(len(widths))])
        places = np.flatnonzero(reached)
        axes.errorbar(ends[reached], places, xerr=whiskers, fmt="none", ecolor=BLACK, elinewidth=1.1, capsize=2)


def _legend(speed: LearningSpeed) -> list[Patch]:
    handles = [Patch(facecolor=BLUE, label="not slow")]
    if speed.slow:
        handles.append(
            Patch(facecolor=VERMILLION, edgecolor="white", hatch="///", label="slow: beyond the dashed line")
        )
    if speed.table["step"].isna().any():
        handles.append(Patch(facecolor="white", edgecolor=BLACK, label="open: never reached"))
    return handles


def about_speed(speed: LearningSpeed) -> str:
    """The median step, the slow groups, those that never got there, and how exactly steps are known."""
    never = speed.table.loc[speed.table["step"].isna(), "group"].tolist()
    if np.isinf(speed.median_step):
        which = "None" if len(never) == len(speed.table) else "At most half"
        text = f"{which} of the {len(speed.table)} groups reached {speed.threshold:.0%} accuracy"
    else:
        text = f"{speed.threshold:.0%} accuracy was reached at step {speed.median_step:,.0f} in the median"
    text += f" on {split_names([speed.split])[speed.split]}"
    if speed.slow:
        text += (
            f"; slow, beyond step {speed.slow_after:,.0f}, {'was' if len(speed.slow) == 1 else 'were'} "
            f"{listed(speed.slow)}: candidates for rows that break the rule"
        )
    elif np.isfinite(speed.median_step):
        text += "; no group was slow"
    if never and len(never) < len(speed.table):
        text += f". Until step {speed.last_step:,} it was never reached by {listed(never)}"
    if not speed.resolution:
        return f"{text}. Accuracy was recorded once."
    return f"{text}. Accuracy was recorded every {speed.resolution:,} steps, so no step is known more exactly."
