"""`anchorlab benchmark` from the command line."""

import json
from pathlib import Path

import pytest
from planted_sweeps import History, PlantedSweep

from anchorlab.benchmark_card import TASKS, running
from anchorlab.cli import main
from anchorlab.experiments import Experiment

EXAMPLE = f"{Path(__file__).parents[2] / 'examples/tiny_rnn.py'}:make"


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["benchmark", *arguments])
    return int(stopped.value.code or 0)


def accuracies(experiment: Experiment) -> History:
    splits = TASKS[experiment.task].task.splits
    return {(split, group): {0: 0.0, 20: 0.95} for split in splits for group in ("", "x")}


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> PlantedSweep:
    sweep = PlantedSweep(accuracies)
    monkeypatch.setattr(running, "sweep", sweep)
    return sweep


def test_table_and_folder_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    assert call(EXAMPLE, "--scale", "smoke", "--out", out, "--tasks", "identity, synonym", "--seeds", "2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:3]] == [
        ["identity", "tiny_rnn.py:make"],
        ["synonym", "tiny_rnn.py:make"],
    ]
    assert "mean (lowest-highest) over seeds: 2" in lines[4]
    assert lines[-1].startswith(f"card.json and card.md: {out}")


def test_json_has_the_cards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call("fnn", "--scale", "smoke", "--out", str(tmp_path / "fnn"), "--tasks", "identity")
    capsys.readouterr()
    more = ["--tasks", "identity", "--beside", str(tmp_path / "fnn/card.json"), "--json"]
    assert call("gpt2", "--scale", "smoke", "--out", str(tmp_path / "gpt2"), *more) == 0
    found = json.loads(capsys.readouterr().out)
    assert [card["network"] for card in found["cards"]] == ["gpt2", "fnn"]
    assert found["cards"][0] == json.loads((tmp_path / "gpt2/card.json").read_text())
    assert found["cards"][0]["tasks"]["identity"]["test"]["200"] == {"mean": 0.95, "lowest": 0.95, "highest": 0.95}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gpt"], "network: unknown value 'gpt'; did you mean 'gpt2'?; a network of your own is FILE.py:FUNCTION"),
        (["no/such.py:make"], "there is no file"),
        (["fnn", "--scale", "paperr"], "scale: unknown value 'paperr'; did you mean 'paper'?"),
        (["fnn", "--tasks", "identity,chain"], "tasks: unknown value 'chain'"),
        (["fnn", "--tasks", ","], "--tasks: names no task"),
        (["fnn", "--seeds", "0"], "seeds=0: must be at least 1"),
        (["fnn", "--beside", "README.md"], "card='README.md': is no card of a benchmark"),
        ([EXAMPLE, "--name", "lstm"], "name='lstm': 'lstm' is a network of this package; give another name"),
        ([EXAMPLE, "--name", "a\nb"], "name='a\\nb': must be one line of printable characters"),
        (["fnn", "--out", "/dev/null/out"], "out='/dev/null/out': '/dev/null' is no folder; choose another"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*arguments) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert len(captured.err.splitlines()) == 1
    assert not captured.out
