"""Deduction at two complexities and several data sizes (figure 13.16)."""

import math
from collections.abc import Mapping
from itertools import product
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from anchorlab import corpora
from anchorlab.corpora.deduction import Ontology
from anchorlab.engine import Run
from anchorlab.experiments.experiment import Experiment
from anchorlab.report.panels import banded_lines
from anchorlab.report.style import BLUE, ORANGE, TEXT, finish, new_figure

from ..claims import Claim, Condition, Value
from ..reproduction import Measured, Reproduction
from ..study import Study

_COLOURS = {"small": BLUE, "large": ORANGE}
_CLEAR_RATIO = 1.2
"""More than chance between trials: a fifth of the steps."""
_CLEAR_LEAD = 0.07
"""More than two standard errors of the difference of two accuracies on 500 rows."""


class _Member(NamedTuple):
    """One training: of how many rows, at which of the two complexities, which trial."""

    rows: int
    complexity: str
    seed: int


def _measure(study: Study) -> Measured:
    settings = study.settings
    ontology = Ontology(**settings["ontology"])
    experiments = {}
    for rows, seed in product(settings["sizes"], study.seeds):
        splits = ontology.splits(train_rows=rows, test_rows=settings["test_rows"], seed=seed)
        folder = study.folder / f"rows-{rows}-{seed}"
        corpora.write(folder, {name: part.rows() for name, part in splits.items()})
        for complexity in _COLOURS:
            experiments[_Member(rows, complexity, seed)] = Experiment(
                **settings["training"], **settings[complexity], data=str(folder), seed=seed, data_seed=seed
            )
    table = result_table(study.train(experiments), settings["converged"])
    return Measured(values=curve_values(table), tables={"networks": table})


def result_table(runs: Mapping[_Member, Run], converged: float) -> pd.DataFrame:
    """Columns rows, complexity, seed, steps, last, test.

    `steps` is the first evaluation at which the training accuracy is at least `converged` (inf: never), `last` the last
    step of training, `test` the last accuracy on test rows.
    """
    found = []
    for member, run in runs.items():
        history = run.metrics()
        train = history[(history["split"] == "train") & (history["metric"] == "accuracy") & (history["group"] == "")]
        fitted = train.loc[train["value"] >= converged, "step"]
        steps = float(fitted.min()) if len(fitted) else math.inf
        last = int(history["step"].max())
        found.append({**member._asdict(), "steps": steps, "last": last, "test": run.final("test")})
    return pd.DataFrame(found)


def curve_values(table: pd.DataFrame) -> list[Value]:
    """What figure 13.16 says, for every seed.

    - `rise`, `fall`: at large complexity, the most steps of any data size over those of the smallest, the largest;
    - `slower`: over data sizes, the most steps at small complexity for one step at large complexity;
    - `least lead`: over data sizes, the least by which small complexity is more accurate on test rows;
    - `greatest lead`: the most.

    What does not converge counts as one that needed all its steps, which is a lower bound: that a curve fell behind
    it is then not seen. Where nothing that is compared converges, there is no ratio.
    """
    found = []
    bounded = table.assign(steps=table["steps"].clip(upper=table["last"]), converged=table["steps"] < math.inf)
    for seed in sorted(table["seed"].unique()):
        wide = bounded[bounded["seed"] == seed].pivot(index="rows", columns="complexity")
        large, small, converged = wide["steps"]["large"], wide["steps"]["small"], wide["converged"]
        ratios = large.max() / large if converged["large"].any() else large * math.nan
        leads = wide["test"]["small"] - wide["test"]["large"]
        values = {
            "rise": ratios.iloc[0],
            "fall": ratios.iloc[-1],
            "slower": (small / large)[converged.any(axis="columns")].max(),
            "least lead": leads.min(),
            "greatest lead": leads.max(),
        }
        found += [Value(int(seed), name, float(value)) for name, value in values.items()]
    return found


