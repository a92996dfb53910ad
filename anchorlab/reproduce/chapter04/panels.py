"""Panels of the frequency principle: curves, their spectra, and errors over steps and frequencies."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from anchorlab.report.panels import COLOURS
from anchorlab.report.style import BLACK, BLUE, SMALL, TEXT, VERMILLION, finish

from .curves import TARGET


def curves(axes: Axes, outputs: pd.DataFrame, step: str, *, points: pd.DataFrame | None = None) -> None:
    """Target and output after one step, and the training points where there are few."""
    if points is not None:
        axes.plot(points["x"], points["value"], "o", color=BLACK, markersize=3, label="training points")
    for name, colour, style, label in ((TARGET, BLUE, "--", "target"), (step, VERMILLION, "-", "output")):
        rows = outputs[outputs["step"] == name]
        axes.plot(rows["x"], rows["value"], style, color=colour, linewidth=1.6, label=label)
    finish(axes, x="x", title=f"step {step}")


def spectra(axes: Axes, table: pd.DataFrame, steps: list[str]) -> None:
    """Amplitudes over frequency: the target's, and the output's after some steps."""
    target = table[table["step"] == TARGET]
    axes.plot(target["k"], target["amplitude"], "-", color=BLUE, linewidth=1.8, label="target")
    for step, colour in zip(steps, (VERMILLION, *COLOURS[2:]), strict=False):
        rows = table[table["step"] == step]
        axes.plot(rows["k"], rows["amplitude"], "--", color=colour, linewidth=1.5, label=f"step {step}")
    finish(axes, x="frequency k", y="|coefficient|")
    axes.legend(fontsize=SMALL, frameon=False)


def error_map(axes: Axes, errors: pd.DataFrame, title: str = "") -> Any:
    """Δ_F as colours over steps (logarithmic) and frequencies, of one seed; the image, for a colour bar."""
    table = errors[errors["step"] > 0].pivot(index="k", columns="step", values="error").clip(upper=1)
    steps = table.columns.to_numpy(dtype=float)
    edges = np.sqrt(np.concatenate([[steps[0] ** 2], steps[1:] * steps[:-1], [steps[-1] ** 2]]))
    image = axes.pcolormesh(edges, np.arange(len(table) + 1), table.to_numpy(), vmin=0, vmax=1, cmap="viridis")
    axes.set_xscale("log")
    axes.set_yticks(np.arange(len(table)) + 0.5, [f"{k:g}" for k in table.index])
    finish(axes, x="steps", y="frequency k", title=title)
    return image


def colour_bar(axes: Axes, image: Any) -> None:
    """What the colours of `error_map` mean."""
    bar = axes.figure.colorbar(image, ax=axes)
    bar.set_label("Δ_F, cut off at 1", fontsize=TEXT)
