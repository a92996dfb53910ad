import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from small_experiments import small

from anchorlab import Experiment, Run, models, tasks, train
from anchorlab.errors import InputError
from anchorlab.experiments.training import default_name


def test_run_says_how_it_came_about(tmp_path: Path) -> None:
    experiment = small(steps=6, seed=3, data_seed=4, initialization_rate=0.7)
    run = train(experiment, tmp_path / "run", progress=False)
    assert run.status == "finished"
    assert run.config["task"] == tasks.create("composite").config()
    assert run.config["vocabulary_size"] == tasks.create("composite").vocabulary.size
    assert run.config["parameters"] == run.model().num_parameters()
    assert run.environment["seeds"] == {"seed": 3, "data_seed": 4}
    assert Experiment.from_record(run.config).record() == experiment.record()
    table = run.metrics()
    assert set(table.split) == {"train", "test", "ood"}
    assert set(table[table.split == "ood"].group) == {"", "c,d", "d,c"}
    assert len(set(table[table.split == "test"].group)) == 15


def test_measured_accuracy_is_that_of_the_task_itself(tmp_path: Path) -> None:
    run = train(small(steps=40, learning_rate=3e-3), tmp_path / "run", progress=False)
    sample = tasks.create("composite").sample("test", 50, 0)
    with torch.no_grad():
        answers = run.model()(torch.from_numpy(sample.tokens).long()).logits[:, -1].argmax(-1).numpy()
    expected = (answers == tasks.create("composite").solve(sample.tokens)).mean()
    assert run.final("test") == pytest.approx(expected)


def test_initial_weights_depend_on_seed_and_rate_only(tmp_path: Path) -> None:
    def weights(**settings: Any) -> torch.Tensor:
        experiment = small(steps=1, learning_rate=1e-9, weight_decay=0.0, **settings)
        folder = tmp_path / default_name(experiment) / str(settings.get("data_seed", 0))
        return train(experiment, folder, progress=False).model().get_input_embeddings().weight

    base = weights(seed=1)
    torch.testing.assert_close(weights(seed=1, data_seed=9), base, rtol=0, atol=1e-7)
    assert not torch.allclose(weights(seed=2), base, atol=1e-3)
    torch.testing.assert_close(weights(seed=1, initialization_rate=0.75), base / 2, rtol=1e-4, atol=1e-6)  # 16^-1/4


@pytest.mark.parametrize("model", ["gpt2", "llama", "lstm", "fnn", "simplified"])
def test_every_model_trains(tmp_path: Path, model: str) -> None:
    sizes = {"gpt2": {"heads": 2}, "llama": {"heads": 2}, "simplified": {"width": None}}.get(model, {})
    run = train(small(model=model, task="identity", steps=12, **sizes), tmp_path / model, progress=False)
    losses = run.metrics().query("split == 'train' and metric == 'loss' and group == ''").value
    assert losses.iloc[-1] < losses.iloc[0]


def test_every_task_trains(tmp_path: Path) -> None:
    for name in tasks.names():
        run = train(small(task=name, steps=2), tmp_path / name, progress=False)
        assert run.status == "finished"


def test_full_batch_gradient_descent_falls_every_step(tmp_path: Path) -> None:
    experiment = small(
        optimizer="gd",
        batch_size=None,
        learning_rate=0.1,
        schedule="constant",
        steps=8,
        evaluate_every=1,
        train_rows=90,
    )
    table = train(experiment, tmp_path / "run", progress=False).metrics()
    losses = table.query("split == 'train' and metric == 'loss' and group == ''").value.to_numpy()
    assert (np.diff(losses) < 0).all()