def _figure(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Steps to convergence and test accuracy over the data size, for both complexities."""
    table = tables["networks"]
    figure = new_figure(8.2, 3.4)
    names = {"small": "small initialization, large λ", "large": "large initialization, small λ"}
    finite = table[table["steps"] < math.inf]
    panels = ((finite, "steps", "steps to convergence"), (table, "test", "test accuracy"))
    for axes, (shown, column, label) in zip(figure.subplots(1, 2), panels, strict=True):
        banded_lines(axes, shown, x="rows", y=column, by="complexity", colours=_COLOURS, names=names)
        axes.set_xscale("log")
        sizes = sorted(table["rows"].unique())
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.minorticks_off()
        finish(axes, x="training rows", y=label)
    steps, accuracy = figure.axes
    steps.set_ylim(bottom=0)
    accuracy.set_ylim(0.4, 1.03)
    accuracy.axhline(0.5, color="black", linewidth=0.8, linestyle=":")
    accuracy.annotate("chance", (1, 0.5), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=TEXT)
    handles, labels = accuracy.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, fontsize=TEXT, frameon=False)
    return figure


_NETWORK = {"model": "gpt2", "layers": 3, "heads": 4, "width": 64, "feed_forward_width": 256}
_ONTOLOGY = {"concepts": 7, "chains": 2, "steps": 1, "least_steps": 1}
_COMPLEXITIES = {
    "small": {"initialization_rate": 0.7, "weight_decay": 0.1},
    "large": {"initialization_rate": 0.5, "weight_decay": 0.01},
}
_TRAINING = {**_NETWORK, "learning_rate": 1e-3, "batch_size": 128, "checkpoint_every": 10_000, "evaluation_rows": 2000}
_BOUND = "a training that does not converge counts with all its steps"

REPRODUCTIONS = (
    Reproduction(
        id="fig13.16",
        title="Deduction: convergence and test accuracy against data size",
        source="section 13.6, figure 13.16; arXiv 2501.08537",
        claim=Claim(
            text=(
                "With large initial weights the steps to convergence first rise with the data size, while rows are "
                "memorised, then fall; with small initial weights and more decay training converges sooner and "
                "generalises better at equal data sizes."
            ),
            conditions=(
                Condition(
                    quantity="rise",
                    text=f"large initialization: most steps over those at the smallest data size ({_BOUND})",
                    at_least=_CLEAR_RATIO,
                    source="rises",
                ),
                Condition(
                    quantity="fall",
                    text=f"large initialization: most steps over those at the largest data size ({_BOUND})",
                    at_least=_CLEAR_RATIO,
                    source="falls",
                ),
                Condition(
                    quantity="slower",
                    text=f"most steps of small for one of large initialization, over data sizes ({_BOUND})",
                    at_most=1.0,
                    source="converges faster",
                ),
                Condition(
                    quantity="least lead",
                    text="least lead of small initialization in test accuracy, over data sizes",
                    at_least=-_CLEAR_LEAD,
                    source="generalises better",
                ),
                Condition(
                    quantity="greatest lead",
                    text="greatest lead of small initialization in test accuracy, over data sizes",
                    at_least=_CLEAR_LEAD,
                    source="generalises better",
                ),
            ),
        ),
        scales={
            "smoke": {
                "seeds": 1,
                "ontology": _ONTOLOGY,
                "sizes": [100, 200],
                "test_rows": 100,
                "converged": 0.99,
                **_COMPLEXITIES,
                "training": {**_TRAINING, "batch_size": 50, "steps": 20, "evaluate_every": 10},
            },
            "laptop": {
                "seeds": 3,
                "ontology": _ONTOLOGY,
                "sizes": [500, 2000, 4000, 8000, 16_000],
                "test_rows": 500,
                "converged": 0.99,
                **_COMPLEXITIES,
                "training": {**_TRAINING, "steps": 3000, "evaluate_every": 50, "stop_accuracy": {"train": 0.99}},
            },
            "paper": {
                "seeds": 3,
                "ontology": {"concepts": 60, "chains": 3, "steps": 5, "least_steps": 1},
                "sizes": [1000, 3000, 10_000, 30_000, 100_000, 300_000],
                "test_rows": 2000,
                "converged": 0.99,
                **_COMPLEXITIES,
                "training": {
                    **_TRAINING,
                    "layers": 12,
                    "heads": 12,
                    "width": 768,
                    "feed_forward_width": 3072,
                    "learning_rate": 1e-4,
                    "steps": 100_000,
                    "evaluate_every": 500,
                    "stop_accuracy": {"train": 0.99},
                },
            },
        },
        measure=_measure,
        figure=_figure,
        notes=(
            "The source names γ and λ but neither network, ontology nor budget. Rows are not PrOntoQA's but made by "
            "this project in its form: rules, a fact and a question, answered true or false. Laptop: 7 concepts and 2 "
            "chains of one rule, so that it takes one step to answer; no test row is a training row with another name "
            "or its rules in another order. GPT-2 of 3 layers, 4 heads and width 64, up to 3000 steps of 128 rows at "
            "learning rate 1e-3, stopped at a training accuracy of 0.99 (looked at every 50 steps, on at most 2000 "
            "rows). A training that does not get there counts as one of 3000 steps, which is a lower bound: a fall "
            "that would show only with more steps is not seen. Where neither complexity converges their steps are not "
            "compared, and the figure has no point. All networks memorise 500 and 2,000 rows and generalise from 4,000 "
            "on; with 500 test accuracies are 0.43 to 0.49, since the same rules with the other answer may be trained. "
            "The steps of large initialization rise up to 4,000 rows and change little after it in two of three "
            "trials; small initialization is slower at every size but one of a trial (8,000 rows, 1000 steps against "
            "1350), twice it does not reach 0.99, and it is ahead on test rows in one trial or two of each size and "
            "behind in the others. The setting was looked for: with 12 concepts, chains of 2 rules and 2 heads test "
            "accuracy was that of chance in all networks (500 to 32,000 rows, 3 seeds), with 8 concepts and one rule "
            "nothing was learned of 32,000 rows in 2000 steps (one seed, γ = 0.5). None was found in which the claim "
            "holds."
        ),
    ),
)
