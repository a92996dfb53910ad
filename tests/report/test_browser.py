import base64
import hashlib
from dataclasses import dataclass

import numpy as np
import pytest
from browser import chromium, contrast, text_contrasts
from jinja2 import ChoiceLoader, DictLoader, Environment, FunctionLoader

from anchorlab.analysis import Example
from anchorlab.report.attention_view import LEAST, attention_view
from anchorlab.report.templates import resource

pytestmark = pytest.mark.slow  # fifty visits of a browser; the tests of every page open its view in one, too
HALF_A_LEVEL = 1 / 510
IMAGE = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
PAGE = """
{% extends "base.html" %}
{% from "attention.html" import attention_view %}
{% block main %}
<div class="panels">
{% for view, image in members %}
<figure class="card">{{ attention_view(view, image, "Attention maps.") }}<figcaption>A finding.</figcaption></figure>
{% endfor %}
</div>
<script>{{ script|safe }}</script>
{% endblock %}
"""


@dataclass(frozen=True)
class History:
    example: Example
    steps: tuple[int, ...]
    weights: np.ndarray
    masked: bool = True


def example(tokens=("7", "63", "a", "c", "21", "9")):
    """Key and anchors stand at positions 2, 3 and 4."""
    roles = ("", "key", "anchor 1", "anchor 2", *[""] * (len(tokens) - 4))
    return Example("ood", "a,c", tuple(tokens), roles, "60", "60", 0.9, 0.9)


def history(steps=(0, 50, 100), layers=2, heads=2, seed=1, tokens=("7", "63", "a", "c", "21", "9")):
    """No weight is between 0 and 0.02, near the least that is drawn."""
    shape = (len(steps), layers, heads, len(tokens), len(tokens))
    weights = np.random.Generator(np.random.Philox(seed)).random(shape) ** 6 * np.tri(len(tokens))
    weights /= weights.sum(-1, keepdims=True)
    weights[weights < 0.02] = 0
    weights /= weights.sum(-1, keepdims=True)
    return History(example(tokens), tuple(steps), weights)


