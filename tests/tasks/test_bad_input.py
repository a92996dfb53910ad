"""Wrong values are refused before any work, in one line that names field and value."""

from contextlib import suppress

import numpy as np
import pytest

from anchorlab import tasks
from anchorlab.errors import InputError
from anchorlab.tasks.composite import Composite

BAD = [
    ("composit", {}, ["task", "'composit'", "did you mean 'composite'"]),
    ("composite", {"modulis": 3}, ["modulis", "did you mean 'modulus'"]),
    ("composite", {"modulus": "x"}, ["modulus", "'x'"]),
    ("composite", {"modulus": 0}, ["modulus", "0"]),
    ("composite", {"modulus": 1}, ["modulus", "1", "train split empty", "2..81"]),
    ("composite", {"modulus": 200}, ["modulus", "200", "test split empty"]),
    ("composite", {"anchor_ids": {"a": 23, "b": 111, "c": 112, "d": 113}}, ["'a'", "23", "number"]),
    ("composite", {"anchor_ids": {"a": 4, "b": 111, "c": 112, "d": 113}}, ["'a'", "4", "label"]),
    ("composite", {"anchor_ids": {"a": 111, "b": 111, "c": 112, "d": 113}}, ["'b'", "111", "'a'"]),
    ("composite", {"anchor_ids": {"a": 0, "b": 111, "c": 112, "d": 113}}, ["'a'", "0", "pad"]),
    ("composite", {"anchor_ids": {"a": 111}}, ["anchor_ids", "'b'"]),
    ("composite", {"anchor_ids": {"z": 111}}, ["anchor_ids", "'z'"]),
    ("composite", {"noise": (20, 130), "anchor_ids": {"a": 120, "b": 131, "c": 132, "d": 133}}, ["120", "noise"]),
    ("composite", {"held_out": [("c", "e")]}, ["held_out", "'e'"]),
    ("composite", {"held_out": [("c",)]}, ["held_out", "'c'", "2"]),
    ("composite", {"overrides": {"c": "add:1"}}, ["overrides", "'c'", "2"]),
    ("composite", {"operations": {"a": "add:-15"}, "held_out": []}, ["operations", "-10"]),
    ("composite", {"operations": {"a": "add:1"}, "held_out": [("a", "a")]}, ["held_out"]),
    ("composite", {"order": "up"}, ["order", "'up'", "left_to_right"]),
    ("composite", {"numbers": (90, 30)}, ["numbers", "90", "30"]),
    ("composite", {"noise": (20, 40_000)}, ["noise", "40000", "32768"]),
    ("composite", {"numbers": (0, 30)}, ["numbers", "0"]),
    ("composite", {"vocabulary_size": 100}, ["vocabulary_size", "100", "115"]),
    ("composite", {"key_positions": (0, 7)}, ["key_positions", "(0, 7)", "0..6"]),
    ("composite", {"length": 2}, ["length", "2"]),
    ("chain", {"links": 1}, ["links", "1"]),
    ("chain", {"links": 9}, ["length", "9"]),
    ("identity", {"offsets": (0,)}, ["offsets", "0"]),
    ("identity", {"offsets": (9,)}, ["offsets", "9"]),
    ("identity", {"offsets": (1, 1)}, ["offsets"]),
    ("identity", {"anchor_id": 50}, ["50", "number"]),
    ("identity", {"anchor_positions": (0, 8)}, ["anchor_positions", "0..7"]),
    ("multi_anchor", {"test_ranges": {"99": (20, 30)}}, ["test_ranges", "'99'"]),
    ("multi_anchor", {"test_ranges": {"1": (10, 30)}}, ["test_ranges", "10..30"]),
    ("multi_anchor", {"operations": {"a": "add:1"}, "test_ranges": {"a": (20, 30)}}, ["test_ranges", "20"]),
    ("reading_comprehension", {"anchors": 3}, ["anchors", "3", "4"]),
    ("classification", {"anchors": 30}, ["anchors", "30"]),
    ("classification", {"pairs": 15, "anchors": 16}, ["pairs", "15"]),
    ("working_memory", {"second": {"1": "identity"}}, ["second", "'1'"]),
    ("working_memory", {"smallest_gap": 18}, ["smallest_gap", "18"]),
    ("working_memory", {"smallest_gap": 3, "largest_gap": 2}, ["largest_gap", "2"]),
    ("working_memory", {"key_positions": (0, 17)}, ["key_positions", "0..16"]),
    ("recitation", {"anchor_positions": (0, 3)}, ["anchor_positions", "1..6"]),
    ("working_memory", {"held_out": [("3", "1")]}, ["held_out"]),
    ("synonym", {"total_rows": 400}, ["total_rows", "400"]),
    ("synonym", {"synonym": "9"}, ["synonym", "'9'"]),
    ("synonym", {"held_out": [("1", "9")]}, ["pairs"]),
    ("statistical", {"construction": 3}, ["construction", "3"]),
    ("statistical", {"probability": 1.5}, ["probability", "1.5"]),
    ("statistical", {"probability": 0.5}, ["probability", "0.5", "construction 2"]),
    ("statistical", {"minority": "add:40000"}, ["minority", "40100"]),
    ("composite", {"length": 50_000}, ["length=50000", "2048"]),
    ("composite", {"modulus": 10**30}, ["modulus"]),
    ("composite", {"vocabulary_size": 10**12}, ["vocabulary_size"]),
    ("composite", {"operations": {f"a{i}": "identity" for i in range(200)}, "held_out": []}, ["operations: 200"]),
    ("chain", {"links": 8, "length": 20}, ["links: 4 anchors in 8 places"]),
    (
        "chain",
        {"length": 2000, "links": 5, "operations": tasks.permutations(4)},
        ["length: 1024 tuples of anchors, 1995 key positions and 81 keys"],
    ),
    ("reading_comprehension", {"anchors": 100_000}, ["anchors: 100000", "at most 19"]),
    ("reading_comprehension", {"noise": (20, 99)}, ["noise", "no effect"]),
    ("classification", {"pairs": 2, "numbers": (20, 32_000)}, ["numbers", "31981"]),
    ("identity", {"anchor_id": 50}, ["anchor_id: "]),
    ("recitation", {"anchor_id": 50_000}, ["anchor_id", "50000"]),
    ("multi_anchor", {"modulus": 8}, ["modulus", "mod_remainder"]),
    ("multi_anchor", {"position_base": 1}, ["position_base", "mod_remainder"]),
    ("multi_anchor", {"anchor_offsets": {"99": (1,)}}, ["anchor_offsets", "'99'"]),
    ("multi_anchor", {"anchor_offsets": {"2": ()}}, ["anchor_offsets", "'2'"]),
    ("multi_anchor", {"test_ranges": {}}, ["test_ranges"]),
    ("composite", {"overrides": {"a,b": "sum"}}, ["overrides", "'sum'", "several key items"]),
    ("composite", {"operations": {"a": "max"}, "held_out": []}, ["operation", "'max'", "several key items"]),
    ("composite", {"operations": {"a": "max"}, "held_out": [], "offsets": (-1, 2)}, ["'a'", "'a,a'", "overrides"]),
    ("composite", {"overrides": {"a,b": "difference"}, "offsets": (-1,)}, ["overrides", "2 key items"]),
    ("composite", {"offsets": (-1, 1)}, ["offsets", "(-1, 1)", "0..1"]),
    ("composite", {"offsets": (-9,)}, ["offsets", "(-9,)", "length 9"]),
    ("composite", {"offsets": (3,), "key_side": "after"}, ["key_side", "no effect"]),
    ("working_memory", {"first": {"1": "sum"}}, ["'sum'", "several key items"]),
    ("recitation", {"forward_percent": 101}, ["forward_percent", "101"]),
]


