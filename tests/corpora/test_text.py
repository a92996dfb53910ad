"""Text corpora: documents, their split, the tokenizer, windows and files."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from anchorlab import Experiment, InputError
from anchorlab.corpora import TokenRows, answered, text, write
from anchorlab.experiments.data import load_data

TEXTS = {f"{number}.txt": f"Document {number} says: snow ❄ falls on day {number * 37}.\n" * 5 for number in range(20)}


def decoded(corpus: text.TextCorpus, tokens: np.ndarray) -> list[str]:
    return corpus.tokenizer.decode(tokens.tolist(), skip_special_tokens=False).split(text.END)[:-1]


def test_every_document_is_whole_in_one_split_and_comes_back_from_its_tokens() -> None:
    corpus = text.tokenize(TEXTS, vocabulary_size=300, test_share=0.2)
    train, test = decoded(corpus, corpus.train), decoded(corpus, corpus.test)
    assert sorted(train + test) == sorted(TEXTS.values())
    assert not set(train) & set(test)
    characters = sum(map(len, TEXTS.values()))
    assert 0.2 * characters <= sum(map(len, test)) < 0.2 * characters + max(map(len, TEXTS.values()))


@pytest.mark.parametrize("seed", range(5))
def test_a_document_longer_than_the_test_share_is_left_to_training(seed: int) -> None:
    corpus = text.tokenize(TEXTS | {"long": "long\n" * 9_000}, vocabulary_size=text.BYTES, test_share=0.05, seed=seed)
    assert 0.05 <= len(corpus.test) / (len(corpus.train) + len(corpus.test)) < 0.1


def test_the_end_token_in_a_document_is_text(tmp_path: Path) -> None:
    corpus = text.tokenize({"a": f"a{text.END}\n" * 9, "b": f"b{text.END}\n" * 9}, vocabulary_size=text.BYTES)
    end = corpus.tokenizer.token_to_id(text.END)
    assert [np.flatnonzero(part == end).tolist() for part in (corpus.train, corpus.test)] == [[16 * 9 - 9]] * 2


def test_split_depends_on_the_seed_alone() -> None:
    first, again, other = (text.tokenize(TEXTS, vocabulary_size=300, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first.train, again.train)
    assert decoded(first, first.test) != decoded(other, other.test)


def test_tokenizer_learns_from_training_documents_alone() -> None:
    words = [letter * 8 for letter in "abcdefghijklmnopqrst"]
    corpus = text.tokenize({word: f"{word} " * 30 for word in words}, vocabulary_size=1_000)
    tested = [content.split()[0] for content in decoded(corpus, corpus.test)]
    assert len(tested) == 2
    assert {word for word in words if f"Ġ{word}" in corpus.tokenizer.get_vocab()} == set(words) - set(tested)


def test_single_document_is_cut_between_two_lines() -> None:
    lines = "".join(f"line {number}\n" for number in range(100))
    corpus = text.tokenize({"all": lines}, vocabulary_size=text.BYTES, test_share=0.25)
    (train,), (test,) = decoded(corpus, corpus.train), decoded(corpus, corpus.test)
    assert train + test == lines
    assert test.startswith("line ")
    assert 0.24 < len(test) / len(lines) <= 0.25


def test_characters_take_no_more_documents_than_needed() -> None:
    corpus = text.tokenize(TEXTS, vocabulary_size=300, characters=1_000)
    taken = sorted(map(len, decoded(corpus, corpus.train) + decoded(corpus, corpus.test)))
    assert sum(taken) >= 1_000 > sum(taken) - taken[-1]


@settings(deadline=None, max_examples=30)
@given(st.text(st.characters(exclude_characters="\r"), min_size=1, max_size=60))
def test_bytes_are_tokens_of_the_smallest_vocabulary(content: str) -> None:
    corpus = text.tokenize({"a": "first\n", "b": "second\n"}, vocabulary_size=text.BYTES, test_share=0.4)
    assert corpus.tokenizer.get_vocab_size() == text.BYTES
    ids = corpus.tokenizer.encode(content).ids
    assert len(ids) == len(content.encode())
    assert corpus.tokenizer.decode(ids) == content


def test_windows_follow_each_other() -> None:
    assert text.windows(np.arange(11), 4).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_folder_trains_and_holds_its_tokenizer(tmp_path: Path) -> None:
    corpus = text.tokenize(TEXTS, vocabulary_size=300)
    folder = text.write(tmp_path / "rows", corpus, length=16, train_tokens=200, test_tokens=33)
    data = load_data(Experiment(data=str(folder), steps=1))
    assert data.vocabulary_size == corpus.tokenizer.get_vocab_size()
    assert data.splits["train"].tokens.flatten().tolist() == corpus.train[:192].tolist()
    assert data.splits["test"].labels.flatten().tolist() == corpus.test[:32].tolist()
    content = TEXTS["3.txt"]
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(content).ids
    assert AutoTokenizer.from_pretrained(folder)(content).input_ids == ids


def test_documents_of_a_folder_are_its_texts_each_once(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name, content in (("a.txt", b"one"), ("deep/b.md", "zwei ü".encode()), ("copy.txt", b"one")):
        (tmp_path / name).write_bytes(content)
    for name, content in (("empty.txt", b" \n"), ("latin.txt", b"\xfc"), ("binary", b"a\0b")):
        (tmp_path / name).write_bytes(content)
    assert text.documents(tmp_path) == {f"{tmp_path.name}/a.txt": "one", f"{tmp_path.name}/deep/b.md": "zwei ü"}
    assert list(text.documents(tmp_path / "a.txt").values()) == ["one"]


def test_standard_library_has_no_tests_and_no_installed_packages() -> None:
    names = text.documents()
    assert any(name.endswith("/textwrap.py") for name in names)
    assert not any("/test/" in name or "site-packages" in name for name in names)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"characters": -5}, "characters=-5: must be at least 1"),
        ({"characters": 0}, "characters=0: must be at least 1"),
        ({"texts": {"a": "long\n" * 99, "b": "b\n"}}, "test_share=0.1: the shorter documents have less"),
        ({"vocabulary_size": 256}, "vocabulary_size=256: must be at least 257"),
        ({"test_share": 1.0}, "test_share=1.0: must be between 0 and 1"),
        ({"texts": {"a": "one line"}}, "1 documents cannot be split"),
    ],
)
def test_wrong_settings(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        text.tokenize(**({"texts": TEXTS} | arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"length": 1}, "length=1: must be at least 2"),
        ({"length": 16, "train_tokens": 10**9}, r"train_tokens=1,000,000,000: must be 16 \(a window\) to"),
        ({"length": 16, "test_tokens": 8}, r"test_tokens=8: must be 16 \(a window\) to"),
        ({"length": 10**6}, r"train_tokens=.*: must be 1,000,000 \(a window\) to"),
    ],
)
def test_wrong_sizes_of_files(tmp_path: Path, arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        text.write(tmp_path, text.tokenize(TEXTS, vocabulary_size=300), **arguments)


def test_files_that_cannot_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.txt").write_text("one")
    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(InputError, match=r"^text='.*a.txt': cannot be read \(Permission denied\)$"):
        text.documents(tmp_path)


def test_what_another_corpus_left_in_the_folder_is_not_read(tmp_path: Path) -> None:
    corpus = text.tokenize(TEXTS, vocabulary_size=300)
    for _ in range(2):  # the same again is allowed
        text.write(tmp_path, corpus, length=16)
    with pytest.raises(InputError, match=r"^folder='.*': holds test.parquet of other rows; remove it, or [^\n]*$"):
        write(tmp_path, {"train": TokenRows([[1, 2]])}, tokenizer="{}")
    with pytest.raises(InputError, match=r"holds tokenizer\.json of other rows"):
        write(tmp_path, {"train": TokenRows([[1, 2]]), "test": TokenRows([[1, 2]])})


def test_sources_without_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no text in UTF-8"):
        text.documents(tmp_path)
    with pytest.raises(InputError, match="no such file or folder"):
        text.documents(tmp_path / "nothing")


def test_answers_count_and_prompts_do_not(tmp_path: Path) -> None:
    rows = answered([[1, 2, 3], [4]], [[5], [6, 7]], groups=["long", "short"])
    table = pd.read_parquet(write(tmp_path, {"train": rows}) / "train.parquet")
    assert [row.tolist() for row in table.input_ids] == [[1, 2, 3, 5], [4, 6, 7]]
    assert [row.tolist() for row in table.labels] == [[-100, -100, -100, 5], [-100, 6, 7]]
    assert table.group.tolist() == ["long", "short"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (TokenRows([]), "train: has no rows"),
        (TokenRows([[1, 2]], labels=[]), "train: 1 rows of input_ids, but 0 of labels"),
        (TokenRows([[1, 2]], groups=["a", "b"]), "train: 1 rows of input_ids, but 2 of group"),
    ],
)
def test_rows_that_do_not_belong_together(tmp_path: Path, rows: TokenRows, message: str) -> None:
    with pytest.raises(InputError, match=message):
        write(tmp_path, {"train": rows})
