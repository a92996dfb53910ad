import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from anchorlab import experiments
from anchorlab.cli import main
from anchorlab.engine import Run
from anchorlab.errors import Interrupted
from anchorlab.experiments import Experiment

GRID = ["sweep", "composite", "--gamma", "0.3:0.5:0.1", "--weight-decay", "0,0.01"]
SMALL = ["--set", "width=16", "--set", "train_rows=500", "--set", "test_rows=40", "--set", "ood_rows=40"]


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    return int(stopped.value.code or 0)


class Recorded:
    """Takes the place of training: keeps what it is asked for and writes runs whose ood accuracy is γ + λ + seed."""

    def __init__(self) -> None:
        self.experiments: Mapping[str, Experiment] = {}
        self.options: dict[str, Any] = {}

    def __call__(self, given: Mapping[str, Experiment], out: Path, **options: Any) -> list[Run]:
        self.experiments, self.options = given, {"out": out, **options}
        return [self._run(Path(out) / name, experiment) for name, experiment in given.items()]

    @staticmethod
    def _run(folder: Path, experiment: Experiment) -> Run:
        folder.mkdir(parents=True)
        value = (experiment.rate or 0) + experiment.weight_decay + experiment.seed
        rows = [(0, "ood", "", "accuracy", 0.9), (3, "ood", "", "accuracy", value), (3, "ood", "a", "accuracy", 0.1)]
        table = pd.DataFrame(rows, columns=["step", "split", "group", "metric", "value"])
        table.to_parquet(folder / "metrics.parquet")
        diverged = experiment.rate == 0.3 and experiment.weight_decay == 0.01
        (folder / "environment.json").write_text(json.dumps({"status": "diverged" if diverged else "finished"}))
        (folder / "config.json").write_text(json.dumps(experiment.record()))
        return Run.open(folder)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    recorded = Recorded()
    monkeypatch.setattr(experiments, "sweep", recorded)
    return recorded


def test_options_become_experiments(recorded: Recorded, tmp_path: Path) -> None:
    more = ["--learning-rate", "0.002", "--vary", "layers=2,3", "--vary", "task.modulus=7:8:1", "--seeds", "0,4"]
    fixed = ["--model", "post_ln", "--steps", "30", "--set", "task.length=12", "--set", "momentum=0.0"]
    how = ["--launcher", "ray", "--address", "here:1", "--placement", "stacked", "--out", str(tmp_path / "out")]
    assert call(*GRID, *more, *fixed, *how) == 0
    found = recorded.experiments
    assert len(found) == 3 * 2 * 2 * 2 * 2
    assert found["gamma0.4-decay0.01-learning_rate0.002-layers3-task.modulus8-seed4"] == Experiment(
        **{"task": "composite", "task_fields": {"length": 12, "modulus": 8}, "model": "post_ln", "steps": 30},
        **{"initialization_rate": 0.4, "weight_decay": 0.01, "learning_rate": 0.002},
        **{"layers": 3, "seed": 4, "data_seed": 4},
    )
    assert recorded.options == {
        **{"out": tmp_path / "out", "launcher": "ray", "address": "here:1", "placement": "stacked"},
    }


