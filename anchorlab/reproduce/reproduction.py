"""A row of the catalogue: settings at several scales, what is measured, the claim, and the figure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from anchorlab.errors import InputError

from .claims import Claim, Value
from .study import Study

SCALES = ("smoke", "laptop", "paper")
"""Seconds on any machine, minutes on two cores, and the source's own numbers."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a measurement found: the values that decide the claim, and the tables that the figure is drawn from."""

    values: Sequence[Value]
    tables: Mapping[str, pd.DataFrame]


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """One result of the literature, made again.

    - `id`: the name of the source's figure or table, such as `fig12.13`;
    - `title`: a short headline; `source`: section, figure, paper;
    - `scales`: for each of `SCALES` that is defined, all settings of the measurement; `seeds` is the number of trials;
    - `measure`: from a study at one scale to values and tables;
    - `figure`: the source's figure from the tables alone;
    - `notes`: how the laptop scale differs from the source and, where the claim does not hold, what was tried.
    """

    id: str
    title: str
    source: str
    claim: Claim
    scales: Mapping[str, Mapping[str, Any]]
    measure: Callable[[Study], Measured]
    figure: Callable[[Mapping[str, pd.DataFrame]], Figure]
    notes: str = ""

    def settings(self, scale: str) -> Mapping[str, Any]:
        """All settings at a scale; raises InputError for one that is not defined."""
        if scale not in self.scales:
            raise InputError(f"scale={scale!r}: {self.id} has no such scale; it has {', '.join(self.scales)}")
        return self.scales[scale]
