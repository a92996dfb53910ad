"""Running reproductions: what is written, kept, shared and refused."""

import errno
import json
import math
import types
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure

from anchorlab import Experiment, reproduce
from anchorlab.cli import main
from anchorlab.errors import InputError
from anchorlab.report.style import new_figure
from anchorlab.reproduce import Claim, Condition, Measured, Reproduction, Study, Value, read_result, running, study

pytestmark = pytest.mark.usefixtures("in_this_process")
TRAINING = {
    **{"task": "identity", "model": "post_ln", "layers": 1, "heads": 1, "width": 8, "feed_forward_width": 8},
    **{"train_rows": 32, "test_rows": 16, "batch_size": 16, "steps": 2},
}

OTHER = {"text": None, "sizes": (1, 2), "rates": {"low": 0.5}, "pairs": [["a", 1]], "kept": ()}


def _measure(study: Study) -> Measured:
    runs = study.train({seed: Experiment(seed=seed, **study.settings["training"]) for seed in study.seeds})
    (study.folder / "note.txt").write_text("a file of its own")
    values = [Value(seed, "loss", run.final("test", "loss")) for seed, run in runs.items()]
    return Measured(values=[*values, Value(0, "odd", math.inf), Value(1, "odd", math.nan)], tables={"curve": _table()})


def _table() -> pd.DataFrame:
    return pd.DataFrame({"x": [1, 2], "y": [0.5, 0.25]})


def _figure(tables: Mapping[str, pd.DataFrame]) -> Figure:
    figure = new_figure(2, 2)
    figure.subplots().plot(tables["curve"]["x"], tables["curve"]["y"])
    return figure


def _planted(limit: float) -> Reproduction:
    return Reproduction(
        id="fig0.1",
        title="Planted",
        source="none",
        claim=Claim(text="The loss is low.", conditions=(Condition(quantity="loss", text="loss", at_most=limit),)),
        scales={scale: {"seeds": 3, "training": TRAINING, **OTHER} for scale in ("smoke", "laptop")},
        measure=_measure,
        figure=_figure,
        notes="Nothing else was tried.",
    )


@pytest.fixture
def one(monkeypatch: pytest.MonkeyPatch) -> Iterator[Reproduction]:
    planted = _planted(limit=0.0)
    monkeypatch.setattr(running, "get", lambda name: planted)
    return planted


def _run(out: Path, settings: Mapping[str, Any] | None = None) -> reproduce.Reproduced:
    return reproduce.run("fig0.1", scale="smoke", out=out, settings=settings, progress=False)


def test_the_result_is_kept_and_shared(one: Reproduction, tmp_path: Path) -> None:
    found = _run(tmp_path)
    assert not found.cached
    assert found.result.decision.verdict == "fails"
    assert "wanted ≤ 0: 0 of 3 seeds" in found.result.text()
    assert "diverged" not in found.result.text()
    assert found.figure.read_bytes().startswith(b"\x89PNG")
    pd.testing.assert_frame_equal(pd.read_csv(found.folder / "curve.csv"), _table())
    content = json.loads((found.folder / "result.json").read_text())
    assert content["verdict"] == "fails"
    assert content["settings"]["training"] == TRAINING
    assert sum(content["training_code"].values()) == 3
    assert content["command"] == "anchorlab reproduce fig0.1 --scale smoke"
    assert [0, "odd", "inf"] in content["values"]
    assert [1, "odd", "nan"] in content["values"]

    again = _run(tmp_path)
    assert again.cached
    assert [value for value in again.result.values if value.quantity == "loss"] == list(found.result.values[:3])
    assert again.result.text() == found.result.text()

    fewer = _run(tmp_path, {"seeds": 2})
    assert not fewer.cached
    assert fewer.folder != found.folder
    assert fewer.result.decision.verdict == "undecided"
    assert len(list((tmp_path / "runs").glob("*/config.json"))) == 3
    assert fewer.result.command.endswith("--set seeds=2")


