"""The page of results: it shows what was found, and the one in the docs is up to date."""

import json
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from anchorlab.reproduce import Claim, Condition, Result, Value, get, names, read_result, results_page

DOCS = Path(__file__).parents[2] / "docs"
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


def test_the_page_in_the_docs_is_made_from_the_kept_results() -> None:
    page = runpy.run_path(str(DOCS / "generate_results.py"))["page"]
    assert (DOCS / "results.md").read_text(encoding="utf-8") == page()


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_kept_results_are_those_of_the_declared_settings_and_claim(path: Path) -> None:
    kept = read_result(path)
    one = get(kept.id)
    assert path.stem == f"{kept.id}-{kept.scale}"
    assert path.with_suffix(".png").is_file()
    assert kept.settings == _as_json(one.settings(kept.scale))
    assert kept.claim == one.claim


def _as_json(settings: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(settings))


def test_every_kept_result_belongs_to_a_reproduction() -> None:
    assert {path.stem.rpartition("-")[0] for path in KEPT} <= set(names())
