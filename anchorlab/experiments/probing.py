"""Probes of pretrained models: load, score, knock out, and write tables, figures and one page."""

import gc
import re
import shlex
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import torch
from matplotlib.figure import Figure

from anchorlab.errors import InputError
from anchorlab.files import replacing
from anchorlab.pretrained_probe.depth import READINGS, claim
from anchorlab.pretrained_probe.loading import Loading, load_pretrained
from anchorlab.pretrained_probe.probe import Probe
from anchorlab.pretrained_probe.probing import choose_prompts, probe_model
from anchorlab.report import check_writable
from anchorlab.report.depth_figures import about_claim, about_trend, depth_figure
from anchorlab.report.head_figures import about_heads, head_map
from anchorlab.report.knockout_figures import about_knockouts, knockout_figure
from anchorlab.report.probe_page import write_probe_page
from anchorlab.report.style import write_png

from .commands import options
from .probe_folder import RECORD, load_probe, replacing_folder, save_probe

_MOST_MODELS = 8
_DEFAULTS = {"seed": 0, "knock_outs": True, "dtype": "auto"}


@dataclass(frozen=True)
class ProbeRun:
    """A probe, and the folder with its record (`probe.json`), tables, figures and page (`report.html`)."""

    probe: Probe
    folder: Path

    def text(self) -> str:
        """What was found, in words."""
        found = self.probe
        knocked_out = found.absent.get("knockouts", "") if found.knockouts is None else about_knockouts(found.knockouts)
        decided = {by: claim(found.trend, by=by) for by in READINGS}
        parts = [
            ("Prompts", f"{found.prompts.description}."),
            ("Heads", about_heads(found.scores)),
            ("Depth", about_trend(found.trend)),
            *(
                (f"Shallow layers shift, deep layers broadcast (fig. 12.17), by {by}: {one.verdict}", about_claim(one))
                for by, one in decided.items()
            ),
            ("Knock-outs", knocked_out),
        ]
        return "\n".join([found.name, *(f"{title}\n  {text}" for title, text in parts)])


def probe(
    model: str | Path,
    *,
    prompts: str | None = None,
    count: int | None = None,
    length: int | None = None,
    column: str | None = None,
    language: str | None = None,
    heads: Sequence[tuple[int, int]] = (),
    knock_outs: bool = True,
    seed: int = 0,
    out: Path | str | None = None,
    progress: bool = False,
    **loading: Unpack[Loading],
) -> ProbeRun:
    """Probe the heads of a pretrained model, a folder or a name on the Hugging Face Hub (section 12.7.3).

    `prompts`, `count`, `length`, `column` and `language` are those of `anchorlab.pretrained_probe.choose_prompts`;
    `heads`, `knock_outs` and `seed` those of `probe_model`; `loading` has the options of `load_pretrained`. All is
    written to the folder `out`, by default `probes/NAME`, or nothing. Raises `InputError` as these functions do, and
    for a folder that holds something else.
    """
    folder = Path(out) if out is not None else Path("probes") / _folder_name(str(model))
    kinds: dict[str, Any] = {"count": count, "length": length, "column": column, "language": language}
    given: dict[str, Any] = {"prompts": prompts, **kinds, "seed": seed, "knock_outs": knock_outs, **loading}
    given |= {"heads": heads}
    settings = {"model": str(model)} | {name: value for name, value in given.items() if value is not None}
    command = shlex.join(["anchorlab", "probe", str(model), *_words(given | {"out": out})])
    with replacing_folder(folder, settings) as new:
        pretrained = load_pretrained(str(model), **loading)
        found = probe_model(
            pretrained,
            choose_prompts(pretrained, prompts, seed=seed, **kinds),
            heads=heads,
            knock_outs=knock_outs,
            seed=seed,
            progress=progress,
        )
        save_probe(found, new, settings)
        _save_figures(found, new)
        write_probe_page([found], new / "report.html", command=command)
    return ProbeRun(found, folder)


def compare_probes(
    models: Sequence[str | Path], *, out: Path | str | None = None, **settings: Any
) -> tuple[Path, list[ProbeRun]]:
    """Write one page that shows several models side by side, and return its path and the probes.

    The page is `out`, by default `probes/comparison.html`. Each of `models` is the folder of a finished probe, or a
    model, which is probed first with `settings`, those of `probe` without `out`; finished ones are shown as they are.
    Raises `InputError` as `probe` does, and for fewer than two models or more than eight.
    """
    names = [str(model) for model in models]
    if not 2 <= len(names) <= _MOST_MODELS:
        raise InputError(f"models: {len(names)} given; 2 to {_MOST_MODELS} can be compared")
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"models: {repeated[0]!r} is given twice")
    page = Path("probes/comparison.html" if out is None else out)
    if page.suffix not in (".html", ".htm"):
        raise InputError(f"out={str(page)!r}: a comparison is one page; must end in .html")
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"out={str(page)!r}: cannot be written to ({error.strerror})") from None
    check_writable(page)
    folders = [_folder_name(name) for name in names if not _is_finished(name)]
    if shared := sorted({folder for folder in folders if folders.count(folder) > 1}):
        raise InputError(f"models: two would be written to {shared[0]!r}; probe them one by one, with --out, first")
    runs = [_probed(name, settings) for name in names]
    command = shlex.join(["anchorlab", "probe", "--compare", *names, *_words(settings | {"out": page})])
    return write_probe_page([run.probe for run in runs], page, command=command), runs


def _probed(name: str, settings: Mapping[str, Any]) -> ProbeRun:
    """Nothing holds the model when this returns; what refers to itself is gone before the next one is loaded."""
    if _is_finished(name):
        return ProbeRun(load_probe(name), Path(name))
    try:
        return probe(name, **settings)
    finally:
        gc.collect()
        torch.cuda.empty_cache()


def _is_finished(name: str) -> bool:
    return (Path(name) / RECORD).is_file()


def _words(given: Mapping[str, Any]) -> list[str]:
    """The options of the command line."""
    heads = ",".join(f"{layer}.{head}" for layer, head in given.get("heads", ())) or None
    return options({**given, "heads": heads, "progress": None}, _DEFAULTS)


def _folder_name(model: str) -> str:
    """The last two parts of a path, or the whole name, so that models of two owners do not share a folder.

    What a run folder calls `model` is told apart by the folders above.
    """
    path = Path(model).expanduser()
    parts = [part for part in path.absolute().parts[1:] if part != "model"][-2:] if path.exists() else [model]
    return re.sub(r"[^A-Za-z0-9._-]+", "--", "--".join(parts)).strip("-.")


def _save_figures(found: Probe, folder: Path) -> None:
    figures: dict[str, Figure] = {"heads": head_map(found.scores), "depth": depth_figure(found.trend)}
    if found.knockouts is not None:
        figures["knockouts"] = knockout_figure(found.knockouts)
    for name, figure in figures.items():
        with replacing(folder / f"{name}.png") as temporary, warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # drawn as a box
            write_png(figure, temporary)
