"""Learning speed of rows that break a rule: planted histories and epochs must come out each way."""

import math
from itertools import product

import pandas as pd
import pytest

from anchorlab import tasks
from anchorlab.analysis.learning_speed import learning_speed
from anchorlab.reproduce import Value, decide, get
from anchorlab.reproduce.chapter13.broken_pairs import ALONE, GROUPS, LAPTOP, experiment, overrides
from anchorlab.reproduce.chapter13.learning_speed import (
    BROKEN,
    OTHER,
    SAME,
    growth_values,
    pair_epochs,
    pair_values,
    steps_to_fit,
)

PAIRS = [f"{first},{second}" for first, second in product("abcd", repeat=2)]
OFFSETS = {"a": 5, "b": 1, "c": -2, "d": -8}
COLUMNS = ["step", "split", "group", "metric", "value"]


def epochs(growth: dict[str, float], simplest: float = 40.0) -> pd.DataFrame:
    """Epochs that grow evenly up to a factor at complexity 6; deeper networks need fewer."""
    rows = [
        (weights, 0.5, depth, complexity, seed, simplest / depth * factor ** (complexity / 6))
        for weights, factor in growth.items()
        for depth in (2, 4)
        for complexity in (0, 3, 6)
        for seed in range(3)
    ]
    return pd.DataFrame(rows, columns=["weights", "rate", "depth", "complexity", "seed", "epochs"])


