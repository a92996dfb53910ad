"""Pages in a headless Chromium that reaches nothing but the file it shows."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright import sync_api

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@dataclass(frozen=True)
class OpenedPage:
    """`page` is playwright's; `problems` and `requests` grow while it is used and are to stay empty.

    `problems`: console messages and errors of scripts. `requests`: addresses other than the file, none of which is
    answered.
    """

    page: sync_api.Page
    problems: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Browser:
    started: sync_api.Browser

    @contextmanager
    def open(self, path: Path, **settings: Any) -> Iterator[sync_api.Page]:
        """As `observe`; fails in the end if there was any problem or request."""
        with self.observe(path, **settings) as opened:
            yield opened.page
            assert opened.problems == []
            assert opened.requests == []

    @contextmanager
    def observe(
        self,
        path: Path,
        *,
        width: int = 1280,
        height: int = 900,
        dark: bool = False,
        javascript: bool = True,
        **settings: Any,
    ) -> Iterator[OpenedPage]:
        """The file `path` in a window of `width` by `height` pixels, with no state shared with another page.

        `settings` are those of playwright's `new_context`, such as `has_touch` and `reduced_motion`.
        """
        context = self.started.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            java_script_enabled=javascript,
            service_workers="block",
            **settings,
        )
        opened = OpenedPage(context.new_page())
        address = path.resolve().as_uri()

        def answer(route: sync_api.Route) -> None:
            if route.request.url.split("#")[0] == address:
                route.continue_()
            else:
                opened.requests.append(route.request.url)
                route.abort()

        context.route("**/*", answer)
        opened.page.on("websocket", lambda socket: opened.requests.append(socket.url))
        opened.page.on("console", lambda message: opened.problems.append(f"{message.type}: {message.text}"))
        opened.page.on("pageerror", lambda error: opened.problems.append(str(error)))
        try:
            opened.page.goto(address)
            yield opened
        finally:
            context.close()


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium, headless; skips the test where playwright or Chromium is missing."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        pytest.skip(f"no Chromium on the PATH; looked for {', '.join(_NAMES)}")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield Browser(started)
        finally:
            started.close()


_TEXTS = """root => [...root.querySelectorAll("*")]
  .filter(element => element.checkVisibility({ visibilityProperty: true }))
  .filter(element => [...element.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.data.trim()))
  .map(element => {
    const ground = (behind) => getComputedStyle(behind).backgroundColor;
    let behind = element;
    while (ground(behind) === "rgba(0, 0, 0, 0)" && behind.parentElement) behind = behind.parentElement;
    return [element.className, element.textContent, getComputedStyle(element).color, ground(behind)];
  })"""


def text_contrasts(root: sync_api.Locator) -> list[tuple[str, str, float]]:
    """Class, text and contrast ratio with its ground of every visible element that holds text."""
    found = root.evaluate(_TEXTS)
    return [(name, text, contrast(colour, ground)) for name, text, colour, ground in found]


def contrast(colour: str, ground: str) -> float:
    """The contrast ratio of two opaque computed colours (WCAG 2.2, definition of contrast ratio)."""
    light, dark = sorted((_luminance(colour), _luminance(ground)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    match = re.fullmatch(r"rgb\((\d+), (\d+), (\d+)\)", colour)
    assert match, f"not an opaque colour: {colour}"
    shares = [int(part) / 255 for part in match.groups()]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
