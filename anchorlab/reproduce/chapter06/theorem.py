"""Near zero the low frequency has the larger gradient in every parameter (section 6.2, theorem 2, equation 6.12)."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Complex128, Float
from matplotlib.figure import Figure

from anchorlab.report.panels import COLOURS
from anchorlab.report.style import finish, new_figure

from ..by_seed import by_seed
from ..claims import Claim, Condition, Value
from ..reproduction import Measured, Reproduction
from ..study import Study

_CHUNK = 10_000  # parameter sets drawn at once


class Weights(NamedTuple):
    """Parameters of two-layer tanh nets: h(x) = Σ aⱼ tanh(wⱼx + bⱼ) (eq. 6.4)."""

    a: Float[np.ndarray, "n m"]
    w: Float[np.ndarray, "n m"]
    b: Float[np.ndarray, "n m"]


def in_ball(count: int, neurons: int, radius: float, random: np.random.Generator) -> Weights:
    """Parameters uniform in the ball of all 3m numbers around 0."""
    direction = random.standard_normal((count, 3 * neurons))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    distance = radius * random.random((count, 1)) ** (1 / (3 * neurons))
    return Weights(*np.split(direction * distance, 3, axis=1))


def unit_transform(weights: Weights, k: float) -> tuple[Float[np.ndarray, "n m"], Complex128[np.ndarray, "n m"]]:
    """The transform of tanh(wx + b) at k (eq. 6.5): the logarithm of its size, and its direction.

    For small w the size is less than any number: hence the logarithm.
    """
    rate = math.pi * k / (2 * weights.w)
    # |exp(-r) - exp(r)| = exp|r| (1 - exp(-2|r|)); its sign is that of -r.
    size = math.log(2 * math.pi) - np.log(np.abs(weights.w)) - np.abs(rate) - np.log1p(-np.exp(-2 * np.abs(rate)))
    return size, -1j * np.sign(rate) * np.exp(1j * weights.b * k / weights.w)


def log_gradients(weights: Weights, k: float, target: complex) -> Float[np.ndarray, "n parameter"]:
    """log |∂L(k)/∂θ| for all a, w and b, where L(k) = |ĥ(k) - f̂(k)|² / 2 (eqs. 6.6 and 6.8)."""
    size, direction = unit_transform(weights, k)
    error = (weights.a * np.exp(size) * direction).sum(1, keepdims=True) - target
    rate = math.pi * k / (2 * weights.w)
    # ∂/∂w of the logarithm of the transform: of 1/|w|, of the phase, and of 1/sinh(πk/2w).
    by_w = -1 / weights.w - 1j * weights.b * k / weights.w**2 + rate / weights.w / np.tanh(rate)
    factors = (np.ones_like(by_w), weights.a * by_w, weights.a * 1j * k / weights.w)
    with np.errstate(divide="ignore"):
        parts = [size + np.log(np.abs((np.conj(error) * direction * factor).real)) for factor in factors]
    return np.concatenate(parts, axis=1)


def low_dominates(
    weights: Weights, frequencies: tuple[float, float], targets: tuple[complex, complex]
) -> Bool[np.ndarray, " n"]:
    """Whether the gradient of the first frequency is the larger one in all parameters."""
    low, high = (log_gradients(weights, k, at) for k, at in zip(frequencies, targets, strict=True))
    found: Bool[np.ndarray, " n"] = np.all(low > high, axis=1)
    return found


def _measure(study: Study) -> Measured:
    settings = study.settings
    low, high = settings["frequencies"]
    rows = []
    for seed in study.seeds:
        random = np.random.Generator(np.random.Philox(seed))
        size, phase = random.uniform(0.5, 2, 2), random.uniform(0, 2 * np.pi, 2)
        targets: tuple[complex, complex] = tuple((size * np.exp(1j * phase)).tolist())
        for radius in settings["radii"]:
            with study.working(f"drawing parameters in a ball of radius {radius:g}"):
                found = _fraction(settings, radius, (low, high), targets, random)
            rows.append({"seed": seed, "radius": radius, "fraction": found})
    table = pd.DataFrame(rows)
    return Measured(values=fraction_values(table), tables={"fractions": table})


def _fraction(
    settings: Mapping[str, Any],
    radius: float,
    frequencies: tuple[float, float],
    targets: tuple[complex, complex],
    random: np.random.Generator,
) -> float:
    counts = [min(_CHUNK, settings["draws"] - start) for start in range(0, settings["draws"], _CHUNK)]
    drawn = (in_ball(count, settings["neurons"], radius, random) for count in counts)
    return float(sum(low_dominates(one, frequencies, targets).sum() for one in drawn) / settings["draws"])


def fraction_values(table: pd.DataFrame) -> list[Value]:
    """The fraction in the smallest ball, and how straight the log of the rest falls with 1/δ; NaN with no rest."""
    values = []
    for seed, rows in by_seed(table):
        ordered = rows.sort_values("radius")
        rest = ordered[ordered["fraction"] < 1]
        line = math.nan
        if len(rest) >= 3 and rest["fraction"].nunique() > 1:
            line = float(np.corrcoef(1 / rest["radius"], np.log(1 - rest["fraction"]))[0, 1])
        values += [
            Value(seed, "smallest ball", float(ordered["fraction"].iloc[0])),
            Value(seed, "largest ball", float(ordered["fraction"].iloc[-1])),
            Value(seed, "line", line),
        ]
    return values


def _figure(result: Mapping[str, pd.DataFrame]) -> Figure:
    figure = new_figure(9.6, 3.4)
    left, right = figure.subplots(1, 2)
    for (_, rows), colour in zip(result["fractions"].groupby("seed"), COLOURS, strict=False):
        left.plot(rows["radius"], rows["fraction"], color=colour, marker="o", markersize=4)
        rest = rows[rows["fraction"] < 1]
        right.plot(1 / rest["radius"], 1 - rest["fraction"], color=colour, marker="o", markersize=4)
    radii = sorted(result["fractions"]["radius"].unique())
    left.set_xscale("log")
    left.set_xticks(radii, [f"{radius:g}" for radius in radii])
    left.set_xticks([], minor=True)
    finish(left, x="radius δ", y="fraction", title="the low frequency has the larger gradients")
    right.set_yscale("log")
    finish(right, x="1/δ", y="1 - fraction", title="what is left")
    return figure


def _scale(draws: int, neurons: int, seeds: int) -> dict[str, Any]:
    radii = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6)
    return {"seeds": seeds, "frequencies": (1.0, 3.0), "neurons": neurons, "draws": draws, "radii": radii}


REPRODUCTIONS = (
    Reproduction(
        id="thm6",
        title="In small balls of parameters the low frequency's gradient is the larger one almost everywhere",
        source="section 6.2, theorem 2, equation 6.12",
        claim=Claim(
            text="The part of a ball of radius δ in which the gradient of the lower of two frequencies is the larger "
            "one in all parameters is at least 1 - C exp(-c/δ).",
            conditions=(
                Condition(
                    quantity="smallest ball",
                    text="fraction in the smallest ball",
                    at_least=0.99,
                    source="goes to 1 as δ goes to 0",
                ),
                Condition(
                    quantity="line",
                    text="correlation of 1/δ and the logarithm of the rest, over the balls that have one",
                    at_most=-0.95,
                    source="the rest is at most C exp(-c/δ)",
                ),
            ),
        ),
        scales={
            "smoke": _scale(2000, 5, 1),
            "laptop": _scale(200_000, 5, 3),
            "paper": _scale(5_000_000, 5, 10),
        },
        measure=_measure,
        figure=_figure,
        notes="The gradients are those of the transform of tanh as it stands (eq. 6.6), not of its approximation (eq. "
        "6.7). Five units, k = 1 and 3; f̂(k) is random by seed, with a size of 0.5 to 2.",
    ),
)
