"""Many anchors: accuracies of planted answers, verdicts, and the figure."""

import numpy as np
import pandas as pd
import pytest

from anchorlab import tasks
from anchorlab.reproduce import decide, get
from anchorlab.reproduce.chapter12.multi_anchor import accuracy_by_anchor, anchor_values


def planted(inside: float, boundary: float) -> pd.DataFrame:
    anchors = [str(anchor) for anchor in range(1, 11)]
    return pd.DataFrame(
        {"anchor": anchors, "accuracy": [boundary if anchor in {"1", "2", "10"} else inside for anchor in anchors]}
    )


def test_rows_whose_label_is_in_no_training_row_do_not_count():
    task = tasks.create("multi_anchor")
    rows = task.sample("test", 4000, 0)
    assert 21 not in task.sample("train", 100_000, 0).label
    found = np.where((rows.label == 21) | (rows.label % 2 == 0), 0, rows.label)
    table = accuracy_by_anchor(task, rows, found).set_index("anchor")["accuracy"]
    one = rows.label[np.array([task.group_names[group] == "1" for group in rows.group])]
    assert (one == 21).any()
    assert table["1"] == pytest.approx((one[one != 21] % 2).mean())
    assert set(table.index) == {str(anchor) for anchor in range(1, 11)}


@pytest.mark.parametrize(
    ("inside", "boundary", "verdict"),
    [(0.99, 0.8, "holds"), (0.99, 0.99, "fails"), (0.5, 0.2, "fails"), (0.95, 1.0, "fails")],
)
def test_planted_accuracies_decide_the_claim(inside: float, boundary: float, verdict: str):
    values = [value for seed in range(3) for value in anchor_values(seed, planted(inside, boundary))]
    assert {value.quantity: value.value for value in values} == pytest.approx(
        {"inside": inside} | {f"gap {anchor}": inside - boundary for anchor in (1, 2, 10)}
    )
    assert decide(get("fig12.14").claim, values).verdict == verdict


def test_every_boundary_anchor_has_to_be_lower():
    table = planted(0.99, 0.8)
    table.loc[table["anchor"] == "2", "accuracy"] = 0.99
    values = [value for seed in range(3) for value in anchor_values(seed, table)]
    assert decide(get("fig12.14").claim, values).verdict == "fails"


def test_the_figure_has_a_bar_for_every_anchor_in_order_and_hatches_the_boundary():
    table = pd.concat(planted(0.9, boundary).assign(seed=seed) for seed, boundary in enumerate((0.5, 0.7)))
    (axes,) = get("fig12.14").figure({"accuracy": table}).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == [str(anchor) for anchor in range(1, 11)]
    bars = axes.patches
    assert [bar.get_height() for bar in bars] == pytest.approx([0.6, 0.6, *[0.9] * 7, 0.6])
    assert [bool(bar.get_hatch()) for bar in bars] == [True, True, *[False] * 7, True]