def history(learned: dict[str, float]) -> pd.DataFrame:
    rows = [
        (step, "train", pair, "accuracy", float(step >= at))
        for step in range(0, 2001, 50)
        for pair, at in learned.items()
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def pairs(slow: dict[str, float]) -> pd.DataFrame:
    """Pairs of which (a,b) and (b,a) break the rule, all learned at step 400 but for some."""
    even = dict.fromkeys(PAIRS, 400)
    speed, control = learning_speed(history(even | slow)), learning_speed(history(even | {"b,b": 600}))
    return pair_epochs(speed, control, "a,b", epochs=0.01).assign(seed=0)


def values_of(table: pd.DataFrame) -> dict[str, float]:
    return {value.quantity: value.value for value in pair_values(table)}


def test_overrides_keep_symmetry() -> None:
    assert overrides([("a,b", "add:-5"), ("c,d", "add:4")]) == {
        **{"a,b": "add:-5", "b,a": "add:-5"},
        **{"c,d": "add:4", "d,c": "add:4"},
    }


@pytest.mark.parametrize("complexity", [1, 3, 6])
def test_broken_pairs_and_no_others_break_the_rule(complexity: int) -> None:
    broken = GROUPS[:complexity]
    rule = tasks.create("composite", held_out=())
    changed = tasks.create("composite", **experiment(LAPTOP, broken, layers=2).task_fields)
    rows = rule.sample("train", 3000, 0)
    differs = rule.solve(rows.tokens) != changed.solve(rows.tokens)
    assert {rule.group_names[group] for group in rows.group[differs]} == set(overrides(broken))


def test_operations_of_their_own_are_those_of_no_other_pair() -> None:
    rule = {first + second for first, second in product(OFFSETS.values(), repeat=2)}
    own = {int(operation.removeprefix("add:")) for _, operation in ALONE}
    assert len(own) == len(ALONE) == 6
    assert not own & rule


@pytest.mark.parametrize("complexity", [0, 3, 6])
def test_operations_stay_equally_frequent(complexity: int) -> None:
    rule = {f"{one},{other}": OFFSETS[one] + OFFSETS[other] for one, other in product("abcd", repeat=2)}
    changed = rule | {pair: int(text.removeprefix("add:")) for pair, text in overrides(GROUPS[:complexity]).items()}
    assert sorted(changed.values()) == sorted(rule.values())


def test_the_first_step_with_all_rows_right_counts() -> None:
    rows = [(step, "train", "", "accuracy", value) for step, value in ((0, 0.1), (5, 0.9), (10, 1.0), (15, 0.99))]
    other = [(5, "test", "", "accuracy", 1.0), (5, "train", "", "loss", 1.0), (5, "train", "a,b", "accuracy", 1.0)]
    assert steps_to_fit(pd.DataFrame(rows + other, columns=COLUMNS)) == 10
    assert steps_to_fit(pd.DataFrame(rows[:2] + other, columns=COLUMNS)) == math.inf


def test_growth_is_a_mean_factor_over_depths() -> None:
    table = epochs({"large": 1.1, "small": 3.0})
    table.loc[(table["weights"] == "small") & (table["complexity"] == 6) & (table["depth"] == 4), "epochs"] *= 4
    values = {(one.seed, one.quantity): one.value for one in growth_values(table)}
    assert len(values) == 6
    assert values[1, "growth_large"] == pytest.approx(1.1)
    assert values[2, "growth_small"] == pytest.approx(6)  # geometric mean of 3 and 12


def test_growth_without_a_fit() -> None:
    table = epochs({"large": 1.0, "small": 1.0})
    table.loc[(table["complexity"] == 6) & (table["weights"] == "small"), "epochs"] = math.inf
    table.loc[(table["complexity"] == 0) & (table["weights"] == "large"), "epochs"] = math.inf
    values = {one.quantity: one.value for one in growth_values(table)}
    assert values["growth_small"] == math.inf
    assert math.isnan(values["growth_large"])


@pytest.mark.parametrize(
    ("growth", "verdict"),
    [
        ({"large": 1.0, "small": 2.5}, "holds"),
        ({"large": 2.5, "small": 2.5}, "fails"),
        ({"large": 1.0, "small": 1.0}, "fails"),
    ],
)
def test_flat_and_rising_are_told_apart(growth: dict[str, float], verdict: str) -> None:
    assert decide(get("fig13.17").claim, growth_values(epochs(growth))).verdict == verdict


def test_kinds_of_pairs_and_epochs() -> None:
    table = pairs({"a,b": 1500, "c,c": 9999}).set_index("pair")
    assert table.loc[["a,b", "b,a"], "kind"].unique().tolist() == [BROKEN]
    assert table.loc[["a,a", "b,b"], "kind"].unique().tolist() == [SAME]
    assert (table["kind"] == OTHER).sum() == 12
    assert table.loc["a,b", "epochs"] == pytest.approx(15)
    assert table.loc["d,d", "epochs"] == pytest.approx(4)
    assert table.loc["b,b", ["epochs", "control"]].tolist() == pytest.approx([4, 6])
    assert table.loc["c,c", "epochs"] == math.inf


def test_four_slow_pairs_hold_and_other_ones_fail() -> None:
    source = values_of(pairs({"a,b": 1500, "b,a": 1400, "a,a": 1000, "b,b": 900}))
    assert source["lead_broken"] == pytest.approx(3.5)
    assert source["lead_same"] == pytest.approx(2.25)
    assert (source["recall"], source["precision"], source["precision_kin"]) == (1, 0.5, 1)
    assert source["delay_broken"] == pytest.approx(math.sqrt(1500 * 1400) / 400)
    assert source["delay_same"] == pytest.approx(math.sqrt(1000 / 400 * 900 / 600))
    assert source["delay_other"] == pytest.approx(1)
    elsewhere = values_of(pairs({"c,d": 1500, "a,b": 1600}))
    assert elsewhere["lead_broken"] == pytest.approx(400 / 1500)
    assert (elsewhere["recall"], elsewhere["precision_kin"]) == (0.5, 0.5)
    claim = get("fig13.19").claim
    for measured, verdict in ((source, "holds"), (elsewhere, "fails")):
        values = [Value(seed, *item) for item in measured.items() for seed in range(claim.seeds)]
        assert decide(claim, values).verdict == verdict


def test_pairs_that_are_never_learned() -> None:
    late = values_of(pairs({"a,b": 9999, "b,a": 9999}))
    assert late["lead_broken"] == math.inf
    assert late["recall"] == 1
    assert math.isnan(values_of(pairs({"c,c": 9999, "a,b": 9999}))["lead_broken"])
    assert math.isnan(values_of(pairs({}))["precision_kin"])


def test_figures_mark_what_was_never_reached() -> None:
    table = epochs({"large": 1.0, "small": 3.0})
    table.loc[(table["complexity"] == 6) & (table["depth"] == 4), "epochs"] = math.inf
    figure = get("fig13.17").figure({"epochs": table})
    assert "never fitted" in figure.legends[0].get_title().get_text()
    assert [axes.get_title() for axes in figure.axes] == [
        "large initial weights (γ = 0.5)",
        "small initial weights (γ = 0.5)",
    ]
    figure = get("fig13.19").figure({"pairs": pairs({"a,b": 1500, "b,a": 9999, "a,a": 1000})})
    (axes,) = [one for one in figure.axes if one.get_visible() and one.patches]
    assert [label.get_text() for label in axes.get_yticklabels()][-3:] == ["(a,a)", "(a,b)", "(b,a)"]