def write_page(path, *histories, budget=100_000):
    """A page that allows its own script and nothing else: no address, no `eval`, no handlers in attributes."""
    loader = ChoiceLoader([DictLoader({"page": PAGE}), FunctionLoader(resource)])
    environment = Environment(loader=loader, autoescape=True)
    script = resource("attention.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    members = [(attention_view(history, budget=budget), IMAGE) for history in histories]
    style = resource("page.css") + resource("attention.css")
    text = environment.get_template("page").render(title="Attention", style=style, script=script, members=members)
    meta = f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">'
    path.write_text(text.replace('<meta charset="utf-8">', meta), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def planted():
    return history()


@pytest.fixture(scope="module")
def path(planted, tmp_path_factory):
    return write_page(tmp_path_factory.mktemp("browser") / "page.html", planted, history(steps=(100,), seed=2))


class Widget:
    """One attention view on an opened page."""

    def __init__(self, page, number=0):
        self.root = page.locator(".attention").nth(number)
        self.readers = self.root.locator(".readers .attention-token")
        self.sources = self.root.locator(".sources .attention-token")
        self.heads = self.root.locator(".attention-map input")
        self.slider = self.root.get_by_role("slider")

    def edges(self):
        """Weights of the lines that are drawn, by (head, query, source) from 0."""
        drawn = self.root.locator(".attention-lines path")
        lines = drawn.evaluate_all("lines => lines.map(line => ({...line.dataset}))")
        return {(int(e["head"]), int(e["query"]), int(e["source"])): float(e["weight"]) for e in lines}

    def text(self):
        return self.root.get_by_role("status").inner_text()

    def title(self):
        return self.root.locator(".attention-title").inner_text()

    def numbers(self, column):
        return self.root.locator(f".{column} .attention-weight").all_inner_texts()

    def choose(self, name):
        self.root.get_by_role("radio", name=name, exact=True).click()


def assert_shows(widget, maps, position, heads):
    """The edges that are drawn are those of maps [head, query, source] from and to a position."""
    found, planted = widget.edges(), np.argwhere(maps >= LEAST).tolist()
    expected = {(h, q, s): maps[h, q, s] for h, q, s in planted if position in (q, s) and h in heads}
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, abs=HALF_A_LEVEL + 1e-4, rel=0)


def test_outside_requests_and_script_errors_are_noticed(browser, tmp_path):
    path = tmp_path / "bad.html"
    path.write_text('<img src="http://outside.invalid/x.png"><script>console.warn("odd"); throw Error("lost")</script>')
    with browser.observe(path) as found:
        assert found.requests == ["http://outside.invalid/x.png"]
        assert any("odd" in problem for problem in found.problems)
        assert any("lost" in problem for problem in found.problems)


def test_first_view_is_what_the_last_position_reads_in_the_last_layer(browser, path, planted):
    with browser.open(path) as page:
        widget = Widget(page)
        assert widget.title() == "Layer 2, all heads"
        assert_shows(widget, planted.weights[-1, 1], 5, heads=(0, 1))
        assert widget.text().startswith("Position 6 (9) reads ")
        assert widget.text().endswith("No other position is shown to read it.")


def test_pointing_shows_what_a_position_reads_and_who_reads_it(browser, path, planted):
    maps = planted.weights[-1, 0]
    with browser.open(path) as page:
        widget = Widget(page)
        widget.choose("Layer 1, head 2")
        for column, position in ((widget.readers, 3), (widget.sources, 1)):
            column.nth(position).hover()
            assert_shows(widget, maps, position, heads=(1,))
            edges = widget.edges()
            reads = {source: weight for (_, query, source), weight in edges.items() if query == position}
            read_by = {query: weight for (_, query, _), weight in edges.items() if query != position}
            for shown, weights in ((widget.numbers("sources"), reads), (widget.numbers("readers"), read_by)):
                assert shown == [f"{weights[place]:.2f}" if place in weights else "" for place in range(6)]
        page.mouse.move(0, 0)
        assert_shows(widget, maps, 5, heads=(1,))


def test_sentence_names_the_strongest_first(browser, tmp_path):
    weights = np.tile(np.eye(6), (1, 1, 1, 1, 1))
    weights[0, 0, 0, 3] = [0, 0.93, 0.05, 0.02, 0, 0]
    weights[0, 0, 0, 4] = [0, 0, 0, 0.6, 0.4, 0]
    weights[0, 0, 0, 5] = [0.3, 0.25, 0.2, 0.15, 0.1, 0]
    path = write_page(tmp_path / "page.html", History(example(), (10,), weights))
    with browser.open(path) as page:
        widget = Widget(page)
        widget.readers.nth(3).hover()
        assert widget.text() == (
            "Position 4 (c, anchor 2) reads 0.93 from position 2 (63, key), 0.05 from position 3 (a, anchor 1), 0.02 "
            "from itself. It is read by position 5 (21) with 0.60, position 6 (9) with 0.15."
        )
        widget.readers.nth(5).hover()
        assert "0.15 from position 4 (c, anchor 2), and 1 weaker. No other" in widget.text()


def test_positions_by_keyboard(browser, path, planted):
    with browser.open(path) as page:
        widget = Widget(page)
        widget.slider.focus()
        page.keyboard.press("Tab")
        for key, position in (("ArrowUp", 4), ("ArrowLeft", 3), ("Home", 0), ("ArrowUp", 0), ("ArrowDown", 1)):
            page.keyboard.press(key)
            focused = widget.root.locator(":focus")
            assert focused.inner_text().split()[0] == f"{position + 1}"
            assert focused.evaluate("element => getComputedStyle(element).outlineStyle") == "solid"
            assert widget.text().startswith(f"Position {position + 1} (")
            assert_shows(widget, planted.weights[-1, 1], position, heads=(0, 1))
            assert widget.readers.evaluate_all("all => all.filter(one => one.tabIndex === 0).length") == 1
        for key, position in (("End", 5), ("ArrowRight", 5)):
            page.keyboard.press(key)
            assert widget.text().startswith(f"Position {position + 1} (")


@pytest.mark.parametrize("how", ["click", "Enter", "Space"])
def test_what_is_pinned_stays(how, browser, path):
    with browser.open(path) as page:
        widget = Widget(page)
        if how == "click":
            widget.readers.nth(2).click()
        else:
            widget.readers.nth(2).focus()
            page.keyboard.press(how)
        widget.readers.nth(4).hover()
        assert widget.text().startswith("Position 5 (")
        page.mouse.move(0, 0)
        widget.slider.focus()
        assert widget.text().startswith("Position 3 (a, anchor 1)")
        pressed = widget.root.get_by_role("button", pressed=True)
        assert [text.split()[1] for text in pressed.all_inner_texts()] == ["a"]


def test_tap_pins(browser, path):
    with browser.open(path, has_touch=True, width=340) as page:
        widget = Widget(page)
        widget.sources.nth(1).tap()
        assert widget.text().startswith("Position 2 (63, key)")


def test_heads_by_mouse_and_keyboard(browser, path, planted):
    last = planted.weights[-1]
    with browser.open(path) as page:
        widget = Widget(page)
        widget.choose("Layer 1, all heads")
        for key, title, layer, heads in (
            ("ArrowRight", "Layer 1, head 1", 0, (0,)),
            ("ArrowDown", "Layer 2, head 1", 1, (0,)),
            ("ArrowRight", "Layer 2, head 2", 1, (1,)),
            ("ArrowDown", "Layer 2, head 2", 1, (1,)),
            ("ArrowUp", "Layer 1, head 2", 0, (1,)),
        ):
            page.keyboard.press(key)
            assert widget.title() == title
            assert widget.root.get_by_role("radio", checked=True).get_attribute("aria-label") == title
            assert_shows(widget, last[layer], 5, heads)
        focused = widget.root.locator("input:focus + img")
        assert focused.evaluate("element => getComputedStyle(element).outlineStyle") == "solid"


def test_heads_differ_in_colour_in_dashes_and_in_words(browser, tmp_path):
    path = write_page(tmp_path / "page.html", history(steps=(1,), layers=1, heads=8))
    with browser.open(path) as page:
        widget = Widget(page)
        looks = widget.root.locator(".attention-legend path").evaluate_all(
            "lines => lines.map(line => [getComputedStyle(line).stroke, getComputedStyle(line).strokeDasharray])"
        )
        assert len(looks) == len({tuple(look) for look in looks}) == 8
        assert [len(set(part)) for part in zip(*looks[:6], strict=True)] == [6, 6]
        assert widget.root.locator(".attention-legend").inner_text().split("\n") == [f"head {n}" for n in range(1, 9)]
        strongest = {}
        for (head, query, source), weight in widget.edges().items():
            if query == 5 and weight > strongest.get(source, (0, ""))[0]:
                strongest[source] = (weight, f"h{head + 1} {weight:.2f}")
        assert widget.numbers("sources") == [strongest.get(source, (0, ""))[1] for source in range(6)]


def test_checkpoints_by_keyboard(browser, path, planted):
    with browser.open(path) as page:
        widget = Widget(page)
        time = widget.root.locator(".attention-step")
        end = "100 (end of training)"
        assert time.inner_text() == end
        widget.slider.focus()
        for key, index, text in (("ArrowLeft", 1, "50 of 100"), ("Home", 0, "0 of 100"), ("End", 2, end)):
            page.keyboard.press(key)
            assert time.inner_text() == widget.slider.get_attribute("aria-valuetext") == text
            assert_shows(widget, planted.weights[index, 1], 5, heads=(0, 1))


def test_one_checkpoint_has_no_slider(browser, path):
    with browser.open(path) as page:
        assert Widget(page, 0).slider.count() == 1
        assert Widget(page, 1).slider.count() == 0


def test_members_do_not_touch_each_other(browser, path):
    with browser.open(path) as page:
        first, second = Widget(page, 0), Widget(page, 1)
        before = second.edges(), second.text(), second.title()
        first.choose("Layer 1, head 1")
        first.readers.nth(1).click()
        assert (second.edges(), second.text(), second.title()) == before
        assert second.root.get_by_role("radio", checked=True).count() == 1
        ids = page.locator("[id]").evaluate_all("all => all.map(one => one.id)")
        assert len(ids) == len(set(ids))


@pytest.mark.parametrize(("key", "checkpoint"), [("Home", 0), ("End", 1)])
def test_small_maps_show_the_weights_of_their_checkpoint(key, checkpoint, browser, tmp_path):
    weights = np.stack([np.eye(6), np.eye(6)[[0, 0, 0, 0, 0, 0]]])[:, None, None]
    path = write_page(tmp_path / "page.html", History(example(), (0, 10), weights))
    with browser.open(path) as page:
        widget = Widget(page)
        widget.slider.press(key)
        read = """image => image.decode().then(() => {
          const context = document.createElement("canvas").getContext("2d");
          context.drawImage(image, 0, 0);
          return [...context.getImageData(0, 0, 6, 6).data]; })"""
        colours = np.reshape(widget.root.locator(".attention-map img").evaluate(read), (6, 6, 4))
        shown = weights[checkpoint, 0, 0]
        assert np.array_equal(np.all(colours == (253, 231, 37, 255), axis=-1), shown == 1)
        assert np.array_equal(np.all(colours == (68, 1, 84, 255), axis=-1), shown == 0)


@pytest.mark.parametrize(("tokens", "bytes_"), [(40, 1), (300, 2)])
def test_largest_edges_of_long_rows(tokens, bytes_, browser, tmp_path):
    weights = np.tril(np.full((tokens, tokens), 0.002))
    back = np.maximum(np.arange(tokens) - 17, 0)
    weights[np.arange(tokens), back] = 0.3 + 0.5 * np.arange(tokens) / tokens
    names = [str(number) for number in range(tokens)]
    given = History(example(names), (1,), weights[None, None, None])
    path = write_page(tmp_path / "page.html", given, budget=tokens * 3 * (1 + bytes_) * 4 // 3 + 12)
    with browser.open(path) as page:
        widget = Widget(page)
        assert "only the 3 largest" in widget.root.inner_text()
        for position in (20, tokens - 1):
            widget.readers.nth(position).focus()
            assert_shows(widget, weights[None], position, heads=(0,))


def test_large_network_opens(browser, tmp_path):
    weights = np.tile(np.eye(128, dtype=np.float32), (1, 32, 32, 1, 1))
    weights[0, 30, 4] = np.eye(128)[np.maximum(np.arange(128) - 3, 0)]
    names = [f"▁token{number}" for number in range(128)]
    path = write_page(tmp_path / "page.html", History(example(names), (1,), weights), budget=2_000_000)
    with browser.open(path, width=340) as page:
        widget = Widget(page)
        assert widget.heads.count() == 32 * 33
        widget.choose("Layer 31, head 5")
        assert widget.edges() == {(0 + 4, 127, 124): 1.0}
        assert page.evaluate("document.documentElement.scrollWidth") == 340


@pytest.mark.parametrize("names", [("7", "63", "a", "c", "21"), ("▁extraordinarily",) * 9])
def test_narrow_window_does_not_scroll_sideways(names, browser, tmp_path):
    path = write_page(tmp_path / "page.html", history(heads=12, layers=3, tokens=names), history(heads=1, tokens=names))
    with browser.open(path, width=340) as page:
        Widget(page).readers.nth(2).hover()
        assert page.evaluate("document.documentElement.scrollWidth") == 340
        assert min(page.locator(".attention-name").evaluate_all("all => all.map(one => one.clientWidth)")) >= 16
        one_head = page.locator(".attention-flow").last
        assert one_head.evaluate("element => element.scrollWidth <= element.clientWidth")


def test_without_scripts_the_image_is_all(browser, path):
    with browser.open(path, javascript=False) as page:
        assert page.locator(".attention img").count() == 2
        assert all(image.is_visible() for image in page.locator(".attention img").all())
        assert page.locator(".attention :is(button, input, select, summary, a, label, [tabindex])").count() == 0
        assert page.locator(".attention").first.inner_text().strip() == ""


def test_image_is_kept_below_the_view(browser, path):
    with browser.open(path) as page:
        image = page.locator(".attention-still img").first
        assert not image.is_visible()
        page.get_by_text("All maps as one image").first.click()
        assert image.is_visible()
        assert image.evaluate("image => image.naturalWidth") > 0


@pytest.mark.parametrize("dark", [False, True])
def test_contrast(dark, browser, tmp_path):
    path = write_page(tmp_path / "page.html", history(heads=6))
    colours = """root => [...root.querySelectorAll(".attention-legend path")].map(line => [
      getComputedStyle(line).stroke,
      ...[".card", ".attention-flow"].map(name => getComputedStyle(document.querySelector(name)).backgroundColor)])"""
    with browser.open(path, dark=dark, reduced_motion="reduce") as page:
        widget = Widget(page)
        for head in ("all heads", "head 1"):
            widget.choose(f"Layer 2, {head}")
            widget.readers.nth(3).hover()
            texts = text_contrasts(widget.root)
            assert {"attention-weight", "attention-role", "attention-text", "note"} <= {name for name, *_ in texts}
            assert [text for text in texts if text[-1] < 4.5] == []
            for stroke, *grounds in widget.root.evaluate(colours):
                assert min(contrast(stroke, ground) for ground in grounds) >= 3


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_reduced_motion_is_respected(motion, browser, path):
    with browser.open(path, reduced_motion=motion) as page:
        duration = Widget(page).readers.first.evaluate("element => getComputedStyle(element).transitionDuration")
        assert (duration == "0s") == (motion == "reduce")


def test_print_shows_the_whole_row(browser, tmp_path):
    names = [str(number) for number in range(60)]
    path = write_page(tmp_path / "page.html", history(tokens=names, heads=1))
    with browser.open(path) as page:
        page.emulate_media(media="print")
        flow = Widget(page).root.locator(".attention-flow")
        assert flow.evaluate("element => element.scrollHeight <= element.clientHeight")
        assert not Widget(page).slider.is_visible()


def test_names_are_shown_as_they_are(browser, tmp_path):
    name = "</script><img src=http://outside.invalid/x.png>"
    path = write_page(tmp_path / "page.html", history(tokens=("7", "63", "a", "c", name)))
    with browser.open(path) as page:
        assert f"Position 5 ({name}) reads" in Widget(page).text()
        assert page.locator(".attention-still img, img[src^=http]").count() == 1
