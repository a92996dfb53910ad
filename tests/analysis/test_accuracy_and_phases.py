import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anchorlab.analysis import phase
from anchorlab.analysis.accuracy import accuracy_table, pair_matrix
from anchorlab.analysis.pairs import TaskPairs


@pytest.mark.parametrize(
    ("id_accuracy", "ood_accuracy", "number"),
    [(0.0, 0.0, 1), (0.899, 1.0, 1), (0.9, 0.0, 2), (1.0, 0.899, 2), (0.9, 0.9, 3), (1.0, 1.0, 3)],
)
def test_phase_at_its_limits(id_accuracy, ood_accuracy, number):
    found = phase(id_accuracy, ood_accuracy)
    assert found.number == number
    assert (found.id_accuracy, found.ood_accuracy) == (id_accuracy, ood_accuracy)
    assert (found.id_threshold, found.ood_threshold) == (0.9, 0.9)


def test_phase_limits_are_parameters_and_stated():
    found = phase(0.85, 0.6, id_threshold=0.8, ood_threshold=0.5)
    assert (found.number, found.id_threshold, found.ood_threshold) == (3, 0.8, 0.5)


@pytest.mark.parametrize("value", [math.nan, -0.1, 1.1])
def test_phase_refuses_what_is_no_accuracy(value):
    with pytest.raises(ValueError, match="ood_accuracy"):
        phase(1.0, value)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc"), st.booleans()), min_size=1, max_size=60))
def test_pair_matrix_against_counting(rows):
    task = TaskPairs(frozenset(f"{a},{b}" for a in "abc" for b in "abc") - {"a,b"}, frozenset({"a,b"}))
    matrix = pair_matrix([f"{a},{b}" for a, b, _ in rows], np.array([right for *_, right in rows]), task)
    assert matrix.anchors == ("a", "b", "c")
    assert matrix.undrawn == 9 - len({(a, b) for a, b, _ in rows})
    for i, first in enumerate(matrix.anchors):
        for j, second in enumerate(matrix.anchors):
            own = [right for a, b, right in rows if (a, b) == (first, second)]
            assert matrix.accuracy[i, j] == pytest.approx(np.mean(own) if own else np.nan, nan_ok=True)
            assert matrix.unseen[i, j] == ((first, second) == ("a", "b")) != matrix.seen[i, j]


def test_pair_matrix_means_count_each_pair_once():
    pairs = ["a,a", "a,a", "a,a", "a,b", "b,a"]
    task = TaskPairs(frozenset({"a,a", "a,b", "b,b"}), frozenset({"b,a"}))
    matrix = pair_matrix(pairs, np.array([1, 1, 1, 0, 1], bool), task)
    assert matrix.mean(unseen=False) == 0.5
    assert matrix.mean(unseen=True) == 1.0
    assert math.isnan(pair_matrix(["a,a"], np.array([True]), TaskPairs(frozenset({"a,a"}))).mean(unseen=True))


def test_accuracy_table():
    table = accuracy_table("test", ["x", "y", "x"], np.array([True, False, False]))
    assert table.to_dict("records") == [
        {"split": "test", "group": "x", "rows": 2, "accuracy": 0.5},
        {"split": "test", "group": "y", "rows": 1, "accuracy": 0.0},
    ]
