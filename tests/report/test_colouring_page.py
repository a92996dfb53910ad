import base64
import io
import itertools
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from browser import chromium, text_contrasts
from matplotlib.colors import to_hex, to_rgb

from anchorlab.pretrained_probe.colouring import BIN_NAMES, ColouredText, ModelColours, Piece
from anchorlab.report.colouring_figure import COLOURS, colouring_figure, layout, measure
from anchorlab.report.colouring_page import DARK_COLOURS, write_colouring_page
from anchorlab.report.style import encode

SOURCE = {"kind": "folder", "parameters": 7, "note": "</pre><script>alert(1)</script>"}
PARTS = ("<b>The</b>", " court", ",  ", "finds\n", "\n", " a", "你好", " שלום", "🙂")
SHARES = (None, 0.9, 0.3, 0.02, 0.001, 0.5, 1e-7, 0.1, 0.01)
TEXT = "".join(PARTS)


def colours(name="runs/a", parts=PARTS, shares=SHARES):
    """One token a part; a part without share was not predicted."""
    values = np.array([np.nan if share is None else share for share in shares])
    ends = np.cumsum([len(part) for part in parts])
    return ModelColours(
        name=name,
        source=SOURCE,
        tokens=np.arange(len(parts)),
        offsets=np.stack([ends - [len(part) for part in parts], ends], axis=1),
        log_probabilities=np.log(values),
        pieces=tuple(Piece(part, range(at, at + 1), values[at]) for at, part in enumerate(parts)),
        characters=int(ends[-1]),
    )


def two():
    """The second model cuts the text otherwise: it drops a space and reads four tokens in the emoji."""
    drop, joined = Piece(" ", range(0), np.nan), Piece("🙂", range(1, 5), 0.04)
    pieces = (Piece("<b>The</b>", range(1), 0.2), drop, Piece(TEXT[11:-1], range(5, 6), 0.7), joined)
    other = colours("runs/<i>b", ("<b>The</b>", *"abcde"), (0.2, *[0.4] * 5))
    other = ModelColours(**(vars(other) | {"pieces": pieces, "offsets": np.array([[0, 10]] * 6)}))
    return ColouredText(TEXT, (colours(), other))


class Cards(HTMLParser):
    """The coloured texts of a page, each with its spans (class, title, text), and all other tags."""

    def __init__(self, page):
        super().__init__()
        self.texts, self.spans, self.tags, self.inside = [], [], [], False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if attributes.get("class") == "coloured":
            self.inside = True
            self.texts.append("")
            self.spans.append([])
        elif self.inside:
            self.spans[-1].append([attributes["class"], attributes["title"], ""])

    def handle_endtag(self, tag):
        self.inside = self.inside and tag != "div"

    def handle_data(self, data):
        if self.inside:
            self.texts[-1] += data
            if self.spans[-1]:
                self.spans[-1][-1][2] += data


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "colour.html"
    assert write_colouring_page(two(), path, name="a<b.txt", command="anchorlab colour <x>") == path
    return path


@pytest.fixture(scope="module")
def page(path):
    return path.read_text(encoding="utf-8")


def test_every_model_shows_the_whole_text(page):
    assert Cards(page).texts == [TEXT, TEXT]


def test_tokens_have_the_class_and_the_probability_of_their_bin(page):
    first, second = Cards(page).spans
    kinds = ["first", "bin-3", "bin-2", "bin-1", "bin-0 end", "bin-3", "bin-0", "bin-2", "bin-1"]
    assert [kind for kind, _, _ in first] == kinds
    assert [told for _, told, _ in first] == [
        *("the first token: not predicted", "p = 0.9000", "p = 0.3000", "p = 0.0200", "p = 0.0010", "p = 0.5000"),
        *("p = 1e-07", "p = 0.1000", "p = 0.0100"),
    ]
    assert [text for _, _, text in first] == list(PARTS)
    assert [span[:2] for span in second] == [
        ["bin-2", "p = 0.2000"],
        ["bin-3", "p = 0.7000"],
        ["bin-1", "p = 0.0400, the product of 4 tokens"],
    ]


def test_text_names_and_sources_are_escaped(page):
    for raw in ("<b>The", "<i>b", "a<b.txt", "<script>alert", "colour <x>"):
        assert raw not in page
    assert page.count("&lt;b&gt;The&lt;/b&gt;") == 2
    assert [tag for tag, _ in Cards(page).tags].count("script") == 1


def test_page_names_no_outside_address(page):
    without_data = re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)
    assert not re.search(r"https?:|//|@import|url\(", without_data)
    for _, attributes in Cards(page).tags:
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:"))


