import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from anchorlab.errors import InputError
from anchorlab.phenomena import Points
from anchorlab.reproduce.chapter04 import dominance, early_stopping, pictures
from anchorlab.reproduce.chapter04.curves import periodic
from anchorlab.reproduce.claims import Value


def by_quantity(values: list[Value]) -> dict[str, float]:
    return {one.quantity: one.value for one in values}


def errors_of(falls_at: float, **columns: Any) -> pd.DataFrame:
    """An error that falls from 1 to 0 at a step."""
    return pd.DataFrame([{"step": step, "error": float(step < falls_at), **columns} for step in range(0, 1001, 10)])


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


def test_early_stopping_of_outputs_that_are_no_numbers_is_unknown() -> None:
    points, dense = periodic(8), periodic(64)
    losses = pd.DataFrame({"step": [0, 10], "train": [1.0, 0.3], "test": [0.9, 0.1]})
    data = early_stopping.noisy_sine(points, dense, 0.5, seed=3)
    found = by_quantity(early_stopping.stopping_values(0, losses, torch.sin(dense), dense * math.nan, data["train"]))
    assert len(found) == 5
    assert all(map(math.isnan, found.values()))


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
        "x: high": 3,
    }


@pytest.mark.parametrize(
    ("make", "settings", "highest"),
    [(dominance.parity_data, {"inputs": 3}, 7), (dominance.digit_data, {"highest": 4.0}, 1796)],
)
def test_some_points_must_be_left_to_test(make: Callable[..., Any], settings: dict[str, Any], highest: int) -> None:
    for train in (0, highest + 1):
        with pytest.raises(InputError, match=f"^train={train}: must be from 1 to {highest}, one less than all"):
            make({**settings, "train": train}, 4, 0)
    assert isinstance(make({**settings, "train": highest}, 4, 0).splits["test"], Points)


def planted_images(count: int = 400) -> dominance.Data:
    return dominance.digit_data({"train": count, "highest": 12.0}, 31, 0)


def bands_of(data: dominance.Data, outputs: torch.Tensor) -> dict[str, float]:
    return by_quantity(dominance.band_values("x", 0, dominance._spectra(data, outputs)))


def test_only_true_classes_of_the_digits_are_of_low_frequency() -> None:
    data = planted_images()
    assert bands_of(data, data.targets)["x: high over low"] < 0.5
    order = torch.randperm(len(data.targets), generator=torch.Generator().manual_seed(1))
    shuffled = data._replace(targets=data.targets[order])
    assert bands_of(shuffled, shuffled.targets)["x: high over low"] > 0.8


def test_the_mean_of_the_classes_alone_has_no_low_frequency() -> None:
    data = planted_images()
    found = bands_of(data, data.targets.mean(0).expand_as(data.targets))
    assert found["x: low error"] == pytest.approx(1)
    assert found["x: high"] == pytest.approx(0, abs=1e-9)
    assert bands_of(data, data.targets)["x: low error"] == 0


def test_signs_have_their_power_where_it_was_planted() -> None:
    data = dominance.parity_data({"inputs": 6, "train": 20}, 4, 0)
    found = dominance.sign_power(data.inputs, 2 * data.inputs[:, 1] * data.inputs[:, 4])
    assert found["components"].tolist() == list(range(7))
    assert found["count"].tolist() == [1, 6, 15, 20, 15, 6, 1]
    assert (found["power"] * found["count"]).round(9).tolist() == [0, 0, 4 * 64, 0, 0, 0, 0]
    parity = dominance.sign_power(data.inputs, data.targets[:, 0])
    assert (parity["power"] * parity["count"]).round(9).tolist() == [0, 0, 0, 0, 0, 0, 64]
    assert dominance.low_over_chance(parity) == pytest.approx(0, abs=1e-9)


