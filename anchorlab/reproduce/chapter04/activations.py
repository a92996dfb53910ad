"""Activations of high frequency undo the frequency principle (section 4.2.1, figures 4.9 and 4.10)."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from anchorlab.engine import Run
from anchorlab.phenomena import Points
from anchorlab.phenomena.curves import lateness
from anchorlab.phenomena.spectra import sines
from anchorlab.report.style import SMALL, finish, new_figure

from ..claims import Claim, Condition, Value
from ..reproduction import Measured, Reproduction
from ..study import Study
from .curves import curve_fit, error_table, learning_times, output_table, outputs_after, periodic, unexplained
from .panels import colour_bar, curves, error_map

FREQUENCIES = (1, 3, 5)
_LEARNED = 0.5  # Δ_F of a frequency that is learned at the end
LIKE = 1.5  # times as late is as soon
_GOOD = 0.1  # of the variance: a test error below is that of a net that has found the function


def fit_nets(study: Study) -> dict[tuple[str, int], Run]:
    """All nets of the settings, by name and number, on few points of sin x + sin 3x + sin 5x.

    A seed is several networks of each kind, `networks`, with numbers one after the other.
    """
    settings = study.settings
    points, dense = periodic(settings["points"]), periodic(20 * settings["points"])
    data = {name: Points(at, sines(at, FREQUENCIES)) for name, at in (("train", points), ("test", dense))}
    return study.fit(
        {
            (name, number): curve_fit(
                {**settings["training"], **kind},
                data,
                number,
                frequencies=FREQUENCIES,
                shown=dense,
                antisymmetric=kind.get("antisymmetric", False),
            )
            for name, kind in settings["nets"].items()
            for number in range(settings["networks"] * len(study.seeds))
        }
    )


def measure_nets(study: Study) -> Measured:
    """Order and errors of every kind of net, and the last output of the first network."""
    runs = fit_nets(study)
    dense = periodic(20 * study.settings["points"])
    target = sines(dense, FREQUENCIES)
    points, end = dense[::20, 0].numpy(), study.settings["training"]["steps"]
    between = slice(0, len(dense) - 19)  # nothing is known of the function beyond the last sample
    errors, networks = error_table(runs, ("net", "seed")), study.settings["networks"]
    rows = []
    for (name, number), run in runs.items():
        last = outputs_after(run, (end,), target)[end]
        measured = {
            f"{name}: train error": unexplained(last[::20], target[::20]),
            f"{name}: test error": unexplained(last[between], target[between]),
        }
        rows += [(number // networks, quantity, value) for quantity, value in measured.items()]
    values = [*order_values(errors, study.settings["learned"], networks), *_means(rows)]
    shown = [output_table(runs[name, 0], dense, target, [end]).assign(net=name) for name in study.settings["nets"]]
    samples = pd.DataFrame({"x": points, "value": target[::20, 0].numpy()})
    tables = {"outputs": pd.concat(shown, ignore_index=True), "samples": samples, "errors": errors}
    return Measured(values=values, tables=tables)


def order_values(errors: pd.DataFrame, learned: float, networks: int = 1) -> list[Value]:
    """How many times as long the error of the highest frequency lasts as that of the lowest, for every kind and seed.

    The geometric mean over the seed's networks: the column `seed` is their number.
    """
    rows = []
    for name, own in errors.groupby("net", sort=False):
        for number, steps in learning_times(own, learned).items():
            late = lateness(steps[min(steps)], steps[max(steps)])
            rows.append((number // networks, f"{name}: order", math.log(late) if late else -math.inf))
    return [one._replace(value=math.exp(one.value)) for one in _means(rows)]


def _means(rows: Iterable[tuple[int, str, float]]) -> list[Value]:
    """The mean of every seed's quantities; NaN if one of its networks has none."""
    found: dict[tuple[int, str], list[float]] = {}
    for seed, quantity, value in rows:
        found.setdefault((seed, quantity), []).append(value)
    return [Value(seed, quantity, sum(values) / len(values)) for (seed, quantity), values in found.items()]


def draw_nets(result: Mapping[str, pd.DataFrame]) -> Figure:
    """For every net its last output and its errors by frequency."""
    outputs, errors = result["outputs"], result["errors"]
    names = list(dict.fromkeys(outputs["net"]))
    figure = new_figure(9, 2.6 * len(names))
    for (left, right), name in zip(figure.subplots(len(names), 2, squeeze=False), names, strict=True):
        rows = outputs[outputs["net"] == name]
        curves(left, rows, rows["step"].iloc[-1], points=result["samples"])
        finish(left, x="x", title=name)
        chosen = errors[(errors["net"] == name) & (errors["seed"] == 0)]
        colour_bar(right, error_map(right, chosen, "relative error"))
    figure.axes[0].legend(fontsize=SMALL, frameon=False)
    return figure


