import math

import numpy as np
import pandas as pd
import pytest

from anchorlab import tasks
from anchorlab.analysis.readout import Readout
from anchorlab.reproduce import get
from anchorlab.reproduce.chapter12.composite import (
    ANSWER,
    DEEP,
    OTHER,
    SHALLOW,
    TWICE,
    accuracy_by_epoch,
    before_the_end,
    example_rows,
    final_shares,
    generalization_values,
    output_values,
)

TASK = tasks.create("composite")  # a: +5, b: +1, c: -2, d: -8
ROWS = TASK.sample("test", 100, seed=1).tokens


def test_accuracy_of_whole_splits_by_epoch():
    rows = [
        (10, "test", "", "accuracy", 0.5),
        (10, "test", "a,b", "accuracy", 0.1),
        (10, "test", "", "loss", 3.0),
        (20, "ood", "", "accuracy", 0.25),
    ]
    table = accuracy_by_epoch(pd.DataFrame(rows, columns=["step", "split", "group", "metric", "value"]), batch=0.1)
    assert table.to_numpy().tolist() == [[1, "test", 0.5], [2, "ood", 0.25]]


def history(data: list[float], task: list[float]) -> pd.DataFrame:
    epochs = range(1, len(data) + 1)
    tables = [
        pd.DataFrame({"epoch": epochs, "split": split, "accuracy": values})
        for split, values in (("test", data), ("ood", task))
    ]
    return pd.concat(tables)


def quantities(data: list[float], task: list[float]) -> dict[str, float]:
    return {value.quantity: value.value for value in generalization_values(0, history(data, task), 0.99)}


def test_delay_is_the_ratio_of_the_first_epochs():
    found = quantities([0.1, 1.0, 0.8, 1.0], [0.1, 0.2, 0.9, 1.0])
    assert found == {"data": 1.0, "task": 1.0, "delay": 2.0}


def test_delay_of_what_is_never_learned():
    assert quantities([1.0], [0.4])["delay"] == math.inf
    assert math.isnan(quantities([0.3], [1.0])["delay"])


def test_stability_compares_all_positions_from_the_second_anchor_on():
    rows = [
        (DEEP, "anchor 1", 0.8, 30),
        (DEEP, "anchor 2", 0.7, 30),
        (DEEP, "after", 0.9, 90),
        (DEEP, "last", 1.0, 30),
        (SHALLOW, "anchor 1", 0.0, 30),
        (SHALLOW, "anchor 2", 0.1, 30),
        (SHALLOW, "after", 0.5, 90),
        (SHALLOW, "last", 1.0, 30),
    ]
    table = pd.DataFrame(rows, columns=["depth", "place", "share", "positions"]).assign(seed=3)
    found = {value.quantity: value.value for value in output_values(table)}
    assert found == pytest.approx({"first anchor": 0.8, "second anchor": 0.7, "holding": 0.85, "stability": 0.45})


def test_rows_with_an_anchor_at_the_trained_position_are_left_out():
    ends = np.array([set(row[-1:]) <= set(TASK.single_anchors) for row in ROWS.tolist()])
    assert 0 < ends.sum() < len(ROWS)
    assert before_the_end(TASK, ROWS).tolist() == ROWS[~ends].tolist()


def test_shares_are_those_of_the_last_layer_and_of_what_the_source_reports():
    columns = ["layer", "place", "positions", ANSWER, TWICE, "none"]
    rows = [
        (layer, place, 10, 0.1 * number + layer / 100, 0.2 * number, 0.0)
        for layer in (0, 1, 2)
        for number, place in enumerate(["anchor 1", "anchor 2", "after", "last"], start=1)
    ]
    found = final_shares(
        Readout(pd.DataFrame(rows, columns=columns), pd.DataFrame(), (ANSWER, TWICE), ("anchor 1",), 2, 10, 10)
    )
    assert found["place"].tolist() == ["anchor 1", "anchor 2", "after", "last"]
    assert found["share"].tolist() == pytest.approx([0.2, 0.22, 0.32, 0.42])


def test_examples_mark_the_outputs_that_the_source_reports():
    found = TASK.locate(ROWS)
    first = np.arange(9) == found.anchor_positions[:, :1]
    offsets = {anchor: operation.apply(np.array([[0]]))[0] for anchor, operation in TASK.single_anchors.items()}
    twice = found.key + 2 * np.array([offsets[anchor] for anchor in found.anchors[:, 0]])
    outputs = np.where(first, twice[:, None], TASK.solve(ROWS)[:, None])
    examples = example_rows(TASK, ROWS, outputs, 3)
    assert examples["row"].max() == 2
    for _, row in examples.groupby("row"):
        assert row["token"].isin(list("abcd")).sum() == 2
        at = row["token"].isin(list("abcd")).to_numpy().argmax()
        assert row["reading"].tolist()[at:] == [TWICE] + [ANSWER] * (len(row) - at - 1)
        assert set(row["reading"][:at]) <= {OTHER}
    wrong = example_rows(TASK, ROWS, outputs + 1, 3)
    assert set(wrong["reading"]) == {OTHER}


def test_figure_of_generalization_has_a_curve_for_every_split():
    (axes,) = get("fig12.9").figure({"curves": history([0.1, 1.0], [0.0, 0.5]).assign(seed=0)}).axes
    assert [line.get_label() for line in axes.lines] == ["test rows of trained pairs (data)", "the unseen pair (task)"]


def test_figure_of_outputs_has_rows_and_bars():
    places = [("anchor 1", TWICE), ("anchor 2", ANSWER), ("after", ANSWER), ("last", ANSWER)]
    table = pd.DataFrame(
        [
            (place, reading, 0.5, depth, layers, 0)
            for place, reading in places
            for depth, layers in ((DEEP, 4), (SHALLOW, 2))
        ],
        columns=["place", "reading", "share", "depth", "layers", "seed"],
    )
    examples = example_rows(TASK, ROWS, np.zeros_like(ROWS), 3)
    left, right = get("fig12.8").figure({"shares": table, "examples": examples}).axes
    assert len(left.texts) == 2 * 3 * 9
    assert [bar.get_height() for bar in right.patches] == [0.5] * 8
