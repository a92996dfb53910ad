"""The phase map as a table of links: one cell for every γ and λ, in it one mark for every seed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from anchorlab.analysis import Panel, PhaseGrid
from anchorlab.analysis.phase_grid import DECAY, RATE, seed_columns
from anchorlab.analysis.run_table import row_dicts

from .phase_figures import ood_colours


@dataclass(frozen=True)
class Mark:
    """One network of a cell: what it is, its report if there is one, and its colours (none unless it has finished)."""

    description: str
    href: str | None
    fill: str = ""
    ink: str = ""


@dataclass(frozen=True)
class Cell:
    """A place of the map; `text` is empty if no network was trained there."""

    text: str = ""
    phase: str = ""
    description: str = ""
    href: str | None = None
    fill: str = ""
    ink: str = ""
    poor_id: bool = False
    poor_commutativity: bool = False
    marks: tuple[Mark, ...] = ()


def map_rows(grid: PhaseGrid, panel: Panel, reports: Mapping[str, str]) -> list[tuple[str, list[Cell]]]:
    """One row for every λ, the largest first: its name and a cell for every γ. `reports` has the links by member."""
    of_member = dict(iter(panel.members.groupby([DECAY, RATE])))
    of_cell = {(cell[DECAY], cell[RATE]): cell for cell in row_dicts(panel.cells)}
    return [
        (
            f"{decay:g}",
            [
                _cell(grid, of_cell[decay, rate], of_member[decay, rate], reports)
                if (decay, rate) in of_cell
                else Cell()
                for rate in grid.rates
            ],
        )
        for decay in reversed(grid.decays)
    ]


def _cell(grid: PhaseGrid, cell: Mapping[str, Any], members: pd.DataFrame, reports: Mapping[str, str]) -> Cell:
    seeds = seed_columns(grid.runs)
    marks = tuple(_mark(member, seeds, reports) for member in row_dicts(members.sort_values(seeds)))
    where = f"γ {cell[RATE]:g}, λ {cell[DECAY]:g}"
    if not cell["seeds"]:
        return Cell(text="–", description=f"{where}: none of {cell['members']} networks has finished", marks=marks)
    limits = grid.runs.thresholds
    fill, ink = ood_colours(cell["ood_accuracy_mean"])
    commutes = cell["commutativity_mean"]
    parts = [f"OOD {_spread(cell, 'ood_accuracy')}", f"ID {_spread(cell, 'id_accuracy')}"]
    parts += [] if pd.isna(commutes) else [f"commutativity {_spread(cell, 'commutativity')}"]
    parts += [f"phase {cell['phase']}", _seed_count(cell)]
    return Cell(
        text=f"{cell['ood_accuracy_mean']:.2f}",
        phase=f"phase {cell['phase']}",
        description=f"{where}: {', '.join(parts)}",
        href=reports.get(cell["median_member"]),
        fill=fill,
        ink=ink,
        poor_id=cell["id_accuracy_mean"] < limits.id,
        poor_commutativity=commutes < limits.commutativity,
        marks=marks,
    )


def _spread(cell: Mapping[str, Any], name: str) -> str:
    mean, low, high = (f"{cell[f'{name}_{part}']:.3f}" for part in ("mean", "min", "max"))
    return mean if low == high else f"{mean} ({low} to {high})"


def _seed_count(cell: Mapping[str, Any]) -> str:
    seeds = f"{cell['seeds']} seed{'' if cell['seeds'] == 1 else 's'}"
    return seeds if cell["seeds"] == cell["members"] else f"{seeds} of {cell['members']} finished"


def _mark(member: Mapping[str, Any], seeds: list[str], reports: Mapping[str, str]) -> Mark:
    name = ", ".join(f"{seed.replace('_', ' ')} {member[seed]}" for seed in seeds)
    if member["status"] != "finished":
        return Mark(f"{name}: {member['status']}", None)
    fill, ink = ood_colours(member["ood_accuracy"])
    scores = f"OOD {member['ood_accuracy']:.3f}, ID {member['id_accuracy']:.3f}, phase {member['phase']}"
    return Mark(f"{name}: {scores}", reports.get(member["member"]), fill, ink)
