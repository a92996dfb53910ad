import numpy as np
import pandas as pd
import pytest

from anchorlab.analysis.learning_speed import learning_speed
from anchorlab.errors import InputError

COLUMNS = ["step", "split", "group", "metric", "value"]
PAIRS = [f"{first},{second}" for first in "abcd" for second in "abcd"]


def history(learned: dict[str, float], *, every: int = 100, last: int = 6000, split: str = "train") -> pd.DataFrame:
    """Every group's accuracy rises along a logistic curve that crosses 60 % at its step."""
    steps = np.arange(0, last + 1, every)
    rows = [
        (step, split, group, "accuracy", 0.6 * 2 / (1 + np.exp(-10 * (step / at - 1))) if step < 2 * at else 1.0)
        for group, at in learned.items()
        for step in steps.tolist()
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def alike(spread: float, seed: int, at: float = 1500) -> dict[str, float]:
    draws = np.random.default_rng(seed).normal(size=len(PAIRS))
    return {pair: at * float(np.exp(spread * draw)) for pair, draw in zip(PAIRS, draws, strict=True)}


def test_first_step_at_the_threshold_lies_behind_the_true_one():
    learned = alike(0.4, seed=0)
    table = learning_speed(history(learned)).table.set_index("group")
    for group, at in learned.items():
        assert table.loc[group, "below"] < at <= table.loc[group, "step"]
        assert table.loc[group, "step"] - table.loc[group, "below"] == 100
    assert table["step"].is_monotonic_increasing


def test_resolution_is_the_distance_of_recorded_steps():
    speed = learning_speed(history(alike(0.1, seed=0), every=250))
    assert (speed.resolution, speed.last_step) == (250, 6000)
    table = pd.DataFrame([(step, "train", "a", "accuracy", 0.9) for step in (0, 10, 70, 100)], columns=COLUMNS)
    assert learning_speed(table).resolution == 60
    assert learning_speed(table[:1]).resolution == 0


def test_reaching_once_counts_though_accuracy_falls_again():
    values = [0.0, 0.6, 0.3, 1.0, 0.5]
    rows = [(step, "train", "a", "accuracy", value) for step, value in enumerate(values)]
    table = learning_speed(pd.DataFrame(rows[::-1], columns=COLUMNS)).table
    assert table.loc[0, ["step", "below", "final_accuracy"]].tolist() == [1, 0, 0.5]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spread", [0, 0.05, 0.1])
def test_the_pairs_of_a_broken_rule_are_flagged(seed, spread):
    learned = alike(spread, seed)
    for pair in ("a,b", "b,a", "a,a", "b,b"):  # those of figure 13.19
        learned[pair] *= 2.5
    assert sorted(learning_speed(history(learned)).slow) == ["a,a", "a,b", "b,a", "b,b"]


def test_one_pair_that_is_never_learned_is_flagged():
    speed = learning_speed(history(alike(0.1, seed=1) | {"c,d": 90_000}))
    assert speed.slow == ["c,d"]
    last = speed.table.iloc[-1]
    assert (last["group"], last["below"]) == ("c,d", 6000)
    assert pd.isna(last["step"])


def test_equal_speeds_flag_nothing():
    speed = learning_speed(history(alike(0, seed=0)))
    assert speed.slow == []
    assert speed.median_step == pytest.approx(1500)
    assert speed.slow_after == pytest.approx(2250)


@pytest.mark.parametrize(("spread", "most"), [(0.05, 0), (0.1, 1), (0.3, 8)])
def test_noise_is_rarely_flagged(spread, most):
    flagged = [bool(learning_speed(history(alike(spread, seed))).slow) for seed in range(50)]
    assert sum(flagged) <= most


def test_neither_a_coarse_record_nor_an_early_end_makes_a_pair_slow():
    learned = dict.fromkeys(PAIRS, 490.0) | {"a,b": 510.0}
    assert learning_speed(history(learned, every=500)).slow == []  # recorded at 500 and 1000
    assert learning_speed(history(alike(0, seed=0) | {"a,b": 9000}, last=1900)).slow == []
    assert learning_speed(history(alike(0, seed=0) | {"a,b": 9000}, last=2400)).slow == ["a,b"]


def test_nothing_is_slow_where_half_of_the_groups_never_got_there():
    speed = learning_speed(history({"a,a": 100, "a,b": 9e5, "b,a": 9e5, "b,b": 200}))
    assert speed.slow == []
    assert speed.median_step == speed.slow_after == np.inf


def test_groups_that_start_above_have_no_step_before():
    table = learning_speed(history({"a": 1500})).table
    above = pd.DataFrame([(step, "train", "b", "accuracy", 1.0) for step in (0, 100)], columns=COLUMNS)
    both = learning_speed(pd.concat([history({"a": 1500, "c": 1500}), above])).table
    assert table["below"].tolist() == [1400]
    assert both.loc[0, ["group", "step", "final_accuracy"]].tolist() == ["b", 0, 1.0]
    assert pd.isna(both.loc[0, "below"])


def test_other_splits_metrics_and_the_whole_do_not_count():
    learned = alike(0.1, seed=2)
    noise = history(dict.fromkeys(PAIRS, 10), split="test")
    loss = history(dict.fromkeys(PAIRS, 10)).assign(metric="loss")
    table = pd.concat([history(learned), noise, loss, history({"": 10})])
    assert learning_speed(table).table.equals(learning_speed(history(learned)).table)
    assert learning_speed(table, split="test").table["step"].eq(100).all()


def test_the_threshold_moves_the_step():
    low, high = (learning_speed(history({"a": 1500}), threshold=value).table["step"][0] for value in (0.3, 0.9))
    assert low < 1500 < high


def test_a_history_without_groups_is_refused():
    table = history({"": 1000})
    with pytest.raises(InputError, match=r"split='train': no accuracy by group .*splits with groups: none"):
        learning_speed(table)
    with pytest.raises(InputError, match=r"split='ood': .*splits with groups: train"):
        learning_speed(history({"a,b": 1000}), split="ood")
    with pytest.raises(InputError, match="no accuracy by group"):
        learning_speed(pd.DataFrame(columns=COLUMNS))


@pytest.mark.parametrize(
    ("setting", "value"), [("threshold", 0), ("threshold", 1.1), ("deviations", 0), ("ratio", 0.9), ("ratio", np.nan)]
)
def test_settings_out_of_range_are_refused(setting, value):
    with pytest.raises(InputError, match=f"{setting}="):
        learning_speed(history({"a,b": 1000}), **{setting: value})