@pytest.mark.parametrize(("name", "fields", "words"), BAD)
def test_refused_in_one_line(name: str, fields: dict, words: list[str]) -> None:
    with pytest.raises(InputError) as refused:
        tasks.create(name, **fields)
    message = str(refused.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    "value", [-1, 0, 10**30, 0.5, float("nan"), None, "", "x", [], [1, 1], [[1, 2]], {}, {"a": "sum"}]
)
@pytest.mark.parametrize("name", tasks.names())
def test_odd_values_are_refused_in_one_line_or_make_right_rows(name: str, value: object) -> None:
    for parameter in tasks.parameters(name):
        with suppress(InputError):  # anything else is a failure
            task = tasks.create(name, **{parameter.name: value})
            sample = task.sample("train", 5)
            assert name == "statistical" or (task.solve(sample.tokens) == sample.label).all()


def test_anchors_may_be_named_by_integers() -> None:
    assert tasks.create("synonym", rare=9, synonym=3, held_out=[[4, 9], [9, 4]]) == tasks.create("synonym")
    assert tasks.create("composite", operations={1: "add:1"}, held_out=[]).group_names == ("1,1",)


def test_the_class_itself_refuses_in_the_same_way() -> None:
    with pytest.raises(InputError, match="modulus='x'"):
        Composite(modulus="x")