def net_scale(
    nets: Mapping[str, Any], training: Mapping[str, Any], seeds: int = 5, networks: int = 5
) -> dict[str, Any]:
    """Settings of nets: what each has of its own replaces what `training` says for all."""
    training = {"learning_rate": 1e-3, **training}
    return {"seeds": seeds, "networks": networks, "points": 20, "learned": _LEARNED, "nets": nets, "training": training}


def net_scales(nets: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """All scales of nets that differ in their activation."""
    start = {"initialization": 0.5}
    return {
        "smoke": net_scale(nets, {**start, "widths": (20,), "steps": 50}, seeds=1, networks=1),
        "laptop": net_scale(nets, {**start, "widths": (200,), "steps": 4000}),
        "paper": net_scale(nets, {**start, "widths": (200,), "steps": 20000}, seeds=10),
    }


def order(name: str, *, kept: bool) -> Condition:
    """Whether a net learns from low to high."""
    return Condition(
        quantity=f"{name}: order",
        text=f"how many times as long (in steps) Δ_F(5) lasts as Δ_F(1), {name}",
        at_least=LIKE if kept else None,
        at_most=None if kept else LIKE,
        source="low frequencies converge faster" if kept else "no order",
    )


def conditions(name: str, *, kept: bool) -> tuple[Condition, ...]:
    """Order and test error of a net that keeps the frequency principle or does not."""
    test = Condition(
        quantity=f"{name}: test error",
        text=f"mean squared error between the samples, over the variance, {name}",
        at_least=None if kept else _GOOD,
        at_most=_GOOD if kept else None,
        source="very close to the real values" if kept else "clear oscillations",
    )
    train = Condition(
        quantity=f"{name}: train error",
        text=f"the same at the samples, {name}",
        at_most=0.01,
        source="fits the training points perfectly",
    )
    return (order(name, kept=kept), test) if kept else (order(name, kept=kept), test, train)


def _net(activation: str, *, antisymmetric: bool = True) -> dict[str, Any]:
    return {"activation": activation, "antisymmetric": antisymmetric}


RICKER = {
    "a = 0.1": _net("ricker:0.1", antisymmetric=False),
    "a = 0.1, ASI": _net("ricker:0.1"),
    "a = 0.3, ASI": _net("ricker:0.3"),
}
_SINE = {
    "a = 10": _net("sin:10", antisymmetric=False),
    "a = 10, ASI": _net("sin:10"),
    "a = 1, ASI": _net("sin:1"),
}
LASTING = (
    "How long an error lasts is the area under it, cut off at 1, over the logarithm of the steps: what is bright in "
    "the maps. At first it was the step from which on the error stayed below 0.1; the noise of Adam, which lifts a "
    "small error now and then, decided that, against what the maps show. A seed is five networks, of which the "
    "geometric mean is taken, since a single one that learns in no order has one of them by chance: low first in half "
    "of the cases. At first it was one. The limit 1.5 stayed. "
)
SETTING = (
    "The text gives no sizes: one hidden layer of 200 units, 20 samples of the period, all weights and biases with "
    "the standard deviation d_in^-1/2, Adam 1e-3. 'No order' is read as: the highest frequency takes at most 1.5 times "
    f"the steps of the lowest. {LASTING}A test error of a tenth of the variance divides good from bad. It is that "
    "between the first and the last sample, not beyond, as it was when this was first measured."
)


def _reproduction(name: str, activation: str, nets: Mapping[str, Any], source: str) -> Reproduction:
    *sharp, smooth = nets
    return Reproduction(
        id=name,
        title=f"With sharp {activation} units no frequency is first, and the net oscillates between the samples",
        source=source,
        claim=Claim(
            text=f"With the activation {activation} and an a that gives it high frequencies, with or without "
            "antisymmetric initialization, frequencies are learned in no order and the net oscillates between its "
            "training points; with the other a the low ones are first and the test points are met.",
            conditions=(
                *(one for kind in sharp for one in conditions(kind, kept=False)),
                *conditions(smooth, kept=True),
            ),
        ),
        scales=net_scales(nets),
        measure=measure_nets,
        figure=draw_nets,
        notes=SETTING,
    )


REPRODUCTIONS = (
    _reproduction("fig4.9", "Ricker", RICKER, "section 4.2.1, figure 4.9, equation 4.3"),
    _reproduction("fig4.10", "sin(ax)", _SINE, "section 4.2.1, figure 4.10"),
)
