"""The command `anchorlab pde`."""

from pathlib import Path

import pytest

from anchorlab.cli import main
from anchorlab.engine import Run

SMALL = ("--width", "8", "--depth", "1", "--points", "30")


def run(*arguments: str | Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["pde", *map(str, arguments)])
    assert ended.value.code == 0


def fails(*arguments: str | Path, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["pde", *map(str, arguments)])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_named_problems_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    run("list")
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("poisson", "four-frequency", "heat", "burgers", "inverse", "holes"))


def test_one_run_is_a_folder_with_a_figure_and_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("poisson", *SMALL, "--steps", "5", "--out", tmp_path / "run")
    header, line, place = capsys.readouterr().out.splitlines()
    assert header.split("  ")[0] == "method"
    assert line.startswith("pinn")
    assert str(tmp_path / "run") in place
    assert (tmp_path / "run" / "solution.png").is_file()
    assert Run.open(tmp_path / "run").config["network"]["widths"] == [8]


def test_methods_and_seeds_stand_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("poisson", "--method", "fd,rfm", "--points", "101", "--seeds", "2", "--out", tmp_path)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:4]]
    assert [row[:2] for row in rows] == [["fd", rows[0][1]], ["rfm", "0"], ["rfm", "1"]]
    assert (tmp_path / "fd" / "solution.npz").is_file()
    assert float(rows[1][2]) < 1e-8


def test_the_coefficient_of_an_inverse_problem_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("inverse", *SMALL, "--steps", "3", "--out", tmp_path / "run")
    header, line, _ = capsys.readouterr().out.splitlines()
    assert header.split()[-1] == "a"
    assert 0.9 < float(line.split()[-1]) < 1.1


def test_a_training_that_diverges_is_one_line_and_keeps_its_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = fails(
        "poisson", *SMALL, "--optimizer", "gd", "--lr", "1e30", "--steps", "20", "--out", tmp_path / "run",
        capsys=capsys,
    )  # fmt: skip
    assert line.startswith("error: learning_rate: the training diverged (loss is ")
    assert Run.open(tmp_path / "run").status == "diverged"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["poison"], "problem: unknown value 'poison'; did you mean 'poisson'?"),
        (["poisson", "--method", "pin"], "method: unknown value 'pin'; did you mean 'pinn'?"),
        (["poisson", "--lr", "-1"], "learning_rate=-1.0: input should be greater than 0"),
        (["poisson", "--width", "0"], "width=0: must be at least 1"),
        (["poisson", "--steps", "0"], "steps=0: input should be greater than 0"),
        (["poisson", "--seeds", "0"], "seeds=0: must be at least 1"),
        (["poisson", "--points", "0"], "interior=0: input should be greater than 0"),
        (["poisson", "--dtype", "half"], "dtype: unknown value 'half'"),
        (["poisson", "--set", "stps=3"], "setting: unknown value 'stps'; did you mean 'steps'?"),
        (["poisson", "--method", "fd", "--steps", "3"], "steps: method 'fd' trains no network"),
        (["burgers", "--method", "rfm"], "method='rfm': burgers is not linear in u"),
        (["heat", "--method", "ritz"], "method='ritz': heat has no energy"),
        (["poisson", "--weight", "0"], "dirichlet: weight=0.0 must be positive"),
        (["poisson", "--weight", "inf"], "dirichlet: weight=inf must be positive and finite"),
        (["poisson", "--seed", "-1"], "seed=-1: must be at least 0"),
        (["poisson", "--method", "fd,fd"], "method: 'fd' is given twice; give it once"),
        (["poisson", "--set", "cosine=maybe"], "cosine='maybe': input should be a valid boolean"),
        (["poisson", "--set", 'steps="many"'], "steps='many': input should be a valid integer"),
        (["poisson", "--set", "kind=ritz"], "setting: unknown value 'kind'"),
        (["poisson", "--method", "fd", "--set", "nodes={}"], "nodes={}: "),
        (["poisson", "--method", "fd,rfm", "--steps", "3"], "steps: method 'fd' trains no network"),
        (["heat", "--method", "pinn,ritz", "--steps", "3"], "method='ritz': heat has no energy"),
        (["inverse", "--method", "pinn,jacobi", "--steps", "3"], "method='jacobi': inverse has unknown numbers"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in fails(*arguments, "--out", tmp_path / "run", capsys=capsys)


def test_options_go_to_the_methods_that_have_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("poisson", "--method", "fd,pinn", *SMALL, "--steps", "3", "--out", tmp_path)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:3]] == ["fd", "pinn"]
    assert Run.open(tmp_path / "pinn").config["total_steps"] == 3


def test_all_leaves_out_what_cannot_solve_the_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anchorlab.pde.METHODS", ("pinn", "ritz", "fd"))
    run("heat", "--method", "all", *SMALL, "--steps", "3", "--out", tmp_path)
    shown = capsys.readouterr()
    assert [line.split()[0] for line in shown.out.splitlines()[1:3]] == ["pinn", "fd"]
    (left_out,) = shown.err.splitlines()
    assert left_out.startswith("ritz is left out: method='ritz': heat has no energy")


def test_an_impossible_method_is_told_before_any_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails("heat", "--method", "fd,ritz", *SMALL, "--steps", "3", "--out", tmp_path / "runs", capsys=capsys)
    assert not (tmp_path / "runs").exists()


def test_methods_have_default_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run("poisson", "--method", "fd", "--points", "11")
    run("poisson", *SMALL, "--steps", "2")
    run("poisson", *SMALL, "--steps", "2", "--seed", "4")
    assert {path.name for path in (tmp_path / "runs" / "poisson").iterdir()} == {"fd", "pinn", "pinn-seed-4"}
