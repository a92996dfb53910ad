"""Ten anchors that add, each tested on keys it never saw (section 12.6.9, figure 12.14)."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Int
from matplotlib.figure import Figure

from anchorlab import tasks
from anchorlab.analysis.predictions import answers
from anchorlab.experiments import Experiment
from anchorlab.report.style import BLACK, BLUE, ORANGE, finish, new_figure
from anchorlab.tasks import Sample, Task

from ..claims import Claim, Condition, Value
from ..reproduction import Measured, Reproduction
from ..study import Study
from .book import TRANSFORMER

BOUNDARY_ANCHORS = ("1", "2", "10")


def _measure(study: Study) -> Measured:
    training = study.settings["training"]
    experiments = {seed: Experiment(seed=seed, data_seed=seed, **training) for seed in study.seeds}
    tables = {}
    for seed, run in study.train(experiments).items():
        task = tasks.create(experiments[seed].task, **experiments[seed].task_fields)
        rows = task.sample("test", training["test_rows"], seed)
        tables[seed] = accuracy_by_anchor(task, rows, answers(run.model(), rows.tokens))
    return Measured(
        values=[value for seed, table in tables.items() for value in anchor_values(seed, table)],
        tables={"accuracy": pd.concat(table.assign(seed=seed) for seed, table in tables.items())},
    )


def accuracy_by_anchor(task: Task, rows: Sample, found: Int[np.ndarray, " n"]) -> pd.DataFrame:
    """Accuracy on the rows of every anchor whose label some training row has: columns anchor, accuracy.

    A label that no training row has is missed by any network, whatever it has learned of the anchor.
    """
    trained = task.cells("train")
    known = {key + anchor for key, anchor in zip(trained.key.tolist(), trained.anchors[:, 0].tolist(), strict=True)}
    names = [task.group_names[group] for group in rows.group]
    table = pd.DataFrame({"anchor": names, "label": rows.label, "accuracy": found == rows.label})
    return table[table["label"].isin(known)].groupby("anchor")["accuracy"].mean().reset_index()


def anchor_values(seed: int, table: pd.DataFrame) -> list[Value]:
    """Mean accuracy of the inner anchors, 3 to 9, and by how much that of each boundary anchor is lower."""
    accuracy = table.set_index("anchor")["accuracy"]
    inside = float(accuracy.drop(list(BOUNDARY_ANCHORS)).mean())
    gaps = [Value(seed, f"gap {anchor}", inside - float(accuracy[anchor])) for anchor in BOUNDARY_ANCHORS]
    return [Value(seed, "inside", inside), *gaps]


def _figure(result: Mapping[str, pd.DataFrame]) -> Figure:
    table = result["accuracy"]
    anchors = sorted(table["anchor"].unique(), key=int)
    spread = table.groupby("anchor")["accuracy"].agg(["mean", "min", "max"]).loc[anchors]
    figure = new_figure(6.2, 3.6)
    axes = figure.subplots()
    boundary = [anchor in BOUNDARY_ANCHORS for anchor in anchors]
    bars = axes.bar(anchors, spread["mean"], color=[ORANGE if edge else BLUE for edge in boundary], edgecolor="white")
    for bar, edge in zip(bars, boundary, strict=True):
        bar.set_hatch("///" if edge else "")
    whiskers = [spread["mean"] - spread["min"], spread["max"] - spread["mean"]]
    axes.errorbar(anchors, spread["mean"], yerr=whiskers, fmt="none", ecolor=BLACK, elinewidth=1.1, capsize=3)
    axes.set_ylim(0, 1.05)
    finish(axes, x="anchor a, with f(x) = x + a (hatched: at the boundary)", y="accuracy on its test keys")
    return figure


_TASK = {"task": "multi_anchor", "test_rows": 5000}
_SMALL = {"model": "post_ln", "layers": 4, "heads": 4, "width": 64, "batch_size": 100, "learning_rate": 1e-3}

REPRODUCTIONS = (
    Reproduction(
        id="fig12.14",
        title="Multi-anchor: accuracy on unseen (anchor, key) pairs by anchor",
        source="section 12.6.9, figure 12.14; arXiv 2401.08309",
        claim=Claim(
            text="A Transformer trained on ten anchors f(x) = x + a answers nearly all rows whose key it never saw "
            "with this anchor, but fewer for the anchors at the boundary: 1, 2 and 10.",
            conditions=(
                Condition(
                    quantity="inside",
                    text="mean test accuracy of the anchors 3 to 9",
                    at_least=0.9,
                    source="near 100 %",
                ),
                *(
                    Condition(
                        quantity=f"gap {anchor}",
                        text=f"how much lower the test accuracy of anchor {anchor} is",
                        at_least=0.02,
                        source="lower",
                    )
                    for anchor in BOUNDARY_ANCHORS
                ),
            ),
        ),
        scales={
            "smoke": {"seeds": 1, "training": {**_TASK, **_SMALL, "train_rows": 500, "steps": 10}},
            "laptop": {
                "seeds": 3,
                "training": {
                    **_TASK,
                    **_SMALL,
                    "initialization_rate": 1.0,
                    "weight_decay": 0.1,
                    "train_rows": 20_000,
                    "steps": 4000,
                },
            },
            "paper": {"seeds": 3, "training": {**_TASK, **TRANSFORMER, "train_rows": 10_000}},
        },
        measure=_measure,
        figure=_figure,
        notes=(
            "At laptop scale: width 64, initialization rate 1, weight decay 0.1, 4000 steps. The boundary is one of "
            "labels: the fewer pairs of anchor and key give a label in training, the worse it is learned. No training "
            "row has the label 21, so test rows with it (anchor 1, key 20) are left out; the mistakes, all of the "
            "anchors 1 and 10, have labels of at most 8 such pairs, and anchor 2, whose labels have more, makes none. "
            "With 5000 rows, initialization rate 0.8 and weight decay 0.01 the network memorizes (0.08 on test rows "
            "after 2500 steps, one seed)."
        ),
    ),
)
