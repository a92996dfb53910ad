"""Examples and numbers of the sources, checked by hand."""

import numpy as np
import pytest

from anchorlab import tasks
from anchorlab.errors import InputError


def test_identity_example_of_section_12_4() -> None:
    task = tasks.create("identity", "book")
    assert task.solve(np.array([[43, 33, 23, 3, 20, 89, 44, 24, 56]])).tolist() == [20]


@pytest.mark.parametrize(
    ("settings", "label"),
    [
        ({"operation": "add:1"}, 21),
        ({"offsets": (-1,)}, 23),
        ({"offsets": (2,)}, 89),
        ({"offsets": (-1, 1), "operation": "sum"}, 43),
        ({"offsets": (-1, 1, 2), "operation": "max"}, 89),
    ],
)
def test_general_single_anchor(settings: dict, label: int) -> None:
    task = tasks.create("identity", **settings)
    assert task.solve(np.array([[43, 33, 23, 3, 20, 89, 44, 24, 56]])).tolist() == [label]


def test_composite_example_of_section_13_2() -> None:
    task = tasks.create("composite")
    row = task.vocabulary.encode((23, "a", "b", 43, 46, 74, 54, 44, 72))
    assert task.solve(row).tolist() == [29]
    found = task.locate(row)
    assert (found.key.tolist(), found.key_position.tolist()) == ([23], [0])
    assert found.anchor_positions.tolist() == [[1, 2]]


def test_working_memory_rows_of_figure_12_10() -> None:
    rows = [
        [43, 67, 99, 90, 63, 46, 2, 94, 23, 21, 50, 54, 69, 55, 64, 56, 32, 4, 89, 94],
        [70, 61, 92, 27, 78, 66, 43, 63, 33, 36, 85, 62, 50, 1, 59, 32, 79, 4, 33, 33],
        [76, 37, 40, 2, 23, 47, 92, 43, 70, 77, 95, 72, 38, 20, 51, 3, 62, 40, 60, 38],
    ]
    assert tasks.create("working_memory", "book").solve(np.array(rows)).tolist() == [45, 48, 41]


def test_reading_comprehension_by_hand() -> None:
    task = tasks.create("reading_comprehension")
    assert task.solve(np.array([[5, 40, 2, 77, 8, 21, 1, 99, 8]])).tolist() == [21]


def test_classification_by_hand_and_ties() -> None:
    rows = np.array([[40, 5, 77, 2, 21, 8, 99, 1, 80], [50, 5, 60, 2, 90, 8, 99, 1, 55]])
    assert tasks.create("classification").solve(rows).tolist() == [2, 5]
    with pytest.raises(InputError, match="row 1 has two nearest numbers"):
        tasks.create("classification", ties="exclude").solve(rows)


def test_classification_rows_are_uniform_within_a_cell() -> None:
    """All rows of a small task are listed; each is drawn equally often."""
    from collections import Counter
    from itertools import product

    task = tasks.create("classification", pairs=2, anchors=2, numbers=(20, 25), modulus=3)
    sample = task.sample("train", 300_000)
    mine = (sample.key == 21) & (sample.key_position == 2) & (sample.anchors[:, 0] == 1)
    drawn = Counter(map(tuple, sample.tokens[mine].tolist()))
    possible = {
        (other, 2, 21, 1, asked)
        for other, asked in product(range(20, 26), repeat=2)
        if abs(21 - asked) < abs(other - asked)
    }
    assert set(drawn) == possible
    expected = mine.sum() / len(possible)
    assert all(abs(count - expected) < 5 * np.sqrt(expected) for count in drawn.values())


def test_classification_numbers_and_question_are_uniform_over_the_rows_of_a_split() -> None:
    """Every row of the training split of a small task is listed; each is drawn equally often."""
    from collections import Counter
    from itertools import product

    task = tasks.create("classification", pairs=2, anchors=2, numbers=(20, 24), modulus=3)
    possible = set()
    for one, other, asked in product(range(20, 25), repeat=3):
        key, place = (one, 0) if abs(one - asked) <= abs(other - asked) else (other, 2)
        if key % 3 != place:
            possible |= {(one, 1, other, 2, asked), (one, 2, other, 1, asked)}
    drawn = Counter(map(tuple, task.sample("train", 200_000).tokens.tolist()))
    assert set(drawn) == possible
    expected = 200_000 / len(possible)
    assert all(abs(count - expected) < 5 * np.sqrt(expected) for count in drawn.values())


def test_recitation_directions() -> None:
    task = tasks.create("recitation")
    rows = np.array([[50, 60, 30, 3, 40, 70, 80, 90, 30], [50, 60, 30, 3, 40, 70, 80, 90, 40]])
    assert task.solve(rows).tolist() == [40, 30]
    assert task.locate(rows).key_position.tolist() == [4, 2]
    assert task.group_names == ("forward", "backward")
    sample = task.sample("train", 1000)
    forward = sample.group == 0
    assert (sample.label[forward] == sample.tokens[np.arange(1000), sample.key_position][forward]).all()
    for percent in (0, 30, 100):
        drawn = tasks.create("recitation", forward_percent=percent).sample("test", 1000)
        assert (drawn.group == 0).sum() == 10 * percent


def test_multi_anchor_adds_its_number() -> None:
    sample = tasks.create("multi_anchor").sample("test", 2000)
    assert (sample.label - sample.key == sample.anchors[:, 0]).all()


