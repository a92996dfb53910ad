"""A sweep as a plane: the two settings that it is drawn over, and which members fall into which cell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .axes import SEEDS, identity, setting, value_text, varied
from .experiment import Experiment

_SYMBOLS = {"initialization_rate": "γ", "weight_decay": "λ"}


@dataclass(frozen=True)
class Plane:
    """Two varied fields, the values of both as texts, and the names of the members in each cell (row, column)."""

    columns: str
    rows: str
    column_texts: tuple[str, ...]
    row_texts: tuple[str, ...]
    members: Mapping[tuple[int, int], tuple[str, ...]]

    @property
    def title(self) -> str:
        """What lies where: `γ across, λ down`."""
        return f"{_SYMBOLS.get(self.columns, self.columns)} across, {_SYMBOLS.get(self.rows, self.rows)} down"


def plane(experiments: Mapping[str, Experiment]) -> Plane | None:
    """The plane to draw a sweep over: γ and λ if both vary, else the two fields with the most values, seeds last.

    None if fewer than two fields vary.
    """
    axes = varied(list(experiments.values()))
    fields = _fields(axes)
    if fields is None:
        return None
    columns, rows = fields
    places = {field: {identity(value): place for place, value in enumerate(axes[field])} for field in fields}
    members: dict[tuple[int, int], tuple[str, ...]] = {}
    for name, experiment in experiments.items():
        row, column = (places[field][identity(setting(experiment, field))] for field in (rows, columns))
        members[row, column] = (*members.get((row, column), ()), name)
    return Plane(columns, rows, tuple(map(value_text, axes[columns])), tuple(map(value_text, axes[rows])), members)


def _fields(axes: Mapping[str, Sequence[Any]]) -> tuple[str, str] | None:
    if {"initialization_rate", "weight_decay"} <= axes.keys():
        return "initialization_rate", "weight_decay"
    ordered = sorted(axes, key=lambda field: (field in SEEDS, -len(axes[field])))
    return (ordered[0], ordered[1]) if len(ordered) > 1 else None
