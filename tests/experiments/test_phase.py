import os
import re
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest

from anchorlab.errors import InputError
from anchorlab.experiments import Experiment, train
from anchorlab.experiments import phase as phases
from anchorlab.experiments.phase import phase_diagram


def test_files_and_text_of_a_known_plane(plane: Path) -> None:
    diagram = phase_diagram(plane, reports=False)
    table = pd.read_csv(diagram.table)
    assert diagram.table == plane / "phase.csv"
    assert table["phase"].tolist()[:2] == [1, 2]
    assert len(table) == 5
    assert diagram.figure.read_bytes().startswith(b"\x89PNG")
    assert "anchorlab phase" in diagram.page.read_text()
    assert diagram.text().splitlines() == [
        "phases by mean accuracy (ID limit 0.9, OOD limit 0.9); γ across, λ upwards; ▲ commutativity < 0.7; "
        "- not finished",
        "  λ  0.3 0.6 0.9",
        "0.1  2   3",
        "  0  1▲  2▲  -",
        "15 networks: 12 finished, 1 interrupted, 1 diverged, 1 running; finished seeds in a cell: 0 to 3",
    ]


@pytest.mark.usefixtures("undrawn")
def test_thresholds_change_the_map_and_are_repeated(plane: Path) -> None:
    diagram = phase_diagram(plane, ood_threshold=0.25, commutativity_threshold=0, reports=False)
    assert diagram.text().splitlines()[2:4] == ["0.1  3   3", "  0  1   3   -"]
    assert f"anchorlab phase {plane} --ood-threshold 0.25 --commutativity-threshold 0" in diagram.page.read_text()


@pytest.mark.parametrize("name", ["id", "ood", "commutativity"])
def test_thresholds_are_checked(plane: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"{name}_threshold=1.1: must be between 0 and 1"):
        phase_diagram(plane, reports=False, **{f"{name}_threshold": 1.1})


def test_only_missing_and_old_reports_are_made(tmp_path: Path, write_run) -> None:
    folder = write_run(tmp_path / "run")
    assert not phases._lacks_report(folder)  # no model, nothing to explain
    (folder / "model").mkdir()
    assert phases._lacks_report(folder)
    report = folder / "report.html"
    report.write_text("x")
    ended = (folder / "environment.json").stat().st_mtime
    os.utime(report, (ended + 1, ended + 1))
    assert not phases._lacks_report(folder)
    os.utime(report, (ended - 1, ended - 1))
    assert phases._lacks_report(folder)


@pytest.mark.usefixtures("undrawn")
def test_existing_reports_are_linked_whatever_the_folder_is_called(tmp_path: Path, write_run) -> None:
    for number, name in enumerate(("a:b #1?", "100% λ/sub")):
        folder = write_run(tmp_path / name, {"id": (1.0,), "ood": (1.0,)}, seed=number)
        (folder / "report.html").write_text("x")
    page = phase_diagram(tmp_path, reports=False).page.read_text()
    found = re.findall(r'<a class="mark" href="([^"]+)"', page)
    assert len(found) == 2
    for address in found:
        assert address.startswith("./")
        assert not set(address) & set('?#"< ')
        assert (tmp_path / unquote(address)).is_file()


@pytest.mark.usefixtures("undrawn")
def test_a_folder_that_cannot_be_written(plane: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise PermissionError

    monkeypatch.setattr(phases, "write_phase_page", lambda *arguments, **options: refuse())
    with pytest.raises(InputError, match="cannot be written there"):
        phase_diagram(plane, reports=False)


@pytest.mark.slow
@pytest.mark.usefixtures("brief", "undrawn", "in_this_process")
def test_real_runs_end_as_a_page_with_their_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = {"task": "composite", "model": "lstm", "width": 16, "layers": 1, "steps": 3, "device": "cpu"}
    rows = {"batch_size": 64, "train_rows": 200, "test_rows": 40, "ood_rows": 40}
    for gamma in (0.4, 0.8):
        train(Experiment(**small, **rows, initialization_rate=gamma), tmp_path / f"gamma{gamma}", progress=False)
    diagram = phase_diagram(tmp_path)
    assert capsys.readouterr().err == "making 2 reports\n"
    assert diagram.grid.cells["seeds"].tolist() == [1, 1]
    assert diagram.grid.cells["commutativity_mean"].notna().all()
    page = diagram.page.read_text()
    for gamma in (0.4, 0.8):
        assert f'href="./gamma{gamma}/report.html"' in page
        assert f"gamma{gamma}" in (tmp_path / f"gamma{gamma}/report.html").read_text()
    before = [(tmp_path / f"gamma{gamma}/report.html").stat().st_mtime_ns for gamma in (0.4, 0.8)]
    again = phase_diagram(tmp_path)
    assert not capsys.readouterr().err
    assert again.page.read_text() == page
    assert [(tmp_path / f"gamma{gamma}/report.html").stat().st_mtime_ns for gamma in (0.4, 0.8)] == before
