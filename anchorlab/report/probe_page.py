"""Probes of pretrained models as one self-contained HTML page: no outside address, readable without its script."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from anchorlab.errors import InputError
from anchorlab.files import replacing
from anchorlab.pretrained_probe.probe import Probe

from . import probe_tables
from .page import check_writable
from .probe_sections import build_sections
from .style import FINE, encode
from .templates import render_template, resource

_LARGEST, _COARSE = 10_000_000, 80


def write_probe_page(probes: Sequence[Probe], path: Path | str, *, command: str = "") -> Path:
    """Write the page on one probe, or on several side by side, to `path`, whole or not at all, and return the path.

    `command` repeats the probes. Raises `InputError` for no probes, a path that cannot be written to, and a page of
    more than 10 MB.
    """
    path = Path(path)
    if not probes:
        raise InputError("probes: none given; a page needs at least one")
    check_writable(path)
    page = render_probe_page(probes, command=command)
    if len(page.encode()) > _LARGEST:
        page = render_probe_page(probes, command=command, dpi=_COARSE)
    if (size := len(page.encode())) > _LARGEST:
        raise InputError(
            f"out={str(path)!r}: the page would have {size / 1e6:.0f} MB, 10 at most; compare fewer models"
        )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def render_probe_page(probes: Sequence[Probe], *, command: str = "", dpi: int = FINE) -> str:
    """The page as text; `dpi` is the resolution of images that are not drawn as lines."""
    members = _named(probes)
    return render_template(
        "probe.html",
        title=f"Attention heads of {', '.join(members)}",
        style=resource("page.css") + resource("attention.css") + resource("probe.css"),
        script=resource("attention.js"),
        members=members,
        cards=[probe_tables.card(name, probe) for name, probe in members.items()],
        loaded=probe_tables.loaded(members),
        prompts={name: probe_tables.first_prompts(probe.prompts) for name, probe in members.items()},
        sections=build_sections(members, partial(encode, dpi=dpi)),
        command=command,
    )


def _named(probes: Sequence[Probe]) -> dict[str, Probe]:
    members: dict[str, Probe] = {}
    for probe in probes:
        name, number = probe.name, 1
        while name in members:
            number += 1
            name = f"{probe.name} ({number})"
        members[name] = probe
    return members
