"""The phase diagram over γ and λ (figures 13.5, 13.6): seeds make a cell, every other varied setting a panel."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import pandas as pd

from anchorlab.errors import InputError

from .run_collection import REPLICATES, RunCollection, Thresholds, phase_number
from .run_table import ranks, shown

RATE, DECAY = "initialization_rate", "weight_decay"
_SUMMARIZED = ("id_accuracy", "ood_accuracy", "commutativity", "best_id_accuracy", "best_ood_accuracy")


@dataclass(frozen=True)
class Panel:
    """One diagram over γ and λ: the other varied settings are fixed, as `label` says (empty if there are none)."""

    label: str
    cells: pd.DataFrame
    members: pd.DataFrame


@dataclass(frozen=True)
class PhaseGrid:
    """Runs put together by γ, λ and every other varied setting but the seeds.

    `cells` has one row for each combination that has a run: the columns of `facets`, weight_decay,
    initialization_rate; members (runs) and seeds (finished runs); over the finished runs the mean, smallest and largest
    id_accuracy, ood_accuracy, commutativity, best_id_accuracy and best_ood_accuracy (`…_mean`, `…_min`, `…_max`), where
    `best` is the largest of all evaluations of each run, and the others are of its last one; phase and best_phase, of
    the means; seed_phases (in the order of the seeds, as `2 2 3`); median_member (the run whose OOD accuracy is the
    median; of two in the middle the lower).
    """

    runs: RunCollection
    cells: pd.DataFrame
    facets: tuple[str, ...]

    @property
    def rates(self) -> list[float]:
        """All γ, ascending."""
        return sorted(set(self.cells[RATE]))

    @property
    def decays(self) -> list[float]:
        """All λ, ascending."""
        return sorted(set(self.cells[DECAY]))

    @property
    def panels(self) -> list[Panel]:
        """One panel for every combination of the other varied settings."""
        of_cells, of_members = self._labels(self.cells), self._labels(self.runs.members)
        return [
            Panel(label, self.cells[of_cells == label], self.runs.members[of_members == label])
            for label in dict.fromkeys(of_cells)
        ]

    def _labels(self, table: pd.DataFrame) -> "pd.Series[str]":
        parts = [facet.replace("_", " ") + " " + table[facet].map(shown) for facet in self.facets]
        return pd.Series([", ".join(row) for row in zip(*parts, strict=True)] if parts else "", table.index)

    @property
    def unfinished(self) -> pd.DataFrame:
        """The members that count nowhere: diverged, interrupted or not yet done."""
        return self.runs.members[self.runs.members["status"] != "finished"]


def phase_grid(runs: RunCollection) -> PhaseGrid:
    """Put finished runs together to cells.

    Raises InputError if a run has no γ, none has finished, one that has finished was not measured on unseen pairs, or
    two runs have the same settings.
    """
    _check(runs)
    facets = tuple(axis for axis in runs.axes if axis not in (RATE, DECAY, *REPLICATES))
    keys = [*facets, DECAY, RATE]
    groups = runs.members.groupby(keys, dropna=False, sort=False)
    rows = [
        dict(zip(keys, key, strict=True)) | _cell(members, seed_columns(runs), runs.thresholds)
        for key, members in groups
    ]
    cells = pd.DataFrame(rows).astype({"phase": "Int64", "best_phase": "Int64"})
    return PhaseGrid(runs, cells.sort_values(keys, key=ranks, ignore_index=True), facets)


def seed_columns(runs: RunCollection) -> list[str]:
    """The columns of `members` that tell apart the seeds of a cell."""
    return [name for name in REPLICATES if name in runs.axes] or ["seed"]


def _check(runs: RunCollection) -> None:
    members, folder = runs.members, f"folder={str(runs.folder)!r}"
    finished = members[members["status"] == "finished"]
    for name in members.loc[members[RATE].isna(), "member"][:1]:
        raise InputError(f"{folder}: the run {name!r} has no initialization rate; a phase diagram is drawn over it")
    if finished.empty:
        counts = ", ".join(f"{count} {status}" for status, count in members["status"].value_counts().items())
        raise InputError(f"{folder}: none of its runs has finished ({counts}); a phase diagram needs finished runs")
    for name in finished.loc[finished[["id_accuracy", "ood_accuracy"]].isna().any(axis=1), "member"][:1]:
        raise InputError(
            f"{folder}: the run {name!r} has no accuracy on seen and on unseen anchor pairs (test and ood); a phase "
            "diagram needs runs of a task that keeps anchor pairs out of training, such as composite"
        )
    seen: dict[tuple[str, ...], str] = {}
    for name, *settings in members[["member", *runs.axes]].astype(str).itertuples(index=False):
        if (first := seen.setdefault(tuple(settings), name)) != name:
            raise InputError(f"{folder}: the runs {first!r} and {name!r} have the same settings; remove one")


def _cell(members: pd.DataFrame, seeds: list[str], limits: Thresholds) -> dict[str, Any]:
    finished = members[members["status"] == "finished"].sort_values(seeds)
    cell: dict[str, Any] = {"members": len(members), "seeds": len(finished)}
    for name in _SUMMARIZED:
        values = finished[name].dropna().tolist()
        for summary, function in (("mean", _mean), ("min", min), ("max", max)):
            cell[f"{name}_{summary}"] = function(values) if values else float("nan")
    return cell | {
        "phase": phase_number(cell["id_accuracy_mean"], cell["ood_accuracy_mean"], limits),
        "best_phase": phase_number(cell["best_id_accuracy_mean"], cell["best_ood_accuracy_mean"], limits),
        "seed_phases": " ".join(str(number) for number in finished["phase"]),
        "median_member": _median_member(finished),
    }


def _mean(values: Sequence[float]) -> float:
    return round(fmean(values), 12)  # 0.7, 0.8 and 0.9 reach a threshold of 0.8


def _median_member(finished: pd.DataFrame) -> str | None:
    ordered: Sequence[str] = finished.sort_values("ood_accuracy", kind="stable")["member"].tolist()
    return ordered[(len(ordered) - 1) // 2] if ordered else None
