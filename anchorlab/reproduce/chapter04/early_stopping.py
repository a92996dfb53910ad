"""Early stopping, seen by frequency (section 4.2.2, figure 4.12)."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from anchorlab.engine import Run
from anchorlab.phenomena import Points
from anchorlab.phenomena.spectra import relative_error, sines, spectrum
from anchorlab.report.style import BLACK, BLUE, GREEN, GREY, SMALL, VERMILLION, finish, new_figure

from ..claims import Claim, Condition, Value
from ..reproduction import Measured, Reproduction
from ..study import Study
from .curves import curve_fit, looks, outputs_after, periodic, spectrum_table

_FIRST_HIGH = 4  # frequencies from here on are of the noise alone
_BETWEEN = 8  # points shown for one sample
_QUANTITIES = ("end over best", "when", "low at best", "high at best", "high at end")
TRUE, NOISY, BEST, END = "sin x", "training data", "lowest test error", "end of training"


def _measure(study: Study) -> Measured:
    settings, training = study.settings, study.settings["training"]
    points, dense = periodic(settings["points"]), periodic(_BETWEEN * settings["points"])
    data = {seed: noisy_sine(points, dense, settings["noise"], seed) for seed in study.seeds}
    runs = study.fit(
        {
            seed: curve_fit(training, data[seed], seed, shown=dense, snapshots=looks(training["steps"]))
            for seed in study.seeds
        }
    )
    values, losses = [], []
    for seed, run in runs.items():
        history = loss_table(run)
        losses.append(history.assign(seed=seed))
        best, end = best_step(history), training["steps"]
        found = outputs_after(run, (best, end), dense)
        values += stopping_values(seed, history, found[best], found[end], data[seed]["train"])
    best = best_step(losses[0])
    end = training["steps"]
    shown = outputs_after(runs[0], (best, end), dense)
    outputs = {TRUE: torch.sin(dense), BEST: shown[best], END: shown[end]}
    samples = data[0]["train"]
    at_samples = {NOISY: samples.targets, **{name: at[::_BETWEEN] for name, at in outputs.items()}}
    tables = {
        "losses": pd.concat(losses, ignore_index=True),
        "outputs": _curve_table(dense, outputs),
        "samples": _curve_table(points, {NOISY: samples.targets}),
        "spectra": spectrum_table(_curve_table(points, at_samples), by="curve"),
    }
    return Measured(values=values, tables=tables)


def noisy_sine(points: Float[Tensor, "n 1"], dense: Float[Tensor, "m 1"], noise: float, seed: int) -> dict[str, Points]:
    """sin x with normal noise to learn from, and without it, between the samples too, to test."""
    random = torch.Generator().manual_seed(seed)
    drawn = noise * torch.randn(points.shape, generator=random, dtype=torch.float64)
    return {"train": Points(points, sines(points, (1,)) + drawn), "test": Points(dense, sines(dense, (1,)))}


def loss_table(run: Run) -> pd.DataFrame:
    """Columns step, train, test: the loss on each split."""
    rows = run.metrics()
    rows = rows[rows["metric"] == "loss"]
    return rows.pivot(index="step", columns="split", values="value").reset_index()[["step", "train", "test"]]


def best_step(losses: pd.DataFrame) -> int:
    """The step of the lowest test loss."""
    return int(losses["step"].iloc[int(losses["test"].argmin())])


def stopping_values(
    seed: int,
    losses: pd.DataFrame,
    best: Float[Tensor, "m 1"],
    last: Float[Tensor, "m 1"],
    samples: Points,
) -> list[Value]:
    """What early stopping gains, and which frequencies the output has then and at the end.

    `best` and `last` are outputs at `_BETWEEN` points for one of the samples. High frequencies are compared with those
    of the samples: 1 is as much as they have. All are NaN if an output is not finite.
    """
    if not (best.isfinite().all() and last.isfinite().all()):
        return [Value(seed, name, math.nan) for name in _QUANTITIES]
    points, every = samples.inputs, _BETWEEN
    one = points.new_ones(1, 1)
    low = relative_error(points, best[::every, 0], torch.sin(points)[:, 0], one)
    noise = _high(points, samples.targets)
    found = (
        float(losses["test"].iloc[-1] / losses["test"].min()),
        best_step(losses) / float(losses["step"].max()),
        float(low),
        _high(points, best[::every]) / noise,
        _high(points, last[::every]) / noise,
    )
    return [Value(seed, name, value) for name, value in zip(_QUANTITIES, found, strict=True)]


def _high(points: Float[Tensor, "n 1"], values: Float[Tensor, "n 1"]) -> float:
    found = spectrum(points[:, 0], values[:, 0])
    return float(found.coefficients[found.frequencies >= _FIRST_HIGH - 0.5].abs().square().sum().sqrt())


def _curve_table(points: Float[Tensor, "n 1"], curves: Mapping[str, Float[Tensor, "n 1"]]) -> pd.DataFrame:
    tables = [
        pd.DataFrame({"curve": name, "x": points[:, 0].numpy(), "value": at[:, 0].numpy()})
        for name, at in curves.items()
    ]
    return pd.concat(tables, ignore_index=True)


def _figure(result: Mapping[str, pd.DataFrame]) -> Figure:
    losses = result["losses"][(result["losses"]["seed"] == 0) & (result["losses"]["step"] > 0)]
    figure = new_figure(9.6, 6)
    (first, second), (third, fourth) = figure.subplots(2, 2)
    for split, colour in (("train", BLUE), ("test", VERMILLION)):
        first.plot(losses["step"], losses[split], color=colour, label=f"{split} error")
    first.axvline(best_step(losses), color=BLACK, linestyle="--")
    first.set(xscale="log", yscale="log")
    first.legend(fontsize=SMALL, frameon=False)
    finish(first, x="steps", y="loss", title="errors")
    outputs, samples = result["outputs"], result["samples"]
    for axes, name in ((second, BEST), (third, END)):
        axes.plot(samples["x"], samples["value"], "--", color=GREY, marker="o", markersize=3, label=NOISY)
        rows = outputs[outputs["curve"] == name]
        axes.plot(rows["x"], rows["value"], color=BLUE, label="output")
        axes.legend(fontsize=SMALL, frameon=False)
        finish(axes, x="x", title=name)
    for name, style, colour in ((TRUE, "--", BLUE), (BEST, "-", VERMILLION), (END, ":", GREEN), (NOISY, "-", GREY)):
        rows = result["spectra"][result["spectra"]["curve"] == name]
        fourth.plot(rows["k"], rows["amplitude"], style, color=colour, label=name)
    fourth.set_yscale("log")
    fourth.set_ylim(bottom=1e-4)
    fourth.legend(fontsize=SMALL, frameon=False)
    finish(fourth, x="frequency k", y="|coefficient|", title="spectra")
    return figure


def _scale(training: Mapping[str, Any], seeds: int = 5) -> dict[str, Any]:
    fixed = {"activation": "tanh", "initialization": 0.4, "learning_rate": 5e-4}
    return {"seeds": seeds, "points": 60, "noise": 0.3, "training": {**fixed, **training}}


REPRODUCTIONS = (
    Reproduction(
        id="fig4.12",
        title="Early stopping keeps the low frequencies and leaves out the noise",
        source="section 4.2.2, figure 4.12",
        claim=Claim(
            text="With noisy samples of sin x the test error is lowest long before the end: the low frequencies are "
            "then right and the high ones, which are mostly noise, small; at the end these are fitted, too.",
            conditions=(
                Condition(
                    quantity="end over best",
                    text="test error at the end, over the lowest",
                    at_least=1.5,
                    source="falls, then rises",
                ),
                Condition(
                    quantity="when",
                    text="step of the lowest test error, over the last step",
                    at_most=0.5,
                    source="in the middle of the training",
                ),
                Condition(
                    quantity="low at best",
                    text="relative error of k = 1 at the lowest test error",
                    at_most=0.1,
                    source="the low frequencies agree well with the true data",
                ),
                Condition(
                    quantity="high at best",
                    text="amplitude of the output at k ≥ 4, over that of the noisy samples, at the lowest test error",
                    at_most=0.5,
                    source="high frequencies are still small",
                ),
                Condition(
                    quantity="high at end",
                    text="the same at the end",
                    at_least=0.5,
                    source="high frequencies are fitted",
                ),
            ),
        ),
        scales={
            "smoke": _scale({"widths": (20, 20), "steps": 50}, seeds=1),
            "laptop": _scale({"widths": (100, 100, 100), "steps": 6000}),
            "paper": _scale({"widths": (100, 100, 100), "steps": 20000}, seeds=10),
        },
        measure=_measure,
        figure=_figure,
        notes="The text gives no sizes: 60 samples of the period with normal noise of 0.3, tanh, widths 100-100-100, "
        "all weights and biases with the standard deviation d_in^-0.4 (a start somewhat larger than usual fits the "
        "noise sooner), Adam 5e-4. Tested without noise, between the samples too.",
    ),
)
