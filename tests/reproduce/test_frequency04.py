import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from anchorlab import reproduce
from anchorlab.engine.store import find_runs
from anchorlab.phenomena import Initialization, fitting
from anchorlab.phenomena.spectra import peaks, spectrum
from anchorlab.report.style import png
from anchorlab.reproduce import running
from anchorlab.reproduce.chapter04 import activations, smoothness, staircase
from anchorlab.reproduce.chapter04.curves import (
    error_table,
    initialization,
    looks,
    outputs_after,
    periodic,
    ratio_values,
    spectrum_table,
    unexplained,
)
from anchorlab.reproduce.claims import Value

IDS = [name for name in reproduce.names() if name.startswith("fig4.")]


def by_quantity(values: list[Value]) -> dict[str, float]:
    return {one.quantity: one.value for one in values}


def errors_of(steps: dict[float, float], **columns: Any) -> pd.DataFrame:
    """Δ_F of frequencies that fall from 1 to 0 at these steps."""
    rows = [
        {"step": step, "k": k, "error": 1.0 if step < at else 0.0, **columns}
        for k, at in steps.items()
        for step in range(0, 1001, 10)
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings in this process and coarse figures."""

    def train(work: Callable[..., None], items: list[Any], *, monitor: Any) -> None:
        for one in items:
            work(one, monitor)

    monkeypatch.setattr(fitting, "train_in_processes", train)
    monkeypatch.setattr(running, "png", partial(png, dpi=30))


@pytest.mark.slow
@pytest.mark.parametrize("name", IDS)
def test_every_figure_is_measured_and_drawn(name: str, tmp_path: Path, quickly: None) -> None:
    found = reproduce.run(name, scale="smoke", out=tmp_path, progress=False)
    wanted = {one.quantity for one in reproduce.get(name).claim.conditions}
    assert wanted <= {value.quantity for value in found.result.values}
    assert found.figure.read_bytes().startswith(b"\x89PNG")
    assert all(run.status == "finished" for run in find_runs(tmp_path / "runs"))


def test_figures_of_one_training_share_it(tmp_path: Path, quickly: None) -> None:
    for name in ("fig4.3", "fig4.6"):
        reproduce.run(name, scale="smoke", out=tmp_path, progress=False)
    assert len(find_runs(tmp_path / "runs")) == 1


def test_a_period_has_no_end_of_its_own() -> None:
    points = periodic(8)[:, 0]
    assert points[0].item() == pytest.approx(-math.pi)
    assert (points[-1] + math.pi / 4).item() == pytest.approx(math.pi)


def test_looks_are_closer_at_the_start_and_end_with_the_last() -> None:
    found = looks(1000)
    assert found[:3] == (1, 2, 3)
    assert found[-1] == 1000
    assert list(found) == sorted(set(found))
    assert looks(1) == (1,)


def test_starts() -> None:
    assert initialization("xavier") == Initialization.named("xavier")
    assert initialization(0.5) == Initialization.by_rate(0.5)
    assert initialization([1.0, 2.0]) == Initialization.normal(1.0, 2.0)


def test_ratios_compare_neighbours() -> None:
    found = by_quantity(ratio_values(errors_of({1: 100, 3: 200, 5: 800}, seed=0), 0.5))
    assert found == {"3 after 1": pytest.approx(195 / 95), "5 after 3": pytest.approx(795 / 195)}
    reversed_ = by_quantity(ratio_values(errors_of({1: 800, 3: 200}, seed=0), 0.5))
    assert reversed_["3 after 1"] < 0.3
    late = by_quantity(ratio_values(errors_of({1: 100, 3: 5000, 5: 5000}, seed=0), 0.5))
    assert late["3 after 1"] == math.inf
    assert math.isnan(late["5 after 3"])


def test_the_unexplained_share() -> None:
    target = torch.tensor([[0.0], [2.0], [4.0]])
    assert unexplained(target, target) == 0
    assert unexplained(torch.full((3, 1), 2.0), target) == pytest.approx(1)


def test_spectra_of_planted_curves() -> None:
    x = periodic(64)[:, 0].numpy()
    table = pd.DataFrame({"step": "3", "x": x, "value": np.sin(2 * x) + 4 * np.cos(5 * x)})
    found = spectrum_table(table, 5).set_index("k")["amplitude"]
    assert found.index.max() == pytest.approx(5)
    assert found.round(6).tolist() == [0, 0, 0.5, 0, 0, 2]
    both = pd.concat([table, table.assign(step="nothing", value=np.nan)])
    assert set(spectrum_table(both, 5)["step"]) == {"3"}
    assert spectrum_table(table.assign(curve="a"), by="curve")["curve"].eq("a").all()


def sizes(value: np.ndarray) -> dict[str, float]:
    """The measures of a curve at 20 places for each of 16 samples."""
    x = periodic(16 * 20)[:, 0].numpy()
    return by_quantity(smoothness.size_values(0, "a", pd.DataFrame({"x": x, "value": value}), 16))


def test_the_sine_is_smooth_but_waves_and_stairs_through_its_samples_are_not() -> None:
    x = periodic(16 * 20)[:, 0].numpy()
    assert sizes(np.sin(x)) == {"error of a": pytest.approx(0), "slope of a": pytest.approx(1, abs=1e-3)}
    for wild in (np.sin(x) + np.sin(8 * (x + math.pi)), np.sin(x[np.arange(len(x)) // 20 * 20])):
        found = sizes(wild)
        assert found["error of a"] == pytest.approx(0, abs=1e-20)
        assert found["slope of a"] > 5


def test_beyond_the_last_sample_a_net_may_be_as_steep_as_it_likes() -> None:
    value = np.sin(periodic(16 * 20)[:, 0].numpy())
    value[-19:] = 9
    assert sizes(value)["slope of a"] == pytest.approx(1, abs=1e-3)


def plateau(loss: Callable[[np.ndarray], np.ndarray]) -> float:
    steps = np.array([0, *looks(100_000)])
    return smoothness.plateau(pd.DataFrame({"step": steps, "value": loss(steps.astype(float))}), 0.5)


def test_a_plateau_is_longer_than_the_falls_around_it() -> None:
    long = plateau(lambda t: 0.5 * np.exp(-t / 3e4) + 2 / (1 + t))
    assert long > 3
    assert plateau(lambda t: 0.5 * np.exp(-t / 300) + 2 / (1 + t)) < long


@pytest.mark.parametrize("power", [0.2, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_no_power_law_has_a_plateau(power: float, scale: float) -> None:
    assert plateau(lambda t: 3 * (1 + t / scale) ** -power) < 1.2
    assert plateau(lambda t: 3 * np.exp(-t / scale / 10)) < 1


def test_a_plateau_needs_a_fall_on_both_sides() -> None:
    assert plateau(lambda t: 0.5 + 2 / (1 + t)) == 0
    assert math.isnan(plateau(lambda t: 0.5 * np.exp(-t / 3e4)))
    assert math.isnan(plateau(lambda t: t * math.nan))


def test_the_staircase_has_three_levels_and_falling_peaks() -> None:
    points = periodic(256)
    target = staircase.levels(points)
    assert sorted(set(target.flatten().tolist())) == [-1, 0, 1]
    amplitudes = spectrum(points[:, 0], target[:, 0]).coefficients.abs()
    at = peaks(amplitudes, 0.05)
    assert at.tolist()[:6] == [1, 5, 7, 11, 13, 17]
    assert (amplitudes[at].diff() < 0).all()


def test_a_sine_has_the_outline_but_none_of_the_jumps() -> None:
    points = periodic(128)
    target = staircase.levels(points)
    first = 2 * (torch.sin(points) * target).mean() * torch.sin(points)
    found = by_quantity(staircase.jump_values(0, points, target, first, target))
    assert found == {
        "outline at the middle": pytest.approx(0, abs=0.02),
        "jumps at the middle": pytest.approx(0, abs=0.02),
        "jumps at the end": pytest.approx(1),
    }
    wrong = by_quantity(staircase.jump_values(0, points, target, 0 * first, 0 * first))
    assert wrong["outline at the middle"] == pytest.approx(1)
    assert wrong["jumps at the end"] < -5


def test_order_is_a_rank_correlation() -> None:
    found = by_quantity(staircase.order_values(errors_of({1: 10, 5: 100, 7: 400, 11: 5000}, seed=0), 0.5))
    assert found == {"order": pytest.approx(1), "highest after lowest": math.inf, "highest at the end": 1}
    turned = by_quantity(staircase.order_values(errors_of({1: 400, 5: 100, 7: 20}, seed=0), 0.5))
    assert turned["order"] == pytest.approx(-1)
    assert turned["highest after lowest"] == pytest.approx(15 / 395)
    assert turned["highest at the end"] == 0
    never = by_quantity(staircase.order_values(errors_of({1: 5000, 5: 5000}, seed=0), 0.5))
    assert all(math.isnan(never[name]) for name in ("order", "highest after lowest"))
    unknown = staircase.order_values(errors_of({1: 10, 5: 100}, seed=0).assign(error=math.nan), 0.5)
    assert all(math.isnan(value.value) for value in unknown)


def test_order_of_nets_compares_the_highest_with_the_lowest() -> None:
    table = pd.concat(
        [
            errors_of({1: 100, 3: 100, 5: 300}, seed=0, net="a"),
            errors_of({1: 300, 3: 100, 5: 100}, seed=0, net="b"),
            errors_of({1: 5000, 3: 10, 5: 5000}, seed=0, net="c"),
        ]
    )
    found = by_quantity(activations.order_values(table, 0.5))
    assert found["a: order"] == pytest.approx(3, rel=0.05)
    assert found["b: order"] == pytest.approx(1 / 3, rel=0.05)
    assert math.isnan(found["c: order"])
    unknown = activations.order_values(table.assign(error=math.nan), 0.5)
    assert all(math.isnan(one.value) for one in unknown)


def test_no_order_is_that_of_several_networks() -> None:
    steps = ({1: 100, 5: 300}, {1: 300, 5: 100}, {1: 100, 5: 300}, {1: 100, 5: 5000})
    table = pd.concat([errors_of(at, seed=number, net="a") for number, at in enumerate(steps)])
    assert [one.value for one in activations.order_values(table, 0.5, networks=2)] == [pytest.approx(1), math.inf]
    assert [one.seed for one in activations.order_values(table, 0.5, networks=2)] == [0, 1]


def test_a_brief_rise_of_a_small_error_hardly_counts_but_a_long_one_does() -> None:
    def low(error: Callable[[int], float]) -> float:
        rows = [
            {"step": step, "k": k, "seed": 0, "net": "a", "error": error(step) if k == 1 else float(step < 600)}
            for step in (0, *looks(1000))
            for k in (1, 5)
        ]
        return by_quantity(activations.order_values(pd.DataFrame(rows), 0.5))["a: order"]

    plain = low(lambda step: float(step < 20))
    assert plain == pytest.approx(30, rel=0.1)
    assert low(lambda step: float(step < 20) + 0.15 * (step > 800)) == pytest.approx(plain, rel=0.1)
    assert low(lambda step: float(step < 20 or 50 < step < 500)) < plain / 5
    assert low(lambda step: 1.0) == 0


def planted_run(outputs: torch.Tensor, *, step: int = 10, status: str = "finished") -> Any:
    """What is read of a run: outputs at the end, and Δ_F of frequencies 1 and 5, which falls at steps 2 and 8."""
    rows = [(step, "", f"point={place}", "output", value) for place, value in enumerate(outputs[:, 0].tolist())]
    rows += [(at, "", f"k={k}", "frequency_error", float(at < k * 2)) for at in range(step + 1) for k in (1, 4)]
    metrics = pd.DataFrame(rows, columns=["step", "split", "group", "metric", "value"])
    return SimpleNamespace(status=status, folder=Path("run"), metrics=lambda: metrics)


def nets_of(monkeypatch: pytest.MonkeyPatch, points: int, **runs: Any) -> dict[str, float]:
    """The measures of planted nets on `points` samples."""
    settings = {"points": points, "networks": 1, "nets": dict.fromkeys(runs), "learned": 0.5}
    settings |= {"training": {"steps": 10}}
    monkeypatch.setattr(activations, "fit_nets", lambda study: {(name, 0): run for name, run in runs.items()})
    return by_quantity(activations.measure_nets(SimpleNamespace(settings=settings)).values)  # type: ignore[arg-type]


def test_nets_are_tested_between_the_samples_and_not_beyond(monkeypatch: pytest.MonkeyPatch) -> None:
    dense = periodic(20 * 20)
    right = activations.sines(dense, activations.FREQUENCIES)
    wave, beyond = right.clone(), right.clone()
    wave += torch.sin(10 * (dense + math.pi))  # 0 at every sample
    beyond[-19:] = 9
    found = nets_of(monkeypatch, 20, wave=planted_run(wave), beyond=planted_run(beyond))
    assert found["wave: train error"] == pytest.approx(0, abs=1e-20)
    assert found["wave: test error"] == pytest.approx(1 / 3, rel=0.1)
    assert found["beyond: test error"] == 0
    assert found["wave: order"] == pytest.approx((56 / 2) ** 0.5)  # falls in the middle, in the logarithm


def test_nothing_is_read_from_a_net_that_diverged(monkeypatch: pytest.MonkeyPatch) -> None:
    right = activations.sines(periodic(20 * 20), activations.FREQUENCIES)
    run = planted_run(right, status="diverged")
    found = nets_of(monkeypatch, 20, a=run)
    assert set(found) == {"a: order", "a: train error", "a: test error"}
    assert all(map(math.isnan, found.values()))
    assert outputs_after(run, (10,), right)[10].isnan().all()
    assert error_table({0: run})["error"].isna().all()


def test_outputs_that_were_not_reached_are_unknown() -> None:
    found = outputs_after(planted_run(torch.ones(3, 1), step=10), (10, 20), torch.zeros(3, 1))
    assert found[10].tolist() == [[1], [1], [1]]
    assert found[20].isnan().all()