def test_all_tokens_as_csv(page):
    (address,) = [attributes["href"] for tag, attributes in Cards(page).tags if attributes.get("download")]
    table = pd.read_csv(io.BytesIO(base64.b64decode(address.split("base64,")[1])))
    assert table["model"].value_counts().to_dict() == {"runs/a": 9, "runs/<i>b": 6}
    assert table["text"][:9].tolist() == list(PARTS)
    np.testing.assert_allclose(table["probability"][1:9], SHARES[1:])
    assert table["bin"][1:4].tolist() == [BIN_NAMES[3], BIN_NAMES[2], BIN_NAMES[1]]


def test_summary_names_the_best_and_the_worst_model(page):
    summary = two().summary().set_index("model")["bits_per_character"]
    words = (
        f"{summary.idxmin()} predicts the text best ({summary.min():.3g} bits per character), {summary.idxmax()} worst"
    )
    assert words.replace("<", "&lt;").replace(">", "&gt;") in page


def test_a_failed_write_leaves_the_old_page(tmp_path):
    path = tmp_path / "colour.html"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_colouring_page(
            ColouredText("\ud800b", (colours(parts=("\ud800", "b"), shares=(None, 0.1)),)), path, name="x"
        )
    assert [path.read_text(), [one.name for one in tmp_path.iterdir()]] == ["old", ["colour.html"]]


# Machado, Oliveira and Fernandes 2009, severity 1: what linear RGB looks like to people without one kind of cone.
VISION = {
    "common": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]


def lab(colour, vision):
    shares = np.array(to_rgb(colour))
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(VISION[vision]) @ linear, 0, 1)
    x, y, z = np.cbrt(np.array(TO_XYZ) @ seen / [0.95047, 1, 1.08883])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize(("palette", "ground"), [(COLOURS, "#ffffff"), (DARK_COLOURS, "#1d2126")])
def test_colours_are_told_apart_with_any_vision(palette, ground, vision):
    seen = [lab(colour, vision) for colour in (*palette, ground)]
    assert min(np.linalg.norm(one - other) for one, other in itertools.combinations(seen, 2)) > 15


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.mark.parametrize("dark", [False, True])
def test_texts_can_be_read_and_underlines_differ(browser, path, dark):
    with browser.open(path, dark=dark) as page:
        assert min(ratio for _, _, ratio in text_contrasts(page.locator("main"))) >= 4.5
        style = (
            "element => [getComputedStyle(element).textDecorationLine, getComputedStyle(element).textDecorationStyle]"
        )
        keys = page.locator(".bins span")
        found = [tuple(keys.nth(number).evaluate(style)) for number in range(4)]
        assert found[:3] == [("underline", "double"), ("underline", "solid"), ("underline", "dotted")]
        assert found[3][0] == "none"


def test_page_uses_the_colours_of_its_mode(browser, path):
    for dark, palette in ((False, COLOURS), (True, DARK_COLOURS)):
        with browser.open(path, dark=dark) as page:
            keys = page.locator(".bins span")
            grounds = [keys.nth(at).evaluate("key => getComputedStyle(key).backgroundColor") for at in range(4)]
            assert [to_hex([int(part) / 255 for part in re.findall(r"\d+", ground)]) for ground in grounds] == list(
                palette
            )


def test_lines_spaces_and_directions_stay(browser, tmp_path):
    parts = ("a  b", "\n", "שלום", "\n", "c", "\n", "\n", "d")
    coloured = ColouredText("".join(parts), (colours(parts=parts, shares=[0.1] * 8),))
    path = write_colouring_page(coloured, tmp_path / "colour.html", name="x")
    with browser.open(path, width=420) as page:
        assert page.locator(".coloured").evaluate("text => text.innerText") == coloured.text
        boxes = page.locator(".coloured span").evaluate_all(
            "spans => spans.map(span => { const box = span.getClientRects()[0]; return [box.left, box.top] })"
        )
        lefts, tops = zip(*boxes, strict=True)
        assert lefts[0] == lefts[4] == lefts[7] < lefts[2]  # the right-to-left paragraph ends at the other margin
        assert tops[0] < tops[2] < tops[4] < tops[6] < tops[7]
        assert tops[7] - tops[4] == pytest.approx(2 * (tops[4] - tops[2]), abs=1)


def test_long_words_do_not_widen_a_narrow_page(browser, tmp_path):
    parts = ("x" * 300, " ", "你" * 200)
    path = write_colouring_page(
        ColouredText("".join(parts), (colours("n" * 120, parts, [0.1] * 3),)), tmp_path / "colour.html", name="y" * 90
    )
    with browser.open(path, width=420) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 420


