"""Networks connect samples smoothly, and learn sin x before sin 5x (section 4.1.1, figures 4.1 and 4.2)."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from anchorlab.phenomena import Points
from anchorlab.phenomena.curves import settled_at
from anchorlab.phenomena.spectra import sines
from anchorlab.report.panels import COLOURS
from anchorlab.report.style import BLACK, BLUE, GREY, SMALL, finish, new_figure

from ..claims import Claim, Condition, Value
from ..reproduction import Measured, Reproduction
from ..study import Study
from .curves import TARGET, curve_fit, diverged, output_table, outputs_after, periodic, unexplained
from .panels import curves

_FITTED = 0.01  # of the variance is left where a curve is fitted
_NEAR = 1.5  # a loss is near a height between this factor's root above and below it


def _measure_sizes(study: Study) -> Measured:
    settings = study.settings
    points, dense = periodic(settings["points"]), periodic(settings["points"] * 20)
    data = {"train": Points(points, sines(points, (1,)))}
    runs = study.fit(
        {
            (place, seed): curve_fit({**settings["training"], "widths": widths}, data, seed, shown=dense)
            for place, widths in enumerate(settings["sizes"])
            for seed in study.seeds
        }
    )
    tables, values = [], []
    for (place, seed), run in runs.items():
        (last,) = outputs_after(run, (settings["training"]["steps"],), dense).values()
        name = "-".join(map(str, settings["sizes"][place]))
        table = pd.DataFrame({"size": name, "seed": seed, "x": dense[:, 0].numpy(), "value": last[:, 0].numpy()})
        tables.append(table)
        values += size_values(seed, name, table, settings["points"])
    samples = pd.DataFrame({"x": points[:, 0].numpy(), "value": data["train"].targets[:, 0].numpy()})
    return Measured(values=values, tables={"outputs": pd.concat(tables, ignore_index=True), "samples": samples})


def size_values(seed: int, name: str, table: pd.DataFrame, points: int) -> list[Value]:
    """How well the samples of sin x are fitted, and how steep the output is anywhere between them.

    `table` holds x and the output at `points` samples and, evenly, between them.
    """
    x, value = table["x"].to_numpy(), table["value"].to_numpy()
    between = len(x) // points
    error = float(np.mean((value - np.sin(x))[::between] ** 2) / np.var(np.sin(x)))
    inside = slice(0, (points - 1) * between + 1)  # nothing is known of the function beyond the last sample
    slope = np.abs(np.diff(value[inside]) / np.diff(x[inside])).max()
    return [
        Value(seed, f"error of {name}", error),
        Value(seed, f"slope of {name}", float(slope)),
    ]


def _draw_sizes(result: Mapping[str, pd.DataFrame]) -> Figure:
    figure = new_figure(5.6, 3.6)
    axes = figure.subplots()
    samples, outputs = result["samples"], result["outputs"]
    axes.plot(samples["x"], samples["value"], "o", color=BLACK, markersize=5, label="training points", zorder=3)
    for name, colour in zip(dict.fromkeys(outputs["size"]), COLOURS, strict=False):
        for seed, rows in outputs[outputs["size"] == name].groupby("seed"):
            axes.plot(rows["x"], rows["value"], color=colour, linewidth=1.3, label=name if seed == 0 else None)
    axes.legend(fontsize=SMALL, frameon=False)
    finish(axes, x="x", y="output")
    return figure


def _measure_plateau(study: Study) -> Measured:
    settings, training = study.settings, study.settings["training"]
    points = periodic(settings["points"])
    target = sines(points, (1, 5))
    data = {"train": Points(points, target)}
    shown = [step for step in settings["shown"] if step <= training["steps"]]
    runs = study.fit(
        {
            seed: curve_fit(training, data, seed, frequencies=(1, 5), shown=points, snapshots=shown, antisymmetric=True)
            for seed in study.seeds
        }
    )
    values, losses = [], []
    low = sines(points, (1,))
    _, middle, last = settings["shown"]
    for seed, run in runs.items():
        history = run.metrics()
        found = outputs_after(run, (middle, last), target)
        loss = history[(history["split"] == "train") & (history["metric"] == "loss")][["step", "value"]]
        losses.append(loss.assign(seed=seed))
        values += [
            Value(seed, "only sin x", unexplained(found[middle], low)),
            Value(seed, "all", unexplained(found[last], target)),
            Value(seed, "plateau", math.nan if diverged(run) else plateau(loss, height=0.5)),
        ]
    tables = {"outputs": output_table(runs[0], points, target, shown), "losses": pd.concat(losses, ignore_index=True)}
    return Measured(values=values, tables=tables)


def plateau(losses: pd.DataFrame, height: float) -> float:
    """How many times as long as the falls before and after it a loss stays near `height`, in the logarithm of steps.

    Near is within a factor of √1.5, and the falls are those by a factor of 1.5 that lead there and away. Any power law
    t^-p has 1, one that begins late, (1 + t/τ)^-p, at most 1. 0 for a loss that does not leave the height; NaN for one
    that begins there, without the whole fall before it.
    """
    errors = losses.rename(columns={"value": "error"})
    steps = [settled_at(errors, height * _NEAR**power) for power in (1.5, 0.5, -0.5, -1.5)]
    if math.isinf(steps[-1]):
        return 0.0
    if not steps[0]:
        return math.nan
    before, near, after = np.diff(np.log(np.maximum(steps, 1)))
    return float(near / max(before, after))


def _draw_plateau(result: Mapping[str, pd.DataFrame]) -> Figure:
    outputs, losses = result["outputs"], result["losses"]
    shown = [step for step in dict.fromkeys(outputs["step"]) if step != TARGET]
    figure = new_figure(11, 3)
    *panels, right = figure.subplots(1, len(shown) + 1)
    for axes, step in zip(panels, shown, strict=True):
        curves(axes, outputs, step)
    panels[0].legend(fontsize=SMALL, frameon=False)
    for _, rows in losses[losses["step"] > 0].groupby("seed"):
        right.plot(rows["step"], rows["value"], color=BLUE, linewidth=1.3)
    right.axhline(0.5, color=GREY, linestyle=":", label="loss of sin x alone")
    right.set(xscale="log", yscale="log")
    right.legend(fontsize=SMALL, frameon=False)
    finish(right, x="steps", y="loss", title="loss")
    return figure


def _sizes(training: Mapping[str, Any], seeds: int = 3) -> dict[str, Any]:
    fixed = {"activation": "tanh", "initialization": "xavier", "learning_rate": 1e-3}
    sizes = ((50,), (100, 100), (200, 200, 200))
    return {"seeds": seeds, "points": 16, "sizes": sizes, "training": {**fixed, **training}}


def _plateau(points: int, shown: tuple[int, int, int], training: Mapping[str, Any], seeds: int = 3) -> dict[str, Any]:
    fixed = {"activation": "tanh", "initialization": "xavier", "learning_rate": 1e-4}
    return {"seeds": seeds, "points": points, "shown": shown, "training": {**fixed, **training}}


def _size_conditions(name: str) -> tuple[Condition, ...]:
    return (
        Condition(
            quantity=f"error of {name}",
            text=f"share of the samples' variance that a net {name} leaves",
            at_most=_FITTED,
            source="passes through the samples",
        ),
        Condition(
            quantity=f"slope of {name}",
            text=f"largest slope of a net {name} between the samples; sin x has 1",
            at_most=1.2,
            source="smooth lines between the samples",
        ),
    )


REPRODUCTIONS = (
    Reproduction(
        id="fig4.1",
        title="Networks of any size connect samples of sin x smoothly",
        source="section 4.1.1, figure 4.1",
        claim=Claim(
            text="Networks of several sizes fit the samples of sin x and are smooth between them.",
            conditions=tuple(one for name in ("50", "100-100", "200-200-200") for one in _size_conditions(name)),
        ),
        scales={
            "smoke": _sizes({"steps": 20}, seeds=1),
            "laptop": _sizes({"steps": 3000}),
            "paper": _sizes({"steps": 20000}, seeds=10),
        },
        measure=_measure_sizes,
        figure=_draw_sizes,
        notes="The text names neither the sizes nor the training: tanh, Adam 1e-3, 16 samples. 'Smooth' is read as: "
        "nowhere a fifth steeper than sin x. At first it was read as at most a tenth more up and down, which a "
        "staircase meets as well; the limit of the slope was set after looking.",
    ),
    Reproduction(
        id="fig4.2",
        title="sin x is learned long before sin 5x",
        source="section 4.1.1, figure 4.2",
        claim=Claim(
            text="For sin x + sin 5x the output is close to sin x at step 2000 and to all at step 10000; in "
            "between the loss stands still at that of sin x alone.",
            conditions=(
                Condition(
                    quantity="only sin x",
                    text="mean squared distance from sin x at the middle step, over the variance of sin x",
                    at_most=0.1,
                    source="very close to sin x at step 2000",
                ),
                Condition(
                    quantity="all",
                    text="mean squared distance from the target at the last step, over its variance",
                    at_most=_FITTED,
                    source="fitted at step 10000",
                ),
                Condition(
                    quantity="plateau",
                    text="length of the standstill at the loss of sin x alone (0.5), over that of the falls by the "
                    "same factor before and after it, in the logarithm of steps; a power law has 1",
                    at_least=2,
                    source="the loss stagnates clearly",
                ),
            ),
        ),
        scales={
            "smoke": _plateau(40, (1, 20, 50), {"widths": (20, 20), "steps": 50}, seeds=1),
            "laptop": _plateau(200, (1, 2000, 10000), {"widths": (100, 100), "steps": 10000}),
            "paper": _plateau(200, (1, 2000, 10000), {"widths": (100, 100), "steps": 10000}, seeds=10),
        },
        measure=_measure_plateau,
        figure=_draw_plateau,
        notes="The text gives the steps, but neither net nor optimizer: tanh, widths 100-100, Adam. Its learning rate "
        "1e-4 was chosen so that step 2000 is on the plateau and the end after it. The standstill was first measured "
        "without falls around it, which a power law can meet. Two of five nets then began at its height, without a "
        "fall before it: since then the start is antisymmetric, an output of 0 with the loss 1.",
    ),
)
