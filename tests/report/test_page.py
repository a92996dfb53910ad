import base64
import io
import re
from dataclasses import replace
from urllib.parse import unquote

import pandas as pd
import pytest
from browser import chromium, text_contrasts
from page_document import (
    Document,
    assert_every_image_says_its_finding_with_numbers,
    assert_no_outside_address,
    assert_structure_for_keyboard_and_screen_reader,
)

from anchorlab import models, report, tasks
from anchorlab.analysis import Explanation, explain, fresh_row_seed
from anchorlab.errors import InputError
from anchorlab.report import condensation_figures, downloads, geometry_figures, head_figures, page, readout_figures
from anchorlab.report.section_kinds import section_kinds

pytestmark = pytest.mark.usefixtures("brief")
SHOWN = 12  # sections with a figure, of an untrained network without kept checkpoints


def bare(explanation: Explanation) -> Explanation:
    """Without its figures, which take time to draw, but the curves."""
    fields = {kind.field for kind in section_kinds([explanation])} - {"metrics"}
    return replace(explanation, **dict.fromkeys(fields))


def decoded(uri: str) -> bytes:
    return base64.b64decode(unquote(uri.split("base64,", 1)[1]))


@pytest.fixture(scope="module")
def written(report_path):
    return report_path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def document(written):
    return Document(written)


def test_no_outside_address(written, document):
    assert_no_outside_address(document, written)
    assert not any("src" in script for script in document.all("script"))
    assert not any(name.startswith("on") for _, attributes in document.elements for name in attributes)


def test_figures_hold_no_outside_address(document):
    images = document.all("img")
    assert len(images) == 2 * SHOWN + 1
    for image in images:
        content = decoded(image["src"])
        if image["src"].startswith("data:image/svg"):
            text = content.decode()
            addresses = set(re.findall(r"https?://[^\"'<> ]+", text)) - {
                "http://www.w3.org/2000/svg",
                "http://www.w3.org/1999/xlink",
            }
            assert not addresses
            assert "<!DOCTYPE" not in text
        else:
            assert content.startswith(b"\x89PNG")


def test_every_image_says_its_finding_with_numbers(document):
    assert_every_image_says_its_finding_with_numbers(document)


def test_small_enough_to_send(written):
    assert len(written.encode()) < 3_000_000