def test_guesses_have_low_frequencies_by_chance_and_false_ones_more() -> None:
    data = dominance.parity_data({"inputs": 10, "train": 200}, 31, 0)

    def low(values: torch.Tensor) -> float:
        return dominance.low_over_chance(dominance.sign_power(data.inputs, values))

    for seed in range(5):
        coins = torch.randn(len(data.targets), generator=torch.Generator().manual_seed(seed)).sign().double()
        assert low(coins) == pytest.approx(1, abs=0.15)
    learned = data.targets[:, 0].clone()
    learned[data.train :] = 0
    assert low(learned) < 1
    assert low(data.inputs[:, :3].sum(1)) > 3
    assert low(data.inputs.sum(1) + 3) == pytest.approx(low(data.inputs.sum(1)))  # a constant has no frequency
    assert math.isnan(low(learned * math.nan))


def dominance_of(monkeypatch: pytest.MonkeyPatch, outputs: Callable[[dominance.Data], Any]) -> dict[str, float]:
    """The measures of figure 4.13 with planted outputs in place of trained nets."""
    data = dominance.parity_data({"inputs": 6, "train": 20}, 31, 0)
    monkeypatch.setattr(dominance, "_DATA", {dominance.PARITY: lambda *_: data})
    monkeypatch.setattr(dominance, "outputs_after", lambda run, steps, like: {5: run})
    settings = {"frequencies": 31, dominance.PARITY: {"inputs": 6}, "training": SMALL}
    study: Any = SimpleNamespace(
        settings=settings, seeds=range(1), fit=lambda fits: {key: outputs(data) for key in fits}
    )
    return by_quantity(dominance._measure(study).values)


SMALL = {"widths": (4,), "activation": "tanh", "initialization": "xavier", "learning_rate": 1e-3, "steps": 5}


def test_dominance_of_planted_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    def learned(data: dominance.Data) -> torch.Tensor:
        return torch.cat([data.targets[: data.train], -data.targets[data.train :]])

    found = dominance_of(monkeypatch, learned)
    assert found["parity: train"] == 1
    assert found["parity: test"] == 0
    assert found["eq. 4.4"] < 1e-12
    assert dominance_of(monkeypatch, lambda data: data.targets)["parity: high"] == pytest.approx(1)


def test_dominance_of_outputs_that_are_no_numbers_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    found = dominance_of(monkeypatch, lambda data: torch.full_like(data.targets, math.nan))
    ours = {name for name in found if name not in ("eq. 4.4", "parity: high over low")}
    assert len(ours) == 5
    assert all(math.isnan(found[name]) for name in ours)


def wave(side: int, k: int) -> torch.Tensor:
    row = torch.sin(2 * math.pi * k * torch.arange(side, dtype=torch.float64) / side)
    return row.expand(side, side)


def test_errors_by_band_are_those_that_were_planted() -> None:
    picture = wave(32, 1) + wave(32, 4).T + wave(32, 10)
    output = wave(32, 1) + 0.5 * wave(32, 4).T
    assert pictures.band_errors(picture, output)["error"].tolist() == pytest.approx([0, 0.5, 1])
    half = pictures.band_errors(wave(32, 1)[:, ::2] + wave(32, 4).T[:, ::2] + wave(32, 7)[:, ::2], output[:, ::2])
    assert half["error"].tolist() == pytest.approx([0, 0.5, 1])  # waves along the whole side, on half of the columns


def test_bands_are_compared_with_the_one_below() -> None:
    table = pd.concat([errors_of(at, band=band) for band, at in (("low", 100), ("middle", 300), ("high", 5000))])
    found = by_quantity(pictures.detail_values(0, table, 0.5))
    assert found == {
        "middle after low": pytest.approx(295 / 95),
        "high after middle": math.inf,
        "high at the end": 1,
    }


def test_errors_of_columns_are_those_that_were_planted() -> None:
    picture = torch.arange(36, dtype=torch.float64).view(6, 6)
    output = picture.clone()
    output[:, 1::2] = picture[:, 1::2].mean()
    found = by_quantity(pictures.column_values(0, picture, output))
    assert found == {"train columns": 0, "test columns": pytest.approx(1)}
    output[:, ::2] += 2
    assert by_quantity(pictures.column_values(0, picture, output))["train columns"] == pytest.approx(
        4 / float(picture[:, ::2].var(correction=0))
    )


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
