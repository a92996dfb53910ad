"""The whole page of a report, as a reader opens it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, chromium, text_contrasts

from anchorlab import report
from anchorlab.analysis import Explanation

NARROW = 340
STEPS = (0, 50, 100)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def page(explanations: list[Explanation], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two networks, with attention at three training steps."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    members = []
    for explanation in explanations:
        last = explanation.attention.trained
        uniform = np.tril(np.ones_like(last)) / np.arange(1, last.shape[-1] + 1)[:, None]
        history = np.stack([uniform, (uniform + last) / 2, last])
        attention = replace(explanation.attention, steps=STEPS, weights=history)
        members.append(replace(explanation, attention=attention))
    return report.write(members, path, command="anchorlab report runs/demo")


def test_page_opens_without_a_problem_or_a_request(browser: Browser, page: Path) -> None:
    with browser.open(page) as opened:
        assert opened.locator("h1").inner_text().startswith("Two networks")
        assert opened.locator(".attention-view").count() == 2
        broken = "images => images.filter(image => !image.complete || !image.naturalWidth).length"
        assert opened.eval_on_selector_all("img", broken) == 0


def test_narrow_window_needs_no_sideways_scrolling(browser: Browser, page: Path) -> None:
    with browser.open(page, width=NARROW) as opened:
        assert opened.evaluate("document.documentElement.scrollWidth") <= NARROW


def test_page_is_complete_without_scripts(browser: Browser, page: Path) -> None:
    with browser.open(page, javascript=False) as opened:
        assert opened.locator("#attention").is_visible()
        assert opened.locator(".attention > img").first.is_visible()
        assert opened.locator(".attention input").count() == 0


def test_every_section_is_reached_from_the_contents(browser: Browser, page: Path) -> None:
    with browser.open(page) as opened:
        links = opened.locator("nav a")
        for number in range(links.count()):
            target = links.nth(number).get_attribute("href")
            assert target is not None
            assert opened.locator(target).count() == 1


def test_slider_and_keyboard_work_in_every_member(browser: Browser, page: Path) -> None:
    with browser.open(page) as opened:
        for member in range(2):
            view = opened.locator(".attention-view").nth(member)
            before = view.get_by_role("status").inner_text()
            view.locator("input[type=range]").focus()
            opened.keyboard.press("Home")
            assert view.locator(".attention-step").inner_text().startswith("0")
            assert view.get_by_role("status").inner_text() != before
            assert "0.11" in view.get_by_role("status").inner_text()  # the last of nine positions, evenly


def test_downloads_are_offered_for_every_figure(browser: Browser, page: Path) -> None:
    with browser.open(page) as opened:
        figures, links = opened.locator("figure:has(img)"), opened.locator("figure a[download]")
        assert figures.count() == links.count() > 20
        with opened.expect_download() as started:
            opened.locator("#heads").locator("..").locator("a[download]").first.click()
        assert started.value.suggested_filename == "memorising-heads.csv"


@pytest.mark.parametrize("dark", [False, True])
def test_text_has_contrast(browser: Browser, page: Path, dark: bool) -> None:
    with browser.open(page, dark=dark) as opened:
        assert all(ratio >= 4.5 for _, _, ratio in text_contrasts(opened.locator("main")))
