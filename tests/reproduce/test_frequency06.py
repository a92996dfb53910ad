import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from anchorlab import reproduce
from anchorlab.phenomena import fitting
from anchorlab.phenomena.spectra import sines
from anchorlab.report.style import png
from anchorlab.reproduce import running
from anchorlab.reproduce.chapter04.curves import periodic
from anchorlab.reproduce.chapter06 import activation, gradient, theorem

IDS = [name for name in reproduce.names() if name.startswith("fig6.") or name == "thm6"]


@pytest.mark.slow
@pytest.mark.parametrize("name", IDS)
def test_every_figure_is_measured_and_drawn(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(work: Callable[..., None], items: list[Any], *, monitor: Any) -> None:
        for one in items:
            work(one, monitor)

    monkeypatch.setattr(fitting, "train_in_processes", train)
    monkeypatch.setattr(running, "png", partial(png, dpi=30))
    found = reproduce.run(name, scale="smoke", out=tmp_path, progress=False)
    wanted = {one.quantity for one in reproduce.get(name).claim.conditions}
    assert wanted <= {value.quantity for value in found.result.values}
    assert found.result.diverged == 0
    assert found.figure.read_bytes().startswith(b"\x89PNG")


def test_the_ricker_spectrum_peaks_at_the_root_of_two_over_a() -> None:
    curves = pd.concat([activation.ricker_table(f"{a}", f"ricker:{a}") for a in (0.1, 0.3)])
    step = math.pi / 8
    for a in (0.1, 0.3):
        assert activation.peak_of(curves, f"{a}") == pytest.approx(math.sqrt(2) / a, abs=step)


def test_the_ricker_spectrum_is_its_closed_form() -> None:
    a = 0.3
    rows = activation.ricker_table("", f"ricker:{a}")
    rows = rows[(rows["domain"] == "k") & (rows["at"] < 20)]
    k = rows["at"].to_numpy()
    wanted = math.pi**0.25 / 15 * math.sqrt(2 * math.pi) * (a * k) ** 2 * np.exp(-((a * k) ** 2) / 2)
    np.testing.assert_allclose(rows["value"], wanted, atol=1e-10)


def test_slopes_are_the_derivative_of_the_sines() -> None:
    points, step = periodic(9), 1e-6
    wanted = (sines(points + step, (1, 3, 5)) - sines(points - step, (1, 3, 5))) / (2 * step)
    torch.testing.assert_close(gradient.slopes(points, (1, 3, 5))[:, :, 0], wanted, atol=1e-6, rtol=0)


def errors_of(loss: str, steps: dict[float, float]) -> pd.DataFrame:
    rows = [
        {"loss": loss, "seed": 0, "k": k, "step": step, "error": float(step < at)}
        for k, at in steps.items()
        for step in range(0, 1001, 10)
    ]
    return pd.DataFrame(rows)


def test_speed_is_compared_by_frequency() -> None:
    table = pd.concat(
        [errors_of(gradient.PLAIN, {1: 105, 5: 805}), errors_of(gradient.WITH, {1: 105, 5: 205})], ignore_index=True
    )
    found = {one.quantity: one.value for one in gradient.speed_values(table, 0.5)}
    assert found["speed-up of 1"] == 1
    assert found["speed-up of 5"] == pytest.approx(805 / 205)
    assert found["delay left"] == pytest.approx(205 / 805)


@pytest.mark.parametrize(
    ("plain", "with_them", "speed_up", "delay_left"),
    [
        ({1: 105, 5: 5000}, {1: 105, 5: 5000}, math.nan, math.inf),
        ({1: 105, 5: 805}, {1: 5000, 5: 5000}, 0, math.inf),
        ({1: 105, 5: 5000}, {1: 105, 5: 205}, math.inf, 0),
        ({1: 5000, 5: 105}, {1: 105, 5: 205}, 105 / 205, math.inf),
    ],
)
def test_what_is_never_learned_is_infinitely_late(
    plain: dict[float, float], with_them: dict[float, float], speed_up: float, delay_left: float
) -> None:
    table = pd.concat([errors_of(gradient.PLAIN, plain), errors_of(gradient.WITH, with_them)], ignore_index=True)
    found = {one.quantity: one.value for one in gradient.speed_values(table, 0.5)}
    assert found["speed-up of 5"] == pytest.approx(speed_up, nan_ok=True)
    assert found["delay left"] == delay_left


def test_the_speed_of_a_net_that_diverged_is_unknown() -> None:
    table = pd.concat([errors_of(gradient.PLAIN, {1: 5, 5: 9}), errors_of(gradient.WITH, {1: 5, 5: 9})])
    table.loc[table["loss"] == gradient.WITH, "error"] = math.nan
    assert all(math.isnan(one.value) for one in gradient.speed_values(table, 0.5))


def some_weights(count: int = 3, neurons: int = 2, scale: float = 1.0) -> theorem.Weights:
    random = np.random.Generator(np.random.Philox(5))
    return theorem.Weights(*(scale * random.uniform(0.5, 1.5, (3, count, neurons)) * [[[1.0, -1.0]]]))


@pytest.mark.parametrize("k", [1.0, 3.0])
def test_the_transform_of_a_unit_is_that_of_tanh(k: float) -> None:
    """ik times the transform of tanh(wx + b) is that of its derivative, which can be integrated."""
    weights = some_weights()
    size, direction = theorem.unit_transform(weights, k)
    x = np.linspace(-60, 60, 240_001)
    slope = weights.w[..., None] / np.cosh(weights.w[..., None] * x + weights.b[..., None]) ** 2
    integral = (slope * np.exp(-1j * k * x)).sum(-1) * (x[1] - x[0])
    np.testing.assert_allclose(np.exp(size) * direction * 1j * k, integral, atol=1e-9)


def loss(numbers: np.ndarray, k: float, target: complex) -> float:
    weights = theorem.Weights(*(part[None] for part in np.split(numbers, 3)))
    size, direction = theorem.unit_transform(weights, k)
    return float(abs((weights.a * np.exp(size) * direction).sum() - target) ** 2 / 2)


@pytest.mark.parametrize("k", [1.0, 2.5])
def test_gradients_are_those_of_finite_differences(k: float) -> None:
    weights, target, step = some_weights(), 0.7 - 0.4j, 1e-6
    found = np.exp(theorem.log_gradients(weights, k, target))
    for row in range(len(weights.a)):
        numbers = np.concatenate([part[row] for part in weights])
        for place, move in enumerate(step * np.eye(len(numbers))):
            slope = (loss(numbers + move, k, target) - loss(numbers - move, k, target)) / (2 * step)
            assert found[row, place] == pytest.approx(abs(slope), rel=1e-5, abs=1e-9)


def test_tiny_weights_do_not_underflow() -> None:
    weights = some_weights(scale=1e-3)
    found = theorem.log_gradients(weights, 3.0, 1.0 + 1.0j)
    assert np.isfinite(found).all()
    assert found.max() < -1000
    assert theorem.low_dominates(weights, (1.0, 3.0), (1.0 + 1.0j, 1.0 + 1.0j)).all()
    assert not theorem.low_dominates(weights, (3.0, 1.0), (1.0 + 1.0j, 1.0 + 1.0j)).any()


def test_points_fill_the_ball() -> None:
    weights = theorem.in_ball(20_000, 1, 2.0, np.random.Generator(np.random.Philox(0)))
    distance = np.sqrt(sum(part[:, 0] ** 2 for part in weights))
    assert distance.max() <= 2
    assert (distance < 1).mean() == pytest.approx(1 / 8, abs=0.01)  # the share of the volume in three dimensions
    assert all(abs(part.mean()) < 0.03 for part in weights)


def test_an_exponential_rest_is_a_line() -> None:
    radii = [0.5, 1.0, 2.0, 4.0]
    table = pd.DataFrame({"seed": 0, "radius": radii, "fraction": [1 - 0.8 * math.exp(-1.5 / r) for r in radii]})
    found = {one.quantity: one.value for one in theorem.fraction_values(table)}
    assert found["line"] == pytest.approx(-1)
    assert found["smallest ball"] == pytest.approx(1 - 0.8 * math.exp(-3))
    flat = {one.quantity: one.value for one in theorem.fraction_values(table.assign(fraction=0.4))}
    assert math.isnan(flat["line"])
    rising = {one.quantity: one.value for one in theorem.fraction_values(table.assign(fraction=[0.1, 0.2, 0.3, 0.9]))}
    assert rising["line"] > 0