def test_epochs_are_counted_in_whole_batches(tmp_path: Path) -> None:
    run = train(small(epochs=2, steps=None), tmp_path / "run", progress=False)
    assert run.environment["step"] == run.config["total_steps"] == 2 * (600 // 32)


def test_bad_values_stop_before_anything_is_written(tmp_path: Path) -> None:
    for settings, message in (
        ({"steps": None}, "give steps or epochs"),
        ({"steps": 3, "batch_size": 601}, "batch_size=601: must be between 1 and the 600"),
        ({"steps": 3, "warmup": 3}, r"warmup=3.0: must be less than the 3 steps"),
        ({"steps": 3, "heads": 3}, "divisible by heads=3"),
        ({"steps": 3, "component_rates": {"queries": 1.0}}, "queries"),
    ):
        with pytest.raises(InputError, match=message):
            train(small(**settings), tmp_path / "run", progress=False)
    assert not list(tmp_path.iterdir())


def test_diverged_run_says_so(tmp_path: Path) -> None:
    experiment = small(steps=50, optimizer="sgd", learning_rate=1e30, schedule="constant", clip_norm=None)
    run = train(experiment, tmp_path / "run", progress=False)
    assert run.status == "diverged"
    assert "in step" in run.environment["reason"]


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def copy_rows(count: int) -> list[dict[str, Any]]:
    random = np.random.default_rng(0)
    tokens = random.integers(1, 30, (count, 4)).tolist()
    return [{"input_ids": row, "label": row[1], "group": "low" if row[1] < 15 else "high"} for row in tokens]


def test_own_rows_in_every_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    rows = copy_rows(300)
    lines = write_jsonl(tmp_path / "rows.jsonl", rows)
    parquet = tmp_path / "rows.parquet"
    pd.DataFrame(rows).to_parquet(parquet)
    folder = tmp_path / "folder"
    folder.mkdir()
    write_jsonl(folder / "train.jsonl", rows[:270])
    write_jsonl(folder / "test.jsonl", rows[270:])
    for data in (lines, parquet, folder):
        run = train(small(data=str(data), steps=4, batch_size=16), tmp_path / f"run-{data.name}", progress=False)
        assert run.config["task"] is None
        assert run.config["data"] == str(data)
        assert run.config["vocabulary_size"] == 30
        table = run.metrics()
        assert set(table[table.split == "test"].group) == {"", "low", "high"}


def test_rows_without_a_group_beside_rows_with_one(tmp_path: Path) -> None:
    rows = [row | {"group": None if index % 3 else row["group"]} for index, row in enumerate(copy_rows(60))]
    data = write_jsonl(tmp_path / "rows.jsonl", rows)
    table = train(small(data=str(data), steps=1, batch_size=8), tmp_path / "run", progress=False).metrics()
    assert set(table.group) == {"", "none", "low", "high"}
    assert not table.duplicated(["step", "split", "group", "metric"]).any()


def test_exported_task_trains_as_own_rows(tmp_path: Path) -> None:
    tasks.create("composite").generate(tmp_path / "data", {"train": 400, "test": 50, "ood": 50}, seed=0)
    run = train(small(data=str(tmp_path / "data"), steps=3), tmp_path / "run", progress=False)
    assert set(run.metrics().split) == {"train", "test", "ood"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"input_ids": [1, 2], "target": 1}] * 20, "no column 'label'"),
        ([{"input_ids": [1, 2], "label": 1}, {"input_ids": [1], "label": 1}] * 20, "same number of tokens"),
        ([{"input_ids": [1, -2], "label": 1}] * 20, "'input_ids' must hold integers from 0"),
        ([{"input_ids": [1, 2], "label": "x"}] * 20, "'label' must hold integers"),
        ([{"input_ids": [1.5, 2], "label": 1}] * 20, "'input_ids' must hold integers"),
        ([{"input_ids": [1, 2], "label": 1}] * 5, "fewer than 10 rows"),
        ([{"input_ids": [[1], [2]], "label": 1}] * 20, "must hold integers"),
        ([{"input_ids": 3, "label": 1}] * 20, "must be a list of token ids"),
        ([{"input_ids": [1, 2], "label": [1, 2]}] * 20, "every 'label' must be one token id"),
        ([{"input_ids": [1, 2 * 10**12], "label": 1}] * 20, "must hold integers from 0 to 999999"),
        ([], "cannot be read"),
    ],
)
def test_wrong_own_rows(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    data = write_jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(InputError, match=message):
        train(small(data=str(data), steps=1, batch_size=2), tmp_path / "run", progress=False)


def test_changed_rows_are_another_run(tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "rows.jsonl", copy_rows(60))
    train(small(data=str(data), steps=1, batch_size=8), tmp_path / "run", progress=False)
    write_jsonl(data, copy_rows(61)[1:])
    with pytest.raises(InputError, match=r"other settings \(data_hash:"):
        train(small(data=str(data), steps=1, batch_size=8), tmp_path / "run", progress=False)


def test_unreadable_own_files(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("1,2\n")
    (tmp_path / "broken.parquet").write_bytes(b"not parquet")
    (tmp_path / "broken.jsonl").write_text('{"input_ids": [1\n')
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("rows.csv", "must be a folder or a file ending in"),
        ("broken.parquet", "cannot be read"),
        ("broken.jsonl", "cannot be read"),
        ("empty", "cannot be read"),
    ):
        with pytest.raises(InputError, match=message):
            train(small(data=str(tmp_path / name), steps=1), tmp_path / "run", progress=False)


def test_models_of_runs_open_with_plain_transformers(tmp_path: Path) -> None:
    from transformers import GPT2LMHeadModel

    run = train(small(model="gpt2", steps=2), tmp_path / "run", progress=False)
    plain = GPT2LMHeadModel.from_pretrained(run.folder / "model")
    tokens = torch.tensor([[23, 111, 112, 43, 46, 74, 54, 44, 72]])
    with torch.no_grad():
        torch.testing.assert_close(plain(tokens).logits, models.load(run.folder / "model")(tokens).logits)


# Trains two members in a pool in every given folder, one after the other, and tells how each training ended.
POOLS = """
import sys
from anchorlab import Experiment, sweep
from anchorlab.cli import app as module, main

@module.app.command("pool")
def pool(out: str) -> None:
    fixed = dict(task="identity", model="post_ln", width=16, train_rows=500, device="cpu")
    steps = dict(steps=200_000, checkpoint_every=100_000)
    sweep({str(seed): Experiment(**fixed, **steps, seed=seed) for seed in (0, 1)}, out, placement="pool")

*others, last = sys.argv[1:]
for out in others:
    try:
        main(["pool", out])
    except SystemExit as ended:
        print(ended.code, file=sys.stderr)
main(["pool", last])
"""  # no guard: a script may train in a pool without one


def stop_pools(folder: Path, *numbers: int) -> tuple[int, str]:
    """Send one signal after the other to the parent of pools, each when both members have begun; return its end."""
    script, outs = folder / "program.py", [folder / str(number) for number in numbers]
    script.write_text(POOLS)
    process = subprocess.Popen([sys.executable, str(script), *map(str, outs)], stderr=subprocess.PIPE, text=True)
    for out, number in zip(outs, numbers, strict=True):
        deadline = time.monotonic() + 90
        while len(list(out.glob("*/config.json"))) < 2:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


@pytest.mark.slow
def test_stopped_pools_save_every_member(tmp_path: Path) -> None:
    code, errors = stop_pools(tmp_path, signal.SIGINT, signal.SIGTERM)
    assert (code, "Traceback" in errors) == (3, False), errors
    assert errors.splitlines().count("3") == 1
    for number in (signal.SIGINT, signal.SIGTERM):
        for seed in ("0", "1"):
            run = Run.open(tmp_path / str(number) / seed)
            assert run.status == "interrupted"
            assert run.checkpoints() == [run.environment["step"]]


@pytest.mark.slow
def test_killed_parent_takes_its_workers_along(tmp_path: Path) -> None:
    stop_pools(tmp_path, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while {Run.open(tmp_path / str(signal.SIGKILL) / seed).status for seed in "01"} != {"interrupted"}:
        assert time.monotonic() < deadline
        time.sleep(0.1)
