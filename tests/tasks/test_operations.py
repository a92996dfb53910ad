"""Operations: plain against vectorised, order, and refusals."""

import hashlib
import json

import numpy as np
import pytest

from anchorlab import tasks
from anchorlab.errors import InputError
from anchorlab.tasks.operations import _OPERATIONS, parse

NUMBERS = (20, 100)


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("identity", 1),
        ("add:-8", 1),
        ("reflect:120", 1),
        ("permute:7", 1),
        ("sum", 3),
        ("difference", 2),
        ("difference:90", 2),
        ("max", 3),
        ("min", 2),
    ],
)
def test_both_ways_agree(text: str, items: int) -> None:
    values = np.random.default_rng(0).integers(5, 120, (500, items))
    operation = parse(text, NUMBERS, items)
    assert operation.apply(values).tolist() == [operation.apply_one(*row) for row in values.tolist()]
    low, high = operation.extent(20, 100, items)
    inside = operation.apply(np.random.default_rng(1).integers(20, 101, (500, items)))
    assert low <= inside.min()
    assert inside.max() <= high


def test_results_by_hand() -> None:
    assert parse("add:5", NUMBERS).apply_one(23) == 28
    assert parse("reflect:120", NUMBERS).apply_one(23) == 97
    assert parse("difference", NUMBERS, 2).apply_one(50, 30) == 120
    assert parse("sum", NUMBERS, 2).apply_one(50, 30) == 80


def test_reflections_and_permutations_worked_out_again() -> None:
    """Reflections from a list of mirrored numbers; permutations from the raw Philox words."""
    keys = np.arange(20, 101)[:, None]
    mirrored = list(range(150, 69, -1))  # 170 - 20, 170 - 21, ...
    reflect = parse("reflect:170", NUMBERS)
    assert reflect.apply(keys).tolist() == mirrored
    assert [reflect.apply_one(key) for key in range(20, 101)] == mirrored
    digest = hashlib.sha256(json.dumps(["permute", 7, 20, 100]).encode()).digest()
    words = np.random.Philox(key=int.from_bytes(digest[:16], "little")).random_raw(81).tolist()
    images = [20 + place for _, place in sorted((word, place) for place, word in enumerate(words))]
    permute = parse("permute:7", NUMBERS)
    assert permute.apply(keys).tolist() == images
    assert [permute.apply_one(key) for key in range(20, 101)] == images
    assert permute.apply(np.array([[19], [101]])).tolist() == [19, 101]


def test_permutations_are_permutations_and_do_not_commute() -> None:
    keys = np.arange(20, 101)[:, None]
    one, other = parse("permute:1", NUMBERS), parse("permute:2", NUMBERS)
    assert sorted(one.apply(keys).tolist()) == keys[:, 0].tolist()
    there, back = other.apply(one.apply(keys)[:, None]), one.apply(other.apply(keys)[:, None])
    assert (there != back).mean() > 0.9


def test_the_order_of_permutations_shows_in_the_labels() -> None:
    operations = tasks.permutations(2)
    left = tasks.create("composite", operations=operations, held_out=[])
    right = tasks.create("composite", operations=operations, held_out=[], order="right_to_left")
    ids = left.vocabulary.anchors
    rows = np.array([[key, ids["a"], ids["b"], *[50] * 6] for key in range(20, 101)])
    swapped = rows.copy()
    swapped[:, [1, 2]] = rows[:, [2, 1]]
    assert (left.solve(rows) != left.solve(swapped)).mean() > 0.9
    assert (left.solve(rows) == right.solve(swapped)).all()


def test_additive_pairs_are_ten_different_maps() -> None:
    task = tasks.create("composite")
    offsets = {pair: set() for pair in task.group_names}
    for split in task.splits:
        sample = task.sample(split, 20_000)
        for group, offset in zip(sample.group.tolist(), (sample.label - sample.key).tolist(), strict=True):
            offsets[task.group_names[group]].add(offset)
    assert all(len(found) == 1 for found in offsets.values())
    assert len({found.pop() for found in offsets.values()}) == 10


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ad:5", "did you mean 'add'"),
        ("add", "needs an argument"),
        ("identity:3", "takes none"),
        ("add:x", "not an integer"),
        ("add:99999999999999999999", "too large; allowed: -2147483647..2147483647"),
        ("add:9223372036854775800", "too large"),
        ("permute:99999999999", "too large"),
        ("add:" + "9" * 5000, "not an integer"),
        ("add:2000000000", "operation: labels run"),
        ("permute:-1", "negative"),
        ("difference", "2 key item"),
        ("__import__('os')", "unknown"),
    ],
)
def test_bad_operations(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        tasks.create("identity", operation=text)
    assert "\n" not in str(refused.value)


def test_own_operation() -> None:
    class Halve(tasks.Operation):
        name = "halve_for_test"
        summary = "x // 2"

        def apply_one(self, *values: int) -> int:
            return values[0] // 2

    tasks.register(Halve)
    try:
        task = tasks.create("identity", operation="halve_for_test", anchor_id=111)
        sample = task.sample("test", 100)
        assert (sample.label == sample.key // 2).all()
        assert task.vocabulary.labels == (10, 50)
        with pytest.raises(InputError, match="taken"):
            tasks.register(Halve)
    finally:
        del _OPERATIONS["halve_for_test"]
