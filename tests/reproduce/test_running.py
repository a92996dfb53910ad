"""Running reproductions: what is written, kept, shared and refused."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure

from anchorlab import Experiment, reproduce
from anchorlab.cli import main
from anchorlab.errors import InputError
from anchorlab.report.style import new_figure
from anchorlab.reproduce import Claim, Condition, Measured, Reproduction, Study, Value, running

TRAINING = {
    **{"task": "identity", "model": "post_ln", "layers": 1, "heads": 1, "width": 8, "feed_forward_width": 8},
    **{"train_rows": 32, "test_rows": 16, "batch_size": 16, "steps": 2},
}


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
        scales={"smoke": {"seeds": 3, "training": TRAINING}, "paper": {"seeds": 3, "training": TRAINING}},
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
    ("settings", "message"),
    [
        ({"seed": 3}, "setting: unknown value 'seed'; did you mean 'seeds'"),
        ({"seeds": "three"}, "seeds='three': must be like 3"),
        ({"seeds": True}, "seeds=True: must be like 3"),
        ({"seeds": 0}, "seeds=0: must be at least 1"),
        ({"training": 3}, "training=3: must be like"),
    ],
)
def test_settings_are_checked(one: Reproduction, tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        _run(tmp_path, settings)
    assert str(error.value).startswith(message)
    assert not any(tmp_path.iterdir())


def test_a_scale_that_is_not_defined_is_named(one: Reproduction, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"scale='laptop': fig0.1 has no such scale; it has smoke, paper"):
        reproduce.run("fig0.1", scale="laptop", out=tmp_path)
    with pytest.raises(InputError, match="scale: unknown value 'lptop'; did you mean 'laptop'"):
        reproduce.run("fig0.1", scale="lptop", out=tmp_path)


def test_a_file_in_the_place_of_the_folder_is_refused(one: Reproduction, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="no folder can be made there"):
        _run(tmp_path / "file")


def _fails(*arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["reproduce", *arguments])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_unknown_ids_are_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert _fails("fig12.31", capsys=capsys).startswith("error: id: unknown 'fig12.31'; nearest: fig12.")
    assert "fig13" in _fails("fig13.55", "--scale", "smoke", capsys=capsys)


def test_list_and_all_stand_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert "stand alone" in _fails("all", "fig12.13", capsys=capsys)


def test_an_unknown_scale_is_refused_before_any_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert "scale" in _fails("all", "--scale", "huge", capsys=capsys)


def test_strict_exits_with_1_if_a_claim_fails(
    one: Reproduction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reproduce, "get", lambda name: one)
    arguments = ["reproduce", "fig0.1", "--scale", "smoke", "--out", str(tmp_path)]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--strict"])
    assert ended.value.code == 1
    assert "Nothing else was tried." in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--json"])
    assert ended.value.code == 0
    output = capsys.readouterr().out
    assert json.loads(output[output.index("[\n") :])[0]["verdict"] == "fails"


def test_every_reproduction_is_declared_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    for name in reproduce.names():
        one = reproduce.get(name)
        assert set(one.scales) <= set(reproduce.SCALES)
        assert "smoke" in one.scales
        assert len({tuple(sorted(settings)) for settings in one.scales.values()}) == 1, name
        assert all(settings["seeds"] >= 1 for settings in one.scales.values())
        assert len({condition.quantity for condition in one.claim.conditions}) == len(one.claim.conditions)
        assert one.scales.get("laptop", {}).get("seeds", 3) >= 3
