import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from anchorlab import cli
from anchorlab.cli import main

SMALL = ["--steps", "3", "--set", "width=16", "--set", "train_rows=500", "--set", "test_rows=40", "--set", "device=cpu"]


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    return int(stopped.value.code or 0)


def test_train_prints_scores_and_writes_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    named = ["--gamma", "0.8", "--weight-decay", "0.1", "--seed", "2", "--out", str(out)]
    command = ["train", "composite", *named, *SMALL, "--set", "task.modulus=8", "--set", "model.activation=relu"]
    assert call(*command) == 0
    printed = capsys.readouterr().out
    assert "finished after 3 steps" in printed
    assert "accuracy  train 0." in printed
    assert str(out) in printed
    config = json.loads((out / "config.json").read_text())
    assert (config["initialization_rate"], config["weight_decay"], config["seed"]) == (0.8, 0.1, 2)
    assert config["task"]["fields"]["modulus"] == 8
    assert config["model_options"] == {"activation": "relu"}
    assert call(*command) == 0  # the finished run is shown again


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "composit", *SMALL], "error: task: unknown value 'composit'; did you mean 'composite'?"),
        (["train", "composite", *SMALL, "--set", "widht=3"], "error: setting: unknown value 'widht'"),
        (["train", "composite", *SMALL, "--set", "width"], "error: --set: 'width' is not a setting"),
        (["train", "composite", "--steps", "0"], "error: steps=0: input should be greater than 0"),
        (["train", "composite"], "error: steps: give steps or epochs"),
        (["train", "--data", "nowhere", *SMALL], "error: data='nowhere': no such file or folder"),
        (["train"], "give a task name or --data"),
        (["train", "composite", "--gama", "1"], "--gama"),
        (["run", "identity"], "error: task='identity'"),
        (["train", "composite", *SMALL, "--set", "steps=4"], "error: --set: 'steps' has an option or argument"),
        (["train", "composite", *SMALL, "--set", "task=identity"], "error: --set: 'task' has an option or argument"),
        (["train", "composite", *SMALL, "--set", "task_fields=3"], "or is written task.… or model.…"),
        (["train", "composite", *SMALL, "--set", "model.width=3"], "'width' is a setting of its own"),
        (["train", "composite", *SMALL, "--seed", "18446744073709551617"], "error: seed=18446744073709551617: input"),
        (
            ["train", "composite", *SMALL, "--set", "learning_rate=Infinity"],
            "error: learning_rate=inf: input",
        ),
        (["train", "composite", *SMALL, "--out", "/proc/no"], "error: out='/proc/no': cannot be used"),
    ],
)
def test_bad_input_ends_with_2_and_one_clear_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(*arguments) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert "Traceback" not in printed
    if printed.startswith("error"):
        assert len(printed.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_interrupt_ends_with_3_and_the_same_command_continues(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    program = (
        "import signal, threading, time, pathlib\n"
        "def stop():\n"
        f"    while not list(pathlib.Path({str(out)!r}).glob('checkpoints/*.safetensors')): time.sleep(0.01)\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "threading.Thread(target=stop, daemon=True).start()\n"
        "from anchorlab.cli import main; main()"
    )
    fields = ["width=16", "train_rows=2000", "test_rows=100", "batch_size=32", "checkpoint_every=20"]
    settings = [word for field in fields for word in ("--set", field)]
    arguments = ["train", "identity", "--steps", "200", *settings, "--out", str(out)]
    command = [sys.executable, "-P", "-c", program, *arguments]
    first = subprocess.run(command, capture_output=True, text=True, check=False)
    assert first.returncode == 3, first.stderr
    assert "interrupted: stopped after step" in first.stderr
    assert "Traceback" not in first.stderr
    assert call(*arguments) == 0
    assert "finished after 200 steps" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_that_an_import_makes_an_error_of_its_own_ends_with_3(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def importing(arguments: list[str]) -> None:
        try:
            signal.raise_signal(number)
        except Exception as error:
            raise ModuleNotFoundError("could not import module 'GPT2Config'") from error

    monkeypatch.setattr(cli, "_run", importing)
    assert call("train", "composite") == 3
    assert capsys.readouterr().err == "interrupted: run the same again to continue\n"


def test_error_of_an_import_without_an_interrupt_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def importing(arguments: list[str]) -> None:
        raise ModuleNotFoundError("No module named 'transformers'")

    monkeypatch.setattr(cli, "_run", importing)
    with pytest.raises(ModuleNotFoundError):
        main(["train", "composite"])


def test_help_of_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ([], ["tasks"], ["tasks", "show"], ["models"], ["models", "show"], ["generate"], ["train"], ["run"]):
        assert call(*command, "--help") == 0
        assert "Usage: anchorlab" in capsys.readouterr().out
