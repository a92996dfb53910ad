"""Own rows with the column `labels`: from files to runs, sweeps and reports."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from small_experiments import small

from anchorlab import InputError, sweep, train
from anchorlab.corpora import NOT_COUNTED, TokenRows, answered, write
from anchorlab.experiments.data import load_data
from anchorlab.experiments.reports import analyze, write_report


@pytest.fixture(scope="module")
def reversal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Words of two to five letters to be written backwards: 1 word 2 answer 3; ood words are longer."""
    random = np.random.default_rng(0)

    def rows(count: int, low: int, high: int) -> TokenRows:
        words = [random.integers(4, 12, random.integers(low, high + 1)).tolist() for _ in range(count)]
        prompts, answers = [[1, *word, 2] for word in words], [[*word[::-1], 3] for word in words]
        return answered(prompts, answers, groups=[f"{len(word)} letters" for word in words])

    folder = tmp_path_factory.mktemp("reversal")
    return write(folder, {"train": rows(400, 2, 5), "test": rows(50, 2, 5), "ood_longer": rows(30, 6, 6)})


def test_rows_of_different_lengths_are_padded_and_do_not_count_there(reversal: Path) -> None:
    data = load_data(small(data=str(reversal)))
    assert data.has_labels_inside
    assert (data.vocabulary_size, data.length) == (12, 15)
    table = pd.read_parquet(reversal / "test.parquet")
    test = data.splits["test"]
    for row, (tokens, labels) in enumerate(zip(table.input_ids, table.labels, strict=True)):
        filler = test.tokens.shape[1] - len(tokens)
        assert test.tokens[row].tolist() == [*tokens, *[0] * filler]
        assert test.labels[row].tolist() == [*labels, *[NOT_COUNTED] * filler]
        word = tokens[1 : 1 + (len(tokens) - 3) // 2]
        assert labels.tolist() == [*[NOT_COUNTED] * (len(word) + 2), *word[::-1], 3]


@pytest.mark.slow
def test_training_learns_to_answer_and_reports_every_split(reversal: Path, tmp_path: Path) -> None:
    experiment = small(
        data=str(reversal), model="gpt2", width=32, heads=2, steps=150, learning_rate=3e-3, evaluate_every=150
    )
    run = train(experiment, tmp_path / "run", progress=False)
    table = run.metrics()
    assert set(table.split) == {"train", "test", "ood_longer"}
    assert set(table.metric) == {"loss", "token_accuracy", "accuracy"}
    assert set(table[table.split == "ood_longer"].group) == {"", "6 letters"}
    final = table[(table.step == 150) & (table.group == "")].set_index(["split", "metric"]).value
    assert final["test", "token_accuracy"] > 0.6  # by chance 1 / 8 or less
    assert final["test", "accuracy"] < final["test", "token_accuracy"]
    model, test = run.model(), load_data(experiment).splits["test"]
    with torch.no_grad():
        loss = model(test.tokens, labels=test.labels).loss.item()
    assert final["test", "loss"] == pytest.approx(loss, abs=1e-5)


@pytest.mark.usefixtures("in_this_process")
def test_sweep_members_are_those_trained_alone(reversal: Path, tmp_path: Path) -> None:
    members = {f"seed {seed}": small(data=str(reversal), steps=6, seed=seed) for seed in (0, 1)}
    runs = sweep(members, tmp_path / "sweep", placement="stacked", progress=False)
    for run, experiment in zip(runs, members.values(), strict=True):
        alone = train(experiment, tmp_path / run.name, progress=False)
        assert run.metrics().drop(columns="value").equals(alone.metrics().drop(columns="value"))
        assert run.metrics().value.to_numpy() == pytest.approx(alone.metrics().value.to_numpy(), abs=1e-5)


@pytest.mark.usefixtures("brief", "undrawn")
def test_analysis_and_report_leave_out_what_needs_a_task(reversal: Path, tmp_path: Path) -> None:
    run = train(small(data=str(reversal), steps=4, batch_size=64), tmp_path / "run", progress=False)
    found = analyze(run.folder)
    assert "there is no task to draw fresh rows from" in found.explanation.absent["accuracy"]
    assert found.explanation.metrics is not None
    page = write_report([run.folder]).read_text()
    assert "token_accuracy" not in found.explanation.absent
    assert "ood_longer" in page


@pytest.mark.parametrize("model", ["fnn", "simplified"])
def test_models_that_answer_otherwise_are_refused(reversal: Path, tmp_path: Path, model: str) -> None:
    experiment = small(data=str(reversal), model=model, width=None, layers=None)
    with pytest.raises(InputError, match="does not predict every token from those before it"):
        train(experiment, tmp_path / "run", progress=False)


FINE = {"input_ids": [1, 2, 3], "labels": [-100, 2, 3]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"input_ids": [1, 2, 3], "labels": [2, 3]}, "split 'train': row 12 has 3 'input_ids' and 2 'labels'"),
        ({"input_ids": [1, 2, 3], "labels": [1, -100, -100]}, "row 12 has no label that counts; at least one behind"),
        ({"input_ids": [], "labels": []}, "row 12 has no label that counts"),
        ({"input_ids": [1, 2, 3], "labels": [2, 3, -100]}, r"row 12 has a label that is not the token at its place"),
        ({"input_ids": [1, 2, 3], "labels": [-1, 2, 3]}, "row 12 has a label that is not the token at its place"),
        ({"input_ids": [1, None, 3], "labels": [-100, 2, 3]}, "column 'input_ids' must hold integers from 0"),
        ({"input_ids": None, "labels": [-100, 2, 3]}, "every row of 'input_ids' must be a list of token ids"),
        ({"input_ids": [1, 2, 3], "labels": None}, "every row of 'labels' must be a list of token ids"),
        ({"input_ids": [1, -2, 3], "labels": [-100, -2, 3]}, "column 'input_ids' must hold integers from 0"),
        ({"input_ids": [1, 2, 3], "labels": [-100, 2.5, 3]}, "column 'labels' must hold integers"),
    ],
)
def test_wrong_labels(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(one) + "\n" for one in [*[FINE] * 12, row, *[FINE] * 12]))
    with pytest.raises(InputError, match=message):
        load_data(small(data=str(data)))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": 3, "labels": [1, 2, 3]}, "both columns 'label' and 'labels'; give 'label' .* or 'labels'"),
        ({"target": 3}, r"no column 'label' or 'labels' \(found input_ids, target\)"),
    ],
)
def test_both_or_neither_of_label_and_labels(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text((json.dumps({"input_ids": [1, 2, 3]} | columns) + "\n") * 20)
    with pytest.raises(InputError, match=message):
        load_data(small(data=str(data)))


def test_splits_of_different_columns(tmp_path: Path) -> None:
    write(tmp_path, {"train": TokenRows([[1, 2, 3]] * 20)})
    (tmp_path / "test.parquet").write_bytes((tmp_path / "train.parquet").read_bytes())
    pd.DataFrame({"input_ids": [[1, 2, 3]] * 5, "label": 3}).to_parquet(tmp_path / "ood.parquet")
    with pytest.raises(InputError, match=r"some splits have 'label', others 'labels'; all must have the same$"):
        load_data(small(data=str(tmp_path)))


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
@pytest.mark.parametrize("grouped", ["ood", "test", "train"])
def test_splits_with_and_without_groups(tmp_path: Path, grouped: str, kind: str) -> None:
    for split in ("ood", "test", "train"):
        table = pd.DataFrame({"input_ids": [[1, 2, 3]] * 20, "labels": [[1, 2, 3]] * 20})
        if split == grouped:
            table["group"] = ["even", "odd"] * 10
        if kind == "parquet":
            table.to_parquet(tmp_path / f"{split}.parquet")
        else:
            table.to_json(tmp_path / f"{split}.jsonl", orient="records", lines=True)
    splits = load_data(small(data=str(tmp_path))).splits
    names = {split: {rows.group_names[index] for index in rows.groups.tolist()} for split, rows in splits.items()}
    assert names == {split: {"none"} for split in splits} | {grouped: {"even", "odd"}}


def test_held_out_rows_keep_their_labels(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    write(tmp_path, {"train": TokenRows(random.integers(1, 9, (60, 5)))})
    splits = load_data(small(data=str(tmp_path))).splits
    assert {name: len(rows.tokens) for name, rows in splits.items()} == {"train": 54, "test": 6}
    assert all(torch.equal(rows.tokens, rows.labels) for rows in splits.values())


def test_tokenizer_says_how_many_tokens_there_are(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    write(tmp_path, {"train": TokenRows([[1, 2, 3]] * 20)})
    Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate("abcdefg")}, merges=[])).save(
        str(tmp_path / "tokenizer.json")
    )
    assert load_data(small(data=str(tmp_path))).vocabulary_size == 7
    write(tmp_path, {"train": TokenRows([[1, 2, 9]] * 20)}, tokenizer=(tmp_path / "tokenizer.json").read_text())
    with pytest.raises(InputError, match=r"rows hold token 9, but tokenizer.json only 7 tokens"):
        load_data(small(data=str(tmp_path)))
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match=r"tokenizer.json cannot be read"):
        load_data(small(data=str(tmp_path)))