def test_other_code_measures_again(one: Reproduction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _run(tmp_path)
    monkeypatch.setattr(running, "code_version", lambda packages: "other")
    assert not _run(tmp_path).cached


def test_a_result_without_its_figure_is_measured_again(one: Reproduction, tmp_path: Path) -> None:
    _run(tmp_path).figure.unlink()
    again = _run(tmp_path)
    assert not again.cached
    assert again.figure.is_file()


@pytest.mark.parametrize(
    ("module", "packages"),
    [
        ("anchorlab.reproduce.chapter13.addition", {"anchorlab.reproduce.chapter13"}),
        ("anchorlab.reproduce.chapter12.mechanism", {"anchorlab.reproduce.chapter12"}),
    ],
)
def test_the_code_behind_a_result_is_that_of_all_helpers(module: str, packages: set[str]) -> None:
    (found,) = {
        frozenset(running._packages(one))
        for one in map(reproduce.get, reproduce.names())
        if one.measure.__module__ == module
    }
    helpers = {"anchorlab.analysis", "anchorlab.pretrained_probe", "anchorlab.engine", "anchorlab.reproduce.study"}
    assert found >= packages | helpers


def test_other_content_of_a_named_file_or_folder_measures_again(one: Reproduction, tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "one.txt").write_text("a")
    settings = {"text": str(texts), "seeds": 1}
    before = _run(tmp_path / "out", settings)
    assert _run(tmp_path / "out", settings).cached
    (texts / "one.txt").write_text("b")
    assert not _run(tmp_path / "out", settings).cached
    assert len(list(before.folder.glob("work-*"))) == 2  # rows made from other texts do not meet


def test_paths_are_found_at_any_depth(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a")
    named = study.contents({"a": {"b": [3, (str(tmp_path / "file"),)]}, "c": "x" * 5000, "d": "no\0path", "e": ""})
    assert list(named) == [f"content of {tmp_path / 'file'}"]
    (tmp_path / "file").write_text("b")
    assert study.contents({"a": str(tmp_path / "file")}) != named


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(study, "file_digest", fails)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"^file='.*file': cannot be read \(Permission denied\)$"):
        study.contents({"text": str(tmp_path / "file")})


@pytest.mark.parametrize("named", [{"data": "rows"}, {"model_options": {"folder": "rows"}}])
def test_a_training_on_other_rows_or_from_other_weights_is_another_one(
    named: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []
    monkeypatch.setattr(study, "sweep", lambda members, *_, **__: names.extend(members) or list(members))
    monkeypatch.chdir(tmp_path)
    experiment: Any = types.SimpleNamespace(record=lambda: named, **{"data": None, "model_options": {}, **named})
    for content in ("a", "a", "b"):
        (tmp_path / "rows").write_text(content)
        study.Study("smoke", {}, tmp_path, tmp_path).train({0: experiment})
    assert names[0] == names[1] != names[2]


def test_a_claim_about_what_is_not_measured_is_a_mistake(
    one: Reproduction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    condition = Condition(quantity="lose", text="misspelt", at_most=0)
    wrong = replace(one, claim=Claim(text="", conditions=(condition,)))
    monkeypatch.setattr(running, "get", lambda name: wrong)
    with pytest.raises(AssertionError, match="does not measure \\['lose'\\]"):
        reproduce.run("fig0.1", scale="laptop", out=tmp_path, progress=False)


def test_diverged_trainings_are_counted(one: Reproduction, tmp_path: Path) -> None:
    found = _run(tmp_path, {"training": {**TRAINING, "learning_rate": 1e30, "steps": 20}})
    assert found.result.diverged == 3
    assert found.result.text().endswith("\n  3 of 3 trainings diverged")
    assert read_result(found.folder / "result.json").diverged == 3


def test_a_result_of_another_schema_version_is_refused(one: Reproduction, tmp_path: Path) -> None:
    path = _run(tmp_path).folder / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 7}))
    with pytest.raises(InputError, match=r"has schema version 7, this anchorlab reads 1"):
        _run(tmp_path)
    path.write_text('{"schema_version": 1, "id": "fig0.1"}')
    with pytest.raises(InputError, match="is no whole result"):
        _run(tmp_path)
    path.write_text("{}")
    with pytest.raises(InputError, match="is no result"):
        _run(tmp_path)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("core_seconds", None),
        ("values", [[0, "loss", "much"]]),
        ("values", [[0, "loss", 1.0], [0, "loss", 2.0]]),
        ("claim", {"text": "", "conditions": [{"quantity": "loss", "text": "loss", "at_least": "a"}]}),
        ("claim", {"text": "", "conditions": [{"quantity": "loss", "text": "loss"}]}),
        ("training_code", []),
    ],
)
def test_a_result_with_a_wrong_value_is_refused(one: Reproduction, tmp_path: Path, part: str, value: Any) -> None:
    path = _run(tmp_path).folder / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {part: value}))
    with pytest.raises(InputError) as error:
        read_result(path)
    assert str(error.value).startswith(f"result={str(path)!r}: is no whole result")
    assert len(str(error.value).splitlines()) == 1


