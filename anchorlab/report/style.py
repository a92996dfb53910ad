"""The look of all figures, and their way into a page: one data URI each."""

import base64
import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

# Okabe and Ito's palette: told apart by people with any common colour vision, and by lightness in print.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE, GREY = "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#5F6368"

SPLIT_COLOURS = {"train": GREY, "test": BLUE, "ood": VERMILLION}
TEXT, SMALL = 11.5, 9.5  # points
WIDTH = 4.8  # inches: half of a page, all of a narrow window

# Fixed identifiers make the same figure the same bytes; glyphs as paths make it look the same everywhere.
_RC: Any = {"svg.hashsalt": "anchorlab", "svg.fonttype": "path"}
_NO_LAYOUT: Any = {"figure.autolayout": False, "figure.constrained_layout.use": False}
_NO_METADATA = {"Creator": None, "Date": None, "Format": None, "Type": None}
FINE = 170  # dots per inch
_LARGE = 60_000  # bytes


def split_names(splits: Iterable[str]) -> dict[str, str]:
    """The splits in their usual order with readable names: `test` means seen pairs only where there are unseen ones."""
    found = set(splits)
    names = {
        "train": "training rows",
        "test": "seen pairs (ID)" if "ood" in found else "test rows",
        "ood": "unseen pairs (OOD)",
    }
    known = {split: name for split, name in names.items() if split in found}
    return known | {split: split for split in sorted(found - known.keys())}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure (inches), drawn without any global state."""
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def finish(axes: Axes, *, x: str = "", y: str = "", title: str = "") -> None:
    """Labels and light spines, the same on every plot."""
    axes.set_xlabel(x, fontsize=TEXT)
    axes.set_ylabel(y, fontsize=TEXT)
    axes.set_title(title, fontsize=TEXT)
    axes.tick_params(labelsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)


def encode(figure: Figure, dpi: int = FINE) -> str:
    """The figure as a data URI: SVG, or PNG where that saves much space. Neither names an outside address."""
    with _laid_out(figure, dpi):
        kind, content = "svg+xml", _svg(figure)
        if len(content) > _LARGE and len(raster := png(figure, dpi)) < len(content):
            kind, content = "png", raster
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


@contextmanager
def _laid_out(figure: Figure, dpi: int) -> Iterator[None]:
    """The figure's parts keep their places at `dpi`; `savefig` would find them anew and draw twice for each file."""
    engine, own = figure.get_layout_engine(), figure.dpi
    if engine is None:
        yield
        return
    figure.set_dpi(dpi)
    engine.execute(figure)
    figure.set_dpi(own)
    with rc_context(_NO_LAYOUT):
        figure.set_layout_engine(None)
    try:
        yield
    finally:
        figure.set_layout_engine(engine)


def _svg(figure: Figure) -> bytes:
    buffer = io.StringIO()
    with rc_context(_RC):
        figure.savefig(buffer, format="svg", metadata=_NO_METADATA)
    without_doctype = re.sub(r"<!DOCTYPE[^>]*>", "", buffer.getvalue())
    return re.sub(r"\s*\n\s*", "\n", without_doctype).encode()


def png(figure: Figure, dpi: int = FINE) -> bytes:
    """The figure as a PNG file."""
    drawn, reduced = io.BytesIO(), io.BytesIO()
    write_png(figure, drawn, dpi)
    # 256 colours are enough for any of the figures, at a third of the size. A colour that is rare is kept all the same,
    # or colour bars would have steps.
    image = Image.open(drawn).convert("RGB")
    few = image.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
    few.save(reduced, format="png", optimize=True)
    return reduced.getvalue()


def write_png(figure: Figure, file: Path | IO[bytes], dpi: int = FINE) -> None:
    """Write the figure as a PNG file, with all its colours."""
    with _laid_out(figure, dpi):
        figure.savefig(file, format="png", dpi=dpi, metadata={"Software": None})
