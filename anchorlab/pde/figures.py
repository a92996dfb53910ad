"""Figures of solutions."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anchorlab.report.panels import COLOURS
from anchorlab.report.style import BLACK, BLUE, GREY, SMALL, TEXT, VERMILLION, finish, new_figure

from .equation import PDE

_SIDE = 101


def solution_figure(
    pde: PDE,
    evaluate: Callable[[Float[np.ndarray, "n axes"]], Float[np.ndarray, " n"]],
    history: pd.DataFrame,
    method: str,
) -> Figure:
    """The solution beside the exact one (a line), or its map and that of the error (a plane), and errors over steps.

    A direct method has no steps: its figure ends with the solution.
    """
    columns = (1 if pde.domain.dimensions == 1 else 2) + (len(history) > 1)
    figure = new_figure(4.2 * columns, 3.6)
    places = list(figure.subplots(1, columns, squeeze=False)[0])
    if len(history) > 1:
        _history(places.pop(), history)
    if pde.domain.dimensions == 1:
        _line(places[0], pde, evaluate, method)
    elif pde.domain.dimensions == 2:
        _maps(figure, places, pde, evaluate, method)
    return figure


def _line(axes: Axes, pde: PDE, evaluate: Callable[[np.ndarray], np.ndarray], method: str) -> None:
    ((low, high),) = pde.domain.bounds
    points = np.linspace(low, high, 501)[:, None]
    found, exact = evaluate(points).reshape(len(points), -1), pde.exact_values(points)
    for number, values in enumerate(found.T):
        label = method if pde.outputs == 1 else f"{method}: u[{number}]"
        axes.plot(points[:, 0], values, color=COLOURS[number % len(COLOURS)], linewidth=1.8, label=label)
    if exact is not None:
        for number, values in enumerate(exact.reshape(len(points), -1).T):
            name = None if number else "exact"
            axes.plot(points[:, 0], values, color=BLACK, linewidth=1, linestyle="--", label=name)
    axes.legend(fontsize=SMALL, frameon=False)
    finish(axes, x=pde.domain.names[0], y="u", title=pde.name)


def _maps(
    figure: Figure, places: list[Axes], pde: PDE, evaluate: Callable[[np.ndarray], np.ndarray], method: str
) -> None:
    (left, right), (bottom, top) = pde.domain.bounds
    grid = np.stack(np.meshgrid(np.linspace(left, right, _SIDE), np.linspace(bottom, top, _SIDE)), -1).reshape(-1, 2)
    outside = ~pde.domain.contains(grid)
    found, exact = evaluate(grid), pde.exact_values(grid)
    title = f"{pde.name}: {method}"
    if pde.outputs > 1:  # a map shows one function: the first
        title, found, exact = f"{title}, u[0]", found[:, 0], None if exact is None else exact[:, 0]
    shown = [(title, found)] + ([] if exact is None else [("error", found - exact)])
    for axes, (title, drawn) in zip(places, shown, strict=False):
        values = np.where(outside, np.nan, drawn)
        reach = float(np.nanmax(np.abs(values))) or 1.0
        image = axes.imshow(
            values.reshape(_SIDE, _SIDE),
            origin="lower",
            extent=(left, right, bottom, top),
            aspect="auto",
            cmap="RdBu_r",
            vmin=-reach,
            vmax=reach,
        )
        bar = figure.colorbar(image, ax=axes)
        bar.ax.tick_params(labelsize=SMALL)
        finish(axes, x=pde.domain.names[0], y=pde.domain.names[1], title=title)
    for axes in places[len(shown) :]:
        axes.axis("off")


def _history(axes: Axes, history: pd.DataFrame) -> None:
    """Errors (or the loss) over steps, on a logarithmic axis."""
    drawn = {"relative_l2": ("relative L2 error", BLUE), "max_error": ("largest error", VERMILLION)}
    if not set(drawn) & set(history):
        drawn = {"loss": ("loss", GREY)}
    for name, (label, colour) in drawn.items():
        if name in history:
            axes.plot(history.step, history[name], color=colour, linewidth=1.8, marker=".", label=label)
    if len(history) and any((history[name] > 0).any() for name in drawn if name in history):
        axes.set_yscale("log")
    if axes.lines:
        axes.legend(fontsize=SMALL, frameon=False)
    finish(axes, x="step", y="")
    axes.set_title("errors" if "loss" not in drawn else "loss", fontsize=TEXT)
