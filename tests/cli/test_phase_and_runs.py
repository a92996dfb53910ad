import json
from pathlib import Path

import pytest

from anchorlab.cli import main


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    return int(stopped.value.code or 0)


def lines(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_phase_prints_the_map_and_where_the_files_are(plane: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("phase", str(plane), "--no-reports", "--id-threshold", "0.7") == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("phases by mean accuracy (ID limit 0.7, OOD limit 0.9)")
    assert printed[2:4] == ["0.1  2   3", "  0  2▲  2▲  -"]
    assert printed[-3:] == [f"page: {plane}/phase.html", f"figure: {plane}/phase.png", f"table: {plane}/phase.csv"]


def test_phase_as_json(plane: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("phase", str(plane), "--no-reports", "--json") == 0
    printed = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert printed["thresholds"] == {"id": 0.9, "ood": 0.9, "commutativity": 0.7}
    assert [cell["phase"] for cell in printed["cells"]] == [1, 2, None, 2, 3]
    assert [cell["ood_accuracy_mean"] for cell in printed["cells"]] == pytest.approx([0.05, 0.7, None, 0.3, 0.91])
    assert [member["status"] for member in printed["unfinished"]] == ["interrupted", "diverged", "running"]
    assert printed["page"] == str(plane / "phase.html")


def test_runs_as_a_table(plane: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("runs", str(plane)) == 0
    header, *rows = lines(capsys)
    assert header == [
        *("member", "status", "initialization_rate", "weight_decay", "seed", "step", "wall_time", "train_accuracy"),
        *("id_accuracy", "ood_accuracy", "best_ood_accuracy"),
    ]
    assert len(rows) == 15
    assert rows[0] == [
        "gamma0.3-decay0.0-seed0",
        "finished",
        "0.3",
        "0",
        "0",
        "20",
        "2",
        "s",
        "1.000",
        "0.800",
        "0.000",
        "0.020",
    ]
    assert rows[-1] == ["last/c", "running", "0.9", "0", "2", "0", "2", "s", "–", "–", "–", "–"]


def test_runs_sorted_filtered_and_cut_to_columns(plane: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ["--where", "weight_decay=0.1", "--where", "seed<2", "--columns", "member,ood_accuracy"]
    assert call("runs", str(plane), "--sort", "ood_accuracy", "--reverse", *chosen) == 0
    assert lines(capsys) == [
        ["member", "ood_accuracy"],
        ["gamma0.6-decay0.1-seed0", "0.970"],
        ["gamma0.6-decay0.1-seed1", "0.850"],
        ["gamma0.3-decay0.1-seed0", "0.200"],
        ["gamma0.3-decay0.1-seed1", "0.100"],
    ]
    assert call("runs", str(plane), "--where", "seed>7") == 0
    assert len(lines(capsys)) == 1


def test_runs_as_json_hold_all_columns_and_no_nan(plane: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("runs", str(plane), "--where", "initialization_rate=0.9", "--json") == 0
    printed = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert [row["member"] for row in printed] == ["last/a", "last/b", "last/c"]
    assert [row["ood_accuracy"] for row in printed] == [0.4, None, None]
    assert [row["reason"] for row in printed] == [None, "loss is not finite in step 11", None]
    assert (printed[0]["seed"], printed[0]["phase"], printed[0]["total_steps"]) == (0, 1, 20)
    assert call("runs", str(plane), "--columns", "seed,phase", "--json", "--where", "seed=2", "--sort", "phase") == 0
    assert json.loads(capsys.readouterr().out)[-1] == {"seed": 2, "phase": None}
    assert call("runs", str(plane), "--columns", "all", "--where", "member=last/c") == 0
    assert "folder" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["phase", "nowhere"], "error: folder='nowhere': no such folder"),
        (["phase", "."], "error: folder='.': holds no runs"),
        (["phase", ".", "--id-threshold", "2"], "error: id_threshold=2.0: must be between 0 and 1"),
        (["runs", "nowhere"], "error: folder='nowhere': no such folder"),
        (["runs", "PLANE", "--sort", "stepp"], "error: sort: unknown value 'stepp'; did you mean 'step'?"),
        (["runs", "PLANE", "--where", "step"], "error: where: 'step' is no condition"),
        (["runs", "PLANE", "--where", "x=1"], "error: where: unknown value 'x'; known: member, "),
        (["runs", "PLANE", "--columns", "seed,nothing"], "error: --columns: unknown value 'nothing'"),
        (["runs", "PLANE", "--columns", ","], "error: --columns=',': names no column"),
    ],
)
def test_bad_input_ends_with_2_and_one_line(
    plane: Path,
    tmp_path: Path,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(*(str(plane) if argument == "PLANE" else argument for argument in arguments)) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(message)
    assert len(printed.splitlines()) == 1


def test_a_narrow_window_does_not_break_lines(
    plane: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert call("runs", str(plane), "--columns", "all") == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert len(header) > 200
    assert len(rows) == 15


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("phase", "runs"):
        assert call(command, "--help") == 0
        assert "Usage: anchorlab" in capsys.readouterr().out
