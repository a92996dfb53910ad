"""Planted curves: when they have settled, how much later one is, how often a loss stops."""

import math

import numpy as np
import pandas as pd
import pytest

from anchorlab.phenomena.curves import lateness, plateaus, settled_at


def curve(*errors: float) -> pd.DataFrame:
    return pd.DataFrame({"step": range(0, 10 * len(errors), 10), "error": errors})


def test_learned_is_what_stays_learned() -> None:
    assert settled_at(curve(0.9, 0.5, 0.1, 0.1), 0.3) == pytest.approx(15)
    assert settled_at(curve(0.9, 0.1, 0.5, 0.1), 0.3) == pytest.approx(25)  # the first crossing was by chance
    assert settled_at(curve(0.9, 0.1, 0.1, 0.5), 0.3) == math.inf
    assert settled_at(curve(0.1, 0.2, 0.0), 0.3) == 0
    assert settled_at(curve(math.inf, 0.1), 0.3) == 10
    assert settled_at(curve(0.9, 0.3, 0.3), 0.3) == pytest.approx(10)
    assert settled_at(curve(0.9, 0.5, 0.1).iloc[::-1], 0.3) == pytest.approx(15)
    assert math.isnan(settled_at(curve(math.nan, 0.1), 0.3))


def test_lateness_is_a_ratio_of_steps() -> None:
    assert lateness(10, 30) == 3
    assert lateness(30, 10) == pytest.approx(1 / 3)
    assert lateness(0, 30) == 30  # right by chance at the start
    assert lateness(10, math.inf) == math.inf
    assert lateness(math.inf, 10) == 0
    for first, second in ((math.inf, math.inf), (math.nan, 10), (10, math.nan), (math.nan, math.inf)):
        assert math.isnan(lateness(first, second))


@pytest.mark.parametrize(
    ("pieces", "count"),
    [
        ([(1, 0.0), (10, -2.0), (100, 0.0), (1000, -2.0), (10_000, 0.0), (100_000, -1.0)], 2),
        ([(1, -2.0), (100, 0.0), (1000, -2.0), (10_000, 0.0)], 1),  # of the last no one knows whether it ends
        ([(1, -2.0), (100, 0.0), (1000, 0.3), (10_000, -1.0)], 0),  # ends with a rise
        ([(1, 0.3), (100, 0.0), (1000, -1.0)], 0),  # begins with a rise
        ([(1, 0.3), (1000, 0.3)], 0),
        ([(1, -1.0), (1000, -1.0)], 0),
        ([(1, 0.0), (1000, 0.0)], 0),
        ([(1, -1.0), (100, 0.0), (130, -1.0), (1000, -1.0)], 0),  # too short
    ],
)
def test_plateaus_of_planted_histories_are_counted(pieces: list[tuple[int, float]], count: int) -> None:
    """`pieces`: from which step on the loss falls as which power of the step."""
    steps = np.geomspace(1, 1e6, 600)
    starts = np.array([start for start, _ in pieces])
    slopes = np.array([slope for _, slope in pieces])[np.searchsorted(starts, steps[:-1], side="right") - 1]
    losses = np.exp(np.concatenate([[0.0], np.cumsum(slopes * np.diff(np.log(steps)))]))
    assert plateaus(steps.tolist(), losses.tolist()) == count
