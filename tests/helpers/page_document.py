"""A page as its elements, visible texts and downloads."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pandas as pd

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Document(HTMLParser):
    """Collects elements and visible texts, and complains about tags that do not match."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif not self.open or self.open[-1] != "style":
            self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return re.sub(r" ([,.])", r"\1", re.sub(r"\s+", " ", " ".join(self.texts)))

    @property
    def views(self) -> list[dict[str, Any]]:
        return [json.loads(script) for script in self.scripts if script.startswith("{")]


def tables(document: Document) -> dict[str, pd.DataFrame]:
    links = {link["download"]: link["href"] for link in document.all("a") if "download" in link}
    return {
        name: pd.read_csv(io.BytesIO(base64.b64decode(address.split("base64,")[1])), keep_default_na=False)
        for name, address in links.items()
    }


def assert_no_outside_address(document: Document, text: str) -> None:
    for _, attributes in document.elements:
        for name in ("src", "href", "action", "srcset", "poster", "data"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    assert not re.search(r"(?:https?:)?//|@import|url\(", re.sub(r"base64,[A-Za-z0-9+/=]+", "", text))


def assert_structure_for_keyboard_and_screen_reader(document: Document) -> None:
    tags = [tag for tag, _ in document.elements]
    assert tags.count("main") == tags.count("nav") == tags.count("h1") == 1
    levels = [int(tag[1]) for tag in tags if re.fullmatch(r"h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = [attributes["id"] for _, attributes in document.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in document.elements:
        assert attributes.get("aria-labelledby", ids[0]) in ids
        if attributes.get("href", "").startswith("#"):
            assert attributes["href"][1:] in ids
    assert tags.count("caption") == tags.count("table")
    assert all(header.get("scope") in ("row", "col") for header in document.all("th"))


def assert_every_image_says_its_finding_with_numbers(document: Document) -> None:
    alts = [image["alt"] for image in document.all("img")]
    assert all(len(alt) > 60 and re.search(r"\d", alt) for alt in alts)
    assert len(set(alts)) == len(alts)
