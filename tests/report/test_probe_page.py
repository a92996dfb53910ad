import re
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from browser import Browser, chromium, text_contrasts
from made_probes import SOURCE, made_knockouts, made_probe, made_prompt, made_scores
from page_document import (
    Document,
    assert_every_image_says_its_finding_with_numbers,
    assert_no_outside_address,
    assert_structure_for_keyboard_and_screen_reader,
    tables,
)
from small_experiments import brief_figures

from anchorlab.analysis import HeadBatch, HeadScores, causal, join_scores, score_heads
from anchorlab.errors import InputError
from anchorlab.pretrained_probe.depth import depth_trend
from anchorlab.pretrained_probe.probe import Probe, ShownAttention
from anchorlab.pretrained_probe.prompts import Prompt, PromptSet
from anchorlab.report import probe_page
from anchorlab.report.head_figures import heads_table
from anchorlab.report.probe_figures import strongest_head
from anchorlab.report.probe_page import render_probe_page, write_probe_page

COMMAND = "anchorlab probe tiny/llama --compare other"


def parsed(*probes: Probe) -> Document:
    return Document(render_probe_page(probes))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are not drawn, which takes most of the time."""
    monkeypatch.setattr(probe_page, "encode", lambda figure, dpi: "data:,")


@pytest.fixture(scope="module")
def tested() -> Probe:
    return made_probe(moved=True, knockouts=made_knockouts())


@pytest.fixture(scope="module")
def plain() -> Probe:
    return made_probe("other", layers=2, attention=None)


@pytest.fixture(scope="module")
def path(tested: Probe, plain: Probe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "probe.html"
    with brief_figures():
        assert write_probe_page([tested, plain], path, command=COMMAND) == path
    return path


@pytest.fixture(scope="module")
def document(path: Path) -> Document:
    return Document(path.read_text(encoding="utf-8"))


def test_no_outside_address(path: Path, document: Document) -> None:
    assert_no_outside_address(document, path.read_text(encoding="utf-8"))


def test_structure_for_keyboard_and_screen_reader(document: Document) -> None:
    assert_structure_for_keyboard_and_screen_reader(document)
    assert_every_image_says_its_finding_with_numbers(document)
    assert len(document.all("img")) == 2 * 3 + 1 + 1 + 1  # compared; the pair and the knock-outs of one model


def test_verdicts_and_numbers_of_both_models(document: Document, tested: Probe) -> None:
    text = document.text
    assert "2 pretrained models were probed" in text
    assert "holds by kind" in text.lower() or "Holds By strength" in text
    assert "By kind: The share of shift heads falls with depth (ρ −0." in text
    assert "other Undecided By strength: Shift shows no clear trend with depth (ρ " in text
    assert "layers × heads 8 × 3 prompts 24 shift heads 4 broadcast heads 4 sink heads 1" in text
    assert "prompts answered rightly 88%" in text
    row = tested.trend.correlations.set_index("score").loc["shift heads"]
    number = f"{row['correlation']:.2f}".replace("-", "−")
    low, high = (f"{row[end]:.2f}".replace("-", "−") for end in ("low", "high"))
    assert f"shift heads {number} {low} to {high} {row['p']:.3f} falls" in text


def test_what_was_loaded(document: Document) -> None:
    text = document.text
    for said in (
        "commit " + SOURCE["commit"],
        "parameters 6,738,415,616",
        "revision –",
        "dtype bfloat16",
        "devices cuda:0, cpu",
        "layers × heads 8 × 3 2 × 3",
        COMMAND,
    ):
        assert said in text


def test_prompts_are_shown_with_their_marks_and_answer(document: Document) -> None:
    assert "24 prompts that state a name and ask for it, seed 0." in document.text
    assert "<s> My name is anchor John key. What" in document.text
    assert "→ right answer: John" in document.text
    marks = [span["class"] for span in document.all("span") if span.get("class") in ("key", "anchor")]
    assert marks.count("key") == marks.count("anchor") == 2 * 3


def test_long_prompts_and_unknown_answers(plain: Probe, quick: None) -> None:
    prompt = Prompt(np.arange(200), tuple(map(str, range(200))), {"anchor 1": 0}, answer=777)
    text = parsed(replace(plain, prompts=PromptSet("task", "One row.", (prompt,)))).text
    assert "95 … and 104 more → right answer: the token 777" in text


def test_the_strongest_heads_with_sinks_and_the_moving_test(document: Document, tested: Probe) -> None:
    text = document.text
    assert "head kind strength weight reads told apart by sinks followed the token stayed" in text
    best = strongest_head(tested.scores, "broadcast")
    assert best is not None
    row = re.search(
        rf"layer {best.layer} head 1 broadcast \d\.\d\d \d\.\d\d ± 0\.\d\d key moving test – (\d+)% (\d+)%", text
    )
    assert row
    assert int(row[1]) > 90
    assert int(row[2]) < 10
    assert re.search(r"layer 1 head 2 sink 0\.\d\d 0\.\d\d ± 0\.\d\d – moving test position 1 – –", text)


def test_heads_that_were_asked_for_come_first(plain: Probe, quick: None) -> None:
    attention = ShownAttention(made_prompt(2), np.ones((2, 3, 2, 2)) * np.tri(2) / 2)
    document = parsed(replace(plain, chosen=((2, 3), (1, 1)), attention=attention))
    rows = re.findall(r"layer \d head \d (?:none|shift 1|broadcast|sink) [–\d]", document.text)
    assert rows[:2] == ["layer 2 head 3 none –", "layer 1 head 1 shift 1 1"]
    assert len([row for row in rows if row.startswith("layer 1 head 1")]) == 1
    assert document.all("tr")[[attributes.get("class") for attributes in document.all("tr")].index("marked")]
    assert document.views[0]["first"] == [1, 2]


def test_without_the_moving_test_its_columns_are_left_out(plain: Probe, quick: None) -> None:
    assert "followed the token" not in parsed(plain).text
    assert "told apart by sinks" in parsed(plain).text


def test_knockouts_are_shown_or_their_absence_explained(document: Document) -> None:
    assert "shift heads 3 −2.00 (−2.40 to −1.60) 0.25 −0.10 0.048 matters" in document.text
    assert "Not shown: the prompts have no right answers." in document.text
    assert "Not shown: it was not asked for." in document.text


def test_downloads_are_the_tables(document: Document, tested: Probe) -> None:
    found = tables(document)
    expected = {
        "tiny-llama-heads.csv": heads_table(tested.scores),
        "tiny-llama-correlations.csv": tested.trend.correlations,
        "tiny-llama-strength-by-layer.csv": tested.trend.by_layer,
        "tiny-llama-knock-outs.csv": made_knockouts().table,
        "tiny-llama-single-heads.csv": made_knockouts().single_heads,
    }
    assert set(found) == {*expected, "other-heads.csv", "other-correlations.csv", "other-strength-by-layer.csv"}
    for name, table in expected.items():
        assert found[name].columns.tolist() == table.columns.tolist()
        assert len(found[name]) == len(table)
    means = pd.to_numeric(found["tiny-llama-heads.csv"]["shift 1"]).to_numpy()
    assert means == pytest.approx(heads_table(tested.scores)["shift 1"].to_numpy(), rel=1e-5)


def test_the_view_opens_on_the_strongest_broadcast_head(document: Document, tested: Probe) -> None:
    best = strongest_head(tested.scores, "broadcast")
    assert best is not None
    (view,) = document.views
    assert view["first"] == [best.layer - 1, best.head - 1]
    assert view["tokens"] == list(made_prompt().pieces)
    assert view["roles"][3:5] == ["anchor", "key"]


@pytest.mark.parametrize("head", [(0, 1), (9, 1), (1, 4)])
def test_a_view_of_no_head_is_refused(tested: Probe, quick: None, head: tuple[int, int]) -> None:
    kinds = pd.DataFrame({"layer": [head[0]], "head": [head[1]]}).assign(**tested.scores.kinds.iloc[0, 2:])
    scores = replace(tested.scores, kinds=pd.concat([tested.scores.kinds, kinds], ignore_index=True))
    with pytest.raises(InputError, match=r"first=\(\d, \d\): a layer from 1 to 8 and a head from 1 to 3"):
        parsed(replace(tested, scores=scores, chosen=(head,)))


def test_a_shorter_view_leaves_out_places_beyond(tested: Probe, quick: None) -> None:
    assert tested.attention is not None
    first = ShownAttention(made_prompt(), tested.attention.weights[..., :4, :4])
    (view,) = parsed(replace(tested, attention=first)).views
    assert view["roles"] == ["", "", "", "anchor"]


def test_without_a_broadcast_the_view_opens_on_the_strongest_shift(tested: Probe, quick: None) -> None:
    table, kinds = tested.scores.scores, tested.scores.kinds
    unreadable = table["strength"].mask(table["score"] == "broadcast")
    others = kinds.assign(kind=kinds["kind"].mask(kinds["kind"] == "broadcast", "none"))
    scores = replace(tested.scores, scores=table.assign(strength=unreadable), kinds=others)
    document = parsed(replace(tested, scores=scores))
    shift = strongest_head(scores, "shift")
    assert shift is not None
    assert document.views[0]["first"] == [shift.layer - 1, shift.head - 1]
    assert "The prompts are too short for a shift and a broadcast." in document.text


@pytest.mark.parametrize(("length", "said"), [(1, "Not shown: the prompts are too short for any pattern."), (3, "ρ")])
def test_short_prompts_have_a_page(plain: Probe, quick: None, length: int, said: str) -> None:
    weights = torch.eye(length).expand(2, 4, 2, -1, -1)
    scores = score_heads(lambda: [HeadBatch(weights)], visible=causal(length))
    prompts = PromptSet("text", "Two short texts.", (Prompt(np.arange(length), ("Hi",) * length, {}),))
    probe = replace(plain, scores=scores, trend=depth_trend(scores), prompts=prompts)
    assert said in parsed(probe, probe).text


def test_values_are_escaped(plain: Probe, quick: None) -> None:
    nasty = '<script>alert("&")</script>'
    prompts = PromptSet("text", nasty, (Prompt(np.arange(1), (nasty,), {nasty: 0}, 0),))
    odd = replace(
        plain,
        name=nasty,
        source={"name": nasty, nasty: [nasty]},
        prompts=prompts,
        absent=dict.fromkeys(plain.absent, nasty),
    )
    document = Document(render_probe_page([odd], command=nasty))
    assert not document.all("script")
    assert document.text.count("alert") > 5
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", link["download"]) for link in document.all("a") if "download" in link)


def test_members_of_one_name_are_told_apart(plain: Probe, quick: None) -> None:
    assert "other, other (2), other (3)" in parsed(plain, plain, plain).text


@pytest.mark.usefixtures("brief")
def test_same_input_same_page(plain: Probe) -> None:
    assert render_probe_page([plain], command=COMMAND) == render_probe_page([plain], command=COMMAND)


def test_heads_of_no_kind_have_a_page(plain: Probe, quick: None) -> None:
    kinds = plain.scores.kinds.assign(kind="none", strength=np.nan, role="", decided_by="")
    scores = replace(plain.scores, kinds=kinds)
    text = parsed(replace(plain, scores=scores, trend=depth_trend(scores))).text
    assert "Not shown: no head is of any kind." in text
    assert "By kind: The share of shift heads has no correlation with depth" in text


def repeated(scores: HeadScores, times: int) -> HeadScores:
    """The same layers one after another."""
    layers = scores.kinds["layer"].max()
    tables = {field.name: getattr(scores, field.name) for field in fields(scores)}
    return join_scores(
        [
            HeadScores(**{name: table.assign(layer=table["layer"] + copy * layers) for name, table in tables.items()})
            for copy in range(times)
        ]
    )


@pytest.fixture(scope="module")
def large() -> Probe:
    """32 layers of 32 heads, 128 tokens."""
    weights = np.random.Generator(np.random.Philox(0)).random((32, 32, 128, 128), dtype=np.float32)
    weights *= np.tri(128, dtype=np.float32)
    weights /= weights.sum(-1, keepdims=True)
    scores = repeated(made_scores(2, 32, length=40, rows=2), 16)
    return Probe(
        "large",
        SOURCE,
        PromptSet("random", "Random tokens.", (made_prompt(128),)),
        scores,
        depth_trend(scores),
        made_knockouts(),
        ShownAttention(made_prompt(128), weights),
        {},
    )


@pytest.mark.slow
def test_large_models_fit_into_a_page(large: Probe) -> None:
    page = render_probe_page([large])
    assert 4_000_000 < len(page.encode()) < 7_000_000
    heads = tables(Document(page))["large-heads.csv"]
    assert len(heads) == 1024
    assert {"kind", "shift 32", "broadcast", "sink"} <= set(heads.columns)


def test_wrong_input_is_refused_and_leaves_the_old_page(
    plain: Probe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_page, "encode", lambda figure, dpi: "data:,")
    with pytest.raises(InputError, match="probes: none given"):
        write_probe_page([], tmp_path / "probe.html")
    with pytest.raises(InputError, match="does not exist"):
        write_probe_page([plain], tmp_path / "missing" / "probe.html")
    path = tmp_path / "probe.html"
    path.write_text("old")
    monkeypatch.setattr(probe_page, "_LARGEST", 1_000)
    with pytest.raises(InputError, match=r"the page would have \d+ MB, 10 at most; compare fewer models"):
        write_probe_page([plain], path)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["probe.html"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


def test_the_page_opens_on_the_head_and_works_by_keyboard(browser: Browser, path: Path, tested: Probe) -> None:
    best = strongest_head(tested.scores, "broadcast")
    assert best is not None
    with browser.open(path) as page:
        view = page.locator(".attention-view")
        assert view.locator(".attention-title").inner_text() == f"Layer {best.layer}, head {best.head}"
        checked = view.locator("input:checked")
        assert checked.get_attribute("aria-label") == f"Layer {best.layer}, head {best.head}"
        assert "from position 5 (John, key)" in view.get_by_role("status").inner_text()
        checked.focus()
        page.keyboard.press("ArrowUp")
        assert view.locator(".attention-title").inner_text() == f"Layer {best.layer - 1}, head {best.head}"
        assert view.locator(".attention-still").count() == 0


@pytest.mark.slow
def test_a_head_among_many_is_scrolled_into_view(browser: Browser, tmp_path: Path, quick: None) -> None:
    many = made_probe(layers=40, heads=2)
    path = write_probe_page([many], tmp_path / "probe.html")
    inside = """grid => {
        const [box, around] = [grid.querySelector("input:checked"), grid].map((e) => e.getBoundingClientRect());
        return box.top >= around.top && box.bottom <= around.bottom && grid.scrollTop > 0 && scrollY === 0;
    }"""
    with browser.open(path) as page:
        assert page.locator(".attention-grid").evaluate(inside)


@pytest.mark.parametrize("width", [340, 420])
def test_narrow_window_needs_no_sideways_scrolling(browser: Browser, path: Path, width: int) -> None:
    with browser.open(path, width=width) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_page_is_complete_without_scripts(browser: Browser, path: Path) -> None:
    with browser.open(path, javascript=False) as page:
        assert page.locator("#attention + p + .panels img").first.is_visible()
        assert page.get_by_text("The view of all heads needs scripts.").is_visible()
        assert page.locator(".attention input").count() == 0


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_text_has_contrast(browser: Browser, path: Path, dark: bool) -> None:
    with browser.open(path, dark=dark) as page:
        assert all(ratio >= 4.5 for _, _, ratio in text_contrasts(page.locator("main")))
