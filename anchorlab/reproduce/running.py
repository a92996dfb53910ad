"""Run a reproduction: measure, decide, draw, keep."""

import json
import os
import shlex
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

from anchorlab.engine import Run
from anchorlab.engine.store import environment
from anchorlab.errors import InputError
from anchorlab.files import replacing
from anchorlab.provenance import TRAINING, code_version
from anchorlab.report.style import png
from anchorlab.validation import check_known

from .registry import get
from .reproduction import SCALES, Reproduction
from .results import Result, read_result, write_result
from .study import Study, digest

DEFAULT_FOLDER = Path("reproductions")
_MEASURING = ("anchorlab.analysis", "anchorlab.reproduce.claims")


class Reproduced(NamedTuple):
    """A result, the folder that holds it with tables and figure, and whether it had been measured before."""

    result: Result
    folder: Path
    cached: bool

    @property
    def figure(self) -> Path:
        """The figure (PNG)."""
        return self.folder / "figure.png"


def run(
    name: str,
    *,
    scale: str = "laptop",
    out: Path | str = DEFAULT_FOLDER,
    settings: Mapping[str, Any] | None = None,
    progress: bool | None = None,
) -> Reproduced:
    """Reproduce `name` and write `out/NAME/SCALE/`: result.json, figure.png and the figure's tables as CSV.

    A result of the same settings and the same code is returned as it is. Trainings are kept in `out/runs` and used
    again by everything that asks for the same settings. `settings` replaces some of the scale's own; the folder's name
    then tells so. `progress` shows bars on standard error (default: if that is a terminal).

    Raises InputError for an unknown id, scale or setting, or a folder with results of another schema version;
    Interrupted when stopped (the same call continues).
    """
    one = get(name)
    chosen = _settings(one, scale, settings or {})
    folder = Path(out) / one.id / (scale if not settings else f"{scale}-{digest(chosen)[:8]}")
    key = digest({"settings": chosen, "code": code_version((*TRAINING, *_MEASURING, one.measure.__module__))})
    path = folder / "result.json"
    if path.is_file() and (known := read_result(path)).key == key:
        return Reproduced(known, folder, cached=True)
    work = folder / f"work-{digest(chosen)[:8]}"
    try:
        work.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise InputError(f"out={str(out)!r}: no folder can be made there ({error.strerror})") from None
    study = Study(scale, chosen, work, Path(out) / "runs", progress)
    began = time.perf_counter()
    measured = one.measure(study)
    seconds = time.perf_counter() - began
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
        core_seconds=round(seconds - study.training_seconds + sum(map(_wall_time, study.trained)), 1),
        machine=_machine(),
        command=_command(one, scale, settings or {}),
    )
    _write(one, measured.tables, folder)
    write_result(result, path)
    return Reproduced(result, folder, cached=False)


def _settings(one: Reproduction, scale: str, replaced: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings as JSON would give them back; raises InputError for one that the scale does not have."""
    check_known("scale", scale, SCALES)
    known = one.settings(scale)
    for field, value in replaced.items():
        check_known("setting", field, known)
        if not _alike(value, known[field]):
            raise InputError(f"{field}={value!r}: must be like {known[field]!r}")
    chosen: dict[str, Any] = json.loads(json.dumps({**known, **replaced}))
    if chosen["seeds"] < 1:
        raise InputError(f"seeds={chosen['seeds']}: must be at least 1")
    return chosen


def _alike(value: Any, known: Any) -> bool:
    """Whether a value has the type of the known one; a number may be whole, and what is unset may be anything."""
    if known is None or value is None:
        return True
    if isinstance(known, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(known, bool)
    kinds = {float: (int, float), tuple: (list, tuple), list: (list, tuple)}
    return isinstance(value, kinds.get(type(known), type(known)))


def _write(one: Reproduction, tables: Mapping[str, pd.DataFrame], folder: Path) -> None:
    for name, table in tables.items():
        with replacing(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False, float_format="%.6g")
    with replacing(folder / "figure.png") as temporary:
        temporary.write_bytes(png(one.figure(tables)))


def _wall_time(run: Run) -> float:
    return float(run.environment["wall_time_seconds"])


def _machine() -> dict[str, Any]:
    found = environment("cuda" if torch.cuda.is_available() else "cpu", {})
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cores": cores} | {name: found[name] for name in ("device", "platform", "python", "packages", "git_commit")}


def _command(one: Reproduction, scale: str, replaced: Mapping[str, Any]) -> str:
    words = ["anchorlab", "reproduce", one.id, "--scale", scale]
    for name, value in replaced.items():
        words += ["--set", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
    return shlex.join(words)
