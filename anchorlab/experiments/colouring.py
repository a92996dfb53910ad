"""A text coloured by how well pretrained models predict its tokens: page and figure as fig. 13.15."""

import errno
import gc
import shlex
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import torch

from anchorlab.errors import InputError
from anchorlab.files import replacing
from anchorlab.pretrained_probe.colouring import ColouredText, ModelColours, colours
from anchorlab.pretrained_probe.loading import Loading, load_pretrained
from anchorlab.report import check_writable
from anchorlab.report.colouring_figure import colouring_figure
from anchorlab.report.colouring_page import write_colouring_page
from anchorlab.report.style import write_png

from .commands import options


@dataclass(frozen=True)
class Colouring:
    """The tables behind a coloured text (`coloured.summary()`, `coloured.table()`) and the files that show it."""

    coloured: ColouredText
    page: Path
    figure: Path


def colour_text(
    text: Path | str,
    models: Sequence[str],
    *,
    out: Path | str = "colour.html",
    length: int | None = None,
    **loading: Unpack[Loading],
) -> Colouring:
    """Colour the text in the file `text` by the probability that each of `models` gives to its tokens.

    Writes the page `out` and a PNG file of the same name beside it. Models are folders or names on the Hugging Face
    Hub; one at a time is in memory. `length` takes the first characters alone; `loading` has the options of
    `anchorlab.pretrained_probe.load_pretrained`. For a model without tokenizer the file holds ids of tokens.
    Raises InputError for a file that is missing or not UTF-8, a model given twice, an `out` that cannot be written, and
    as `load_pretrained` and `anchorlab.pretrained_probe.colouring.colours` do.
    """
    page = Path(out)
    figure = page.with_suffix(".png")
    _check(models, page, length)
    content = _read(Path(text))[:length]
    coloured = ColouredText(content, tuple(_colours(model, content, loading) for model in models))
    with replacing(figure) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # drawn as a box; the page shows it
        write_png(colouring_figure(coloured), temporary)
    settings = {"out": page, "length": length, **loading}
    command = shlex.join(["anchorlab", "colour", str(text), *models, *options(settings, {"dtype": "auto"})])
    return Colouring(coloured, write_colouring_page(coloured, page, name=Path(text).name, command=command), figure)


def _check(models: Sequence[str], page: Path, length: int | None) -> None:
    if not models:
        raise InputError("models: none given; give a folder or a name on the Hugging Face Hub")
    if len(set(models)) < len(models):
        raise InputError(f"models: {next(one for one in models if models.count(one) > 1)!r} is given twice")
    if length is not None and length < 1:
        raise InputError(f"length={length}: must be at least 1 character")
    if page.suffix not in (".html", ".htm"):
        raise InputError(f"out={str(page)!r}: must end in .html; the figure gets the same name with .png")
    check_writable(page)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"text={str(path)!r}: is not UTF-8 (byte {error.start}); convert it first") from None
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EACCES):
            raise
        raise InputError(f"text={str(path)!r}: cannot be read ({error.strerror}); give a text file") from None


def _colours(name: str, text: str, loading: Loading) -> ModelColours:
    """Nothing holds the model when this returns; what refers to itself is gone before the next one is loaded."""
    try:
        return colours(load_pretrained(name, **loading), text)
    finally:
        gc.collect()
        torch.cuda.empty_cache()
