import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from anchorlab.analysis import collect_runs, phase_grid
from anchorlab.report import write_phase_page
from anchorlab.report.phase_figures import ood_colours
from anchorlab.report.phase_findings import about_evaluation

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Document(HTMLParser):
    """Collects elements with the text inside them, and complains about tags that do not match."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.open: list[tuple[str, dict[str, str], list[str]]] = []
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        element = (tag, {name: value or "" for name, value in attrs}, [])
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for _, _, texts in self.open:
            texts.append(data)

    def all(self, tag, **wanted):
        found = [(attributes, text(texts)) for name, attributes, texts in self.elements if name == tag]
        return [
            (attributes, inside)
            for attributes, inside in found
            if all(value in attributes.get(name.rstrip("_"), "").split() for name, value in wanted.items())
        ]


def text(parts: list[str]) -> str:
    return re.sub(r"\s+", " ", "".join(parts)).strip()


def chunked(parts: list[str], size: int) -> list[list[str]]:
    return [parts[start : start + size] for start in range(0, len(parts), size)]


@pytest.fixture(scope="module")
def grid(plane: Path):
    return phase_grid(collect_runs(plane))


@pytest.fixture(scope="module")
def links(grid) -> dict[str, str]:
    members = grid.runs.members
    return {name: f"./{name}/report.html" for name in members.loc[members["status"] == "finished", "member"]}


@pytest.fixture(scope="module")
def page(grid, links, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "phase.html"
    assert write_phase_page(grid, path, reports=links, command="anchorlab phase runs/x") == path
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def document(page: str) -> Document:
    return Document(page)


def test_cells_open_the_median_seed_and_say_their_numbers(document) -> None:
    cells = {attributes["href"]: (attributes, inside) for attributes, inside in document.all("a", class_="cell")}
    assert set(cells) == {
        *("./gamma0.3-decay0.0-seed2/report.html", "./gamma0.3-decay0.1-seed0/report.html"),
        *("./gamma0.6-decay0.0-seed2/report.html", "./gamma0.6-decay0.1-seed2/report.html"),
    }
    attributes, inside = cells["./gamma0.3-decay0.0-seed2/report.html"]
    assert inside == "0.05phase 1"
    assert attributes["title"] == (
        "γ 0.3, λ 0: OOD 0.050 (0.000 to 0.100), ID 0.800 (0.700 to 0.900), "
        "commutativity 0.300 (0.200 to 0.400), phase 1, 3 seeds"
    )
    assert attributes["aria-label"].startswith(attributes["title"])


def test_networks_that_stopped_early_are_counted(grid, write_run, tmp_path: Path) -> None:
    assert "stopping rule" not in about_evaluation(grid)
    history = (0.5, 1.0)
    write_run(tmp_path / "early", {"id": history, "ood": history}, gamma=0.3, reason="stopped early: all answered")
    write_run(tmp_path / "whole", {"id": (*history, 1.0), "ood": (*history, 1.0)}, gamma=0.6)
    assert about_evaluation(phase_grid(collect_runs(tmp_path))) == (
        "All values are those of each network's last evaluation (steps 10 to 20) unless they are called best. "
        "1 network met a stopping rule and ended before the last step."
    )


def test_marks_open_each_seed_in_its_own_colour(document, links) -> None:
    marks = {attributes["href"]: attributes for attributes, _ in document.all("a", class_="mark")}
    assert sorted(marks) == sorted(links.values())
    assert marks["./gamma0.6-decay0.1-seed1/report.html"]["title"] == "seed 1: OOD 0.850, ID 0.990, phase 2"
    assert f"--fill: {ood_colours(0.85)[0]}" in [attributes.get("style") for attributes, _ in document.all("i")]
    unfinished = [attributes["title"] for attributes, _ in document.all("span", class_="mark") if "title" in attributes]
    assert unfinished == ["seed 0: interrupted", "seed 1: diverged", "seed 2: running"]


def test_hatch_triangle_and_missing_cells(document) -> None:
    places = document.all("td")
    assert len([1 for attributes, _ in places if "poor-id" in attributes.get("class", "")]) == 1
    in_map = [inside for tag, attributes, inside in document.elements if attributes.get("class") == "triangle"]
    assert len(in_map) == 2 + 1  # and one in the key
    assert [inside for _, inside in document.all("td", class_="empty")] == ["no network"]
    ((_, inside),) = document.all("td", class_="unfinished")
    assert "none of 3 networks has finished" in inside
    filled = [attributes["style"] for attributes, _ in places if "style" in attributes]
    assert sorted(filled) == sorted(
        f"--fill: {fill}; background-color: {fill}; color: {ink}"
        for fill, ink in map(ood_colours, (0.05, 0.3, 0.7, 0.91))
    )


def test_rows_of_the_map_go_up_with_decay(document) -> None:
    heads = [inside for attributes, inside in document.all("th") if attributes.get("scope") in ("row", "col")]
    assert heads[:4] == ["λ \\ γ", "0.3", "0.6", "0.9"]
    assert heads[4:6] == ["0.1", "0"]


def test_values_final_and_best_side_by_side(document) -> None:
    tags = [(tag, attributes.get("class")) for tag, attributes, _ in document.elements]
    after = document.elements[tags.index(("table", "values")) :]
    head, *rows = chunked([text(inside) for tag, _, inside in after if tag in ("th", "td")], 11)
    assert head == [
        *("λ", "γ", "seeds", "ID, final", "ID, best", "OOD, final", "OOD, best", "commutativity"),
        *("phase, final", "phase, best", "phases of the seeds"),
    ]
    assert rows[0] == [
        *("0", "0.3", "3", "0.800 (0.70–0.90)", "0.820 (0.72–0.92)", "0.050 (0.00–0.10)", "0.070 (0.02–0.12)"),
        *("0.300 (0.20–0.40)", "1", "1", "1 2 1"),
    ]
    assert rows[2] == ["0", "0.9", "0 of 3", *["–"] * 8]
    (attributes,) = [attributes for attributes, _ in document.all("a") if attributes.get("download") == "phase.csv"]
    content = base64.b64decode(attributes["href"].split("base64,")[1])
    assert pd.read_csv(io.BytesIO(content))["ood_accuracy_mean"].round(6).tolist()[:2] == [0.05, 0.7]


def test_the_page_states_evaluation_seeds_thresholds_and_what_is_missing(document) -> None:
    ((_, inside),) = document.all("body")
    for sentence in (
        "15 networks of the model post_ln were trained on the task “composite” with γ 0.3, 0.6, 0.9 and λ 0, 0.1.",
        "A cell is the mean of 0 to 3 seeds",
        "Of 4 cells 1 in phase 1, 2 in phase 2 and 1 in phase 3. Commutativity is below 0.7 in 2.",
        "each network's last evaluation (step 20)",
        "Phase 1: mean accuracy on seen pairs (ID) below 0.9.",
        "Thresholds: ID 0.9, OOD 0.9, commutativity 0.7.",
        "Phase 1 at γ 0.3; phase 2 at γ 0.6.",
        "The largest mean OOD accuracy is 0.700, at γ 0.6 (seeds from 0.600 to 0.800).",
        "Larger γ means smaller initial weights",
        "last/bdiverged10 of 20loss is not finite in step 11",
        "initialization_rulearxiv-2405.05409",
        "anchorlab phase runs/x",
    ):
        assert sentence in inside


def test_one_figure_for_every_decay_with_its_finding(document) -> None:
    images = [attributes for attributes, _ in document.all("img")]
    assert [image["alt"].split(". ")[0] for image in images] == [
        "ID and OOD accuracy over γ, λ 0",
        "ID and OOD accuracy over γ, λ 0.1",
    ]
    assert all(image["src"].startswith("data:image/") for image in images)


def test_no_outside_address_no_script_and_sound_structure(page, document, links) -> None:
    for _, attributes, _ in document.elements:
        for name in ("src", "href"):
            address = attributes.get(name, "#")
            assert address.startswith(("#", "data:")) or address in links.values()
    assert not re.search(r"(?:https?:)?//|@import|url\(", re.sub(r"base64,[A-Za-z0-9+/=]+", "", page))
    assert not document.all("script")
    ids = [attributes["id"] for _, attributes, _ in document.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes, _ in document.elements:
        assert attributes.get("aria-labelledby", ids[0]) in ids
        if attributes.get("href", "").startswith("#"):
            assert attributes["href"][1:] in ids
    assert len(page.encode()) < 1_000_000


def test_without_reports_nothing_is_linked_but_all_is_said(grid, tmp_path: Path) -> None:
    document = Document(write_phase_page(grid, tmp_path / "phase.html").read_text(encoding="utf-8"))
    assert not document.all("a", class_="cell")
    assert not document.all("a", class_="mark")
    said = [inside for _, inside in document.all("div", class_="cell")]
    assert len(said) == 5
    assert any("γ 0.6, λ 0.1: OOD 0.910 (0.850 to 0.970)" in inside for inside in said)
    assert "opens the report" not in document.all("body")[0][1]


def test_names_of_runs_are_escaped(tmp_path: Path, write_run) -> None:
    write_run(tmp_path / "<b>x", {"id": (1.0,), "ood": (1.0,)})
    write_run(tmp_path / "<b>y", status="diverged", seed=1, reason="<script>alert(1)</script>")
    page = write_phase_page(phase_grid(collect_runs(tmp_path)), tmp_path / "phase.html").read_text(encoding="utf-8")
    assert "<b>y" not in page
    assert not Document(page).all("script")
