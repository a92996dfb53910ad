"""The command `anchorlab reproduce`, and what it knows."""

import json
from pathlib import Path

import pytest

from anchorlab import reproduce
from anchorlab.cli import main
from anchorlab.reproduce import Condition


def _fails(*arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["reproduce", *arguments])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_unknown_ids_are_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert _fails("fig12.31", capsys=capsys).startswith("error: id: unknown 'fig12.31'; nearest: fig12.")
    assert "fig13" in _fails("fig13.55", "--scale", "smoke", capsys=capsys)
    assert "nearest: fig12.6" in _fails("FIG12.6", capsys=capsys)
    assert "nearest: fig13.14a" in _fails("fig13.14A", capsys=capsys)


def test_list_and_all_stand_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert "stand alone" in _fails("all", "fig12.13", capsys=capsys)


def test_an_unknown_scale_is_refused_before_any_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert "scale" in _fails("all", "--scale", "huge", capsys=capsys)


def test_all_ids_are_checked_before_the_first_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    line = _fails("fig12.15", "fig12.6", "--scale", "smoke", "--set", "example=1", capsys=capsys)
    assert line.startswith("error: setting: unknown value 'example'")
    assert "fig99" in _fails("fig12.15", "fig99", "--scale", "smoke", capsys=capsys)
    assert not any(tmp_path.iterdir())


def test_list_shows_every_id_with_its_scales(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["reproduce", "list"])
    assert ended.value.code == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["id", "scales", "title"]
    assert [line.split()[0] for line in lines] == list(reproduce.names())
    assert all("smoke, laptop" in line for line in lines)


def test_list_as_json_shows_claims_and_settings(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["reproduce", "list", "--json"])
    rows = {row["id"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == list(reproduce.names())
    for name, row in rows.items():
        one = reproduce.get(name)
        assert (row["title"], row["source"], row["claim"]) == (one.title, one.source, one.claim.text)
        assert (row["seeds"], row["agreement"]) == (one.claim.seeds, one.claim.agreement)
        assert [Condition(**condition) for condition in row["conditions"]] == list(one.claim.conditions)
        assert row["scales"] == json.loads(json.dumps(one.scales))


def test_the_catalogue_is_complete() -> None:
    assert reproduce.names() == (
        *(f"fig4.{number}" for number in (1, 2, 3, 4, 6, 7, *range(9, 14))),
        *("thm6", "fig6.2", "fig6.3", "fig6.4"),
        *("fig7.1", "tab7.1", "fig7.3", "fig7.4", "fig7.5", "fig7.6", "fig7.7"),
        *("fig8.2", "fig8.3", "fig8.4", "fig8.10", "fig8.11"),
        *(f"fig12.{number}" for number in range(6, 17)),
        *(f"fig13.{number}" for number in (5, 6, *range(8, 14), "14a", "14b", "14c", "14d", *range(15, 20))),
        *("fig15.1", "ode15.1", "fig15.2", "pinn", "rfm", "ritz", "windows"),
    )


def test_every_reproduction_is_declared_in_full() -> None:
    for name in reproduce.names():
        one = reproduce.get(name)
        assert set(one.scales) <= set(reproduce.SCALES)
        assert "smoke" in one.scales
        assert len({tuple(sorted(settings)) for settings in one.scales.values()}) == 1, name
        assert all(settings["seeds"] >= 1 for settings in one.scales.values())
        assert len({condition.quantity for condition in one.claim.conditions}) == len(one.claim.conditions)
        assert one.claim.seeds <= one.scales["laptop"]["seeds"], name
        # A smoke scale decides nothing, but for what has no chance in it.
        assert one.scales["smoke"]["seeds"] < one.claim.seeds or one.claim.seeds == 1, name