def test_a_result_of_endless_depth_is_refused(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match="is no result"):
        read_result(tmp_path / "result.json")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": 3}, "setting: unknown value 'seed'; did you mean 'seeds'"),
        ({"seeds": "three"}, "seeds='three': must be like 3"),
        ({"seeds": True}, "seeds=True: must be like 3"),
        ({"seeds": 0}, "seeds=0: must be at least 1"),
        ({"training": 3}, "training=3: must be like"),
        ({"seeds": None}, "seeds=None: must be like 3"),
        ({"sizes": []}, "sizes=[]: must be like (1, 2)"),
        ({"sizes": [1, "2"]}, "sizes=[1, '2']: must be like (1, 2)"),
        ({"sizes": [1, None]}, "sizes=[1, None]: must be like (1, 2)"),
        ({"pairs": [[1.5, []]]}, "pairs=[[1.5, []]]: must be like [['a', 1]]"),
        ({"training": {**TRAINING, "steps": "2"}}, "training={'task': 'identity'"),
        ({"rates": {"low": math.nan}}, "rates={'low': nan}: must be JSON, with finite numbers"),
        ({"text": math.inf}, "text=inf: must be JSON, with finite numbers"),
        ({"text": Path("x")}, "text=PosixPath('x'): must be JSON"),
    ],
)
def test_settings_are_checked(one: Reproduction, tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        _run(tmp_path, settings)
    assert str(error.value).startswith(message)
    assert not any(tmp_path.iterdir())


def test_settings_may_be_alike_in_other_words(one: Reproduction) -> None:
    replaced = {"sizes": [3], "rates": {"low": 1, "high": 2}, "pairs": [["b", 2], ["c", 3]], "kept": ["x"], "text": "y"}
    assert reproduce.chosen_settings("fig0.1", "smoke", replaced) == {"seeds": 3, "training": TRAINING, **replaced}


@pytest.mark.parametrize("part", ["measure", "figure"])
@pytest.mark.parametrize("error", [TypeError("a\nb"), KeyError("x"), ValueError(), IndexError(), ZeroDivisionError()])
def test_replaced_settings_are_named_where_a_measurement_breaks_down(
    one: Reproduction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, part: str
) -> None:
    def breaks(_: Any) -> Any:
        raise error

    quick = replace(one, measure=lambda study: Measured(values=[], tables={"curve": _table()}))
    broken = replace(quick, **{part: breaks})
    monkeypatch.setattr(running, "get", lambda name: broken)
    with pytest.raises(type(error)):
        _run(tmp_path)
    with pytest.raises(InputError, match=r"^sizes, text: cannot be measured as set here \(.*\)$") as told:
        _run(tmp_path, {"sizes": [1], "text": "x"})
    assert told.value.__cause__ is error
    assert not (tmp_path / "fig0.1" / "smoke" / "result.json").exists()


def test_a_scale_that_is_not_defined_is_named(one: Reproduction, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"scale='paper': fig0.1 has no such scale; it has smoke, laptop"):
        reproduce.run("fig0.1", scale="paper", out=tmp_path)
    with pytest.raises(InputError, match="scale: unknown value 'lptop'; did you mean 'laptop'"):
        reproduce.run("fig0.1", scale="lptop", out=tmp_path)


def test_a_file_in_the_place_of_the_folder_is_refused(one: Reproduction, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="no results can be kept there"):
        _run(tmp_path / "file")


@pytest.mark.parametrize("out", ["/proc/x", "x" * 300])
def test_a_folder_that_cannot_be_made_is_refused(one: Reproduction, out: str) -> None:
    with pytest.raises(InputError, match=r"^out='.*': no results can be kept there \(.+\)$"):
        _run(Path(out))


@pytest.mark.parametrize("name", ["result.json", "figure.png"])
def test_a_folder_in_the_place_of_a_file_is_refused_before_any_work(
    one: Reproduction, tmp_path: Path, name: str
) -> None:
    (tmp_path / "fig0.1" / "smoke" / name).mkdir(parents=True)
    with pytest.raises(InputError, match=rf"^out=.*{name}' is a folder\)$"):
        _run(tmp_path)
    assert not (tmp_path / "runs").exists()


def test_what_cannot_be_written_at_the_end_is_told(
    one: Reproduction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(code: int) -> Any:
        def write(*_: Any) -> None:
            raise OSError(code, "reason")

        return write

    monkeypatch.setattr(running, "write_result", fails(errno.EROFS))
    with pytest.raises(InputError, match=r"no results can be kept there \(reason\)"):
        _run(tmp_path)
    monkeypatch.setattr(running, "write_result", fails(errno.ENOSPC))
    with pytest.raises(OSError, match="reason"):
        _run(tmp_path)


def test_json_tells_what_finished_before_a_failure(
    one: Reproduction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reproduce, "get", lambda name: one)
    whole = reproduce.run

    def run(name: str, **options: Any) -> reproduce.Reproduced:
        if name == "fig0.2":
            raise InputError("no")
        return whole(name, **options)

    monkeypatch.setattr(reproduce, "run", run)
    with pytest.raises(SystemExit) as ended:
        main(["reproduce", "fig0.1", "fig0.2", "--scale", "smoke", "--out", str(tmp_path), "--json"])
    assert ended.value.code == 2
    output = capsys.readouterr().out
    assert [found["id"] for found in json.loads(output[output.index("[\n") :])] == ["fig0.1"]


def test_strict_exits_with_1_if_a_claim_fails(
    one: Reproduction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reproduce, "get", lambda name: one)
    arguments = ["reproduce", "fig0.1", "--scale", "laptop", "--out", str(tmp_path)]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--strict"])
    assert ended.value.code == 1
    assert "Nothing else was tried." in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--json"])
    assert ended.value.code == 0
    output = capsys.readouterr().out
    assert json.loads(output[output.index("[\n") :])[0]["verdict"] == "fails"
    with pytest.raises(SystemExit):
        main([*arguments, "--scale", "smoke"])
    assert "Nothing else was tried." not in capsys.readouterr().out  # the notes are about the laptop scale
