from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from anchorlab import Experiment, corpora
from anchorlab.corpora.addition import Pairs, Square, digit_rows, split, text_rows, whole_number_rows
from anchorlab.errors import InputError
from anchorlab.experiments.data import load_data


def test_the_square_of_the_book_is_held_out() -> None:
    found = split()
    assert len(found["test"].first) == 201**2
    assert len(found["train"].first) == 1000**2 - 201**2
    assert found["test"].first.min() == found["test"].second.min() == 400
    assert found["test"].first.max() == found["test"].second.max() == 600


@given(st.data())
def test_pairs_are_tested_exactly_if_both_numbers_are_inside(data: st.DataObject) -> None:
    largest = data.draw(st.integers(1, 12))
    low = data.draw(st.integers(0, largest))
    high = data.draw(st.integers(low, largest if low else largest - 1))
    found = {
        name: set(zip(*map(np.ndarray.tolist, part), strict=True))
        for name, part in split(Square(largest, low, high)).items()
    }
    inside = set(product(range(low, high + 1), repeat=2))
    assert found == {"test": inside, "train": set(product(range(largest + 1), repeat=2)) - inside}


def test_fewer_rows_are_a_part_that_follows_the_seed() -> None:
    square = Square(30, 10, 20)
    everything, part = split(square), split(square, train_rows=100, test_rows=7)
    assert [len(one.first) for one in part.values()] == [100, 7]
    assert {*zip(*part["train"], strict=True)} < {*zip(*everything["train"], strict=True)}
    again, other = split(square, train_rows=100), split(square, train_rows=100, seed=1)
    assert np.array_equal(part["train"].first, again["train"].first)
    assert not np.array_equal(part["train"].first, other["train"].first)


@pytest.mark.parametrize(
    ("square", "rows"), [((9, 5, 4), None), ((9, 0, 9), None), ((9, 4, 10), None), ((9, 4, 5), 97)]
)
def test_what_cannot_be_split_is_refused(square: tuple[int, int, int], rows: int | None) -> None:
    with pytest.raises(InputError, match=r"train_rows=97: .* 96 pairs" if rows else "must be inside 0..9"):
        split(Square(*square), train_rows=rows)


def test_rows_of_whole_numbers_have_the_sum_behind_them(tmp_path: Path) -> None:
    found = split(Square(9, 4, 5))
    folder = corpora.write(tmp_path, {name: whole_number_rows(part, 9) for name, part in found.items()})
    data = load_data(Experiment(data=str(folder), steps=1))
    for rows in data.splits.values():
        first, plus, second, equals = rows.tokens.T
        assert (rows.labels == first + second).all()
        assert set(plus.tolist()) == {19}
        assert set(equals.tolist()) == {20}
    assert (data.vocabulary_size, data.length) == (21, 4)


def test_rows_of_digits_ask_for_the_digits_of_the_sum() -> None:
    rows = digit_rows(Pairs(np.array([7, 999]), np.array([5, 10])))
    assert [list(row) for row in rows.input_ids] == [[7, 10, 5, 11, 1, 2, 12], [9, 9, 9, 10, 1, 0, 11, 1, 0, 0, 9, 12]]
    assert rows.labels is not None
    assert [list(row) for row in rows.labels] == [[-100] * 4 + [1, 2, 12], [-100] * 7 + [1, 0, 0, 9, 12]]


def words(*names: str) -> Tokenizer:
    tokenizer = Tokenizer(
        models.WordLevel({"?": 0} | {name: i for i, name in enumerate(names, start=1)}, unk_token="?")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return tokenizer


def test_rows_of_text_have_the_tokenizers_tokens() -> None:
    tokenizer = words(*"0123456789+=")
    rows = text_rows(Pairs(np.array([12]), np.array([9])), tokenizer)
    assert [tokenizer.id_to_token(token) for token in rows.input_ids[0]] == list("12+9=21")
    assert rows.labels is not None
    assert list(rows.labels[0])[:5] == [-100] * 5
    assert list(rows.labels[0])[5:] == [3, 2]
    with pytest.raises(InputError, match="no tokens for"):
        text_rows(Pairs(np.array([12]), np.array([9])), words(*"012345678+="))