def test_structure_for_keyboard_and_screen_reader(document):
    assert_structure_for_keyboard_and_screen_reader(document)
    assert document.all("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in document.all("meta")


def test_downloads_are_the_tables(document, explanations):
    files = {link["download"]: link["href"] for link in document.all("a") if "download" in link}
    first, second = explanations
    tables = {
        "memorising-metrics.csv": first.metrics,
        "memorising-pair_matrix.csv": downloads.pair_table(first.pair_matrix),
        "reasoning-answer_classes.csv": second.answer_classes,
        "reasoning-attention.csv": downloads.attention_table(second.attention),
        "reasoning-embedding.csv": geometry_figures.geometry_table(second.embedding),
        "reasoning-heads.csv": head_figures.heads_table(second.heads),
        "reasoning-readout.csv": readout_figures.readout_table(second.readout),
        "memorising-condensation.csv": condensation_figures.cosine_table(first.condensation),
    }
    for name, table in tables.items():
        found = pd.read_csv(io.BytesIO(decoded(files[name])), keep_default_na=False)
        expected = table.reset_index(drop=True)
        assert list(found.columns) == [str(column) for column in expected.columns]
        for column in expected:
            if expected[column].dtype.kind == "f":
                numbers = pd.to_numeric(found[column])
                assert numbers.to_numpy() == pytest.approx(expected[column].to_numpy(), rel=1e-5, nan_ok=True)
            else:
                assert found[column].astype(str).tolist() == expected[column].astype(str).tolist()
    assert len(files) == 2 * SHOWN + 2  # networks side by side, and commutativity
    commutativity = pd.read_csv(io.BytesIO(decoded(files["commutativity.csv"])))
    assert len(commutativity) == len(first.commutativity) + len(second.commutativity)


def test_commutativity_is_listed_by_pair(document, explanations):
    tables = [explanation.commutativity.set_index("pair")["fraction"] for explanation in explanations]
    for pair in tables[0].index:
        values = " ".join(f"{table[pair]:.3f}" for table in tables)
        assert f"{pair} {'both' if pair == 'c,d' else 'none'} {values}" in document.text
    means = " ".join(f"{table.drop('c,d').mean():.3f}" for table in tables)
    assert f"mean of the trained pairs none {means}" in document.text


def test_top_tells_what_was_trained_and_what_came_out(document, explanations):
    text = document.text
    assert "Two networks were trained on the task “composite”" in text
    assert "The pairs (c,d) and (d,c) were kept out of training" in text
    assert "initialization rate γ 0.3 0.5" in text
    for explanation in explanations:
        assert f"Phase {explanation.phase.number}" in text
        assert f"{explanation.phase.id_accuracy:.3f}" in text
        assert f"{explanation.phase.ood_accuracy:.3f}" in text
    assert "left to right: a x → x + 5, b x → x + 1, c x → x − 2, d x → x − 8." in text


@pytest.mark.parametrize("rule", models.rules())
@pytest.mark.usefixtures("undrawn")
def test_sign_of_the_rate_is_told_by_its_rule(rule, explanations):
    table = pd.DataFrame(columns=["step", "split", "group", "metric", "value"])
    config = explanations[0].config | {"initialization_rule": rule}
    text = Document(report.render([replace(bare(explanations[0]), config=config, metrics=table)])).text
    model = models.build("post_ln", 30, 6, layers=1, width=16)
    low, high = (models.initialization_table(model, rule=rule, rate=rate)[0].std for rate in (0.3, 0.6))
    assert ("Larger γ means smaller initial weights" in text) == (high < low)
    assert ("Larger γ means larger initial weights" in text) == (high > low)


def test_worked_examples_show_each_members_answer(document, explanations):
    cells = [attributes for attributes in document.all("td") if attributes.get("class") in ("key", "anchor")]
    assert len(cells) == 2 * 3
    for first, second in zip(*(explanation.examples for explanation in explanations), strict=True):
        assert first.tokens == second.tokens
        assert f"Right answer: {first.label}" in document.text
        for name, example in (("memorising", first), ("reasoning", second)):
            verdict = "✓ right" if example.correct else "✗ wrong"
            assert f"{name} {example.answer} {verdict} {example.probability:.2f}" in document.text


def test_bottom_holds_what_repeats_it(document):
    text = document.text
    assert "anchorlab run composite --seed 0" in text
    assert '"initialization_rate": 0.3' in text
    assert '"torch": "2.13.0"' in text
    assert f"200 fresh rows of each split: Task.sample(split, n, seed={fresh_row_seed(0, None)})" in text


@pytest.mark.usefixtures("undrawn")
def test_values_are_escaped(explanations):
    nasty = '<script>alert("&")</script>'
    odd = replace(bare(explanations[0]), name=nasty, config=explanations[0].config | {"note": nasty}, status=nasty)
    text = report.render([odd], title=nasty, command=nasty)
    document = Document(text)
    assert not document.all("script")
    assert nasty in document.text
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", link["download"]) for link in document.all("a") if "download" in link)


def test_same_input_same_page(explanations):
    kept = {field: getattr(explanations[0], field) for field in ("heads", "embedding")}
    one, two = (report.render([replace(bare(explanations[0]), **kept)]) for _ in range(2))
    assert one == two


@pytest.mark.usefixtures("undrawn")
def test_members_of_one_name_are_told_apart(explanations):
    text = Document(report.render([bare(explanations[0]), bare(explanations[0])])).text
    assert "memorising (2)" in text


@pytest.mark.usefixtures("undrawn")
def test_unfinished_run_says_so(explanations):
    text = Document(report.render([replace(bare(explanations[0]), status="diverged")])).text
    assert "training has not finished: diverged" in text


@pytest.mark.usefixtures("undrawn")
def test_absent_sections_give_their_reason(held_run):
    found = explain(held_run("net", tasks.create("identity"), model="lstm"), samples=50)
    document = Document(report.render([found]))
    assert "Not shown: the task has no anchor pairs" in document.text
    assert "has no attention" in document.text
    assert len(document.all("img")) == 3  # curves, embeddings and condensation
    assert not document.all("script")


@pytest.mark.usefixtures("undrawn")
def test_members_without_a_section_beside_members_with_it(explanations, held_run):
    recurrent = explain(held_run("lstm", tasks.create("composite"), model="lstm"), samples=50)
    fields = ("attention", "heads", "readout", "condensation", "condensation_survey")
    transformer = replace(bare(explanations[0]), **{field: getattr(explanations[0], field) for field in fields})
    document = Document(report.render([transformer, recurrent]))
    assert len(document.all("img")) == (1 + len(fields)) + 6 + 1


@pytest.mark.parametrize("name", ["working_memory", "classification", "statistical"])
@pytest.mark.usefixtures("undrawn")
def test_tasks_of_other_kinds_have_a_page(name, held_run):
    found = explain(held_run("net", tasks.create(name)), samples=30)
    assert Document(report.render([found])).all("img")


@pytest.mark.usefixtures("undrawn")
def test_own_data_have_a_page(held_run):
    document = Document(report.render([explain(held_run("net", None))]))
    assert "the user's own data" in document.text
    assert "recorded accuracy (test) 1.000" in document.text


@pytest.mark.usefixtures("undrawn")
def test_empty_history_has_a_page(explanations):
    empty = replace(bare(explanations[0]), metrics=explanations[0].metrics.iloc[:0])
    assert "no measurement was recorded" in Document(report.render([empty])).text


@pytest.mark.usefixtures("undrawn")
def test_failure_leaves_the_old_page(explanations, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")

    monkeypatch.setattr(page, "render", lambda *args, **kwargs: "\ud800")  # cannot be written as UTF-8
    with pytest.raises(UnicodeEncodeError):
        report.write(explanations, path)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_wrong_input_is_refused(explanations, tmp_path):
    with pytest.raises(InputError, match="explanations"):
        report.write([], tmp_path / "report.html")
    with pytest.raises(InputError, match="does not exist"):
        report.write(explanations, tmp_path / "missing" / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_four_heads_and_layers_are_drawn(held_run):
    shape = {"layers": 4, "heads": 4}
    run = held_run("net", tasks.create("composite"), model="gpt2", **shape)
    found = explain(run, only=["attention", "heads", "condensation_survey"], samples=30)
    assert found.attention.trained.shape[:2] == (4, 4)
    assert "layer 4 head" in Document(report.render([found])).text


# the page as a reader opens it


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


def test_page_opens_without_a_problem_or_a_request(browser, report_path):
    with browser.open(report_path) as opened:
        assert opened.locator("h1").inner_text().startswith("Two networks")
        assert opened.locator(".attention-view").count() == 2
        broken = "images => images.filter(image => !image.complete || !image.naturalWidth).length"
        assert opened.eval_on_selector_all("img", broken) == 0


def test_narrow_window_needs_no_sideways_scrolling(browser, report_path):
    with browser.open(report_path, width=340) as opened:
        assert opened.evaluate("document.documentElement.scrollWidth") <= 340


def test_page_is_complete_without_scripts(browser, report_path):
    with browser.open(report_path, javascript=False) as opened:
        assert opened.locator("#attention").is_visible()
        assert opened.locator(".attention > img").first.is_visible()
        assert opened.locator(".attention input").count() == 0


def test_every_section_is_reached_from_the_contents(browser, report_path):
    with browser.open(report_path) as opened:
        links = opened.locator("nav a")
        for number in range(links.count()):
            target = links.nth(number).get_attribute("href")
            assert target is not None
            assert opened.locator(target).count() == 1


def test_slider_and_keyboard_work_in_every_member(browser, report_path):
    with browser.open(report_path) as opened:
        for member in range(2):
            view = opened.locator(".attention-view").nth(member)
            before = view.get_by_role("status").inner_text()
            view.locator("input[type=range]").focus()
            opened.keyboard.press("Home")
            assert view.locator(".attention-step").inner_text().startswith("0")
            assert view.get_by_role("status").inner_text() != before
            assert "0.11" in view.get_by_role("status").inner_text()  # the last of nine positions, evenly


def test_downloads_are_offered_for_every_figure(browser, report_path):
    with browser.open(report_path) as opened:
        figures, links = opened.locator("figure:has(img)"), opened.locator("figure a[download]")
        assert figures.count() == links.count() > 20
        with opened.expect_download() as started:
            opened.locator("#heads").locator("..").locator("a[download]").first.click()
        assert started.value.suggested_filename == "memorising-heads.csv"


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_text_has_contrast(browser, report_path, dark):
    with browser.open(report_path, dark=dark) as opened:
        assert all(ratio >= 4.5 for _, _, ratio in text_contrasts(opened.locator("main")))
