"""A text coloured by the probability of its tokens, as fig. 13.15: the models below each other."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from jaxtyping import Int
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, fontManager
from matplotlib.textpath import text_to_path

from anchorlab.pretrained_probe.colouring import BIN_NAMES, ColouredText, ModelColours, Piece

from .style import GREY

# Red to green as in the figure, moved to vermillion, yellow, sky and bluish green: far apart with any common colour
# vision. The underlines tell the bins apart without colour.
COLOURS = ("#e07b45", "#f7d774", "#b3daf5", "#45b08f")
_LINES: tuple[tuple[tuple[float, ...], str], ...] = (((1.6, 3.2), "-"), ((2.0,), "-"), ((2.0,), ":"), ((), "-"))
"""Underlines of each bin: their depths in points and matplotlib's style."""

# DejaVu Sans comes with matplotlib; whichever of the others is installed has the Chinese characters that it lacks.
_FAMILIES = (
    *("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Micro Hei"),
    *("WenQuanYi Zen Hei", "Microsoft YaHei", "SimHei", "PingFang SC", "Hiragino Sans GB", "Arial Unicode MS"),
)
_SIZE, _LINE, _MARGIN, _ASCENT, _DESCENT = 9.5, 16.0, 14.0, 9.6, 4.4  # points
_INK = "#1b1f24"
_CJK = "\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef"
# Words are cut so that each fits in a line.
_WORD = re.compile(rf"\n|[^\S\n]{{1,30}}|[{_CJK}]|[^\s{_CJK}]{{1,30}}")


@dataclass(frozen=True)
class Fragment:
    """Characters of one piece within one line: `left` and `width` in points, `bin` as of the piece."""

    text: str
    bin: int | None
    line: int
    left: float
    width: float


def colouring_figure(coloured: ColouredText, *, width: float = 8.0, lines: int = 40) -> Figure:
    """The text once for each model with its tokens in the colours of their bins; at most `lines` lines of each.

    `width` is in inches, the height follows. A character that no installed font has is drawn as a box. Words go in the
    direction in which their paragraph begins; letters of different tokens do not join.
    """
    room = 72 * width - 2 * _MARGIN
    texts = [layout(model.pieces, room) for model in coloured.models]
    lengths = [1 + max(fragment.line for fragment in fragments) for fragments in texts]
    rows = [min(length, lines + 1) + 1.7 for length in lengths]  # with its heading, a cut text's remark and a gap
    height = 2 * _MARGIN + _LINE * (sum(rows) + 1)
    figure = Figure(figsize=(width, height / 72), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-_MARGIN, room + _MARGIN), ylim=(height, 0))
    axes.axis("off")
    base = _MARGIN + _ASCENT
    for model, fragments, length, taken in zip(coloured.models, texts, lengths, rows, strict=True):
        _write(axes, 0, base, heading(model), weight="bold")
        _draw(axes, [fragment for fragment in fragments if fragment.line < lines], base + _LINE)
        if length > lines:
            _write(axes, 0, base + (1 + lines) * _LINE, f"… {lines} of {length:,} lines", color=GREY)
        base += taken * _LINE
    _legend(axes, base)
    return figure


def heading(model: ModelColours) -> str:
    """The model's name, perplexity and, where there are characters, bits per character."""
    numbers = model.summary()
    bits = numbers["bits_per_character"]
    return f"{model.name}: perplexity {numbers['perplexity']:.4g}" + ("" if bits is None else f", {bits:.3g} bits/char")