def test_summary_counts_and_shows_the_mean_over_seeds(
    recorded: Recorded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*GRID, "--steps", "3", "--seeds", "2", "--out", str(tmp_path / "out")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"12 members (3 initialization_rate x 2 weight_decay x 2 seeds) into {tmp_path / 'out'}"
    assert lines[1].startswith("10 finished, 2 diverged, ")
    assert lines[2] == "ood accuracy, mean over 2 seeds of the finished members (γ across, λ down)"
    assert [line.split() for line in lines[3:6]] == [
        ["0.3", "0.4", "0.5"],
        ["0", "0.80", "0.90", "1.00"],
        ["0.01", "-", "0.91", "1.01"],
    ]
    assert lines[6] == f"next: anchorlab phase {tmp_path / 'out'}    anchorlab runs {tmp_path / 'out'}"


def test_a_file_describes_the_sweep(
    recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("depth.toml").write_text("[settings]\nsteps = 3\n[vary]\nlayers = [1, 2]\n")
    assert call("sweep", "depth.toml", "--placement", "pool") == 0
    assert list(recorded.experiments) == ["layers1-seed0", "layers2-seed0"]
    assert recorded.options["out"] == Path("runs/depth-sweep")
    assert "runs/depth-sweep" in capsys.readouterr().out
    Path("depth.py").write_text("from anchorlab import Experiment\nexperiments = {'only': Experiment(steps=3)}")
    assert call("sweep", "depth.py", "--out", "elsewhere") == 0
    assert list(recorded.experiments) == ["only"]


def test_dry_run_lists_the_members_and_trains_nothing(
    recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(*GRID, "--steps", "3", "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "gamma0.5-decay0.01-seed0  initialization_rate=0.5  weight_decay=0.01" in lines
    assert lines[-1].startswith("6 members (3 initialization_rate x 2 weight_decay); nothing was trained")
    assert "runs/composite-sweep" in lines[-1]
    assert call("sweep", "composite", "--steps", "3", "--dry-run") == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("1 member; nothing was trained")
    assert not recorded.experiments
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweep"], "error: task: give a task, a sweep file or --data"),
        (["sweep", "composit", "--steps", "3"], "error: task: unknown value 'composit'; did you mean 'composite'"),
        (["sweep", "composite", "--data", "x.parquet"], "error: --data: the task 'composite' is given too"),
        (["sweep", "--data", "nowhere.parquet", "--steps", "3"], "error: data='nowhere.parquet': no such file"),
        (GRID, "error: steps: give steps or epochs"),
        ([*GRID, "--steps", "0"], "error: steps=0: input should be greater than 0"),
        ([*GRID, "--steps", "3", "--epochs", "2"], "error: steps=3 and epochs=2: give only one"),
        (["sweep", "composite", "--steps", "3", "--gamma", "nan"], "error: initialization_rate='nan': input should be"),
        (["sweep", "composite", "--steps", "3", "--gamma", "0.5,NaN"], "error: initialization_rate=nan: input should"),
        (["sweep", "composite", "--steps", "3", "--gamma", ""], "error: initialization_rate='': a value is missing"),
        (
            ["sweep", "composite", "--steps", "3", "--gamma", "0.3,0.30"],
            "error: initialization_rate=0.3: is given twice",
        ),
        (
            ["sweep", "composite", "--steps", "3", "--gamma", "0.3:0.9:0"],
            "error: initialization_rate='0.3:0.9:0': the step",
        ),
        (["sweep", "composite", "--steps", "3", "--gamma", "0.3:0.9"], "error: initialization_rate='0.3:0.9': is not"),
        (["sweep", "composite", "--steps", "3", "--weight-decay=-0.1,0"], "error: weight_decay=-0.1: input should be"),
        (["sweep", "composite", "--steps", "3", "--weight-decay", "0:1:1e-9"], "gives more than 100,000 values"),
        ([*GRID, "--steps", "3", "--seeds", "0"], "error: seeds=0: must be at least 1"),
        ([*GRID, "--steps", "3", "--seeds", "1,1"], "error: seeds=1: is given twice"),
        ([*GRID, "--steps", "3", "--seeds", "few"], "error: seeds=['few']: must be a number of trials"),
        ([*GRID, "--steps", "3", "--seeds", "20000"], "error: vary: gives 120,000 members; at most 100,000"),
        ([*GRID, "--steps", "3", "--vary", "layers"], "error: --vary: 'layers' is not FIELD=VALUES"),
        ([*GRID, "--steps", "3", "--vary", "layer=2"], "error: vary: unknown value 'layer'; did you mean 'layers'"),
        ([*GRID, "--steps", "3", "--vary", "layers=2", "--vary", "layers=3"], "error: --vary: 'layers' is given twice"),
        ([*GRID, "--steps", "3", "--vary", "weight_decay=2"], "error: --vary: 'weight_decay' is given twice"),
        ([*GRID, "--steps", "3", "--vary", "steps=2,3"], "error: steps: is both set and varied"),
        ([*GRID, "--steps", "3", "--set", "weight_decay=2"], "error: weight_decay: is both set and varied"),
        ([*GRID, "--steps", "3", "--set", "steps=2"], "error: --set: 'steps' has an option or argument"),
        ([*GRID, "--steps", "3", "--vary", "momentum=0,0.9"], "error: momentum=0.9: optimizer 'adamw' does not use it"),
        ([*GRID, "--steps", "3", "--launcher", "slurm"], "error: --launcher: unknown value 'slurm'; known: local, ray"),
        ([*GRID, "--steps", "3", "--placement", "pol"], "error: --placement: unknown value 'pol'; did you mean 'pool'"),
        ([*GRID, "--steps", "3", "--address", "x:1"], "error: --address='x:1': belongs to --launcher ray"),
        (["sweep", "nowhere.toml"], "error: sweep='nowhere.toml': no such file"),
        (["sweep", "sweep.yaml"], "error: sweep='sweep.yaml': must be a file ending in .toml or .py"),
        (["sweep", "some.toml", "--gamma", "1"], "error: --gamma: the file 'some.toml' describes the sweep"),
        (["sweep", "some.toml", "--vary", "layers=1"], "error: --vary: the file 'some.toml' describes the sweep"),
        (["sweep", "some.toml", "--set", "layers=1"], "error: --set: the file 'some.toml' describes the sweep"),
        (["sweep", "some.toml", "--seeds", "1"], "error: --seeds: the file 'some.toml' describes the sweep"),
        (["sweep", "some.toml", "--steps", "1"], "error: --steps: the file 'some.toml' describes the sweep"),
    ],
)
def test_bad_input_ends_with_2_and_one_clear_line_before_anything_is_written(
    arguments: list[str],
    message: str,
    recorded: Recorded,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(*arguments) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert len(printed.splitlines()) == 1
    assert not recorded.experiments
    assert not list(tmp_path.iterdir())


def test_help_shows_the_grammar(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("sweep", "--help") == 0
    printed = capsys.readouterr().out
    assert "Usage: anchorlab sweep" in printed
    assert "start:stop:step" in printed
    assert "default: 1" in printed


def test_an_interrupted_sweep_ends_with_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*given: object, **options: object) -> None:
        raise Interrupted("run the same again to continue")

    monkeypatch.setattr(experiments, "sweep", interrupted)
    assert call(*GRID, "--steps", "3", "--out", str(tmp_path)) == 3
    assert capsys.readouterr().err == "interrupted: run the same again to continue\n"


@pytest.mark.usefixtures("in_this_process")
def test_a_small_sweep_trains_and_the_same_command_shows_it_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sweep"
    rates = ["--gamma", "0.4,0.6", "--weight-decay", "0,0.1"]
    command = ["sweep", "composite", *rates, "--steps", "3", *SMALL, "--set", "device=cpu", "--placement", "pool"]
    command += ["--out", str(out)]
    assert call(*command) == 0
    first = capsys.readouterr().out.splitlines()
    assert first[1].startswith("4 finished, ")
    assert [line.split()[0] for line in first[3:6]] == ["0.4", "0", "0.1"]
    config = json.loads((out / "gamma0.6-decay0.1-seed0" / "config.json").read_text())
    assert (config["initialization_rate"], config["weight_decay"], config["total_steps"]) == (0.6, 0.1, 3)
    assert call(*command) == 0
    assert capsys.readouterr().out.splitlines()[2:] == first[2:]
