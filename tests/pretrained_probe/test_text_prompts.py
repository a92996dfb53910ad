"""Prompts from the user's own files and datasets, and what is said of those that cannot be used."""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import datasets
import numpy as np
import pytest
from trained_tokenizers import trained_tokenizer

from anchorlab import tasks
from anchorlab.errors import InputError
from anchorlab.pretrained_probe.prompts import PromptSet
from anchorlab.pretrained_probe.text_prompts import text_prompts


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    return folder


@pytest.fixture
def library_log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What the library itself would print."""
    logger, verbosity = logging.getLogger("datasets"), datasets.logging.get_verbosity()
    logger.addHandler(caplog.handler)
    datasets.logging.set_verbosity(datasets.logging.ERROR)
    yield caplog
    assert datasets.logging.get_verbosity() == datasets.logging.ERROR
    datasets.logging.set_verbosity(verbosity)
    logger.removeHandler(caplog.handler)


TEXTS = ["The sky is blue today.", "The cake tastes good.", "The window is open."]


def rows(prompts: PromptSet) -> list[list[int]]:
    return [prompt.tokens.tolist() for prompt in prompts.prompts]


def write_text(folder: Path) -> Path:
    (folder / "a.txt").write_text("\n\n" + "\n \n\n".join(TEXTS) + "\n")
    return folder / "a.txt"


def write_jsonl(folder: Path) -> Path:
    (folder / "a.jsonl").write_text("".join(json.dumps({"id": 3, "text": text}) + "\n" for text in TEXTS))
    return folder / "a.jsonl"


def write_json(folder: Path) -> Path:
    (folder / "a.json").write_text(json.dumps([{"text": text} for text in TEXTS]))
    return folder / "a.json"


def write_csv(folder: Path) -> Path:
    (folder / "a.csv").write_text("number,text\n" + "".join(f"1,{text}\n" for text in TEXTS))
    return folder / "a.csv"


def write_parquet(folder: Path) -> Path:
    datasets.Dataset.from_dict({"text": TEXTS}).to_parquet(folder / "a.parquet")
    return folder / "a.parquet"


def write_folder(folder: Path) -> Path:
    (folder / "data").mkdir()
    write_parquet(folder / "data")
    return folder / "data"


def write_saved(folder: Path) -> Path:
    datasets.Dataset.from_dict({"text": TEXTS}).with_format("numpy").save_to_disk(folder / "saved")
    return folder / "saved"


def write_saved_splits(folder: Path) -> Path:
    splits = {name: datasets.Dataset.from_dict({"text": texts}) for name, texts in (("good", TEXTS), ("bad", ["no"]))}
    datasets.DatasetDict(splits).save_to_disk(folder / "splits")
    return folder / "splits"


WRITERS = [
    *(write_text, write_jsonl, write_json, write_csv, write_parquet, write_folder, write_saved, write_saved_splits)
]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("kind", ["byte level", "metaspace"])
def test_texts_come_from_every_kind_of_source(
    tmp_path: Path, cache: Path, write: Callable[[Path], Path], kind: str
) -> None:
    tokenizer = trained_tokenizer(kind)
    prompts = text_prompts(write(tmp_path), tokenizer)
    assert rows(prompts) == [tokenizer.encode(text) for text in TEXTS]
    assert [prompt.places for prompt in prompts.prompts] == [{"last": len(row) - 1} for row in rows(prompts)]
    assert not list(cache.rglob("*.arrow"))


def test_lists_of_ids_need_no_tokenizer(tmp_path: Path) -> None:
    folder = tasks.create("composite").generate(tmp_path / "task", {"train": 3, "test": 2, "ood": 2})
    expected = tasks.create("composite").sample("train", 3).tokens.tolist()
    prompts = text_prompts(folder, None)
    assert rows(prompts) == expected
    assert prompts.prompts[0].pieces == tuple(map(str, expected[0]))
    assert rows(text_prompts(folder, trained_tokenizer("metaspace"))) == expected
    assert rows(text_prompts(folder, None, column="anchors", length=2)) == [row.tolist() for row in anchors(3)]


@pytest.mark.parametrize("shape", ["numpy", "torch", None])
def test_saved_datasets_may_have_a_format(tmp_path: Path, shape: str | None) -> None:
    lists = [[1, 2, 3], [4, 5]]
    table = datasets.Dataset.from_dict({"input_ids": lists}).with_format(shape)
    table.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"any": table}).save_to_disk(tmp_path / "several")
    assert rows(text_prompts(tmp_path / "one", None)) == rows(text_prompts(tmp_path / "several", None)) == lists


def anchors(n: int) -> np.ndarray:
    return tasks.create("composite").sample("train", n).anchors


def test_rows_may_lack_the_column(tmp_path: Path) -> None:
    lines = [{"number": 1}] * 3 + [{"text": text} for text in TEXTS]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    tokenizer = trained_tokenizer("byte level")
    assert rows(text_prompts(tmp_path / "a.jsonl", tokenizer)) == [tokenizer.encode(text) for text in TEXTS]


def test_files_of_a_folder_need_the_same_columns(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "The sky"}\n')
    (tmp_path / "b.jsonl").write_text('{"number": 3}\n')
    with pytest.raises(InputError, match=r"^source='.*': cannot be read \(.*column names don't match"):
        text_prompts(tmp_path, trained_tokenizer("byte level"))


def test_a_column_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "The sky is blue.", "question": "What is my name?"}\n')
    tokenizer = trained_tokenizer("byte level")
    assert rows(text_prompts(tmp_path / "a.jsonl", tokenizer, column="question"))[0] == tokenizer.encode(
        "What is my name?"
    )


def test_a_sample_is_in_the_files_order_and_depends_on_the_seed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n\n".join(f"No. {number}" for number in range(100)))
    tokenizer = trained_tokenizer("byte level")

    def drawn(seed: int, n: int = 8) -> list[int]:
        prompts = text_prompts(tmp_path / "a.txt", tokenizer, n=n, seed=seed)
        return [int(tokenizer.decode(row).split()[1]) for row in rows(prompts)]

    assert drawn(0) == drawn(0) == sorted(set(drawn(0)))
    assert len(drawn(0)) == 8
    assert drawn(0) != drawn(1)
    assert set(drawn(0)) < set(drawn(0, n=20))
    assert drawn(0, n=500) == list(range(100))
    assert {number for seed in range(60) for number in drawn(seed)} == set(range(100))


def test_prompts_are_cut_and_short_ones_left_out(tmp_path: Path) -> None:
    lists = [[1], [1, 2], [], [3, 4, 5, 6], None]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"input_ids": ids}) + "\n" for ids in lists))
    prompts = text_prompts(tmp_path / "a.jsonl", None, length=3)
    assert rows(prompts) == [[1, 2], [3, 4, 5]]
    assert "2 of 5 texts" in prompts.description
    assert "cut behind 3 tokens" in prompts.description
    tokenizer = trained_tokenizer("metaspace")
    assert rows(text_prompts(write_text(tmp_path), tokenizer, length=4)) == [
        tokenizer.encode(text)[:4] for text in TEXTS
    ]


def test_no_more_rows_are_read_than_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[text_prompts.__module__], "MOST_ROWS", 2)
    for write in (write_text, write_jsonl):
        assert "2 of 2 texts" in text_prompts(write(tmp_path), trained_tokenizer("byte level"), n=9).description


def test_a_text_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeff sky is blue".encode())
    tokenizer = trained_tokenizer("byte level")
    assert rows(text_prompts(tmp_path / "a.txt", tokenizer)) == [tokenizer.encode("sky is blue")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "has no prompt of 2 tokens or more"),
        ("a.txt", b" \n\n \n", "has no prompt of 2 tokens or more"),
        ("a.txt", b"caf\xe9", r"not UTF-8 \(byte 3\); save it in UTF-8"),
        ("a.csv", b"text\ncaf\xe9\n", "cannot be read .*utf-8"),
        ("a.jsonl", b"", "cannot be read .it is empty"),
        ("a.jsonl", b'{"text": \n', "cannot be read .JSON"),
        ("a.jsonl", b'{"text": ""}\n{"text": null}\n{"text": "  "}\n', "has no prompt of 2 tokens or more"),
        ("a.json", b'{"text": ', "cannot be read .JSON"),
        ("a.csv", b"", "cannot be read"),
        ("a.csv", b"text\n", "has no rows"),
        ("a.parquet", b"no", "cannot be read .Parquet"),
        ("a.xlsx", b"no", "must be a folder or a file ending in .txt, .jsonl, .json, .csv, .parquet"),
        ("a.csv", b"txt,number\nThe sky,1\n", "no column text or input_ids; choose from txt, number"),
        ("a.csv", b"text\n1.5\n", "row 1 holds 1.5; a text or a list of token ids is needed"),
        ("a.jsonl", b'{"text": [1.5, 2]}\n', "row 1 holds a list with other values than ids from 0"),
        ("a.jsonl", b'{"text": [1, -2]}\n', "row 1 holds a list with other values than ids from 0"),
        ("a.jsonl", b'{"text": [1, 4000]}\n', "row 1 holds a list with other values than ids from 0 to"),
        ("a.jsonl", b'{"text": [true, false]}\n', "row 1 holds a list with other values"),
    ],
)
def test_bad_files_are_refused_in_one_line(
    tmp_path: Path, library_log: pytest.LogCaptureFixture, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"^source='.*{name}': .*{message}") as raised:
        text_prompts(tmp_path / name, trained_tokenizer("byte level"))
    assert "\n" not in str(raised.value)
    assert library_log.messages == []


def test_an_unknown_column_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^column: unknown value 'txt'; did you mean 'text'\?$"):
        text_prompts(write_jsonl(tmp_path), trained_tokenizer("byte level"), column="txt")


@pytest.mark.parametrize("write", [write_text, write_jsonl])
def test_texts_need_a_tokenizer(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    with pytest.raises(InputError, match=r"^tokenizer: the model comes without one, which a text needs"):
        text_prompts(write(tmp_path), None)


@pytest.mark.parametrize("wrong", [{"n": 0}, {"length": 1}, {"seed": -1}])
def test_wrong_numbers_are_refused(tmp_path: Path, wrong: dict[str, int]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(InputError, match=f"^{name}: {value} is not allowed"):
        text_prompts(write_text(tmp_path), trained_tokenizer("byte level"), **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("source", ["none.txt", "none.jsonl", "none.parquet", "some/folder/deep", "../up", "a b"])
def test_a_source_that_is_not_there_is_refused(source: str) -> None:
    with pytest.raises(InputError, match=rf"^source='{source}': .*[Nn]o such file"):
        text_prompts(source, trained_tokenizer("byte level"))


@pytest.mark.parametrize("source", ["org/data", "data", "org/data:small"])
def test_a_name_on_the_hub_without_network_is_one_line(source: str) -> None:
    with pytest.raises(InputError, match=rf"^source='{source}': no such file or folder, .* Hub cannot be reached$"):
        text_prompts(source, trained_tokenizer("byte level"))


def test_a_dataset_on_the_hub_is_read_as_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, configuration: str | None, *, streaming: bool) -> datasets.IterableDatasetDict:
        assert (name, streaming) == ("org/data", True)
        table = datasets.Dataset.from_dict({"text": TEXTS[:2] if configuration == "small" else TEXTS})
        return datasets.IterableDatasetDict({"train": table.to_iterable_dataset()})

    monkeypatch.setattr(datasets, "load_dataset", load)
    tokenizer = trained_tokenizer("byte level")
    assert rows(text_prompts("org/data", tokenizer)) == [tokenizer.encode(text) for text in TEXTS]
    assert rows(text_prompts("org/data:small", tokenizer)) == [tokenizer.encode(text) for text in TEXTS[:2]]


def test_what_the_hub_refuses_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("Config name is missing.\nPlease pick one among: ['small', 'large']")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    message = r"cannot be read \(Config name is missing. Please pick one among: \['small', 'large'\]\)$"
    with pytest.raises(InputError, match=rf"^source='org/data': {message}"):
        text_prompts("org/data", trained_tokenizer("byte level"))
