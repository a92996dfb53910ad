"""Figures 13.14A, 13.14B and 13.16: planted leads and convergence come out as such, from rows of the right kind."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from anchorlab.corpora import cogs, scan
from anchorlab.engine import Run
from anchorlab.errors import InputError
from anchorlab.reproduce import Study, Value, decide
from anchorlab.reproduce.chapter13 import compositional, deduction
from anchorlab.reproduce.chapter13.compositional import cogs_splits, lead_values, level_values, scan_splits
from anchorlab.reproduce.chapter13.deduction import curve_values

SCAN, COGS = compositional.REPRODUCTIONS
(DEDUCTION,) = deduction.REPRODUCTIONS


def study(tmp_path: Path, settings: Mapping[str, Any], **changes: Any) -> Study:
    return Study(scale="smoke", settings={**settings, **changes}, folder=tmp_path, runs=tmp_path / "runs")


def accuracies(small: list[float], large: list[float], split: str, seeds: int = 3) -> pd.DataFrame:
    """A row for every data size 100, 1000, …, complexity and seed, and a group that is no result of all rows."""
    levels = {("small", 100 * 10**place): level for place, level in enumerate(small)}
    levels |= {("large", 100 * 10**place): level for place, level in enumerate(large)}
    rows = [
        (rows, complexity, seed, split, group, value)
        for (complexity, rows), level in levels.items()
        for seed in range(seeds)
        for group, value in {"": level, "a case": 0.0}.items()
    ]
    columns = ["rows", "complexity", "seed", "split", "group", "accuracy"]
    return pd.DataFrame(rows, columns=columns).sample(frac=1, random_state=0)


@pytest.mark.parametrize(
    ("small", "large", "least", "greatest", "failing"),
    [
        ([0.5, 0.9], [0.2, 0.8], 0.1, 0.3, set()),
        ([0.01, 0.9, 1.0], [0.02, 0.4, 1.0], -0.01, 0.5, set()),
        ([0.5, 0.7], [0.2, 0.9], -0.2, 0.3, {"least lead on test"}),
        ([0.5, 0.93], [0.48, 0.9], 0.02, 0.03, {"greatest lead on test"}),
        ([0.2, 0.8], [0.5, 0.9], -0.3, -0.1, {"least lead on test", "greatest lead on test"}),
    ],
)
def test_scan_needs_a_lead_at_one_data_size_and_at_none_the_opposite(
    small: list[float], large: list[float], least: float, greatest: float, failing: set[str]
) -> None:
    values = lead_values(accuracies(small, large, "test"), "test")
    assert [one.value for one in values if one.quantity == "least lead on test"] == pytest.approx([least] * 3)
    assert [one.value for one in values if one.quantity == "greatest lead on test"] == pytest.approx([greatest] * 3)
    found = decide(SCAN.claim, values)
    assert {one.condition.quantity for one in found.conditions if one.verdict == "fails"} == failing
    assert found.verdict == ("fails" if failing else "holds")


@pytest.mark.parametrize(
    ("id_large", "ood_large", "failing"),
    [
        (1.0, [0.1, 0.5], set()),
        (1.0, [0.1, 0.8], set()),
        (0.9, [0.1, 0.5], {"test large"}),
        (1.0, [0.1, 0.9], {"least lead on ood"}),
        (1.0, [0.38, 0.78], {"greatest lead on ood"}),
    ],
)
def test_cogs_needs_equal_levels_and_a_lead_out_of_distribution(
    id_large: float, ood_large: list[float], failing: set[str]
) -> None:
    table = pd.concat([accuracies([0.4, 1.0], [0.3, id_large], "test"), accuracies([0.4, 0.8], ood_large, "ood")])
    found = decide(COGS.claim, [*level_values(table), *lead_values(table, "ood")])
    assert {one.condition.quantity for one in found.conditions if one.verdict == "fails"} == failing


BUDGET = 3000


def networks(steps: dict[str, list[float]], tests: dict[str, list[float]], seeds: int = 3) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "rows": 10**place,
                "complexity": name,
                "seed": seed,
                "steps": steps[name][place],
                "last": min(steps[name][place], BUDGET),
                "test": test,
            }
            for name, levels in tests.items()
            for place, test in enumerate(levels)
            for seed in range(seeds)
        ]
    ).sample(frac=1, random_state=0)


PUBLISHED = {"large": [200.0, 900.0, 400.0], "small": [150.0, 300.0, 250.0]}
TESTS = {"large": [0.5, 0.6, 0.98], "small": [0.6, 0.95, 1.0]}


def test_the_published_convergence_holds() -> None:
    values = curve_values(networks(PUBLISHED, TESTS))
    assert {one.quantity: one.value for one in values if one.seed == 1} == pytest.approx(
        {"rise": 4.5, "fall": 2.25, "slower": 0.75, "least lead": 0.02, "greatest lead": 0.35}
    )
    assert decide(DEDUCTION.claim, values).verdict == "holds"


@pytest.mark.parametrize(
    ("steps", "tests", "failing"),
    [
        ({"large": [200.0, 400.0, 900.0]}, {}, {"fall"}),
        ({"large": [900.0, 400.0, 200.0]}, {}, {"rise", "slower"}),
        ({"small": [150.0, 300.0, 500.0]}, {}, {"slower"}),
        ({}, {"small": [0.5, 0.6, 0.99]}, {"greatest lead"}),
        ({}, {"small": [0.6, 0.5, 1.0]}, {"least lead"}),
    ],
)
def test_what_is_missing_fails_and_nothing_else(
    steps: dict[str, list[float]], tests: dict[str, list[float]], failing: set[str]
) -> None:
    found = decide(DEDUCTION.claim, curve_values(networks(PUBLISHED | steps, TESTS | tests)))
    assert {one.condition.quantity for one in found.conditions if one.verdict == "fails"} == failing


@pytest.mark.parametrize(
    ("large", "small", "rise", "fall", "slower"),
    [
        # Nothing says that the curve falls again, however far the budget is above the first point.
        ([300.0, math.inf, math.inf], [150.0, 300.0, 250.0], 10, 1, 0.5),
        ([300.0, math.inf, 1500.0], [150.0, 300.0, 250.0], 10, 2, 0.5),
        ([math.inf, 1500.0, 300.0], [150.0, 300.0, 250.0], 1, 10, 0.25 / 0.3),
        # One that does not converge is slower than one that does, never than one that does not either.
        ([300.0, 900.0, 450.0], [150.0, math.inf, 225.0], 3, 2, 3000 / 900),
        ([300.0, math.inf, 450.0], [150.0, math.inf, 225.0], 10, 3000 / 450, 0.5),
        ([math.inf] * 3, [100.0, math.inf, 50.0], math.nan, math.nan, 100 / 3000),
        ([math.inf] * 3, [math.inf] * 3, math.nan, math.nan, math.nan),
    ],
)
def test_what_does_not_converge_needs_at_least_all_steps(
    large: list[float], small: list[float], rise: float, fall: float, slower: float
) -> None:
    table = networks({"large": large, "small": small}, TESTS)
    found = {one.quantity: one.value for one in curve_values(table) if one.seed == 0}
    expected = {"rise": rise, "fall": fall, "slower": slower}
    assert {name: found[name] for name in expected} == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("large", "failing"), [([300.0, math.inf, math.inf], {"fall"}), ([300.0, math.inf, 1500.0], set())]
)
def test_a_fall_is_seen_only_where_training_converges_again(large: list[float], failing: set[str]) -> None:
    found = decide(DEDUCTION.claim, curve_values(networks(PUBLISHED | {"large": large}, TESTS)))
    assert {one.condition.quantity for one in found.conditions if one.verdict == "fails"} == failing
    assert found.verdict == ("fails" if failing else "holds")


class _History(Run):
    """A run of which only the history is known."""

    def __init__(self, accuracies: Mapping[int, tuple[float, float]]):
        super().__init__(Path())
        self._rows = [
            (step, split, "", "accuracy", value)
            for step, pair in accuracies.items()
            for split, value in zip(("train", "test"), pair, strict=True)
        ]

    def metrics(self) -> pd.DataFrame:
        return pd.DataFrame(self._rows, columns=["step", "split", "group", "metric", "value"])


def test_convergence_is_the_first_evaluation_that_reaches_the_level() -> None:
    histories = {
        "small": _History({0: (0.5, 0.5), 100: (0.99, 0.8), 200: (0.98, 0.9)}),
        "large": _History({0: (0.5, 0.5), 100: (0.9, 0.6), 200: (0.98, 0.7)}),
    }
    runs = {deduction._Member(10, name, 0): run for name, run in histories.items()}
    table = deduction.result_table(runs, 0.99).set_index("complexity")
    assert table["steps"].to_dict() == {"small": 100, "large": math.inf}
    assert table["last"].to_dict() == {"small": 200, "large": 200}
    assert table["test"].to_dict() == {"small": 0.9, "large": 0.7}


def test_the_last_accuracies_are_taken() -> None:
    member = compositional._Member(10, "small", 0)
    table = compositional.accuracy_table({member: _History({0: (0.1, 0.0), 50: (0.9, 0.8)})})
    assert table.set_index("split")["accuracy"].to_dict() == {"train": 0.9, "test": 0.8}


def test_scan_rows_are_short_enough_and_differ_between_trials(tmp_path: Path) -> None:
    found = [scan_splits(study(tmp_path, SCAN.scales["smoke"]), 60, seed) for seed in (0, 1)]
    for splits in found:
        assert [len(pairs) for pairs in splits.values()] == [60, 50]
        assert all(len(f"{one.source} {one.target}".split()) <= 12 for part in splits.values() for one in part)
        assert all("turn left" in pair.source for pair in splits["test"])
    assert found[0]["train"] != found[1]["train"]


@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
def test_the_lone_primitive_is_a_tenth_of_the_scan_rows_whatever_their_length(tmp_path: Path, scale: str) -> None:
    settings = SCAN.scales[scale]
    short = [pair for pair in scan.pairs() if len(f"{pair.source} {pair.target}".split()) <= settings["longest"]]
    others = sum("turn left" not in pair.source for pair in short)
    every = others + math.ceil(others / 9)
    found = scan_splits(study(tmp_path, settings), every, 0)["train"]
    assert sum(pair.source == "turn left" for pair in found) == every - others
    assert len({pair for pair in found if "turn left" not in pair.source}) == others
    with pytest.raises(InputError, match="count"):
        scan_splits(study(tmp_path, settings), every + 1, 0)


def test_published_files_take_the_place_of_the_generators(tmp_path: Path) -> None:
    short = [pair for pair in scan.pairs() if len(f"{pair.source} {pair.target}".split()) <= 12]
    for part, pairs in {"train": short[:80], "test": short[80:90]}.items():
        lines = [f"IN: {pair.source} OUT: {pair.target}" for pair in pairs]
        (tmp_path / f"tasks_{part}_addprim_turn_left.txt").write_text("\n".join(lines))
    found = scan_splits(study(tmp_path, SCAN.scales["smoke"], files=str(tmp_path)), 50, 0)
    assert set(found["train"]) < set(short[:80])
    assert set(found["test"]) == set(short[80:90])

    made = cogs.generate(train_rows=150, test_rows=5, ood_rows=1, exposures=2)
    for name, part in {"train": "train", "test": "test", "gen": "ood"}.items():
        lines = [f"{pair.source}\t{pair.target}\t{pair.group or 'none'}" for pair in made[part]]
        (tmp_path / f"{name}.tsv").write_text("\n".join(lines))
    read = cogs_splits(study(tmp_path, COGS.scales["smoke"], files=str(tmp_path)), 100, 0)
    assert len(read["train"]) == 100
    assert read["test"] == [pair._replace(target=cogs.compact(pair.target)) for pair in made["test"]]
    assert {pair.group for pair in read["ood"]} == {case.name for case in cogs.CASES}
    with pytest.raises(InputError, match="cannot be read"):
        cogs_splits(study(tmp_path, COGS.scales["smoke"], files=str(tmp_path / "none")), 100, 0)


def test_figures_draw_a_line_for_every_complexity() -> None:
    table = pd.concat([accuracies([0.4, 1.0], [0.3, 1.0], split) for split in ("test", "ood")])
    panels = {"a": SCAN.figure({"accuracies": table}), "b": COGS.figure({"accuracies": table})}
    assert [len(figure.axes) for figure in panels.values()] == [1, 2]
    for axes in (*panels["a"].axes, *panels["b"].axes):
        assert [list(line.get_xdata()) for line in axes.get_lines()] == [[100, 1000]] * 2
    steps, tests = DEDUCTION.figure({"networks": networks(PUBLISHED, TESTS)}).axes
    for axes, levels in ((steps, PUBLISHED), (tests, TESTS)):
        drawn = sorted(list(line.get_ydata()) for line in axes.get_lines()[:2])
        assert np.allclose(drawn, sorted(levels.values()))


def test_sizes_that_never_converge_have_no_point() -> None:
    steps = PUBLISHED | {"large": [200.0, math.inf, 400.0]}
    drawn = DEDUCTION.figure({"networks": networks(steps, TESTS)}).axes[0].get_lines()
    assert sorted(len(line.get_xdata()) for line in drawn) == [2, 3]


def test_values_are_named_as_the_claims_name_them() -> None:
    table = pd.concat([accuracies([1.0], [1.0], split) for split in ("test", "ood")])
    for claim, values in [
        (SCAN.claim, lead_values(table, "test")),
        (COGS.claim, [*level_values(table), *lead_values(table, "ood")]),
        (DEDUCTION.claim, curve_values(networks(PUBLISHED, TESTS))),
    ]:
        assert {one.quantity for one in claim.conditions} == {one.quantity for one in values}
        assert all(isinstance(one, Value) for one in values)
