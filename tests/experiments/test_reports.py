import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_experiments import small

from anchorlab.analysis import analyses, explain
from anchorlab.cli import main
from anchorlab.cli.analyze import _NAMES
from anchorlab.engine import Run
from anchorlab.errors import InputError
from anchorlab.experiments import Analysis, analyze, reports, train, write_report

pytestmark = pytest.mark.usefixtures("brief")
SAMPLES = 60


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two short runs that keep checkpoints, below one folder."""
    folder = tmp_path_factory.mktemp("runs")
    for name, seed in (("one", 0), ("two", 1)):
        train(small(seed=seed, checkpoint_every=5, keep_checkpoints=True), folder / name)
    return folder


@pytest.fixture(scope="module")
def analysis(runs: Path) -> Analysis:
    """Everything that there is to say about one of them."""
    return analyze(runs / "one", samples=SAMPLES)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "run"
    train(small(), folder)
    return folder


@pytest.fixture
def copied(plain: Path, tmp_path: Path) -> Path:
    """A finished run that may be changed."""
    return shutil.copytree(plain, tmp_path / "run")


@pytest.fixture(scope="module")
def recurrent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recurrent") / "lstm"
    train(small(model="lstm", layers=1, heads=None), folder)
    return folder


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    return int(stopped.value.code or 0)


def test_every_finding_has_its_files(analysis: Analysis, runs: Path) -> None:
    found = analysis
    assert found.folder == runs / "one/analysis"
    assert {finding.field for finding in found.findings} == set(analyses())
    expected = {f"{finding.field}.csv" for finding in found.findings if finding.table is not None}
    expected |= {f"{finding.field}.png" for finding in found.findings if finding.figure is not None}
    assert {path.name for path in found.folder.iterdir()} == expected
    assert {"heads.csv", "heads.png", "condensation_history.csv", "attention.png", "metrics.csv"} <= expected
    for path in found.folder.glob("*.csv"):
        assert len(pd.read_csv(path)) > 0
    for path in found.folder.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_attention_is_told_at_every_kept_step(runs: Path) -> None:
    found = analyze(runs / "one", only=["attention", "condensation_history"], samples=SAMPLES).explanation
    assert found.attention is not None
    assert found.condensation_history is not None
    assert found.attention.steps == (0, 5, 10)
    assert sorted(set(found.condensation_history["step"])) == [0, 5, 10]
    run = Run.open(runs / "one")
    for step, maps in zip(found.attention.steps, found.attention.weights, strict=True):
        table = run.model(step).get_input_embeddings().weight
        assert np.isfinite(maps).all()
        assert (step == 10) == bool((table == run.model().get_input_embeddings().weight).all())


def test_only_what_was_asked_for_is_measured_and_written(runs: Path, tmp_path: Path) -> None:
    found = analyze(runs / "one", only=["heads", "phase"], out=tmp_path / "new/out", samples=SAMPLES)
    assert [finding.field for finding in found.findings] == ["phase", "heads"]
    assert sorted(path.name for path in found.folder.iterdir()) == ["heads.csv", "heads.png"]
    assert found.explanation.readout is None


def test_same_analysis_again(analysis: Analysis, runs: Path, tmp_path: Path) -> None:
    drawn = ["heads", "key_masked", "embedding", "condensation_survey"]
    again = analyze(runs / "one", only=drawn, out=tmp_path, samples=SAMPLES).folder
    files = {path.name for path in again.iterdir()}
    assert {Path(name).stem for name in files} == set(drawn)
    assert all((analysis.folder / name).read_bytes() == (again / name).read_bytes() for name in files)


@pytest.mark.usefixtures("undrawn")
def test_report_of_one_run_and_of_several(
    runs: Path, recurrent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only = {"one": ["metrics", "condensation"], "two": ["metrics", "condensation"], "lstm": ["metrics"]}
    monkeypatch.setattr(reports, "explain", lambda run, **settings: explain(run, **settings | {"only": only[run.name]}))
    page = write_report([runs], samples=SAMPLES)
    assert page == runs / "report.html"
    text = page.read_text()
    assert "Two networks on the composite task: one, two" in text
    assert f"anchorlab report {runs} --samples {SAMPLES} --seed 0" in text
    assert "networks side by side" in text
    assert len(text.encode()) < 10_000_000
    other = write_report([recurrent], out=tmp_path / "one.html", samples=SAMPLES)
    assert "One network" in other.read_text()
    assert "one.html" in other.read_text()


def test_step_without_a_checkpoint_is_refused(runs: Path) -> None:
    with pytest.raises(InputError, match=r"step=3: .* has no checkpoint there; kept: 0, 5, 10"):
        Run.open(runs / "one").model(3)


class TestCommands:
    def test_analyze_tells_and_names_the_folder(self, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert (
            call("analyze", str(runs / "one"), "--only", "heads, phase", "--only", "accuracy", "--samples", "60") == 0
        )
        printed = capsys.readouterr().out
        assert printed.startswith("one: finished after 10 steps\n")
        assert re.search(r"\nAccuracy \(accuracy\)\n  Accuracy is 0\.\d+ on 60 rows of test", printed)
        assert "What the heads do (heads)\n  Layer 1 head 1" in printed
        assert printed.splitlines()[-1] == f"tables and figures: {runs}/one/analysis"

    @pytest.mark.usefixtures("undrawn")
    def test_analyze_as_json_leaves_nothing_of_an_older_analysis(
        self, recurrent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for stale in ("heads.csv", "heads.png", "metrics.csv"):
            (tmp_path / stale).write_text("old")
        assert call("analyze", str(recurrent), "--samples", "40", "--out", str(tmp_path), "--json") == 0
        findings = json.loads(capsys.readouterr().out)["findings"]
        assert findings["heads"] == {
            "text": "model: LSTMForCausalLM has no attention that goes through Hugging Face's AttentionInterface",
            "measured": False,
            "table": None,
            "figure": None,
        }
        assert findings["metrics"]["table"] == str(tmp_path / "metrics.csv")
        assert not list(tmp_path.glob("heads.*"))
        assert "old" not in (tmp_path / "metrics.csv").read_text()

    def test_help_names_every_analysis(self) -> None:
        assert set(_NAMES.split(", ")) == set(analyses())

    @pytest.mark.usefixtures("undrawn")
    def test_report(self, recurrent: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("report", str(recurrent), "--samples", "40") == 0
        assert capsys.readouterr().out == f"report: {recurrent}/report.html\n"
        assert "One network" in (recurrent / "report.html").read_text()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--only", "head"), "error: only: unknown value 'head'; did you mean 'heads'?"),
            (("--only", "learning_speed,phases"), "error: only: unknown value 'phases'; did you mean 'phase'?"),
            (("--only", ""), "error: only='': names no analysis; known: metrics, "),
        ],
    )
    def test_unknown_analyses(
        self, runs: Path, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert call("analyze", str(runs / "one"), *arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith(message)
        assert error.count("\n") == 1

    @pytest.mark.parametrize("name", ["heads", "attention", "path", "key_masked", "readout", "condensation"])
    def test_model_that_is_not_supported(self, recurrent: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("analyze", str(recurrent), "--only", name) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {name}: model: ")
        assert error.count("\n") == 1

    @pytest.mark.usefixtures("undrawn")
    def test_task_without_what_is_needed(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        train(small(task="classification"), tmp_path / "run")
        for name in ("key_masked", "readout", "commutativity", "phase"):
            assert call("analyze", str(tmp_path / "run"), "--only", name) == 2
            assert capsys.readouterr().err.startswith(f"error: {name}: ")

    def test_too_few_numbers_for_tsne(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        fields = {"numbers": (20, 22), "noise": (20, 22), "modulus": 2}
        train(small(task="identity", task_fields=fields), tmp_path / "run")
        assert call("analyze", str(tmp_path / "run"), "--only", "embedding") == 2
        assert capsys.readouterr().err == "error: embedding: embeddings: at least 6 points needed, got 3\n"

    def test_no_checkpoints(self, recurrent: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("analyze", str(recurrent), "--only", "condensation_history") == 2
        assert "checkpoints: there is none; train with keep_checkpoints=true" in capsys.readouterr().err

    def test_diverged_run_is_told_as_such(self, copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = copied / "environment.json"
        ended = {"status": "diverged", "reason": "loss is not finite"}
        path.write_text(json.dumps(json.loads(path.read_text()) | ended))
        assert call("analyze", str(copied), "--only", "accuracy", "--samples", "40") == 0
        assert capsys.readouterr().out.startswith("run: diverged after 10 steps (loss is not finite)\n")

    @pytest.mark.parametrize(
        ("file", "change"),
        [
            ("config.json", {"schema_version": 9}),
            ("config.json", {"task": {"name": "unknown", "fields": {}}}),
            ("model/config.json", {"model_type": "unknown"}),
            ("model/config.json", {"num_hidden_layers": 3}),
            ("model/config.json", {"hidden_size": 24}),
            ("model/config.json", {"max_position_embeddings": 4}),
        ],
    )
    def test_files_that_do_not_belong_together(
        self, file: str, change: dict[str, object], copied: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = copied / file
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        assert call("analyze", str(copied), "--samples", "20") == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1

    @pytest.mark.parametrize("file", ["config.json", "environment.json"])
    @pytest.mark.parametrize("content", ["[]", "{}", "3"])
    def test_json_of_something_else(
        self, file: str, content: str, copied: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (copied / file).write_text(content)
        assert call("analyze", str(copied)) == 2
        assert capsys.readouterr().err.count("\n") == 1

    def test_page_cannot_be_a_folder(self, recurrent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("report", str(recurrent), "--out", str(tmp_path)) == 2
        assert f"is a folder; give a file, such as '{tmp_path}/report.html'" in capsys.readouterr().err
        assert call("report", str(recurrent), "--out", str(tmp_path / "missing/page.html")) == 2
        assert "does not exist" in capsys.readouterr().err

    def test_folder_of_runs_is_no_run(self, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("analyze", str(runs)) == 2
        assert "holds runs, and is none; give one of them: one, two" in capsys.readouterr().err

    @pytest.mark.parametrize("command", ["analyze", "report"])
    def test_folders_that_hold_no_run(self, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for folder in (tmp_path, tmp_path / "missing"):
            assert call(command, str(folder)) == 2
            assert capsys.readouterr().err.startswith("error: ")

    @pytest.mark.parametrize(
        ("file", "message"),
        [
            ("model", "no trained model yet"),
            ("model/model.safetensors", "cannot be read ("),
            ("metrics.parquet", None),
            ("environment.json", "is missing or cannot be read"),
        ],
    )
    @pytest.mark.usefixtures("undrawn")
    def test_run_without_a_needed_file(
        self,
        file: str,
        message: str | None,
        recurrent: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        shutil.copytree(recurrent, tmp_path / "run")
        (tmp_path / "run" / file).rename(tmp_path / "away")
        code = call("analyze", str(tmp_path / "run"), "--samples", "20")
        error = capsys.readouterr().err
        if message is None:  # what was recorded is missing, all else is told
            assert code == 0
        else:
            assert code == 2
            assert message in error
            assert error.count("\n") == 1

    def test_broken_files(self, copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for file in ("model/model.safetensors", "metrics.parquet", "config.json"):
            path = copied / file
            content = path.read_bytes()
            path.write_bytes(content[: len(content) // 2])
            for command in ("analyze", "report"):
                assert call(command, str(copied)) == 2
                error = capsys.readouterr().err
                assert "cannot be read (" in error
                assert error.count("\n") == 1
            path.write_bytes(content)

    def test_too_many_runs_and_runs_given_twice(self, plane: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("report", str(plane)) == 2
        assert "15 given, a page compares at most 8; `anchorlab phase` shows a whole sweep" in capsys.readouterr().err
        one = str(next(plane.glob("*seed0")))
        assert call("report", one, one) == 2
        assert "is given twice" in capsys.readouterr().err

    def test_folder_that_cannot_be_written(
        self, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "file").write_text("")
        assert call("analyze", str(runs / "one"), "--only", "heads", "--out", str(tmp_path / "file")) == 2
        assert "cannot be written to" in capsys.readouterr().err