def test_synonym_counts_of_section_12_6_6() -> None:
    task = tasks.create("synonym", total_rows=4000)
    for start in (0, 4000):
        sample = task.sample("train", 4000, seed=2, start=start)
        counts = dict(zip(task.group_names, np.bincount(sample.group, minlength=18).tolist(), strict=True))
        rare = {"1,9", "2,9", "9,1", "9,2"}
        assert all(counts[pair] == 100 for pair in rare)
        assert all(counts[pair] == 300 for pair in counts if pair not in rare | {"4,9", "9,4"})
        assert counts["4,9"] == counts["9,4"] == 0
    ood = task.sample("ood", 1000)
    assert {task.group_names[group] for group in set(ood.group.tolist())} == {"4,9", "9,4"}
    assert (
        tasks.create("synonym").sample("train", 300).group[:60].max()
    ) > 10  # pairs are mixed, not one after another


def test_synonym_does_what_the_rare_anchor_does() -> None:
    task = tasks.create("synonym")
    one = task.vocabulary.encode((50, "4", "3", 30, 30, 30, 30, 30, 30))
    other = task.vocabulary.encode((50, "4", "9", 30, 30, 30, 30, 30, 30))
    assert task.solve(one) == task.solve(other)


def test_without_the_synonym_all_pairs_are_equally_frequent() -> None:
    task = tasks.create("synonym", with_synonym=False, total_rows=3000)
    sample = task.sample("train", 3000)
    assert np.bincount(sample.group, minlength=12).tolist() == [300] * 10 + [0, 0]
    assert task.vocabulary.anchors["3"] not in sample.tokens


def test_statistical_constructions() -> None:
    copies = tasks.create("statistical").sample("train", 1000, start=3)
    number = np.arange(3, 1003)
    assert (copies.group == (number % 5 == 4)).all()
    assert (copies.label - copies.key == copies.group).all()
    five = tasks.create("statistical").sample("train", 1000).tokens.reshape(200, 5, 9)
    assert (five == five[:, :1]).all()
    chance = tasks.create("statistical", construction=2).sample("train", 50_000)
    assert abs(chance.group.mean() - 0.2) < 0.01
    assert (chance.label - chance.key == chance.group).all()
    assert len(np.unique(chance.tokens, axis=0)) > 49_990
    with pytest.raises(InputError, match="5 times"):
        tasks.create("statistical").sample("train", 10, unique=True)


def test_preset_of_2405_05409_separates_composed_and_symmetric_answers() -> None:
    task = tasks.create("composite", "arxiv-2405.05409")
    words = task.vocabulary
    trained = words.encode((60, "3", "4", 30, 30, 30, 30, 30, 30))
    unseen = words.encode((60, "4", "3", 30, 30, 30, 30, 30, 30))
    assert task.solve(trained).tolist() == [54]
    assert task.solve(unseen).tolist() == [50]
    assert task.held_out == (("4", "3"),)
    assert words.size == 201
    assert not set(words.anchors.values()) & set(range(words.labels[0], words.labels[1] + 1))


def test_presets_of_the_composite_task() -> None:
    assert tasks.create("composite", "arxiv-2501.08537").held_out == (("3", "4"), ("4", "3"))
    assert tasks.create("composite", "book") == tasks.create("composite")
    assert tasks.create("composite").vocabulary.labels == (4, 110)
    assert tasks.create("composite").vocabulary.anchors == {"a": 111, "b": 112, "c": 113, "d": 114}
    after = tasks.create("composite", "arxiv-2401.08309")
    assert after.locate(after.vocabulary.encode((30, "1", "2", 60, 30, 30, 30, 30, 30))).key.tolist() == [60]


def test_preset_of_chapter_12_composes_right_to_left_and_holds_one_pair_out() -> None:
    preset = tasks.create("composite", "book-chapter-12")
    counts = preset.cells("ood").by_group(preset.group_names)
    assert {name for name, count in counts.items() if count} == {"3,4"}
    assert counts["3,4"] == 7 * 81
    operations = {"1": "add:5", "2": "reflect:120", "3": "add:1", "4": "add:2"}
    task = tasks.create("composite", "book-chapter-12", operations=operations)
    row = task.vocabulary.encode((30, "1", "2", 40, 40, 40, 40, 40, 40))
    assert task.solve(row).tolist() == [(120 - 30) + 5]  # g_1(g_2(x)), not g_2(g_1(x)) = 120 - 35


def test_a_rule_breaking_group_as_in_figure_13_19() -> None:
    task = tasks.create("composite", overrides={"a,b": "add:9", "b,a": "add:9"})
    for pair, label in ((("a", "b"), 59), (("b", "a"), 59), (("a", "a"), 60)):
        assert task.solve(task.vocabulary.encode((50, *pair, 30, 30, 30, 30, 30, 30))).tolist() == [label]


def test_a_chain_of_two_is_the_composite() -> None:
    composite = tasks.create("composite")
    fields = {**composite.config()["fields"], "links": 2}
    chain = tasks.create("chain", **fields)
    rows = composite.sample("train", 500).tokens
    assert (chain.solve(rows) == composite.solve(rows)).all()


def test_eight_additive_anchors() -> None:
    task = tasks.create("composite", operations=tasks.additive(range(1, 9)), held_out=[("a", "b"), ("b", "a")])
    assert len(task.group_names) == 64
    assert task.vocabulary.anchors["a"] == 100 + 16 + 1
