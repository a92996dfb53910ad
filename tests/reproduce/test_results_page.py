"""The page of results: it shows what was found, and the one in the docs is up to date."""

import json
import math
import runpy
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from anchorlab.errors import InputError
from anchorlab.reproduce import Claim, Condition, Result, Value, get, names, read_result, results_page, write_result

DOCS = Path(__file__).parents[2] / "docs"
SCRIPT = runpy.run_path(str(DOCS / "generate_results.py"))
KEPT = sorted((DOCS / "results").glob("*.json"))
MACHINE = {"device": "a processor", "cores": 2, "packages": {"torch": "2.9"}}


def _result(name: str, value: float) -> Result:
    condition = Condition(quantity="accuracy", text="accuracy of |x|", at_least=0.9, source="100 %")
    return Result(
        **{"id": name, "title": "Title", "source": "section 1", "scale": "laptop", "settings": {}, "key": ""},
        claim=Claim(text="It works.", conditions=(condition,)),
        values=tuple(Value(seed, "accuracy", value) for seed in range(3)),
        **{"training_code": {}, "core_seconds": 90.0, "machine": MACHINE},
        command=f"anchorlab reproduce {name}",
    )


def test_a_row_and_a_section_for_every_result() -> None:
    notes = {"fig12.6": "", "fig12.7": "Tried: much."}
    page = results_page([_result("fig12.6", 1.0), _result("fig12.7", 0.5)], notes, figures="results")
    assert "2 results: 1 holds, 1 fails" in page.replace("✓ ", "").replace("✗ ", "")
    (row,) = [line for line in page.splitlines() if line.startswith("| [fig12.7]")]
    assert row == ("| [fig12.7](#fig12-7-laptop) | It works. | 100 % | 0.5, wanted ≥ 0.9 | ✗ fails | laptop | 1.5 |")
    assert '<a id="fig12-7-laptop"></a>' in page
    assert "![Title](results/fig12.7-laptop.png)" in page
    assert r"| accuracy of \|x\| | ≥ 0.9 | 0.5 | 0 of 3 | 100 % | ✗ fails |" in page
    assert page.count("Tried: much.") == 1


def test_notes_are_shown_at_the_scale_that_they_are_about() -> None:
    page = results_page(
        [replace(_result("fig12.6", 0.5), scale="paper")], {"fig12.6": "Tried: much."}, figures="results"
    )
    assert "Tried" not in page


def test_seeds_without_a_value_and_diverged_trainings_are_told() -> None:
    result = _result("fig12.6", 1.0)
    values = (*result.values, Value(3, "accuracy", math.nan))
    told = replace(result, values=values, training_code={"a": 3, "b": 1}, diverged=1)
    page = results_page([told], {"fig12.6": ""}, figures="results")
    assert "| 3 of 3, 1 not measured |" in page
    assert page.endswith("; torch 2.9. 1 of 4 trainings diverged.\n")
    assert "diverged" not in results_page([result], {"fig12.6": ""}, figures="results")


def test_the_page_in_the_docs_is_made_from_the_kept_results() -> None:
    assert (DOCS / "results.md").read_text(encoding="utf-8") == SCRIPT["page"]()


def _measured(folder: Path, name: str) -> Path:
    place = folder / name / "laptop"
    place.mkdir(parents=True)
    write_result(_result(name, 1.0), place / "result.json")
    (place / "figure.png").write_bytes(b"picture")
    return place


def test_results_are_taken_over_with_their_figures(tmp_path: Path) -> None:
    _measured(tmp_path / "out", "fig12.6")
    SCRIPT["main"]([str(tmp_path / "out")], tmp_path / "results")
    assert {path.name for path in (tmp_path / "results").iterdir()} == {"fig12.6-laptop.json", "fig12.6-laptop.png"}
    assert "## fig12.6: Title" in (tmp_path / "results.md").read_text(encoding="utf-8")


def _remove_figure(place: Path) -> None:
    (place / "figure.png").unlink()


def _rename(place: Path) -> None:
    path = place / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"id": "fig99"}))


def _remove(place: Path) -> None:
    shutil.rmtree(place.parents[1])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [(_remove_figure, "is missing"), (_rename, "unknown 'fig99'"), (_remove, "holds no results")],
)
def test_nothing_is_taken_over_if_one_source_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], None], message: str
) -> None:
    _measured(tmp_path / "good", "fig12.6")
    spoil(_measured(tmp_path / "wrong", "fig12.7"))
    with pytest.raises(SystemExit) as ended:
        SCRIPT["main"]([str(tmp_path / "good"), str(tmp_path / "wrong")], tmp_path / "results")
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not any((tmp_path / "results").iterdir())


def test_a_kept_result_of_an_unknown_id_is_named(tmp_path: Path) -> None:
    write_result(_result("fig99", 1.0), tmp_path / "fig99-laptop.json")
    with pytest.raises(InputError, match="unknown 'fig99'"):
        SCRIPT["page"](tmp_path)


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_kept_results_are_those_of_the_declared_settings_and_claim(path: Path) -> None:
    kept = read_result(path)
    one = get(kept.id)
    assert path.stem == f"{kept.id}-{kept.scale}"
    assert path.with_suffix(".png").is_file()
    assert kept.settings == _as_json(one.settings(kept.scale))
    assert kept.claim == one.claim


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_kept_verdicts_follow_from_the_kept_values_and_failures_are_explained(path: Path) -> None:
    kept = read_result(path)
    assert json.loads(path.read_text(encoding="utf-8"))["verdict"] == kept.decision.verdict
    assert kept.decision.verdict != "fails" or get(kept.id).notes


def _as_json(settings: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(settings))


def test_every_kept_result_belongs_to_a_reproduction() -> None:
    assert {path.stem.rpartition("-")[0] for path in KEPT} <= set(names())
