import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from anchorlab.cli import main

LEARNED = {"a,b": 600, "b,a": 100, "a,a": 100, "b,b": 100}


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return int(stopped.value.code or 0)


def write_rows() -> None:
    rows = pd.DataFrame({"input_ids": [[1, 2]] * 60, "label": [3] * 60, "group": ["x", "y", "z"] * 20})
    rows.to_json("rows.jsonl", orient="records", lines=True)


@pytest.fixture
def run(tmp_path: Path, write_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run in which one pair was learned late; the working folder is the one it is in."""
    monkeypatch.chdir(tmp_path)
    folder = write_run(Path("run"))
    steps = range(0, 701, 50)
    rows = [(step, "train", pair, "accuracy", float(step >= at)) for step in steps for pair, at in LEARNED.items()]
    table = pd.DataFrame(rows, columns=["step", "split", "group", "metric", "value"])
    table.to_parquet(folder / "metrics.parquet", index=False)
    return folder


def test_groups_are_printed_the_slowest_first(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("analyze", "run", "--slow-groups", "--noise", "a,b", "--noise", "b,a", "--out", "found") == 0
    header, first, *others, told, noise, folder = capsys.readouterr().out.splitlines()
    assert header.split("  ")[0] == "group"
    assert first.split() == ["a,b", "600", "6.00", "1.000", "slow"]
    assert len(others) == 3
    assert "(a,b): candidates for rows that break the rule" in told
    assert noise == "2 known noisy groups: precision 1.00; recall 0.50"
    assert folder == "table and figure: found"
    assert sorted(path.name for path in Path("found").iterdir()) == ["slow_groups.csv", "slow_groups.png"]


def test_json_holds_the_same(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("analyze", "run", "--slow-groups", "--noise", "a,b", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["slow"], found["last_step"], found["median_step"]) == (["a,b"], 700, pytest.approx(100))
    assert found["groups"][0]["group"] == "a,b"
    assert found["noise"] == {"groups": ["a,b"], "precision": 1, "recall": 1}
    assert call("analyze", "run", "--slow-groups", "--json") == 0
    assert json.loads(capsys.readouterr().out)["noise"] is None


def test_rows_are_trained_on_with_other_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows()
    small = ("width=8", "feed_forward_width=8", "learning_rate=0.05", "steps=150")
    settings = [part for setting in small for part in ("--set", setting)]
    assert call("analyze", "rows.jsonl", "--slow-groups", "--out", "made", *settings) == 0
    printed = capsys.readouterr().out
    assert "no group was slow" in printed
    assert "table and figure: made/analysis" in printed
    assert json.loads(Path("made/config.json").read_text())["width"] == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none", "--slow-groups"], "error: source='none': no such run, file or folder"),
        (["run", "--slow-groups", "--noise", "c,d"], "error: noise: unknown value 'c,d'; known: a,a, b,a"),
        (
            ["run", "--slow-groups", "--only", "heads"],
            "error: --only: --slow-groups reads learning curves; leave it out",
        ),
        (["run", "--slow-groups", "--samples", "5"], "error: --samples: --slow-groups reads"),
        (["run", "--slow-groups", "--seed", "1"], "error: --seed: --slow-groups reads"),
        (["run", "--noise", "a,b"], "error: --noise: it belongs to --slow-groups; leave it out"),
        (["run", "--set", "steps=3"], "error: --set: it belongs to --slow-groups; leave it out"),
        (["run", "--slow-groups", "--set", "steps=3"], "error: settings: 'run' is trained already; leave steps out"),
        (["run", "--slow-groups", "--set", "steps"], "error: --set: 'steps' is not a setting"),
        (
            ["rows.jsonl", "--slow-groups", "--set", "evaluation_rows=2"],
            "error: data='rows.jsonl': the first 2 rows of split 'train', which are evaluated, have none of group '",
        ),
    ],
)
def test_bad_input_is_one_line(
    run: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows()
    assert call("analyze", *arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(message)
    assert printed.err.count("\n") == 1