def test_unknown_preset_and_config() -> None:
    with pytest.raises(InputError, match="preset"):
        tasks.create("composite", "arxiv-1")
    with pytest.raises(InputError, match="is not a task"):
        tasks.from_config({"name": "composite"})


@pytest.mark.parametrize(
    ("call", "word"),
    [
        ({"split": "tain", "n": 5}, "did you mean 'train'"),
        ({"split": "train", "n": 0}, "n: 0"),
        ({"split": "train", "n": 2.5}, "n: 2.5"),
        ({"split": "train", "n": 5, "seed": -1}, "seed: -1"),
        ({"split": "train", "n": 5, "start": -1}, "start: -1"),
        ({"split": "test", "n": 883, "unique": True}, "882"),
        ({"split": "test", "n": 1, "start": 882, "unique": True}, "882"),
    ],
)
def test_bad_samples(call: dict, word: str) -> None:
    with pytest.raises(InputError) as refused:
        tasks.create("composite").sample(**call)
    assert word in str(refused.value)


@pytest.mark.parametrize(
    ("name", "row", "word"),
    [
        ("composite", [20, 30, 40, 50, 60, 70, 80, 90, 30], "row 0 does not have exactly 2"),
        ("composite", [20, 111, 112, 50, 60, 111, 112, 90, 30], "exactly 2"),
        ("composite", [20, 111, 40, 112, 60, 70, 80, 90, 30], "not in a row"),
        ("composite", [111, 112, 40, 50, 60, 70, 80, 90, 30], "no key"),
        ("composite", [5, 111, 112, 50, 60, 70, 80, 90, 30], "no number"),
        ("composite", [20, 30], "rows of 9 integers"),
        ("identity", [20, 30, 40, 50, 60, 70, 80, 90, 3], "no room"),
        ("reading_comprehension", [5, 40, 5, 77, 8, 21, 1, 99, 8], "different anchors"),
        ("reading_comprehension", [5, 40, 2, 77, 8, 21, 1, 99, 7], "asks for an anchor"),
        ("classification", [40, 5, 77, 2, 21, 8, 99, 1, 7], "end with a number"),
        ("recitation", [50, 60, 30, 3, 40, 70, 80, 90, 31], "one neighbour"),
        ("working_memory", [50, 3, 60, 1, *[70] * 16], "wrong kind"),
    ],
)
def test_malformed_rows(name: str, row: list[int], word: str) -> None:
    with pytest.raises(InputError, match=word):
        tasks.create(name).solve(np.array([row]))


def test_a_float_array_is_not_tokens() -> None:
    with pytest.raises(InputError, match="integers"):
        tasks.create("identity").solve(np.zeros((2, 9)))


def test_a_task_needs_a_name_of_its_own() -> None:
    with pytest.raises(InputError, match="taken"):
        tasks.register_task(Composite)
