"""Statistical output: distributions of planted logits, verdicts, and the figure."""

import numpy as np
import pandas as pd
import pytest
import torch

from anchorlab.reproduce import decide, get
from anchorlab.reproduce.chapter12.statistical import output_distribution, statistical_values

AS_PUBLISHED = {
    (1, "train"): 0.8,
    (1, "train_x"): 1.0,
    (1, "train_x+1"): 0.0,
    (1, "probability_x"): 0.79,
    (1, "probability_x+1"): 0.19,
    (2, "train"): 1.0,
    (2, "answers_x"): 0.82,
    (2, "answers_x+1"): 0.17,
}


def planted(last: dict[tuple[int, str], float]) -> pd.DataFrame:
    """A training whose quantities rise or fall from 0.5 to those of `last`, one construction over fewer epochs."""
    return pd.DataFrame(
        [
            {"construction": construction, "quantity": quantity, "epoch": epoch * construction, "value": value}
            for (construction, quantity), end in last.items()
            for epoch, value in ((0, 0.5), (10, 0.6), (20, end))
        ]
    )


def test_planted_probabilities_are_found_again():
    majority = np.array([20, 30, 99, 41])
    probabilities = torch.full((4, 101), 1e-12)
    for row, (x, after) in enumerate([(0.8, 0.2), (0.7, 0.3), (0.1, 0.9), (0.2, 0.1)]):
        probabilities[row, majority[row]], probabilities[row, majority[row] + 1] = x, after
    probabilities[3, 50] = 0.7  # neither x nor x + 1
    found = output_distribution(probabilities.log() + 3.0, majority)
    assert found == pytest.approx(
        {"answers_x": 0.5, "answers_x+1": 0.25, "probability_x": 0.45, "probability_x+1": 0.375}, abs=1e-6
    )


def test_values_are_those_at_the_end_of_each_construction():
    found = {value.quantity: value.value for value in statistical_values(0, planted(AS_PUBLISHED))}
    assert found == {f"{construction}_{quantity}": value for (construction, quantity), value in AS_PUBLISHED.items()}


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({}, "holds"),
        ({(1, "train_x"): 0.9}, "fails"),
        ({(1, "probability_x"): 0.99, (1, "probability_x+1"): 0.01}, "fails"),  # sure of the majority
        ({(2, "answers_x"): 1.0, (2, "answers_x+1"): 0.0}, "fails"),
        ({(2, "train"): 0.8}, "fails"),
    ],
)
def test_planted_outputs_decide_the_claim(changed: dict[tuple[int, str], float], verdict: str):
    table = planted(AS_PUBLISHED | changed)
    values = [value for seed in range(3) for value in statistical_values(seed, table)]
    assert decide(get("fig12.13").claim, values).verdict == verdict


def test_the_figure_shows_each_construction_in_its_panel():
    table = pd.concat(planted(AS_PUBLISHED).assign(seed=seed) for seed in range(2))
    panels = get("fig12.13").figure({"outputs": table}).axes
    ends = [[line.get_ydata()[-1] for line in axes.get_lines() if len(line.get_xdata()) == 3] for axes in panels]
    assert ends == [pytest.approx([0.8, 1.0, 0.0]), pytest.approx([1.0, 0.82, 0.17]), pytest.approx([0.79, 0.19])]
