"""Three phases over initialization rate γ and weight decay λ (figures 13.5 and 13.6)."""

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anchorlab.analysis import RunCollection, phase_grid
from anchorlab.analysis.run_collection import phase_number
from anchorlab.report.panels import banded_lines
from anchorlab.report.phase_figures import PHASE_COLOURS, phase_map
from anchorlab.report.style import BLUE, GREEN, GREY, SMALL, VERMILLION, finish, new_figure

from ..claims import Claim, Condition, Value
from ..reproduction import Measured, Reproduction
from ..study import Study
from .composite_runs import LAPTOP, LAPTOP_SIZE, LIMITS, PAPER_DEEP, SMOKE, by_seed, score_table, train_places

_CURVES = {
    "id_accuracy": ("seen pairs (ID)", BLUE),
    "ood_accuracy": ("unseen pairs (OOD)", VERMILLION),
    "commutativity": ("commutativity on unseen pairs", GREEN),
}
_RISE = 0.05
"""Three standard errors of the difference of two mean accuracies over three places or more, of 1000 rows each."""


def phase_values(table: pd.DataFrame) -> list[Value]:
    """What figure 13.5 says, for every seed of a table with a row for every γ (columns of `score_table`).

    Phase 2 is looked for below the first γ of phase 3; commutativity is that of its networks with the smallest and the
    largest γ, NaN if there are not two.
    """
    found = []
    for seed, rows in by_seed(table.sort_values("initialization_rate")):
        reasoning = rows.loc[rows["phase"] == 3, "initialization_rate"]
        below = rows["initialization_rate"] < (reasoning.min() if len(reasoning) else np.inf)
        memorising = rows[below & (rows["phase"] == 2)]
        commutes = memorising["commutativity"].tolist() if len(memorising) > 1 else [np.nan]
        best = rows[["id_accuracy", "ood_accuracy"]].max(axis=1)
        found += [
            Value(seed, name, float(value))
            for name, value in {
                "largest weights": best.iloc[0],
                "smallest weights": best.iloc[-1],
                "phase 2": len(memorising),
                "phase 3 after 2": (reasoning > memorising["initialization_rate"].min()).sum(),
                "commutativity at small rate": commutes[0],
                "commutativity at large rate": commutes[-1],
            }.items()
        ]
    return found


def growth_values(table: pd.DataFrame) -> list[Value]:
    """How much the OOD accuracy grows from the smallest to the largest γ, and λ, on the average over the other one."""
    found = []
    for seed, rows in by_seed(table):
        grid = rows.pivot(index="weight_decay", columns="initialization_rate", values="ood_accuracy").to_numpy()
        found.append(Value(seed, "growth with rate", float((grid[:, -1] - grid[:, 0]).mean())))
        found.append(Value(seed, "growth with decay", float((grid[-1] - grid[0]).mean())))
    return found


def _measure_phases(study: Study) -> Measured:
    runs = train_places(study, [(rate, study.settings["weight_decay"]) for rate in study.settings["rates"]])
    table = score_table(runs)
    return Measured(values=phase_values(table), tables={"networks": table})


def _measure_map(study: Study) -> Measured:
    runs = train_places(study, product(study.settings["rates"], study.settings["weight_decays"]))
    table = score_table(runs)
    return Measured(values=growth_values(table), tables={"networks": table})


