"""Splits: counted by brute force, disjoint, and complete."""

import itertools

import numpy as np
import pytest

from anchorlab import tasks

ALL = [(name, preset) for name in tasks.names() for preset in (None, *tasks.presets(name))]


def codes(task: tasks.Task, split: str) -> set[tuple[int, ...]]:
    cells = task.cells(split)
    columns = [cells.variant, cells.key_position, cells.key]
    return set(zip(*(column.tolist() for column in columns), strict=True))


@pytest.mark.parametrize(("name", "preset"), ALL)
def test_splits_share_no_cell(name: str, preset: str | None) -> None:
    task = tasks.create(name, preset)
    for one, other in itertools.combinations(task.splits, 2):
        assert not codes(task, one) & codes(task, other)
    assert set(task.leak_report().shared_cells.values()) == {0}
    assert set(task.leak_report().shared_rows.values()) == {0}


@pytest.mark.parametrize("modulus", [2, 7, 8, 9, 40])
def test_composite_cells_by_brute_force(modulus: int) -> None:
    task = tasks.create("composite", modulus=modulus)
    expected = {"train": 0, "test": 0, "ood": 0}
    for pair in itertools.product("abcd", repeat=2):
        for position in range(7):
            for key in range(20, 101):
                if pair in {("c", "d"), ("d", "c")}:
                    expected["ood"] += 1
                else:
                    expected["test" if key % modulus == position % modulus else "train"] += 1
    assert {split: len(task.cells(split)) for split in task.splits} == expected
    assert task.cells("ood").by_group(task.group_names)["c,d"] == 7 * 81


@pytest.mark.parametrize("base", [0, 1])
@pytest.mark.parametrize("ood_keys", ["all", "test"])
def test_position_base_and_ood_keys_by_brute_force(base: int, ood_keys: str) -> None:
    task = tasks.create("composite", position_base=base, ood_keys=ood_keys, modulus=10)
    for split in task.splits:
        cells = task.cells(split)
        same = cells.key % 10 == (cells.key_position + base) % 10
        assert same.all() if split == "test" or (split, ood_keys) == ("ood", "test") else not same.all()
    expected = sum(key % 10 == (place + base) % 10 for place in range(7) for key in range(20, 101))
    assert len(task.cells("test")) == 14 * expected
    assert len(task.cells("ood")) == 2 * (expected if ood_keys == "test" else 7 * 81)
    memory = tasks.create("working_memory", held_out=[("1", "4")], ood_keys=ood_keys).cells("ood")
    assert (memory.key % 20 == memory.key_position).all() == (ood_keys == "test")


def test_the_modulus_is_the_row_length_unless_given() -> None:
    for name in ("composite", "working_memory", "classification", "recitation", "identity"):
        task = tasks.create(name)
        assert task.resolved["modulus"] == task.length
        assert task.config()["fields"]["modulus"] is None
    short = tasks.create("identity", length=6)
    assert (short.cells("test").key % 6 == short.cells("test").key_position).all()
    assert "modulus" not in tasks.create("composite", modulus=8).resolved
    assert "modulus" not in tasks.create("multi_anchor").resolved


def test_default_composite_counts() -> None:
    counts = {split: len(tasks.create("composite").cells(split)) for split in ("train", "test", "ood")}
    assert counts == {"train": 14 * 7 * 72, "test": 14 * 7 * 9, "ood": 2 * 7 * 81}


def test_every_row_lies_in_the_cells_of_its_split() -> None:
    task = tasks.create("composite")
    for split in task.splits:
        sample = task.sample(split, 20_000)
        cells = task.cells(split)
        listed = set(
            zip(map(tuple, cells.anchors.tolist()), cells.key_position.tolist(), cells.key.tolist(), strict=True)
        )
        drawn = set(
            zip(map(tuple, sample.anchors.tolist()), sample.key_position.tolist(), sample.key.tolist(), strict=True)
        )
        assert drawn <= listed
        assert len(drawn) > 0.9 * len(listed)


def test_mod_remainder_holds_in_the_rows_themselves() -> None:
    for name in ("identity", "reading_comprehension", "classification", "recitation", "statistical"):
        task = tasks.create(name)
        for split in ("train", "test"):
            found = task.locate(task.sample(split, 5000).tokens)
            same = found.key % 9 == found.key_position % 9
            assert same.all() if split == "test" else not same.any()


def test_every_key_is_trained_although_some_cells_are_not() -> None:
    for name in tasks.names():
        cells = tasks.create(name).cells("train")
        assert set(cells.key.tolist()) == set(range(20, 101))


def test_multi_anchor_ranges_of_the_book() -> None:
    task = tasks.create("multi_anchor")
    for split in ("train", "test"):
        cells = task.cells(split)
        for anchor, key in {(int(a), int(k)) for a, k in zip(cells.anchors[:, 0], cells.key, strict=True)}:
            assert (12 + 8 * anchor <= key <= 12 + 8 * (anchor + 1) - 1) == (split == "test")
    assert task.cells("test").by_group(task.group_names) == {str(a): 8 * 8 for a in range(1, 11)}


def test_multi_anchor_can_use_the_mod_remainder_split() -> None:
    cells = tasks.create("multi_anchor", split="mod_remainder").cells("test")
    assert (cells.key % 9 == cells.key_position % 9).all()


def test_held_out_pairs_only_occur_in_ood() -> None:
    task = tasks.create("composite")
    for split in task.splits:
        groups = set(task.sample(split, 20_000).group.tolist())
        unseen = {task.group_names.index("c,d"), task.group_names.index("d,c")}
        assert groups == unseen if split == "ood" else not groups & unseen
        assert split == "ood" or len(groups) == 14


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("composite", "key_positions"),
        ("chain", "key_positions"),
        ("working_memory", "key_positions"),
        ("identity", "anchor_positions"),
        ("recitation", "anchor_positions"),
    ],
)
def test_position_ranges(name: str, field: str) -> None:
    task = tasks.create(name, **{field: (2, 4)})
    for split in task.splits:
        found = task.locate(task.sample(split, 2000).tokens)
        places = found.key_position if field == "key_positions" else found.anchor_positions[:, 0]
        assert set(places.tolist()) == {2, 3, 4}


def test_composite_without_held_out_pairs_has_two_splits() -> None:
    assert tasks.create("composite", held_out=[]).splits == ("train", "test")


def test_expected_duplicates_against_a_count() -> None:
    task = tasks.create("identity", length=4, modulus=5)
    n = 200_000
    rows = task.sample("train", n).tokens
    repeated = n - len(np.unique(rows, axis=0))
    expected = task.leak_report().expected_duplicates("train", n)
    assert expected is not None
    assert abs(repeated - expected) < 5 * np.sqrt(expected)
