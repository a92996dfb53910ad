"""Analyses and reports of runs, from their folders."""

import errno
import os
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from anchorlab.analysis import Explanation, explain
from anchorlab.engine import Run, find_runs
from anchorlab.engine.store import SCHEMA_VERSION
from anchorlab.errors import InputError
from anchorlab.files import replacing
from anchorlab.report import Finding, check_writable, findings, write
from anchorlab.report.style import write_png

_MOST_RUNS = 8


@dataclass(frozen=True)
class Analysis:
    """What was measured of a run, what that tells, and the folder that holds a CSV and a PNG file of each finding."""

    explanation: Explanation
    findings: tuple[Finding, ...]
    folder: Path

    def text(self) -> str:
        """The run's state, and all findings in words, each under its title."""
        found = self.explanation
        state = f"{found.name}: {found.status} after {found.environment.get('step', 0):,} steps"
        reason = f" ({found.environment['reason']})" if "reason" in found.environment else ""
        parts = (f"{finding.title} ({finding.field})\n  {finding.text}" for finding in self.findings)
        return "\n".join([state + reason, *parts])


def analyze(
    run: Path | str,
    *,
    only: Collection[str] | None = None,
    out: Path | str | None = None,
    samples: int = 2000,
    seed: int = 0,
    progress: bool = False,
) -> Analysis:
    """Explain the run in a folder and write every finding's table and figure to `out` (default: `RUN/analysis`).

    `only`, `samples`, `seed` and `progress` are those of `anchorlab.analysis.explain`. Raises InputError for a folder
    that holds no run, a run that lacks its model or other files, and an analysis in `only` that is unknown or that does
    not apply to the run.
    """
    opened = _opened(run)
    folder = Path(out) if out is not None else opened.folder / "analysis"
    explanation = _explained(opened, only=only, samples=samples, seed=seed, progress=progress)
    found = tuple(finding for finding in findings(explanation) if only is None or finding.field in only)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for finding in found:
            _write(finding, folder)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise InputError(f"out={str(folder)!r}: cannot be written to ({error.strerror})") from None
    return Analysis(explanation, found, folder)


def write_report(
    runs: Sequence[Path | str],
    *,
    out: Path | str | None = None,
    samples: int = 2000,
    seed: int = 0,
    progress: bool = False,
) -> Path:
    """Write one page about the runs at or below the given folders, side by side, and return its path.

    The page is `out`, by default `report.html` in the folder of the run or the folder that all runs share. Raises
    InputError as `analyze` does, for more than eight runs and for runs given twice.
    """
    opened = [run for folder in runs for run in find_runs(folder)]
    folders = [run.folder.resolve() for run in opened]
    if len(set(folders)) < len(folders):
        raise InputError(f"runs: {next(str(one) for one in folders if folders.count(one) > 1)!r} is given twice")
    if len(opened) > _MOST_RUNS:
        raise InputError(
            f"runs: {len(opened)} given, a page compares at most {_MOST_RUNS}; `anchorlab phase` shows a whole sweep"
        )
    path = Path(out) if out is not None else Path(os.path.commonpath(folders)) / "report.html"
    check_writable(path)
    found = [_explained(run, only=None, samples=samples, seed=seed, progress=progress) for run in opened]
    options = [] if out is None else ["--out", str(out)]
    options += [part for name, value in (("samples", samples), ("seed", seed)) for part in (f"--{name}", str(value))]
    return write(found, path, command=shlex.join(["anchorlab", "report", *map(str, runs), *options]))


def _opened(folder: Path | str) -> Run:
    path = Path(folder)
    if not path.is_dir():
        raise InputError(
            f"run={str(folder)!r}: {'is a file' if path.exists() else 'no such folder'}; give a run's folder"
        )
    if not (path / "config.json").is_file():
        names = ", ".join(run.folder.relative_to(path).as_posix() for run in find_runs(path)[:_MOST_RUNS])
        raise InputError(f"run={str(folder)!r}: holds runs, and is none; give one of them: {names}")
    return Run.open(path)


def _explained(run: Run, *, only: Collection[str] | None, samples: int, seed: int, progress: bool) -> Explanation:
    try:
        version, _, status = run.config["schema_version"], run.metrics(), run.environment["status"]
        if version != SCHEMA_VERSION or not {"task", "seed"} <= set(run.config) or not isinstance(status, str):
            raise ValueError(f"config.json is not that of a run, schema version {SCHEMA_VERSION}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(run, error) from None
    return explain(run, only=only, samples=samples, seed=seed, progress=progress)


def _unreadable(run: Run, error: Exception) -> InputError:
    first_line = str(error).partition("\n")[0]
    return InputError(f"run={str(run.folder)!r}: a file is missing or cannot be read ({first_line})")


def _write(finding: Finding, folder: Path) -> None:
    """Write what there is, and remove what an earlier analysis left that there is not now."""
    table, figure = folder / f"{finding.field}.csv", folder / f"{finding.field}.png"
    if finding.table is None:
        table.unlink(missing_ok=True)
    else:
        with replacing(table) as temporary:
            finding.table.to_csv(temporary, index=False, float_format="%.6g")
    if finding.figure is None:
        figure.unlink(missing_ok=True)
    else:
        with replacing(figure) as temporary:
            write_png(finding.figure, temporary)
