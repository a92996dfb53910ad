import numpy as np
import pandas as pd
import pytest

from anchorlab.experiments import Experiment
from anchorlab.reproduce import get
from anchorlab.reproduce.chapter12.classification import arrange

NUMBERS = np.arange(20, 100)


def on_a_curve(seed: int = 0) -> np.ndarray:
    """Embeddings along a bent curve in the order of the numbers, in a space turned at random."""
    angle = np.linspace(0, 4, len(NUMBERS))
    curve = np.stack([angle, np.sin(angle), np.cos(angle)], axis=1)
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(8, 8)))
    return curve @ turn[:3]


def test_numbers_along_a_curve_are_in_order():
    table, order = arrange(on_a_curve())
    assert order == pytest.approx(1, abs=0.02)
    assert table["number"].tolist() == NUMBERS.tolist()


def test_shuffled_numbers_along_the_same_curve_are_not():
    shuffled = np.random.default_rng(0).permutation(on_a_curve())
    assert arrange(shuffled)[1] < 0.4


@pytest.mark.parametrize("scale", ["laptop", "paper"])
def test_rows_are_the_sources_and_the_leftmost_of_two_nearest_numbers_counts(scale):
    record = Experiment(**get("fig12.7").scales[scale]["training"]).record()
    assert record["train_rows"] == 30_000
    assert record["task"]["fields"]["ties"] == "first"


def test_figure_has_a_panel_for_every_network():
    points = pd.concat([arrange(on_a_curve(seed))[0].assign(seed=seed) for seed in (0, 1)])
    orders = pd.DataFrame({"seed": [0, 1], "order": [0.93, 0.4], "accuracy": [1.0, 0.75]})
    *panels, bar = get("fig12.7").figure({"points": points, "orders": orders}).axes
    assert [axes.get_title() for axes in panels] == [
        "seed 0: order 0.93\ntest accuracy 1.00",
        "seed 1: order 0.40\ntest accuracy 0.75",
    ]
    assert [text.get_text() for text in panels[0].texts] == [str(number) for number in range(20, 100, 10)]
    assert bar.get_ylabel() == "number"
