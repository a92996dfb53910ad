"""Learning curves: loss and accuracy over the steps of one run."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .style import GREY, PURPLE, SMALL, SPLIT_COLOURS, WIDTH, finish, new_figure, split_names

_DASHES = {"train": (0, (1, 1)), "test": "solid", "ood": (0, (5, 2))}


def learning_curves(
    metrics: pd.DataFrame, *, loss_range: tuple[float, float] | None = None, threshold: float | None = None
) -> Figure:
    """Loss (logarithmic) above accuracy for every split, from a history with columns step, split, group, metric, value.

    `loss_range` lets several runs share one axis; `threshold` draws the limit between good and poor accuracy.
    """
    figure = new_figure(WIDTH, 4.7)
    above, below = figure.subplots(2, 1, sharex=True)
    whole = metrics[metrics["group"] == ""]
    _draw(above, whole[whole["metric"] == "loss"])
    _draw(below, whole[whole["metric"] == "accuracy"])
    above.set_yscale("log")
    if loss_range is not None:
        above.set_ylim(loss_range[0] / 1.3, loss_range[1] * 1.3)
    below.set_ylim(-0.03, 1.03)
    if threshold is not None:
        below.axhline(threshold, color=GREY, linewidth=0.8, linestyle=":")
    finish(above, y="loss")
    finish(below, x="step", y="accuracy")
    handles, labels = above.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper center", ncols=3, fontsize=SMALL, frameon=False, columnspacing=1.2
    )
    return figure


def loss_range(histories: list[pd.DataFrame]) -> tuple[float, float] | None:
    """Smallest and largest positive finite loss in several histories; None if there is none."""
    losses = [table[(table["metric"] == "loss") & (table["group"] == "")]["value"] for table in histories]
    values = pd.concat(losses).to_numpy(float) if losses else np.array([])
    values = values[np.isfinite(values) & (values > 0)]
    return (float(values.min()), float(values.max())) if len(values) else None


def _draw(axes: Axes, rows: pd.DataFrame) -> None:
    for split, name in split_names(rows["split"]).items():
        history = rows[rows["split"] == split].sort_values("step")
        axes.plot(
            history["step"],
            history["value"],
            color=SPLIT_COLOURS.get(split, PURPLE),
            linestyle=_DASHES.get(split, "dashdot"),
            linewidth=1.8,
            label=name,
        )
