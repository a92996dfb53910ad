"""`anchorlab pde`: a table of errors, and one line for what cannot be solved."""

from pathlib import Path

import pytest

from anchorlab.cli import main


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["pde", *arguments])
    shown = capsys.readouterr()
    return int(ended.value.code or 0), shown.out, shown.err


def test_all_named_problems_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "list")
    assert code == 0
    assert all(name in out for name in ("poisson", "poisson2d", "heat", "burgers", "inverse", "holes"))


def test_methods_stand_in_one_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = run(capsys, "poisson", "--method", "fd,rfm", "--out", str(tmp_path))
    assert code == 0
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.startswith(("fd", "rfm"))}
    assert float(rows["fd"][1]) < 1e-3
    assert float(rows["rfm"][2]) < 1e-8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["poison"], "did you mean 'poisson'"),
        (["poisson", "--method", "rits"], "did you mean 'ritz'"),
        (["poisson", "--width", "0"], "width=0: must be at least 1"),
        (["poisson", "--seeds", "0"], "seeds=0: must be at least 1"),
        (["poisson", "--method", "fd", "--steps", "5"], "steps: method 'fd' trains no network"),
    ],
)
def test_wrong_values_are_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], message: str
) -> None:
    code, _, err = run(capsys, *arguments, "--out", str(tmp_path / "run"))
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_a_training_that_diverges_is_told_and_kept(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    settings = ["--optimizer", "gd", "--lr", "1e9", "--steps", "50", "--set", "activation=x2_tanh", "--points", "20"]
    code, _, err = run(capsys, "poisson", *settings, "--out", str(tmp_path / "run"))
    assert code == 2
    assert "diverged" in err
    assert (tmp_path / "run" / "environment.json").is_file()
