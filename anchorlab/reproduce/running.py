"""Run a reproduction: measure, decide, draw, keep."""

import errno
import json
import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from anchorlab.engine import Run
from anchorlab.engine.store import environment
from anchorlab.errors import InputError
from anchorlab.files import replacing
from anchorlab.provenance import TRAINING, code_version
from anchorlab.report.style import png
from anchorlab.validation import check_known

from .registry import get
from .reproduction import SCALES, Measured, Reproduction
from .results import Result, read_result, write_result
from .study import Study, contents, digest

DEFAULT_FOLDER = Path("reproductions")
_RESULT, _FIGURE = "result.json", "figure.png"
_MEASURING = (
    *("anchorlab.analysis", "anchorlab.pretrained_probe"),
    *("anchorlab.reproduce.claims", "anchorlab.reproduce.study"),
)


class Reproduced(NamedTuple):
    """A result, the folder that holds it with tables and figure, and whether it had been measured before."""

    result: Result
    folder: Path
    cached: bool

    @property
    def figure(self) -> Path:
        """The figure (PNG)."""
        return self.folder / _FIGURE


def run(
    name: str,
    *,
    scale: str = "laptop",
    out: Path | str = DEFAULT_FOLDER,
    settings: Mapping[str, Any] | None = None,
    progress: bool | None = None,
) -> Reproduced:
    """Reproduce `name` and write `out/NAME/SCALE/`: result.json, figure.png and the figure's tables as CSV.

    A result of the same settings, of the same content of the files that they name, and of the same code is returned as
    it is. Trainings are kept in `out/runs` and used again by everything that asks for the same settings. `settings`
    replaces some of the scale's own; the folder's name then tells so. `progress` shows bars on standard error (default:
    if that is a terminal).

    Raises InputError for an unknown id, scale or setting, settings that cannot be measured, a folder that cannot be
    written to, or one with results of another schema version; Interrupted when stopped (the same call continues);
    AssertionError for a reproduction that does not measure what its claim is about.
    """
    one, replaced = get(name), settings or {}
    chosen = chosen_settings(name, scale, replaced)
    files = contents({field: chosen[field] for field in replaced})
    folder = Path(out) / one.id / (f"{scale}-{digest(chosen)[:8]}" if replaced else scale)
    key = digest({"settings": chosen, "code": code_version(_packages(one)), **files})
    work = folder / f"work-{digest({**chosen, **files})[:8]}"
    with _usable(out):
        if (known := _kept(folder, key)) is not None:
            return Reproduced(known, folder, cached=True)
        work.mkdir(parents=True, exist_ok=True)
    study = Study(scale, chosen, work, Path(out) / "runs", progress)
    began = time.perf_counter()
    with _measurable(replaced):
        measured = one.measure(study)
        seconds = time.perf_counter() - began
        figure = png(one.figure(measured.tables))
    missing = {condition.quantity for condition in one.claim.conditions} - {value.quantity for value in measured.values}
    # A smoke scale may be too small, and replaced settings too few, for all that the claim is about.
    assert not missing or scale == "smoke" or replaced, f"{one.id} does not measure {sorted(missing)}"
    result = Result(
        id=one.id,
        title=one.title,
        source=one.source,
        scale=scale,
        settings=chosen,
        key=key,
        claim=one.claim,
        values=tuple(measured.values),
        training_code=Counter(str(run.environment.get("code_version")) for run in study.trained),
        core_seconds=round(seconds - study.training_seconds + sum(map(_core_seconds, study.trained)), 1),
        machine=_machine(),
        command=_command(one, scale, replaced),
        diverged=sum(run.status == "diverged" for run in study.trained),
    )
    with _usable(out):
        _write(measured, figure, folder)
        write_result(result, folder / _RESULT)
    return Reproduced(result, folder, cached=False)


def chosen_settings(name: str, scale: str, replaced: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of `name` at a scale, some of them replaced, as JSON would give them back.

    Raises InputError for an unknown id, scale or setting, and for a value that is not like the scale's own.
    """
    one = get(name)
    check_known("scale", scale, SCALES)
    known = one.settings(scale)
    for field, value in replaced.items():
        check_known("setting", field, known)
        if not _is_json(value):
            raise InputError(f"{field}={value!r}: must be JSON, with finite numbers")
        if not _alike(value, known[field]):
            raise InputError(f"{field}={value!r}: must be like {known[field]!r}")
    chosen: dict[str, Any] = json.loads(json.dumps({**known, **replaced}))
    if chosen["seeds"] < 1:
        raise InputError(f"seeds={chosen['seeds']}: must be at least 1")
    return chosen


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _alike(value: Any, known: Any) -> bool:
    """Whether a value has the type of the known one, inside lists and dicts too.

    A number may be whole, and what is unset (or a list that is empty) may be anything (any list). An item of a list is
    like any of the known items, one of a dict like that of the same name.
    """
    if known is None:
        return True
    if isinstance(known, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(known, bool)
    if isinstance(known, list | tuple):
        items = isinstance(value, list | tuple) and bool(value or not known)
        return items and (not known or all(any(_alike(item, other) for other in known) for item in value))
    if isinstance(known, Mapping):
        return isinstance(value, Mapping) and all(_alike(value[name], known[name]) for name in value if name in known)
    return isinstance(value, int | float if isinstance(known, float) else type(known))


def _packages(one: Reproduction) -> tuple[str, ...]:
    """The code that decides what is measured: the helpers of a chapter are in the package of its modules."""
    module = one.measure.__module__
    return (*TRAINING, *_MEASURING, sys.modules[module].__package__ or module)


@contextmanager
def _usable(out: Path | str) -> Iterator[None]:
    """Raise InputError where `out` cannot be used; a full disk is none of its faults."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise InputError(f"out={str(out)!r}: no results can be kept there ({error.strerror or error})") from None


def _kept(folder: Path, key: str) -> Result | None:
    """The whole result of this key, if the folder holds it."""
    for name in (_RESULT, _FIGURE):
        if (folder / name).is_dir():
            raise IsADirectoryError(errno.EISDIR, f"{str(folder / name)!r} is a folder")
    known = read_result(folder / _RESULT) if (folder / _RESULT).is_file() else None
    return known if known and known.key == key and (folder / _FIGURE).is_file() else None


@contextmanager
def _measurable(replaced: Mapping[str, Any]) -> Iterator[None]:
    """Raise InputError where replaced settings are the likely reason that a measurement breaks down."""
    try:
        yield
    except InputError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        if not replaced:
            raise
        named, reason = ", ".join(replaced), " ".join(str(error).split())
        raise InputError(f"{named}: cannot be measured as set here ({type(error).__name__}: {reason})") from error


def _write(measured: Measured, figure: bytes, folder: Path) -> None:
    for name, table in measured.tables.items():
        with replacing(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False, float_format="%.6g")
    with replacing(folder / _FIGURE) as temporary:
        temporary.write_bytes(figure)


def _core_seconds(run: Run) -> float:
    known = run.environment
    return float(known.get("core_seconds", known["wall_time_seconds"]))


def _machine() -> dict[str, Any]:
    found = environment("cuda" if torch.cuda.is_available() else "cpu")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cores": cores} | {name: found[name] for name in ("device", "platform", "python", "packages", "git_commit")}


def _command(one: Reproduction, scale: str, replaced: Mapping[str, Any]) -> str:
    words = ["anchorlab", "reproduce", one.id, "--scale", scale]
    for name, value in replaced.items():
        words += ["--set", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
    return shlex.join(words)
