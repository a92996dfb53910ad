"""Many anchors: accuracies out of a planted history, verdicts, and the figure."""

import pandas as pd
import pytest

from anchorlab.reproduce import decide, get
from anchorlab.reproduce.chapter12.multi_anchor import anchor_values, final_by_group


def planted(inside: float, boundary: float) -> pd.DataFrame:
    anchors = [str(anchor) for anchor in range(1, 11)]
    return pd.DataFrame(
        {"anchor": anchors, "accuracy": [boundary if anchor in {"1", "2", "10"} else inside for anchor in anchors]}
    )


def test_accuracies_are_those_of_test_rows_at_the_last_step():
    rows = [
        (5, "test", "1", "accuracy", 0.1),
        (9, "test", "1", "accuracy", 0.7),
        (9, "test", "10", "accuracy", 0.8),
        (9, "test", "10", "loss", 2.0),
        (9, "test", "", "accuracy", 0.75),
        (9, "train", "1", "accuracy", 1.0),
    ]
    metrics = pd.DataFrame(rows, columns=["step", "split", "group", "metric", "value"])
    assert final_by_group(metrics).to_dict("list") == {"anchor": ["1", "10"], "accuracy": [0.7, 0.8]}


@pytest.mark.parametrize(
    ("inside", "boundary", "verdict"),
    [(0.99, 0.8, "holds"), (0.99, 0.99, "fails"), (0.5, 0.2, "fails"), (0.95, 1.0, "fails")],
)
def test_planted_accuracies_decide_the_claim(inside: float, boundary: float, verdict: str):
    values = [value for seed in range(3) for value in anchor_values(seed, planted(inside, boundary))]
    assert {value.quantity: value.value for value in values} == pytest.approx(
        {"inside": inside, "gap": inside - boundary}
    )
    assert decide(get("fig12.14").claim, values).verdict == verdict


def test_the_figure_has_a_bar_for_every_anchor_in_order_and_hatches_the_boundary():
    table = pd.concat(planted(0.9, boundary).assign(seed=seed) for seed, boundary in enumerate((0.5, 0.7)))
    (axes,) = get("fig12.14").figure({"accuracy": table}).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == [str(anchor) for anchor in range(1, 11)]
    bars = axes.patches
    assert [bar.get_height() for bar in bars] == pytest.approx([0.6, 0.6, *[0.9] * 7, 0.6])
    assert [bool(bar.get_hatch()) for bar in bars] == [True, True, *[False] * 7, True]
