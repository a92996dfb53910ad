"""Windows of weight decay: planted accuracies come out each way."""

from itertools import product

import pandas as pd
import pytest

from anchorlab.reproduce import decide
from anchorlab.reproduce.chapter13.composite_runs import experiment
from anchorlab.reproduce.chapter13.windows import REPRODUCTIONS, window_values

(WINDOWS,) = REPRODUCTIONS
PUBLISHED = {"never": 0.15, "always": 0.91, "0% to 25%": 0.15, "25% to 50%": 0.93}


def networks(ood: dict[str, float]) -> pd.DataFrame:
    rows = product(ood.items(), range(3))
    return pd.DataFrame(
        [
            {"window": window, "seed": seed, "id_accuracy": 1.0, "ood_accuracy": value + 0.01 * seed}
            for (window, value), seed in rows
        ]
    )


def test_values_compare_the_best_part_with_the_whole_and_with_the_worst() -> None:
    found = {one.quantity: one.value for one in window_values(networks(PUBLISHED)) if one.seed == 1}
    assert found == pytest.approx(
        {"always less never": 0.76, "best part less always": 0.02, "best part less worst": 0.78}
    )


@pytest.mark.parametrize(
    ("changed", "failing"),
    [
        ({}, set()),
        ({"25% to 50%": 0.2}, {"best part less worst"}),
        ({"0% to 25%": 0.93}, {"best part less worst"}),
        ({"never": 0.9}, {"always less never"}),
    ],
)
def test_a_claim_fails_where_decay_or_its_time_does_not_matter(changed: dict[str, float], failing: set[str]) -> None:
    found = decide(WINDOWS.claim, window_values(networks(PUBLISHED | changed)))
    assert {one.condition.quantity for one in found.conditions if one.verdict == "fails"} == failing
    assert found.verdict == ("fails" if failing else "holds")


def test_the_figure_names_every_window_in_both_panels() -> None:
    table = networks(PUBLISHED)
    history = pd.concat(
        [
            table.assign(step=step, value=table["ood_accuracy"] * step / 20)[["step", "value", "window", "seed"]]
            for step in (0, 10, 20)
        ]
    )
    left, right = WINDOWS.figure({"networks": table, "history": history}).axes
    assert [label.get_text() for label in left.get_xticklabels()] == list(PUBLISHED)
    assert [text.get_text() for text in right.get_legend().get_texts()] == list(PUBLISHED)


@pytest.mark.parametrize("scale", WINDOWS.scales)
def test_settings_of_every_scale_are_those_of_a_training(scale: str) -> None:
    settings = WINDOWS.settings(scale)
    rate, decay = settings["place"]
    for window in settings["windows"]:
        one = experiment(settings["training"], (rate, decay), 0, weight_decay_window=window)
        assert one.weight_decay_window == tuple(window)
