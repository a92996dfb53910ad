"""The phase diagram of a folder of runs: page, figure and table, with a report on every network."""

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from anchorlab.analysis import PhaseGrid, Thresholds, collect_runs, explain, phase_grid
from anchorlab.analysis.phase_grid import DECAY, RATE
from anchorlab.analysis.run_table import row_dicts
from anchorlab.engine import Monitor, Progress, Run, train_in_processes
from anchorlab.errors import InputError
from anchorlab.files import replacing
from anchorlab.report import phase_map, write, write_phase_page

_DPI = 170


@dataclass(frozen=True)
class PhaseDiagram:
    """The tables behind a phase diagram (`grid.cells`, `grid.runs.members`) and the files that show it."""

    grid: PhaseGrid
    page: Path
    figure: Path
    table: Path

    def text(self) -> str:
        """The phase of every cell, γ across and λ upwards, with the thresholds; one block for each panel."""
        limits = self.grid.runs.thresholds
        lines = [
            f"phases by mean accuracy (ID limit {limits.id:g}, OOD limit {limits.ood:g}); γ across, λ upwards; "
            f"▲ commutativity < {limits.commutativity:g}; - not finished"
        ]
        for panel in self.grid.panels:
            lines += [*([panel.label] if panel.label else []), *_text_map(panel.cells, self.grid)]
        return "\n".join([*lines, self._counts()])

    def _counts(self) -> str:
        counts = self.grid.runs.members["status"].value_counts()
        low, high = self.grid.cells["seeds"].min(), self.grid.cells["seeds"].max()
        seeds = f"{high}" if low == high else f"{low} to {high}"
        statuses = ", ".join(f"{count} {status}" for status, count in counts.items())
        return f"{counts.sum()} networks: {statuses}; finished seeds in a cell: {seeds}"


def phase_diagram(
    folder: Path | str,
    *,
    id_threshold: float = 0.9,
    ood_threshold: float = 0.9,
    commutativity_threshold: float = 0.7,
    reports: bool = True,
    progress: bool | None = None,
) -> PhaseDiagram:
    """Write `phase.html`, `phase.png` and `phase.csv` into `folder` from all runs at or below it.

    The map is that of figure 13.6, the slices those of figure 13.5. With `reports`, every finished run that has no
    report newer than itself gets a `report.html`, which the page links; `progress` shows a bar on standard error
    meanwhile (default: a bar if that is a terminal, else one line). Raises InputError for a threshold outside 0..1 and
    for a folder without runs, whose runs have no γ, no accuracy on unseen pairs or the same settings twice, or of which
    none has finished.
    """
    thresholds = Thresholds(id_threshold, ood_threshold, commutativity_threshold)
    grid = phase_grid(collect_runs(folder, thresholds))
    root, finished = Path(folder), grid.runs.members[grid.runs.members["status"] == "finished"]
    if reports:
        _write_reports([path for path in map(Path, finished["folder"]) if _lacks_report(path)], progress)
    diagram = PhaseDiagram(grid, root / "phase.html", root / "phase.png", root / "phase.csv")
    links = {
        member: f"./{quote((Path(path).relative_to(root) / 'report.html').as_posix())}"
        for member, path in zip(finished["member"], finished["folder"], strict=True)
        if (Path(path) / "report.html").is_file()
    }
    try:
        _write_files(diagram, links, _command(root, thresholds))
    except PermissionError:
        raise InputError(f"folder={str(folder)!r}: phase.html cannot be written there") from None
    return diagram


def _write_files(diagram: PhaseDiagram, links: dict[str, str], command: str) -> None:
    with replacing(diagram.table) as temporary:
        diagram.grid.cells.to_csv(temporary, index=False, float_format="%.6g")
    with replacing(diagram.figure) as temporary:
        phase_map(diagram.grid).savefig(temporary, format="png", dpi=_DPI, metadata={"Software": None})
    write_phase_page(diagram.grid, diagram.page, reports=links, command=command)


def _command(root: Path, limits: Thresholds) -> str:
    given = {
        f"--{name}-threshold": value for name, value in vars(limits).items() if value != getattr(Thresholds(), name)
    }
    options = [part for name, value in given.items() for part in (name, f"{value:g}")]
    return shlex.join(["anchorlab", "phase", str(root), *options])


def _lacks_report(folder: Path) -> bool:
    report = folder / "report.html"
    if not (folder / "model").is_dir():
        return False
    return not report.is_file() or report.stat().st_mtime < (folder / "environment.json").stat().st_mtime


def _write_reports(folders: Sequence[Path], progress: bool | None) -> None:
    with _bar(len(folders), progress) as monitor:
        train_in_processes(_write_report, folders, monitor=monitor)


def _write_report(folder: Path, monitor: Monitor) -> None:
    if monitor.should_stop():
        return
    run = Run.open(folder)
    write([explain(run)], folder / "report.html")
    monitor.report(Progress(run.name, 1, 1, float("nan"), {}, "finished"))


@contextmanager
def _bar(total: int, enabled: bool | None) -> Iterator[Monitor]:
    console = Console(stderr=True)
    shown = bool(total) and (console.is_terminal if enabled is None else enabled)
    columns = TextColumn("reports"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    if total and not shown and enabled is None:
        print(f"making {total} report{'s' if total > 1 else ''}", file=sys.stderr)
    with Bars(*columns, console=console, disable=not shown) as bars:
        task = bars.add_task("reports", total=total)
        yield Monitor(lambda progress: bars.advance(task))


def _text_map(cells: pd.DataFrame, grid: PhaseGrid) -> list[str]:
    limit = grid.runs.thresholds.commutativity
    marks = {(cell[DECAY], cell[RATE]): _text_mark(cell, limit) for cell in row_dicts(cells)}
    rates, decays = [f"{rate:g}" for rate in grid.rates], [f"{decay:g}" for decay in grid.decays]
    left, width = max(map(len, decays)), max(3, *map(len, rates))
    lines = [
        " ".join([f"{decay:>{left}} ", *(f"{marks.get((value, rate), ''):<{width}}" for rate in grid.rates)]).rstrip()
        for decay, value in zip(reversed(decays), reversed(grid.decays), strict=True)
    ]
    return [" ".join([f"{'λ':>{left}} ", *(f"{rate:<{width}}" for rate in rates)]).rstrip(), *lines]


def _text_mark(cell: dict[str, Any], limit: float) -> str:
    if not cell["seeds"]:
        return "-"
    return f"{cell['phase']}{'▲' if cell['commutativity_mean'] < limit else ''}"
