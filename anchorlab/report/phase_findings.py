"""What a phase diagram shows, in sentences with the numbers: captions, alternative texts, the page's introduction."""

from collections.abc import Sequence
from itertools import groupby

import pandas as pd

from anchorlab.analysis import PhaseGrid
from anchorlab.analysis.phase_grid import RATE

_MOST_LISTED = 6


def about_networks(grid: PhaseGrid) -> str:
    """How many networks, on what, and over which γ and λ."""
    shared, members = grid.runs.shared, grid.runs.members
    what = f" of the model {shared['model']}" if "model" in shared else ""
    task = f" on the task “{shared['task']}”" if shared.get("task") else ""
    rates, decays = _values("γ", grid.rates), _values("λ", grid.decays)
    return f"{len(members)} networks{what} were trained{task} with {rates} and {decays}."


def _values(symbol: str, values: Sequence[float]) -> str:
    if len(values) > _MOST_LISTED:
        return f"{len(values)} values of {symbol} from {values[0]:g} to {values[-1]:g}"
    return f"{symbol} {', '.join(f'{value:g}' for value in values)}"


def about_seeds(grid: PhaseGrid) -> str:
    """How many finished runs each cell has."""
    low, high = grid.cells["seeds"].min(), grid.cells["seeds"].max()
    if low == high:
        return f"Every cell is the mean of {high} seeds." if high > 1 else "Every cell is one network, of one seed."
    return f"A cell is the mean of {low} to {high} seeds; how many, the map and the table below say for each."


def about_evaluation(grid: PhaseGrid) -> str:
    """Which evaluation the numbers are from, and how many networks stopped before their last step."""
    members = grid.runs.members
    finished = members[members["status"] == "finished"]
    first, last = int(finished["evaluated_step"].min()), int(finished["evaluated_step"].max())
    which = f"step {last:,}" if first == last else f"steps {first:,} to {last:,}"
    text = f"All values are those of each network's last evaluation ({which}) unless they are called best."
    early = int((finished["step"] < finished["total_steps"]).sum())
    if not early:
        return text
    return f"{text} {early} network{'s' if early > 1 else ''} met a stopping rule and ended before the last step."


def about_thresholds(grid: PhaseGrid) -> str:
    """What the phases are."""
    limits = grid.runs.thresholds
    return (
        f"Phase 1: mean accuracy on seen pairs (ID) below {limits.id:g}. Phase 2: at least that, but below "
        f"{limits.ood:g} on unseen pairs (OOD). Phase 3: both reached."
    )


def about_map(grid: PhaseGrid) -> str:
    """How many cells are in which phase, and which marks there are."""
    known = grid.cells[grid.cells["seeds"] > 0]
    limits = grid.runs.thresholds
    counts = [f"{(known['phase'] == number).sum()} in phase {number}" for number in (1, 2, 3)]
    text = f"Of {len(known)} cells {counts[0]}, {counts[1]} and {counts[2]}."
    measured = known["commutativity_mean"].dropna()
    if measured.empty:
        return f"{text} Commutativity was not measured."
    return f"{text} Commutativity is below {limits.commutativity:g} in {(measured < limits.commutativity).sum()}."


def about_slice(cells: pd.DataFrame) -> str:
    """The phases along γ, and the best mean OOD accuracy."""
    known = cells[cells["seeds"] > 0].sort_values(RATE)
    if known.empty:
        return "No network has finished here."
    parts, phases = [], known["phase"].tolist()
    for number, places in groupby(range(len(phases)), key=phases.__getitem__):
        span = list(places)
        first, last = known[RATE].iloc[span[0]], known[RATE].iloc[span[-1]]
        where = f"at γ {first:g}" if first == last else f"from γ {first:g} to {last:g}"
        parts.append(f"phase {number} {where}")
    top = known.iloc[int(known["ood_accuracy_mean"].to_numpy(float).argmax())]
    low, high = f"{top['ood_accuracy_min']:.3f}", f"{top['ood_accuracy_max']:.3f}"
    seeds = "" if low == high else f" (seeds from {low} to {high})"
    largest = f"The largest mean OOD accuracy is {top['ood_accuracy_mean']:.3f}, at γ {top[RATE]:g}{seeds}."
    text = f"{'; '.join(parts)}. {largest}"
    return text[0].upper() + text[1:]
