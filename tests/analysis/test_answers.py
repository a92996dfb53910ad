import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anchorlab.analysis.answers import CLASSES, class_table, classify, deviations
from anchorlab.analysis.commutativity import commutativity_table, overall
from anchorlab.analysis.pairs import pair_names, swap_anchors, swapped_name, unordered_name

NAMES = st.sampled_from(["a,a", "a,b", "b,a", "c,d", "d,c"])
ROWS = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), NAMES), min_size=1, max_size=40)


def test_each_class_once():
    classes = classify(
        answers=np.array([7, 9, 9, 4, 7]),
        truth=np.array([7, 7, 7, 7, 7]),
        swapped_answers=np.array([9, 9, 1, 5, 7]),
        swapped_truth=np.array([7, 7, 9, 4, 7]),
        swapped_trained=np.array([False, False, True, False, True]),
    )
    # right; own answer after the exchange; the answer trained for the exchanged pair; neither (that pair was not
    # trained); right and the same after the exchange
    assert [CLASSES[c] for c in classes] == ["inferential", "symmetric", "symmetric", "other", "inferential"]


@given(ROWS)
def test_fractions_add_up_and_overall_is_the_row_mean(rows):
    answers, truth, swapped = (np.array(column) for column in list(zip(*rows, strict=True))[:3])
    pairs = [row[3] for row in rows]
    table = class_table(classify(answers, truth, swapped, truth, np.zeros(len(rows), bool)), pairs)
    assert np.allclose(table[list(CLASSES)].sum(axis=1), 1)
    assert table["pair"].iloc[-1] == "all"
    assert table["rows"].iloc[-1] == len(rows) == table["rows"].iloc[:-1].sum()
    assert table["inferential"].iloc[-1] == pytest.approx(sum(a == t for a, t, _, _ in rows) / len(rows))


@given(ROWS)
def test_commutativity_against_counting(rows):
    answers, _, swapped = (np.array(column) for column in list(zip(*rows, strict=True))[:3])
    pairs = [row[3] for row in rows]
    table = commutativity_table(answers, swapped, pairs, {"c,d", "b,a"})
    counted = {}
    for answer, _, other, pair in rows:
        if pair[0] != pair[2]:
            counted.setdefault("".join(sorted(pair)).strip(","), []).append(answer == other)
    assert {row.pair.replace(",", ""): (row.rows, row.fraction) for row in table.itertuples()} == {
        pair.replace(",", ""): (len(same), pytest.approx(np.mean(same))) for pair, same in counted.items()
    }
    assert all(row.unseen == "one" for row in table.itertuples())
    everything = [same for pair in counted.values() for same in pair]
    assert overall(table, unseen_only=False) == pytest.approx(
        np.mean(everything) if everything else np.nan, nan_ok=True
    )


def test_overall_takes_unseen_pairs_only():
    table = commutativity_table(np.array([1, 1, 1]), np.array([1, 2, 1]), ["a,b", "a,b", "c,d"], {"c,d", "d,c"})
    assert dict(zip(table["pair"], table["unseen"], strict=True)) == {"a,b": "no", "c,d": "both"}
    assert overall(table, unseen_only=True) == 1.0
    assert overall(table, unseen_only=False) == pytest.approx(2 / 3)


def test_deviations_count_answers_and_set_non_numbers_apart():
    table = deviations(np.array([10, 12, 12, 111]), np.array([10, 10, 10, 10]), np.arange(4, 111))
    assert table["deviation"].isna().tolist() == [False, False, True]
    assert table["deviation"].tolist()[:2] == [0, 2]
    assert table["rows"].tolist() == [1, 2, 1]
    assert table["fraction"].tolist() == [0.25, 0.5, 0.25]


def test_deviations_of_an_all_number_model_have_no_missing_row():
    assert deviations(np.array([5, 6]), np.array([6, 6]), np.arange(4, 111))["deviation"].tolist() == [-1, 0]


@given(st.integers(0, 6), st.lists(st.integers(1, 200), min_size=9, max_size=9))
def test_exchange_moves_two_tokens_and_undoes_itself(first, tokens):
    row, positions = np.array([tokens]), np.array([[first, first + 2]])
    swapped = swap_anchors(row, positions)
    assert swapped[0, first] == tokens[first + 2]
    assert swapped[0, first + 2] == tokens[first]
    rest = np.delete(np.arange(9), [first, first + 2])
    assert (swapped[0, rest] == row[0, rest]).all()
    assert (swap_anchors(swapped, positions) == row).all()
    assert row[0].tolist() == tokens


def test_pair_names():
    assert pair_names(np.array([[111, 112], [112, 112]]), {"a": 111, "b": 112}) == ["a,b", "b,b"]
    assert swapped_name("a,b") == "b,a"
    assert unordered_name("b,a") == unordered_name("a,b") == "a,b"
