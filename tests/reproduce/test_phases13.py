"""Figures 13.5 and 13.6: planted phases and growth come out as such, and the figures draw what the tables say."""

import math
from itertools import product
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from matplotlib.patches import Rectangle

from anchorlab.reproduce import Value, decide
from anchorlab.reproduce.chapter13.composite_runs import LAPTOP, experiment, score_table
from anchorlab.reproduce.chapter13.phases import REPRODUCTIONS, growth_values, phase_values

PHASES, MAP = REPRODUCTIONS
PUBLISHED = {  # γ: ID accuracy, OOD accuracy, commutativity, phase
    0.2: (0.3, 0.0, 0.4, 1),
    0.4: (1.0, 0.1, 0.3, 2),
    0.5: (1.0, 0.4, 0.9, 2),
    0.7: (1.0, 1.0, 1.0, 3),
    2.0: (0.1, 0.1, 0.5, 1),
}


def networks(by_rate: dict[float, tuple[float, float, float, int]], seeds: int = 3) -> pd.DataFrame:
    columns = ["id_accuracy", "ood_accuracy", "commutativity", "phase"]
    rows = [
        {"initialization_rate": rate, "weight_decay": 0.01, "seed": seed, **dict(zip(columns, scores, strict=True))}
        for (rate, scores), seed in product(by_rate.items(), range(seeds))
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def measured(values: list[Value], seed: int = 0) -> dict[str, float]:
    return {one.quantity: one.value for one in values if one.seed == seed}


def grid(ood: dict[tuple[float, float], float]) -> pd.DataFrame:
    rows = [
        {"initialization_rate": rate, "weight_decay": decay, "seed": seed, "ood_accuracy": value}
        for ((rate, decay), value), seed in product(ood.items(), range(3))
    ]
    return pd.DataFrame(rows)


def test_the_published_phases_hold() -> None:
    values = phase_values(networks(PUBLISHED))
    assert measured(values) == {
        "largest weights": 0.3,
        "smallest weights": 0.1,
        "phase 2": 2,
        "phase 3 after 2": 1,
        "commutativity at small rate": 0.3,
        "commutativity at large rate": 0.9,
    }
    assert decide(PHASES.claim, values).verdict == "holds"


@pytest.mark.parametrize(
    ("changed", "failing"),
    [
        ({0.2: (0.99, 0.0, 0.4, 2)}, {"largest weights"}),
        ({2.0: (1.0, 0.95, 1.0, 3)}, {"smallest weights"}),
        ({0.7: (1.0, 0.8, 1.0, 2)}, {"phase 3 after 2"}),
        ({0.5: (1.0, 0.4, 0.5, 2)}, {"commutativity at large rate"}),
        ({0.4: (1.0, 0.1, 0.8, 2)}, {"commutativity at small rate"}),
        ({0.4: (1.0, 0.95, 1.0, 3), 0.5: (1.0, 1.0, 1.0, 3)}, {"phase 2", "phase 3 after 2"}),
    ],
)
def test_what_is_missing_fails_and_nothing_else(changed: dict[float, Any], failing: set[str]) -> None:
    found = decide(PHASES.claim, phase_values(networks(PUBLISHED | changed)))
    assert {one.condition.quantity for one in found.conditions if one.verdict == "fails"} == failing


def test_without_a_network_in_phase_2_commutativity_is_not_measured() -> None:
    found = measured(phase_values(networks({0.2: PUBLISHED[0.2], 0.7: PUBLISHED[0.7]})))
    assert math.isnan(found["commutativity at small rate"])
    assert found["phase 3 after 2"] == 0


def test_growth_is_the_mean_difference_between_the_ends() -> None:
    table = grid(
        {(0.3, 0.01): 0.0, (0.3, 1.0): 0.5, (0.5, 0.01): 0.9, (0.5, 1.0): 0.2, (0.8, 0.01): 0.6, (0.8, 1.0): 1.0}
    )
    found = measured(growth_values(table), seed=2)
    assert found["growth with rate"] == pytest.approx((0.6 + 0.5) / 2)
    assert found["growth with decay"] == pytest.approx((0.5 - 0.7 + 0.4) / 3)


@pytest.mark.parametrize(
    ("slope", "verdict"), [((0.5, 0.3), "holds"), ((0.5, 0.0), "fails"), ((0.0, 0.3), "fails"), ((-0.2, -0.2), "fails")]
)
def test_a_map_holds_if_it_grows_both_ways(slope: tuple[float, float], verdict: str) -> None:
    places = product((0.3, 0.6, 0.8), (0.01, 1.0))
    table = grid({(rate, decay): 0.4 + slope[0] * (rate - 0.3) + slope[1] * decay for rate, decay in places})
    assert decide(MAP.claim, growth_values(table)).verdict == verdict


def test_figures_show_every_rate_and_mark_poor_cells() -> None:
    axes = PHASES.figure({"networks": networks(PUBLISHED)}).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.2", "0.4", "0.5", "0.7", "2"]
    assert [text.get_text() for text in axes.texts] == [f"phase {number}" for number in (1, 2, 2, 3, 1)]
    table = pd.concat([networks(PUBLISHED), networks(PUBLISHED).assign(weight_decay=1.0)])
    axes = MAP.figure({"networks": table}).axes[0]
    hatched = [patch for patch in axes.patches if isinstance(patch, Rectangle) and patch.get_hatch()]
    assert len(hatched) == 2 * 2  # γ 0.2 and 2, at both λ
    assert axes.images[0].get_array().shape == (2, 5)


def recorded(id_accuracy: float, ood_accuracy: float) -> Any:
    """A run with these last values."""
    last = {("test", "accuracy"): id_accuracy, ("ood", "accuracy"): ood_accuracy, ("ood", "commutativity"): 0.25}
    return SimpleNamespace(final=lambda split, metric="accuracy": last[split, metric])


def test_a_network_is_scored_by_its_last_accuracies() -> None:
    table = score_table({((0.3, 0.01), 0): recorded(0.95, 0.1), ((0.6, 0.01), 0): recorded(1.0, 0.9)})
    assert table["phase"].tolist() == [2, 3]
    expected = [0.3, 0.01, 0, 0.95, 0.1, 0.25]
    assert table.iloc[0].drop("phase").tolist() == expected


def test_trials_differ_in_weights_and_rows_and_places_in_rate_and_decay_alone() -> None:
    one = experiment(LAPTOP, (0.6, 0.01), 1)
    assert (one.seed, one.data_seed, one.rate, one.weight_decay) == (1, 1, 0.6, 0.01)
    record, other = one.record(), experiment(LAPTOP, (0.3, 1.0), 1).record()
    assert {name for name in record if record[name] != other[name]} == {"initialization_rate", "weight_decay"}


@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
@pytest.mark.parametrize("one", REPRODUCTIONS, ids=lambda one: str(one.id))
def test_settings_of_every_scale_are_those_of_a_training(one: Any, scale: str) -> None:
    settings = one.settings(scale)
    assert experiment(settings["training"], (settings["rates"][0], 0.01), 0).record()
