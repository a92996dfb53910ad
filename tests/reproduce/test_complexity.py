"""Figures 13.10 to 13.12: planted weights and embeddings come out each way, and figures draw what the tables say."""

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest

from anchorlab.analysis import embedding_pca, measure_condensation
from anchorlab.reproduce import decide
from anchorlab.reproduce.chapter13.complexity import (
    REPRODUCTIONS,
    condensation_values,
    cosine_table,
    depth_values,
    number_table,
    order_values,
)
from anchorlab.reproduce.chapter13.composite_runs import experiment

CONDENSATION, DEPTHS, ORDER = REPRODUCTIONS
RATES = (0.2, 0.5, 0.8)


def networks(column: str, by_rate: tuple[float, ...], **more: Any) -> pd.DataFrame:
    rows = [
        {"initialization_rate": rate, "weight_decay": 0.01, "seed": seed, "phase": phase, column: value, **more}
        for (phase, rate, value), seed in product(zip((1, 2, 3), RATES, by_rate, strict=True), range(3))
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


@pytest.mark.parametrize(
    ("shares", "failing"),
    [
        ((0.96, 0.7, 0.05), set()),
        ((0.8, 0.7, 0.05), {"share, phase 1"}),
        ((0.96, 0.96, 0.05), {"fall to phase 2"}),
        ((0.96, 0.3, 0.05), {"share, phase 2"}),
        ((0.96, 0.52, 0.48), {"fall to phase 3"}),
        ((0.96, 0.9, 0.7), {"share, phase 3"}),
    ],
)
def test_condensation_has_to_grow_from_none_to_strong(shares: tuple[float, ...], failing: set[str]) -> None:
    found = decide(CONDENSATION.claim, condensation_values(networks("share", shares)))
    assert {one.condition.quantity for one in found.conditions if one.verdict == "fails"} == failing
    assert found.verdict == ("fails" if failing else "holds")


@pytest.mark.parametrize(
    ("deep", "verdict"), [((0.9, 0.5, 0.2), "holds"), ((0.9, 0.9, 0.9), "fails"), ((0.5, 0.9, 0.2), "fails")]
)
def test_condensation_has_to_grow_at_every_depth(deep: tuple[float, ...], verdict: str) -> None:
    table = pd.concat([networks("share", (1.0, 0.6, 0.1), layers=2), networks("share", deep, layers=4)])
    assert decide(DEPTHS.claim, depth_values(table)).verdict == verdict


def test_the_depth_with_the_least_fall_counts() -> None:
    table = pd.concat([networks("share", (1.0, 0.6, 0.1), layers=2), networks("share", (0.9, 0.2, 0.5), layers=4)])
    found = {one.quantity: one.value for one in depth_values(table) if one.seed == 0}
    assert found == pytest.approx({"least fall": 0.4, "steps without rise": 3 / 4})


@pytest.mark.parametrize(
    ("scores", "verdict"), [((0.05, 0.3, 0.7), "holds"), ((0.05, 0.6, 0.7), "fails"), ((0.0, 0.01, 0.03), "fails")]
)
def test_numbers_have_to_be_in_order_in_phase_3_alone(scores: tuple[float, ...], verdict: str) -> None:
    values = order_values(networks("step_score", scores, step_chance=0.04))
    assert decide(ORDER.claim, values).verdict == verdict


def test_a_network_in_another_phase_than_its_rate_stands_for_is_no_value() -> None:
    table = networks("share", (0.96, 0.7, 0.05))
    table.loc[(table["initialization_rate"] == 0.5) & (table["seed"] == 1), "phase"] = 3
    values = condensation_values(table)
    assert {one.seed for one in values if np.isnan(one.value)} == {1}
    assert decide(CONDENSATION.claim, values).verdict == "undecided"


def planted(directions: int) -> np.ndarray[Any, Any]:
    random = np.random.Generator(np.random.Philox(key=0))
    return np.repeat(np.linalg.qr(random.normal(size=(32, 32)))[0][:directions], 32 // directions, axis=0)


def test_the_table_of_cosines_puts_neurons_of_one_direction_together() -> None:
    table = cosine_table(measure_condensation(planted(4)[np.arange(32) * 5 % 32]), initialization_rate=0.8)
    matrix = table.pivot(index="row", columns="column", values="cosine").to_numpy()
    np.testing.assert_allclose(matrix, np.kron(np.eye(4), np.ones((8, 8))), atol=1e-3)


def test_figures_have_a_panel_for_every_network() -> None:
    cosines = pd.concat([cosine_table(measure_condensation(planted(4)), initialization_rate=rate) for rate in RATES])
    shares = networks("share", (0.96, 0.7, 0.05))
    figure = CONDENSATION.figure({"networks": shares, "cosines": cosines})
    assert [axes.get_title().split("\n")[1] for axes in figure.axes[:3]] == [
        f"{share} of random directions" for share in ("96%", "70%", "5%")
    ]
    shares, cosines = (pd.concat([table.assign(layers=layers) for layers in (2, 4)]) for table in (shares, cosines))
    panels = DEPTHS.figure({"networks": shares, "cosines": cosines}).axes
    assert len(panels) == 2 * 3 + 1
    assert [panels[place].get_ylabel() for place in (0, 3)] == ["4 layers", "2 layers"]


def test_the_figure_of_embeddings_names_every_number() -> None:
    points = np.random.Generator(np.random.Philox(key=0)).normal(size=(12, 5))
    found = embedding_pca(points, np.arange(20, 32))
    numbers = pd.concat([number_table(found, initialization_rate=rate) for rate in RATES])
    table = networks("step_score", (0.05, 0.3, 0.6), step_chance=0.04)
    axes = ORDER.figure({"networks": table, "numbers": numbers}).axes[2]
    assert [text.get_text() for text in axes.texts] == [str(value) for value in range(20, 32)]
    np.testing.assert_allclose(axes.lines[0].get_xydata(), found.coordinates)
    assert "step score 0.60 (by chance 0.04)" in axes.get_title()


@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
@pytest.mark.parametrize("one", REPRODUCTIONS, ids=lambda one: str(one.id))
def test_settings_of_every_scale_are_those_of_a_training(one: Any, scale: str) -> None:
    settings = one.settings(scale)
    assert experiment(settings["training"], (settings["rates"][0], settings["weight_decay"]), 0).record()
