"""Recitation: directions out of a planted history, leads, verdicts and the figure."""

import pandas as pd
import pytest

from anchorlab.reproduce import decide, get
from anchorlab.reproduce.chapter12.recitation import directions, recitation_values

COLUMNS = ["step", "split", "group", "metric", "value"]
EPOCHS = (10, 100)


def planted(leads: dict[int, tuple[float, ...]]) -> pd.DataFrame:
    """Backward accuracy 0.5 everywhere; forward ahead by `leads`: after some epochs, at each size."""
    return pd.DataFrame(
        [
            {"epochs": epochs, "rows": rows, "direction": direction, "accuracy": 0.5 + lead * (direction == "forward")}
            for epochs, column in leads.items()
            for rows, lead in zip((500, 1000, 2000), column, strict=True)
            for direction in ("forward", "backward")
        ]
    )


def test_directions_are_read_at_the_steps_of_both_lengths():
    rows = [
        (step, split, group, "accuracy", value)
        for step, forward, backward in [(0, 0.0, 0.01), (50, 0.4, 0.3), (100, 0.6, 0.5), (500, 0.9, 0.8)]
        for split, group, value in [
            ("test", "forward", forward),
            ("test", "backward", backward),
            ("test", "", 0.99),
            ("train", "forward", 0.98),
        ]
    ]
    metrics = pd.DataFrame([*rows, (50, "test", "forward", "loss", 7.0)], columns=COLUMNS)
    found = directions(metrics, {10: 50, 100: 500}).set_index(["epochs", "direction"])["accuracy"]
    assert found.to_dict() == {
        (10, "forward"): 0.4,
        (10, "backward"): 0.3,
        (100, "forward"): 0.9,
        (100, "backward"): 0.8,
    }


def test_leads_are_the_least_and_greatest_over_sizes_of_each_length():
    table = planted({10: (0.0, 0.2, 0.1), 100: (-0.1, 0.3, 0.0)})
    found = {value.quantity: value.value for value in recitation_values(0, table, EPOCHS)}
    assert found == pytest.approx({"min_short": 0.0, "max_short": 0.2, "min_long": -0.1, "max_long": 0.3})


@pytest.mark.parametrize(
    ("leads", "verdict"),
    [
        ({10: (0.0, 0.2, 0.1), 100: (0.1, 0.3, 0.0)}, "holds"),
        ({10: (0.0, 0.2, 0.1), 100: (-0.1, 0.3, 0.0)}, "fails"),
        ({10: (-0.1, 0.2, 0.1), 100: (0.1, 0.3, 0.0)}, "fails"),
        ({10: (0.0, 0.0, 0.0), 100: (0.0, 0.0, 0.0)}, "fails"),  # neither direction is easier
    ],
)
def test_planted_leads_decide_the_claim(leads: dict[int, tuple[float, ...]], verdict: str):
    values = [value for seed in range(3) for value in recitation_values(seed, planted(leads), EPOCHS)]
    assert decide(get("fig12.12").claim, values).verdict == verdict


def test_the_figure_has_a_panel_for_each_length_with_both_directions():
    table = planted({10: (0.0, 0.2, 0.1), 100: (0.1, 0.3, 0.0)}).assign(seed=0)
    short, long = get("fig12.12").figure({"accuracy": table}).axes
    assert (short.get_title(), long.get_title()) == ("after 10 epochs", "after 100 epochs")
    forward, backward = long.get_lines()
    assert list(forward.get_ydata()) == pytest.approx([0.6, 0.8, 0.5])
    assert list(backward.get_ydata()) == pytest.approx([0.5, 0.5, 0.5])
