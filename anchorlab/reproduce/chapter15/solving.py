"""Solving equations in a study: run folders of its own, and times that are counted as training."""

import math
import time
from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from anchorlab import pde
from anchorlab.pde.networks import stage_runs
from anchorlab.report.panels import COLOURS, MARKERS
from anchorlab.report.style import SMALL, finish

from ..study import Study


def solved(
    study: Study, name: str, problem: pde.PDE, method: str, seeds: Sequence[int] | None = None, **settings: Any
) -> list[pde.Solution]:
    """A problem solved from all seeds of the study, or these; finished runs are not repeated."""
    known = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
    began = time.perf_counter()
    found = pde.solve_seeds(
        problem,
        method,
        out=study.folder / name,
        seeds=list(study.seeds if seeds is None else seeds),
        progress=study.progress,
        figures=False,
        **known,
    )
    study.training_seconds += time.perf_counter() - began
    # With L-BFGS after Adam most of the time may be that of earlier stages.
    study.trained.extend(run for one in found if one.folder is not None for run in stage_runs(one.folder))
    return found


def final_error(one: pde.Solution, *, diverged: float = math.inf) -> float:
    """The last relative L2 error; `diverged`, which must not meet the condition, of a training that diverged."""
    return diverged if one.status == "diverged" else one.final["relative_l2"]


def histories(found: dict[str, list[pde.Solution]]) -> pd.DataFrame:
    """The errors of all solutions over steps and seconds: columns case, seed, step, seconds, relative_l2, max_error."""
    wanted = ["step", "seconds", "relative_l2", "max_error"]
    return pd.concat(
        [
            one.history[wanted].assign(case=case, seed=seed)
            for case, solutions in found.items()
            for seed, one in enumerate(solutions)
        ],
        ignore_index=True,
    )


def draw_errors(axes: Axes, table: pd.DataFrame, *, x: str = "seconds", y: str = "relative_l2") -> None:
    """Every seed's error over time, one colour for every case; a point where a method has no history."""
    for place, (case, rows) in enumerate(table.groupby("case", sort=False)):
        colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
        for number, (_, line) in enumerate(rows.groupby("seed")):
            label = str(case) if number == 0 else None
            style = {"marker": marker, "linestyle": ""} if len(line) == 1 else {"linewidth": 1.5}
            axes.plot(line[x], line[y], color=colour, label=label, **style)
    axes.set_yscale("log")
    axes.legend(fontsize=SMALL, frameon=False)
    names = {"relative_l2": "relative L2 error", "max_error": "largest error"}
    finish(axes, x=x, y=names[y])
