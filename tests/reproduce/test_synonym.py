import math

import pandas as pd
import pytest

from anchorlab.reproduce import get
from anchorlab.reproduce.chapter12.synonym import (
    RARE,
    SYNONYM,
    WITH,
    WITHOUT,
    accuracy_curves,
    final_accuracy,
    lag_values,
    size_values,
)

COLUMNS = ["step", "split", "group", "metric", "value"]


def test_curves_are_means_over_the_two_orders_of_a_pair():
    rows = [
        (step, split, group, "accuracy", value * step / 10)
        for step in (0, 10)
        for split, group, value in [
            ("ood", "4,9", 0.2),
            ("ood", "9,4", 0.4),
            ("ood", "", 0.9),
            ("test", "4,3", 0.6),
            ("test", "3,4", 1.0),
            ("test", "1,2", 0.1),
            ("train", "4,3", 0.0),
        ]
    ]
    curves = accuracy_curves(pd.DataFrame([*rows, (10, "ood", "4,9", "loss", 5.0)], columns=COLUMNS), batch=0.5)
    last = curves[curves["epoch"] == 5].set_index("pairs")["accuracy"]
    assert last.to_dict() == pytest.approx({RARE: 0.3, SYNONYM: 0.8})


def test_curves_without_the_synonym_have_only_the_unseen_pairs():
    rows = [(0, "ood", "4,9", "accuracy", 0.5), (0, "ood", "9,4", "accuracy", 0.5)]
    assert accuracy_curves(pd.DataFrame(rows, columns=COLUMNS), batch=1)["pairs"].tolist() == [RARE]


def planted(data: str, rows: int, seed: int, rare: dict[int, float]) -> pd.DataFrame:
    return pd.DataFrame(
        {"data": data, "rows": rows, "seed": seed, "epoch": list(rare), "pairs": RARE, "accuracy": list(rare.values())}
    )


def test_without_the_synonym_the_best_size_counts_and_with_it_the_largest():
    curves = pd.concat(
        [
            planted(WITHOUT, 100, 0, {0: 0.0, 9: 0.3}),
            planted(WITHOUT, 200, 0, {0: 0.9, 9: 0.1}),
            planted(WITH, 100, 0, {0: 0.0, 9: 0.8}),
            planted(WITH, 200, 0, {9: 0.7, 0: 0.0}),
        ]
    )
    found = {value.quantity: value.value for value in size_values(final_accuracy(curves))}
    assert found == {"without": 0.3, "with": 0.7}


def both(rare: list[float], synonym: list[float]) -> pd.DataFrame:
    epochs = range(1, len(rare) + 1)
    tables = [
        pd.DataFrame({"rows": 300, "seed": 2, "epoch": epochs, "pairs": pairs, "accuracy": accuracy})
        for pairs, accuracy in ((RARE, rare), (SYNONYM, synonym))
    ]
    return pd.concat(tables)


def test_lag_is_the_ratio_of_the_first_epochs_that_reach_the_accuracy():
    (value,) = lag_values(both([0, 0.2, 0.4, 0.9], [0, 0.9, 0.5, 1.0]), 0.9)
    assert (value.seed, value.quantity, value.value) == (2, "lag at 300", 2)


def test_lag_counts_parts_of_the_distance_of_evaluations():
    (value,) = lag_values(both([0, 0.4, 0.8], [0, 0.5, 1.0]), 0.6)
    assert value.value == pytest.approx(2.5 / 2.2)
    (value,) = lag_values(both([1, 1], [0.9, 1]), 0.9)
    assert value.value == 1


def test_lag_of_what_is_never_learned():
    assert lag_values(both([0, 0.2], [0, 0.9]), 0.9)[0].value == math.inf
    assert math.isnan(lag_values(both([0, 0.9], [0, 0.2]), 0.9)[0].value)


def test_figure_has_a_panel_for_the_sizes_and_for_every_shown_size():
    sizes = pd.DataFrame({"data": [WITH, WITHOUT], "rows": 300, "seed": 0, "accuracy": [1.0, 0.1]})
    curves = both([0, 1], [1, 1])
    left, *right = get("fig12.11").figure({"sizes": sizes, "curves": pd.concat([curves, curves.assign(rows=400)])}).axes
    assert [line.get_label() for line in left.lines] == [WITH, WITHOUT]
    assert [axes.get_title() for axes in right] == [f"with the synonym, M = {rows}" for rows in (300, 400)]
    assert [line.get_label() for line in right[0].lines] == [RARE, SYNONYM]