def test_probabilities_are_told_on_pointing_and_by_keys(browser, path):
    with browser.open(path) as page:
        card = page.locator(".card").first
        spans, told = card.locator(".coloured span"), card.locator(".told")
        spans.nth(1).hover()
        assert told.inner_text() == "“ court” p = 0.9000"
        spans.nth(2).click()
        assert told.inner_text() == "“,  ” p = 0.3000"
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowLeft")
        assert told.inner_text() == "“finds\n” p = 0.0200"
        assert card.locator('[tabindex="0"]').count() == 1
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "<b>The</b>"  # the next model's first token


def test_without_scripts_titles_remain(browser, path):
    with browser.open(path, javascript=False) as page:
        assert page.locator(".coloured span").nth(1).get_attribute("title") == "p = 0.9000"
        assert "Point at a token" in page.locator(".told").first.inner_text()


def grounds(axes):
    """Bin, and left, right and top of every coloured ground."""
    boxes = []
    for collection in axes.collections:
        if collection.get_label() in BIN_NAMES:
            for path in collection.get_paths():
                (left, top), (right, _) = path.get_extents().get_points()
                boxes.append((BIN_NAMES.index(collection.get_label()), round(left, 3), round(right, 3), round(top, 3)))
    return boxes


def test_figure_colours_every_token_of_every_model():
    parts = ("The", " court", " finds", "\n", "John")
    model = colours(parts=parts, shares=(None, 0.9, 0.2, 0.03, 0.001))
    figure = colouring_figure(ColouredText("".join(parts), (model, model)))
    found = grounds(figure.axes[0])
    key = 4
    assert len(found) == 2 * 6 + key  # a part that begins with a space is two words, the space and what follows
    start = measure("The")
    assert (3, round(start, 3), round(start + measure(" "), 3)) in [box[:3] for box in found]
    assert (0, 0, round(measure("John"), 3)) in [box[:3] for box in found]
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == [*["runs/a: " + texts[0].split(": ")[1], "The", "court", "finds", "↵", "John"] * 2, *BIN_NAMES]


def test_lines_of_the_figure_break_between_words_and_fit():
    parts = tuple(itertools.chain.from_iterable((f"word{number}", " ") for number in range(200)))
    fragments = layout(colours(parts=parts, shares=[0.1] * 400).pieces, 300)
    assert "".join(fragment.text for fragment in fragments) == "".join(parts)
    for line in range(fragments[-1].line + 1):
        row = [fragment for fragment in fragments if fragment.line == line]
        assert row[0].left == 0
        assert max(one.left + one.width for one in row if one.text.strip()) <= 300
        assert all(b.left == pytest.approx(a.left + a.width) for a, b in itertools.pairwise(row))
        assert row[0].text.strip()
    assert fragments[-1].line > 10


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("text", ["x" * 500, "你" * 500])
def test_text_without_spaces_is_broken_too(text):
    fragments = layout([Piece(text, range(1), 0.5)], 300)
    assert "".join(fragment.text for fragment in fragments) == text
    assert max(one.left + one.width for one in fragments) <= 300


def test_right_to_left_paragraphs_begin_at_the_right_and_keep_numbers():
    pieces = [Piece(part, range(1), 0.5) for part in ("שלום", " ", "1", "2", "\n", "a")]
    hebrew, space, one, two, _, latin = layout(pieces, 300)
    assert hebrew.left + hebrew.width == pytest.approx(300)
    assert hebrew.left == pytest.approx(space.left + space.width)
    assert one.left < two.left < space.left
    assert (latin.left, latin.line) == (0, 1)


def test_parts_of_a_right_to_left_word_go_leftwards_within_a_left_to_right_paragraph():
    pieces = [Piece(part, range(1), 0.5) for part in ("a", " ", "של", "ום")]
    _, space, first, second = layout(pieces, 300)
    assert second.left == pytest.approx(space.left + space.width)
    assert first.left == pytest.approx(second.left + second.width)


def test_long_text_is_cut_and_the_figure_says_so():
    parts = tuple("abcdefgh\n" for _ in range(100))
    coloured = ColouredText("".join(parts), (colours(parts=parts, shares=[0.1] * 100),))
    figure = colouring_figure(coloured, lines=7)
    assert "… 7 of 100 lines" in [text.get_text() for text in figure.axes[0].texts]
    assert figure.get_size_inches()[1] < colouring_figure(coloured, lines=20).get_size_inches()[1] < 8


def test_dollars_backslashes_and_control_characters_are_drawn_as_text():
    parts = ("$\\frac$", "\x00\x07", "\t")
    figure = colouring_figure(ColouredText("".join(parts), (colours(parts=parts, shares=[0.1] * 3),)))
    assert encode(figure).startswith("data:image/")
    assert "$\\frac$" in [text.get_text() for text in figure.axes[0].texts]
