"""A text coloured by the probability of its tokens, as one HTML page that needs neither network nor script."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anchorlab.files import replacing
from anchorlab.pretrained_probe.colouring import BIN_NAMES, SHARES, ColouredText, ModelColours, Piece

from .colouring_figure import COLOURS
from .downloads import csv_uri
from .templates import render_template, resource

# For light text; as far apart as those of the figure.
DARK_COLOURS = ("#bd5410", "#5a4900", "#3a74ad", "#0d5240")


@dataclass(frozen=True)
class Token:
    """A piece of the text: `kind` is its class, and `told` its probability in words (empty if it has no token)."""

    text: str
    kind: str
    told: str


@dataclass(frozen=True)
class Card:
    """One model's view of the text."""

    name: str
    numbers: str
    tokens: list[Token]
    source: str


def write_colouring_page(coloured: ColouredText, path: Path, *, name: str, command: str = "") -> Path:
    """Write the page on the text called `name` to `path`, whole or not at all, and return the path.

    `command` repeats the page.
    """
    page = render_colouring_page(coloured, name=name, command=command)
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def render_colouring_page(coloured: ColouredText, *, name: str, command: str = "") -> str:
    """The page as text."""
    summaries = [model.summary() for model in coloured.models]
    return render_template(
        "colouring.html",
        title=f"Next-token probabilities of {name}",
        style=resource("page.css") + resource("colouring.css") + _colours(),
        script=resource("colouring.js"),
        models=len(coloured.models),
        characters=f"{len(coloured.text):,}",
        bins=list(enumerate(BIN_NAMES)),
        split=any(len(piece.tokens) > 1 for model in coloured.models for piece in model.pieces),
        cards=[_card(model, numbers) for model, numbers in zip(coloured.models, summaries, strict=True)],
        finding=_finding(summaries),
        rows=[_row(numbers) for numbers in summaries],
        data=csv_uri(coloured.table()),
        command=command,
    )


def _colours() -> str:
    light, dark = (
        " ".join(f"--bin-{number}: {colour};" for number, colour in enumerate(colours))
        for colours in (COLOURS, DARK_COLOURS)
    )
    return f":root {{ {light} }}\n@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"


def _card(model: ModelColours, numbers: Mapping[str, Any]) -> Card:
    parts = [f"{numbers['tokens']:,} tokens", f"perplexity {numbers['perplexity']:.4g}"]
    if numbers["bits_per_character"] is not None:
        parts.append(f"{numbers['bits_per_character']:.3g} bits per character")
    source = json.dumps(dict(model.source), indent=2, ensure_ascii=False)
    return Card(model.name, ", ".join(parts), [_token(piece) for piece in model.pieces], source)


def _token(piece: Piece) -> Token:
    if not piece.tokens:
        return Token(piece.text, "", "")
    if piece.bin is None:
        return Token(piece.text, "first", "the first token: not predicted")
    kind = f"bin-{piece.bin}{' end' if piece.text.startswith(chr(10)) else ''}"
    several = f", the product of {len(piece.tokens)} tokens" if len(piece.tokens) > 1 else ""
    return Token(piece.text, kind, f"p = {_number(piece.probability)}{several}")


def _number(probability: float) -> str:
    return f"{probability:.4f}" if probability >= 0.001 else f"{probability:.2g}"


def _finding(summaries: list[dict[str, Any]]) -> str:
    found = [(row["bits_per_character"], row["model"]) for row in summaries if row["bits_per_character"] is not None]
    if len(found) < 2:
        return ""
    (least, best), *_, (most, worst) = sorted(found)
    return f"{best} predicts the text best ({least:.3g} bits per character), {worst} worst ({most:.3g})."


def _row(numbers: Mapping[str, Any]) -> tuple[str, list[str]]:
    bits = numbers["bits_per_character"]
    cells = [
        f"{numbers['tokens']:,}",
        f"{numbers['predicted']:,}",
        *(f"{100 * numbers[share]:.1f} %" for share in SHARES),
        f"{numbers['mean_log_probability']:.3f}",
        f"{numbers['perplexity']:.4g}",
        "–" if bits is None else f"{bits:.3f}",
    ]
    return numbers["model"], cells