def layout(pieces: Sequence[Piece], room: float) -> list[Fragment]:
    """The pieces in lines of at most `room` points, broken between words; spaces at a line's end may hang over."""
    text = "".join(piece.text for piece in pieces)
    owners = np.repeat(np.arange(len(pieces)), [len(piece.text) for piece in pieces])
    placed: list[Fragment] = []
    line, left, leftwards = 0, 0.0, False
    for word in _WORD.finditer(text):
        if word.start() == 0 or text[word.start() - 1] == "\n":
            leftwards = _is_leftwards(text[word.start() :].partition("\n")[0])
        runs = [(text[start:end], pieces[owners[start]].bin) for start, end in _runs(word, owners)]
        widths = [measure(_shown(run)) for run, _ in runs]
        if left and left + sum(widths) > room and not word.group().isspace():
            line, left = line + 1, 0.0
        start = room - left - sum(widths) if leftwards else left
        for (run, found), width, before in zip(runs, widths, _before(widths, _is_leftwards(word.group())), strict=True):
            placed.append(Fragment(run, found, line, start + before, width))
        left += sum(widths)
        if word.group() == "\n":
            line, left = line + 1, 0.0
    return placed


def _runs(word: re.Match[str], owners: Int[np.ndarray, " characters"]) -> Iterator[tuple[int, int]]:
    """Start and end of the parts of `word` that belong to different pieces."""
    cuts = word.start() + 1 + np.flatnonzero(np.diff(owners[word.start() : word.end()]))
    edges = [word.start(), *cuts.tolist(), word.end()]
    return pairwise(edges)


def _before(widths: Sequence[float], leftwards: bool) -> list[float]:
    """What stands to the left of every part of a word."""
    return [sum(widths[part + 1 :] if leftwards else widths[:part]) for part in range(len(widths))]


def _is_leftwards(paragraph: str) -> bool:
    directions = (unicodedata.bidirectional(character) for character in paragraph)
    return next((kind != "L" for kind in directions if kind in ("L", "R", "AL")), False)


def _shown(run: str) -> str:
    with_marks = run.replace("\n", "↵").replace("\t", "    ")
    return "".join(character if character.isprintable() else " " for character in with_marks)


@lru_cache
def _font(weight: str = "normal") -> FontProperties:
    installed = set(fontManager.get_font_names())
    return FontProperties(family=[name for name in _FAMILIES if name in installed], size=_SIZE, weight=weight)


@lru_cache(maxsize=10_000)
def measure(text: str) -> float:
    """Width of a text in points, spaces at its ends too."""
    return _ink(f"|{text}|") - _ink("||")


def _ink(text: str) -> float:
    width, _, _ = text_to_path.get_text_width_height_descent(text, _font(), ismath=False)
    return float(width)


def _draw(axes: Axes, fragments: Sequence[Fragment], top: float) -> None:
    for number, (colour, (depths, style)) in enumerate(zip(COLOURS, _LINES, strict=True)):
        found = [fragment for fragment in fragments if fragment.bin == number]
        spans = [(one.left, one.left + one.width, top + one.line * _LINE) for one in found]
        grounds = [
            [(left, base - _ASCENT), (right, base - _ASCENT), (right, base + _DESCENT), (left, base + _DESCENT)]
            for left, right, base in spans
        ]
        axes.add_collection(PolyCollection(grounds, facecolors=colour, edgecolors="none", label=BIN_NAMES[number]))
        under = [[(left, base + depth), (right, base + depth)] for left, right, base in spans for depth in depths]
        axes.add_collection(LineCollection(under, colors=_INK, linewidths=0.6, linestyles=style))
    for fragment in fragments:
        drawn = _shown(fragment.text)
        if drawn.strip() and (fragment.text != "\n" or fragment.bin is not None):
            indent = measure(drawn[: len(drawn) - len(drawn.lstrip())])
            _write(axes, fragment.left + indent, top + fragment.line * _LINE, drawn.strip())


def _legend(axes: Axes, base: float) -> None:
    left = 0.0
    for number, name in enumerate(BIN_NAMES):
        width = measure(name)
        _draw(axes, [Fragment(name, number, 0, left, width)], base)
        left += width + _LINE


def _write(axes: Axes, left: float, base: float, text: str, *, weight: str = "normal", color: str = _INK) -> None:
    # A text may hold dollars, which are no formula.
    axes.text(left, base, text, va="baseline", color=color, fontproperties=_font(weight), parse_math=False)
