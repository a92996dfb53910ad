"""Fits of curves: data, networks, and the tables that figures of one-dimensional fits are drawn from."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from anchorlab.engine import Run
from anchorlab.phenomena import MLP, Fit, Initialization, Points
from anchorlab.phenomena.curves import lateness, settled_at
from anchorlab.phenomena.observers import (
    FrequencyError,
    OutputOnGrid,
    frequency_errors,
    outputs_on_grid,
)
from anchorlab.phenomena.spectra import spectrum

from ..by_seed import by_seed
from ..claims import Value

TARGET = "target"


def periodic(count: int) -> Float[Tensor, "n 1"]:
    """Uniform points of one period, -π … π without its end: coefficients of whole k are exact."""
    return (torch.arange(count, dtype=torch.float64)[:, None] / count * 2 - 1) * math.pi


def looks(steps: int, per_decade: int = 16) -> tuple[int, ...]:
    """Steps at which to look: equal distances in their logarithm, the last included."""
    count = max(2, round(per_decade * math.log10(max(steps, 2))))
    return tuple(sorted({round(step) for step in np.geomspace(1, steps, count)}))


def curve_fit(
    training: Mapping[str, Any],
    data: Mapping[str, Points],
    seed: int,
    *,
    frequencies: Iterable[float] = (),
    shown: Float[Tensor, "n 1"] | None = None,
    snapshots: Iterable[int] = (),
    **network: Any,
) -> Fit:
    """A fit of one curve: Δ_F(k) of the training points is measured, and the output at `shown` after `snapshots`."""
    train, steps = data["train"], training["steps"]
    wanted, kept = tuple(map(float, frequencies)), tuple(step for step in snapshots if step <= steps)
    observers = (FrequencyError(train.inputs, train.targets, wanted),) if wanted else ()
    shape = {"widths": tuple(training["widths"]), "activation": training["activation"], **network}
    return Fit(
        network=MLP(inputs=1, **shape),
        initialization=initialization(training["initialization"]),
        data=data,
        seed=seed,
        optimizer=training.get("optimizer", "adam"),
        learning_rate=training["learning_rate"],
        steps=steps,
        evaluate_every=steps,
        evaluate_at=tuple(sorted({*looks(steps), *kept})),
        observers=observers if shown is None else (*observers, OutputOnGrid(shown, (*kept, 0, steps))),
        gradient_weight=training.get("gradient_weight", 0.0),
    )


def initialization(wanted: str | float | Sequence[float]) -> Initialization:
    """A named rule, a rate γ (standard deviation d_in^-γ of weights and biases), or the deviation of every layer."""
    if isinstance(wanted, str):
        return Initialization.named(wanted)
    return Initialization.normal(*wanted) if isinstance(wanted, Sequence) else Initialization.by_rate(wanted)


def unexplained(outputs: Float[Tensor, "n 1"], targets: Float[Tensor, "n 1"]) -> float:
    """The mean squared error as a share of the targets' variance: 0 is a fit, 1 is no better than their mean."""
    return float((outputs - targets).square().mean() / targets.var(correction=0))


def diverged(run: Run) -> bool:
    """Whether nothing may be read from a run: what it did on its way to infinity is no result, all of it is NaN."""
    return run.status == "diverged"


def outputs_after(
    run: Run, steps: Iterable[int], like: Float[Tensor, "n outputs"]
) -> dict[int, Float[Tensor, "n outputs"]]:
    """The outputs, of the shape of `like`, by step; NaN after one that was not reached, and in a run that diverged."""
    found = {} if diverged(run) else outputs_on_grid(run)
    return {step: found.get(step, torch.full_like(like, math.nan)) for step in steps}


def error_table(runs: Mapping[Any, Run], names: tuple[str, ...] = ("seed",)) -> pd.DataFrame:
    """Δ_F of runs whose keys hold `names`: columns of these names, step, k, error; NaN in a run that diverged."""
    tables = []
    for key, run in runs.items():
        parts = key if isinstance(key, tuple) else (key,)
        errors = frequency_errors(run).assign(**dict(zip(names, parts, strict=True)))
        tables.append(errors.assign(error=math.nan) if diverged(run) else errors)
    return pd.concat(tables, ignore_index=True)


def learned_at(errors: pd.DataFrame, limit: float) -> dict[int, dict[float, float]]:
    """By seed and k the step from which on Δ_F(k) is at most `limit`."""
    found: dict[int, dict[float, float]] = {}
    for seed, own in by_seed(errors):
        found[seed] = {k: settled_at(own[own["k"] == k], limit) for k in sorted(own["k"].unique().tolist())}
    return found


def learning_times(errors: pd.DataFrame, limit: float) -> dict[int, dict[float, float]]:
    """By seed and k how long Δ_F(k) lasts: exp of its mean height, cut off at 1, times the length of the log of steps.

    An error that falls from 1 to 0 at once does so at this step, and a brief rise later hardly counts, unlike in
    `learned_at`. Infinite for an error that is above `limit` at the end; NaN where one is unknown.
    """
    found: dict[int, dict[float, float]] = {}
    for seed, own in by_seed(errors[errors["step"] > 0]):
        found[seed] = {k: _duration(own[own["k"] == k].sort_values("step"), limit) for k in sorted(own["k"].unique())}
    return found


def _duration(rows: pd.DataFrame, limit: float) -> float:
    heights = rows["error"].clip(upper=1).to_numpy(dtype=float)
    if heights[-1] > limit:
        return math.inf
    return math.exp(float(np.trapezoid(heights, np.log(rows["step"].to_numpy(dtype=float)))))


def ratio_values(errors: pd.DataFrame, limit: float, prefix: str = "") -> list[Value]:
    """For neighbouring frequencies, how many times as late the higher one is learned; NaN if none of them is."""
    values = []
    for seed, steps in learned_at(errors, limit).items():
        for low, high in zip(sorted(steps), sorted(steps)[1:], strict=False):
            values.append(Value(seed, f"{prefix}{high:g} after {low:g}", lateness(steps[low], steps[high])))
    return values


def output_table(
    run: Run, shown: Float[Tensor, "n 1"], target: Float[Tensor, "n 1"], steps: Iterable[int]
) -> pd.DataFrame:
    """Columns step (a text; `target` for the target), x and value."""
    x = shown[:, 0].numpy()
    tables = [pd.DataFrame({"step": TARGET, "x": x, "value": target[:, 0].numpy()})]
    for step, found in outputs_after(run, steps, target).items():
        tables.append(pd.DataFrame({"step": str(step), "x": x, "value": found[:, 0].numpy()}))
    return pd.concat(tables, ignore_index=True)


def spectrum_table(outputs: pd.DataFrame, highest: float = math.inf, by: str = "step") -> pd.DataFrame:
    """The amplitudes |ĝ(k)| of every curve of a table with uniform x, up to k = `highest`; curves are told apart `by`.

    Curves that are not finite have none.
    """
    tables = []
    for name, rows in outputs.groupby(by, sort=False):
        if not np.isfinite(rows["value"]).all():
            continue
        found = spectrum(*(torch.tensor(rows[column].to_numpy()) for column in ("x", "value")))
        table = pd.DataFrame({by: name, "k": found.frequencies.numpy(), "amplitude": found.coefficients.abs()})
        tables.append(table[table["k"] < highest + 1e-6])
    return pd.concat(tables, ignore_index=True)
