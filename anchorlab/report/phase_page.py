"""The phase diagram as one HTML page: its cells open the members' reports. No outside address, no script."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from anchorlab.analysis import Panel, PhaseGrid
from anchorlab.analysis.phase_grid import DECAY, RATE
from anchorlab.analysis.run_table import row_dicts, shown
from anchorlab.files import replacing

from . import phase_findings as findings
from .downloads import csv_uri
from .phase_cells import Cell, map_rows
from .phase_figures import rate_slice, scale_colours
from .style import encode
from .summary import RATE_MEANINGS
from .templates import render_template, resource

_SCALE_STEPS = 9


@dataclass(frozen=True)
class Map:
    """The map of one panel: its label and its rows, the largest λ first."""

    label: str
    rows: list[tuple[str, list[Cell]]]


@dataclass(frozen=True)
class Slice:
    """The figure of one λ of one panel with its caption."""

    title: str
    image: str
    finding: str


def write_phase_page(
    grid: PhaseGrid, path: Path, *, reports: Mapping[str, str] | None = None, command: str = ""
) -> Path:
    """Write the page on a phase diagram to `path`, whole or not at all, and return the path.

    `reports` gives for each member that has a report its address relative to the page; the others are not linked.
    `command` repeats the page.
    """
    page = render_phase_page(grid, reports=reports or {}, command=command)
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def render_phase_page(grid: PhaseGrid, *, reports: Mapping[str, str], command: str = "") -> str:
    """The page as text."""
    task, model = grid.runs.shared.get("task"), grid.runs.shared.get("model")
    return render_template(
        "phase.html",
        title=f"Phase diagram{f' of {model}' if model else ''}{f' on the {task} task' if task else ''}",
        style=resource("page.css") + resource("phase.css"),
        about={
            "networks": findings.about_networks(grid),
            "seeds": findings.about_seeds(grid),
            "evaluation": findings.about_evaluation(grid),
            "thresholds": findings.about_thresholds(grid),
            "map": findings.about_map(grid),
            "rate": RATE_MEANINGS.get(grid.runs.shared.get("initialization_rule", ""), ""),
        },
        limits=grid.runs.thresholds,
        commutes=bool(grid.cells["commutativity_mean"].notna().any()),
        linked=bool(reports),
        rates=[f"{rate:g}" for rate in grid.rates],
        maps=[Map(panel.label, map_rows(grid, panel, reports)) for panel in grid.panels],
        scale=", ".join(scale_colours(_SCALE_STEPS)),
        slices=[drawn for panel in grid.panels for drawn in _slices(grid, panel)],
        facets=[facet.replace("_", " ") for facet in grid.facets],
        values=[_value_row(grid, cell) for cell in row_dicts(grid.cells)],
        data=csv_uri(grid.cells),
        unfinished=[_unfinished_row(member) for member in row_dicts(grid.unfinished)],
        shared=[(name, shown(value)) for name, value in grid.runs.shared.items() if value not in (None, "")],
        command=command,
    )


def _slices(grid: PhaseGrid, panel: Panel) -> list[Slice]:
    drawn = []
    for decay, cells in panel.cells.groupby(DECAY):
        title = f"λ {decay:g}"
        image = encode(rate_slice(cells, grid.runs.thresholds))
        drawn.append(Slice(", ".join(filter(None, (title, panel.label))), image, findings.about_slice(cells)))
    return drawn


def _value_row(grid: PhaseGrid, cell: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """What the cell is, and its numbers: final value, then best over training, for ID and for OOD."""
    names = [shown(cell[name]) for name in (*grid.facets, DECAY, RATE)]
    count = f"{cell['seeds']}" if cell["seeds"] == cell["members"] else f"{cell['seeds']} of {cell['members']}"
    numbers = [_with_range(cell, f"{best}{split}_accuracy") for split in ("id", "ood") for best in ("", "best_")]
    phases = [shown(cell["phase"]), shown(cell["best_phase"]), cell["seed_phases"] or "–"]
    return names, [count, *numbers, _with_range(cell, "commutativity"), *phases]


def _with_range(cell: Mapping[str, Any], name: str) -> str:
    mean, low, high = (cell[f"{name}_{part}"] for part in ("mean", "min", "max"))
    if pd.isna(mean):
        return "–"
    return f"{mean:.3f}" if low == high else f"{mean:.3f} ({low:.2f}–{high:.2f})"


def _unfinished_row(member: Mapping[str, Any]) -> list[str]:
    step, total = (f"{int(member[name]):,}" if pd.notna(member[name]) else "–" for name in ("step", "total_steps"))
    reason = "" if pd.isna(member["reason"]) else str(member["reason"])
    return [member["member"], member["status"], f"{step} of {total}", reason]
