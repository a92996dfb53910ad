import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from anchorlab import reproduce
from anchorlab.engine.store import find_runs
from anchorlab.errors import InputError
from anchorlab.phenomena import Initialization, Points, fitting
from anchorlab.phenomena.spectra import peaks, spectrum
from anchorlab.report.style import png
from anchorlab.reproduce import running
from anchorlab.reproduce.chapter04 import activations, dominance, early_stopping, pictures, smoothness, staircase
from anchorlab.reproduce.chapter04.curves import (
    initialization,
    looks,
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


def test_a_smooth_line_has_the_way_of_the_sine_and_a_wild_one_more() -> None:
    x = periodic(16 * 20)[:, 0].numpy()
    smooth = smoothness.size_values(0, "a", pd.DataFrame({"x": x, "value": np.sin(x)}), 16)
    assert by_quantity(smooth) == {"error of a": pytest.approx(0), "variation of a": pytest.approx(1)}
    wiggle = np.sin(8 * (x + math.pi))  # 0 at every sample
    found = by_quantity(smoothness.size_values(0, "a", pd.DataFrame({"x": x, "value": np.sin(x) + wiggle}), 16))
    assert found["error of a"] == pytest.approx(0, abs=1e-20)
    assert found["variation of a"] > 5


def test_a_plateau_is_where_the_loss_stays() -> None:
    steps = [0, 1, 10, 100, 1000]
    assert smoothness.plateau(pd.DataFrame({"step": steps, "value": [3, 0.55, 0.5, 0.45, 0.01]}), 0.5) == 100
    assert smoothness.plateau(pd.DataFrame({"step": steps, "value": [3, 1, 0.5, 0.2, 0.01]}), 0.5) == 1
    assert math.isnan(smoothness.plateau(pd.DataFrame({"step": steps, "value": [3, 2, 1, 0.2, 0.1]}), 0.5))


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
    assert found == {"order": pytest.approx(1), "highest after lowest": math.inf}
    turned = by_quantity(staircase.order_values(errors_of({1: 400, 5: 100, 7: 20}, seed=0), 0.5))
    assert turned["order"] == pytest.approx(-1)
    assert turned["highest after lowest"] == pytest.approx(15 / 395)
    never = by_quantity(staircase.order_values(errors_of({1: 5000, 5: 5000}, seed=0), 0.5))
    assert all(map(math.isnan, never.values()))


def test_order_of_nets_compares_the_highest_with_the_lowest() -> None:
    table = pd.concat(
        [
            errors_of({1: 100, 3: 100, 5: 300}, seed=0, net="a"),
            errors_of({1: 300, 3: 100, 5: 100}, seed=0, net="b"),
            errors_of({1: 5000, 3: 10, 5: 5000}, seed=0, net="c"),
        ]
    )
    found = by_quantity(activations.order_values(table, 0.5))
    assert found["a: order"] == pytest.approx(295 / 95)
    assert found["b: order"] == pytest.approx(95 / 295)
    assert math.isnan(found["c: order"])


def test_early_stopping_on_planted_outputs() -> None:
    points, dense = periodic(32), periodic(32 * 8)
    data = early_stopping.noisy_sine(points, dense, 0.5, seed=3)
    losses = pd.DataFrame({"step": [0, 10, 100], "train": [1.0, 0.3, 0.0], "test": [0.9, 0.1, 0.4]})
    noisy = data["train"].targets.repeat_interleave(8, 0)
    found = by_quantity(early_stopping.stopping_values(0, losses, torch.sin(dense), noisy, data["train"]))
    assert found == {
        "end over best": pytest.approx(4),
        "when": 0.1,
        "low at best": pytest.approx(0, abs=1e-12),
        "high at best": pytest.approx(0, abs=1e-12),
        "high at end": pytest.approx(1),
    }
    turned = by_quantity(early_stopping.stopping_values(0, losses, noisy, torch.sin(dense), data["train"]))
    assert turned["high at best"] == pytest.approx(1)
    assert turned["low at best"] > 0.01


def test_noise_is_that_of_the_seed() -> None:
    points = periodic(20)
    first, again, other = (early_stopping.noisy_sine(points, points, 0.3, seed)["train"].targets for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(early_stopping.noisy_sine(points, points, 0.0, 0)["train"].targets, torch.sin(points))


def test_the_transform_of_the_parity_is_eq_4_4() -> None:
    assert dominance.parity_deviation(4, seed=0) < 1e-13
    frequency = torch.full((1, 3), 0.25, dtype=torch.float64)
    assert dominance.parity_transform(frequency).item() == pytest.approx((-1j) ** 3)


def test_parity_points_are_all_once() -> None:
    data = dominance.parity_data({"inputs": 5, "train": 10}, 4, seed=1)
    assert len({tuple(row) for row in data.inputs.tolist()}) == 32
    assert torch.equal(data.targets[:, 0], data.inputs.prod(1))
    assert [len(one.inputs) for one in data.splits.values()] == [10, 22]
    assert not torch.equal(data.inputs, dominance.parity_data({"inputs": 5, "train": 10}, 4, seed=2).inputs)


def test_bands_of_planted_spectra() -> None:
    frequency = list(range(9))
    curves = {dominance.ALL: [4] * 3 + [9] * 3 + [1] * 3, dominance.NET: [2] * 3 + [9] * 3 + [3] * 3}
    curves["difference"] = [1] * 9
    table = pd.concat([pd.DataFrame({"curve": c, "frequency": frequency, "amplitude": a}) for c, a in curves.items()])
    assert by_quantity(dominance.band_values("x", 0, table)) == {
        "x: high over low": 0.25,
        "x: low error": 0.25,
        "x: low": 0.5,
        "x: high": 3,
    }


def wave(side: int, k: int) -> torch.Tensor:
    row = torch.sin(2 * math.pi * k * torch.arange(side, dtype=torch.float64) / side)
    return row.expand(side, side)


def test_errors_by_band_are_those_that_were_planted() -> None:
    picture = wave(32, 1) + wave(32, 4).T + wave(32, 10)
    output = wave(32, 1) + 0.5 * wave(32, 4).T
    assert pictures.band_errors(picture, output)["error"].tolist() == pytest.approx([0, 0.5, 1])


def test_bands_are_compared_with_the_one_below() -> None:
    table = pd.concat([errors_of({0: at}, band=band) for band, at in (("low", 100), ("middle", 300), ("high", 5000))])
    found = by_quantity(pictures.detail_values(0, table, 0.5))
    assert found == {"middle after low": pytest.approx(295 / 95), "high after middle": math.inf}


def test_columns_are_learned_in_turn() -> None:
    picture = torch.arange(16, dtype=torch.float64).view(4, 4)
    splits = pictures.column_splits(picture)
    assert splits["train"].targets[:, 0].tolist() == [0, 2, 4, 6, 8, 10, 12, 14]
    assert splits["test"].inputs[0].tolist() == pytest.approx([-1 / 3, -1])
    corner = pictures.pixels(picture)
    assert corner.inputs[-1].tolist() == [1, 1]
    assert corner.inputs[1].tolist() == pytest.approx([-1 / 3, -1])  # x goes along a row


def test_a_picture_of_the_user_is_its_middle_in_grey(tmp_path: Path) -> None:
    shades = np.zeros((20, 40, 3), dtype=np.uint8)
    shades[:, 10:20] = 255
    Image.fromarray(shades).save(tmp_path / "one.png")
    found = pictures.open_picture(str(tmp_path / "one.png"), 4)
    assert found[0].tolist() == [1, 1, -1, -1]
    assert pictures.open_picture(None, 8).shape == (8, 8)


@pytest.mark.parametrize("side", [3, 7, 0])
def test_a_picture_needs_an_even_side(side: int) -> None:
    with pytest.raises(InputError, match=f"^side={side}: must be an even number of pixels, at least 4$"):
        pictures.open_picture(None, side)


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no")
    for path in (tmp_path / "text.png", tmp_path / "none.png", tmp_path):
        with pytest.raises(InputError, match=f"^picture='{path}': cannot be read; must be the path of a picture$"):
            pictures.open_picture(str(path), 8)


@pytest.mark.parametrize(
    ("make", "settings", "highest"),
    [(dominance.parity_data, {"inputs": 3}, 7), (dominance.digit_data, {"highest": 4.0}, 1796)],
)
def test_some_points_must_be_left_to_test(make: Callable[..., Any], settings: dict[str, Any], highest: int) -> None:
    for train in (0, highest + 1):
        with pytest.raises(InputError, match=f"^train={train}: must be from 1 to {highest}, one less than all"):
            make({**settings, "train": train}, 4, 0)
    assert isinstance(make({**settings, "train": highest}, 4, 0).splits["test"], Points)