def _phase_figure(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Accuracies and commutativity over γ (evenly spaced), the phase of their means behind them."""
    table = tables["networks"]
    rates = sorted(table["initialization_rate"].unique())
    table = table.assign(place=table["initialization_rate"].map(rates.index))
    figure = new_figure(6.4, 3.6)
    axes = figure.subplots()
    _draw_phases(axes, table, range(len(rates)))
    curves = table.melt(id_vars="place", value_vars=list(_CURVES), var_name="curve")
    names, colours = ({key: one[part] for key, one in _CURVES.items()} for part in (0, 1))
    banded_lines(axes, curves, x="place", y="value", by="curve", colours=colours, names=names)
    for limit in (LIMITS.id, LIMITS.commutativity):
        axes.axhline(limit, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates])
    axes.set_ylim(-0.03, 1.03)
    finish(axes, x="initialization rate γ", y="accuracy, commutativity")
    figure.legend(loc="outside upper center", ncols=3, fontsize=SMALL, frameon=False)
    return figure


def _draw_phases(axes: Axes, table: pd.DataFrame, places: range) -> None:
    for place in places:
        rows = table[table["place"] == place]
        number = phase_number(rows["id_accuracy"].mean(), rows["ood_accuracy"].mean(), LIMITS)
        if number:
            axes.axvspan(place - 0.5, place + 0.5, color=PHASE_COLOURS[number], linewidth=0, zorder=0)
            axes.text(place, 1.04, f"phase {number}", ha="center", va="bottom", fontsize=SMALL)
    axes.set_xlim(-0.5, len(places) - 0.5)


def _map_figure(tables: Mapping[str, pd.DataFrame]) -> Figure:
    members = tables["networks"].copy()
    members["member"] = [f"network {number}" for number in range(len(members))]
    members["status"] = "finished"
    for name in ("id_accuracy", "ood_accuracy"):
        members[f"best_{name}"] = members[name]
    axes = ("initialization_rate", "weight_decay", "seed")
    return phase_map(phase_grid(RunCollection(Path(), members, axes, {}, LIMITS)))


def _condition(quantity: str, text: str, **limits: Any) -> Condition:
    return Condition(quantity=quantity, text=text, **limits)


REPRODUCTIONS = (
    Reproduction(
        id="fig13.5",
        title="Three phases over the initialization rate",
        source="section 13.3, figure 13.5; arXiv 2501.08537",
        claim=Claim(
            text=(
                "At λ = 0.01 networks fall into three phases over γ: poor ID and OOD accuracy at very large and very "
                "small initial weights, good ID with poor OOD accuracy between, then both good; inside phase 2 "
                "exchanging the unseen anchors changes the answer at small γ and not at larger γ."
            ),
            conditions=(
                _condition("largest weights", "better of ID and OOD accuracy at the smallest γ", at_most=LIMITS.id),
                _condition("smallest weights", "better of ID and OOD accuracy at the largest γ", at_most=LIMITS.id),
                _condition("phase 2", "γ with good ID and poor OOD accuracy, below phase 3", at_least=1),
                _condition("phase 3 after 2", "γ with both good, above the first of phase 2", at_least=1),
                _condition(
                    "commutativity at small rate",
                    "commutativity at the smallest γ of phase 2",
                    at_most=LIMITS.commutativity,
                    source="poor: < 70 %",
                ),
                _condition(
                    "commutativity at large rate",
                    "commutativity at the largest γ of phase 2",
                    at_least=LIMITS.commutativity,
                    source="good: ≥ 70 %",
                ),
            ),
        ),
        scales={
            "smoke": {"seeds": 1, "rates": [0.2, 0.6], "weight_decay": 0.01, "training": SMOKE},
            "laptop": {
                "seeds": 3,
                "rates": [0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 3.0],
                "weight_decay": 0.01,
                "training": LAPTOP,
            },
            "paper": {
                "seeds": 3,
                "rates": [0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.9, 1.0],
                "weight_decay": 0.01,
                "training": PAPER_DEEP,
            },
        },
        measure=_measure_phases,
        figure=_phase_figure,
        notes=(
            f"{LAPTOP_SIZE} Phases 1, 2 and 3 follow each other over γ, but two things are missing. (1) With three "
            "anchors a network that answers both orders of a pair alike answers the unseen pair, which does what "
            "(b, b) does, right as well: commutativity rises with γ inside phase 2, to 0.55 and 0.58 at γ = 0.5, and "
            "at γ = 0.55 all three networks are in phase 3. The commuting phase 2 is there, in the same network, with "
            "the book's four anchors: commutativity 0.95 and 0.97 with OOD accuracy 0.80 and 0.00 (γ = 0.6, two "
            "trials), but no phase 3 (OOD at most 0.84 for γ = 0.4 to 0.7). Both are there with six anchors (the "
            "book's, x + 3 and x - 5): in three trials commutativity is 0.74, 0.86 and 0.88 in phase 2 (γ = 0.35 and "
            "0.4), but one of them commutes at γ = 0.3 already (0.52, 0.66, 0.83). (2) Two layers learn from the "
            "smallest weights too, some trials slowly; three and four layers learn nothing at γ = 4 (six anchors, ID "
            "accuracy 0.01, one trial each). No setting was found in which all of it holds in every trial."
        ),
    ),
    Reproduction(
        id="fig13.6",
        title="OOD accuracy over initialization rate and weight decay",
        source="section 13.3, figure 13.6; arXiv 2501.08537",
        claim=Claim(
            text="The OOD accuracy, mean of three trials, grows with γ and with λ.",
            conditions=(
                _condition(
                    "growth with rate", "OOD accuracy at the largest γ less that at the smallest", at_least=_RISE
                ),
                _condition(
                    "growth with decay", "OOD accuracy at the largest λ less that at the smallest", at_least=_RISE
                ),
            ),
        ),
        scales={
            "smoke": {"seeds": 1, "rates": [0.2, 0.6], "weight_decays": [0.01, 1.0], "training": SMOKE},
            "laptop": {
                "seeds": 3,
                "rates": [0.3, 0.5, 0.6, 0.8],
                "weight_decays": [0.01, 0.1, 1.0],
                "training": LAPTOP,
            },
            "paper": {
                "seeds": 3,
                "rates": [0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8],
                "weight_decays": [0.0, 0.01, 0.1, 1.0],
                "training": PAPER_DEEP,
            },
        },
        measure=_measure_map,
        figure=_map_figure,
        notes=(
            f"{LAPTOP_SIZE} The source has GPT-2 with ten layers and the book's four anchors. Between γ = 0.7 and 0.9 "
            "trials disagree where decay is small, so that the mean there is no network's value."
        ),
    ),
)
