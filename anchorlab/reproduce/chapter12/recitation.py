"""Reciting forward and backward (section 12.6.7, figure 12.12)."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from anchorlab.experiments import Experiment
from anchorlab.report.panels import banded_lines
from anchorlab.report.style import BLUE, SMALL, VERMILLION, finish, new_figure

from ..claims import Claim, Condition, Value
from ..reproduction import Measured, Reproduction
from ..study import Study
from .book import TRANSFORMER

FORWARD, BACKWARD = "forward", "backward"


def _measure(study: Study) -> Measured:
    settings = study.settings
    batch, epochs = settings["training"]["batch_size"], settings["epochs"]
    runs = study.train(
        {
            (rows, seed): Experiment(
                train_rows=rows,
                epochs=max(epochs),
                evaluate_every=min(epochs) * (rows // batch),
                seed=seed,
                data_seed=seed,
                **settings["training"],
            )
            for rows in settings["sizes"]
            for seed in study.seeds
        }
    )
    table = pd.concat(
        directions(run.metrics(), {epoch: epoch * (rows // batch) for epoch in epochs}).assign(rows=rows, seed=seed)
        for (rows, seed), run in runs.items()
    )
    values = [value for seed in study.seeds for value in recitation_values(seed, table[table["seed"] == seed], epochs)]
    return Measured(values=values, tables={"accuracy": table})


def directions(metrics: pd.DataFrame, steps: Mapping[int, int]) -> pd.DataFrame:
    """Test accuracy of both directions after some epochs, given by their steps: columns epochs, direction, accuracy."""
    chosen = metrics[
        (metrics["split"] == "test") & (metrics["metric"] == "accuracy") & metrics["group"].isin([FORWARD, BACKWARD])
    ].set_index(["step", "group"])["value"]
    return pd.DataFrame(
        [
            {"epochs": epochs, "direction": direction, "accuracy": chosen[step, direction]}
            for epochs, step in steps.items()
            for direction in (FORWARD, BACKWARD)
        ]
    )


def recitation_values(seed: int, table: pd.DataFrame, epochs: tuple[int, int]) -> list[Value]:
    """By how much forward is ahead of backward: at its least and at its most over sizes, after either length."""
    pairs = table.pivot_table(index=["epochs", "rows"], columns="direction", values="accuracy")
    lead = pairs[FORWARD] - pairs[BACKWARD]
    return [
        Value(seed, f"{name}_{length}", float(getattr(lead[count], name)()))
        for length, count in zip(("short", "long"), epochs, strict=True)
        for name in ("min", "max")
    ]


def _figure(result: Mapping[str, pd.DataFrame]) -> Figure:
    table = result["accuracy"]
    lengths = sorted(table["epochs"].unique())
    figure = new_figure(4.0 * len(lengths), 3.6)
    panels = figure.subplots(1, len(lengths), sharey=True, squeeze=False)[0]
    names = {FORWARD: "forward: given m, what follows", BACKWARD: "backward: given n, what precedes"}
    colours = {FORWARD: BLUE, BACKWARD: VERMILLION}
    for axes, epochs in zip(panels, lengths, strict=True):
        rows = table[table["epochs"] == epochs]
        banded_lines(axes, rows, x="rows", y="accuracy", by="direction", colours=colours, names=names)
        finish(axes, x="training rows", y="test accuracy" if axes is panels[0] else "", title=f"after {epochs} epochs")
        axes.set_ylim(-0.03, 1.03)
    panels[0].legend(fontsize=SMALL, frameon=False, loc="upper left")
    return figure


_TASK = {"task": "recitation", "test_rows": 4000}
_SMALL = {"model": "post_ln", "layers": 4, "heads": 4, "width": 64, "batch_size": 100, "learning_rate": 1e-3}
_BOOK = {name: value for name, value in TRANSFORMER.items() if name != "epochs"}
_LENGTHS = {"short": "a tenth of the training", "long": "the whole training"}

REPRODUCTIONS = (
    Reproduction(
        id="fig12.12",
        title="Recitation: forward is easier than backward",
        source="section 12.6.7, figure 12.12; arXiv 2401.08309",
        claim=Claim(
            text="A Transformer recites forward (what follows a number) at least as well as backward (what precedes "
            "it), at every number of training rows and after both lengths of training.",
            conditions=tuple(
                condition
                for name, length in _LENGTHS.items()
                for condition in (
                    Condition(
                        quantity=f"min_{name}",
                        text=f"forward minus backward test accuracy after {length}, the least over numbers of rows "
                        "(0.03: twice its standard error)",
                        at_least=-0.03,
                        source="above 0 at every size",
                    ),
                    Condition(
                        quantity=f"max_{name}",
                        text=f"forward minus backward test accuracy after {length}, the greatest over numbers of rows",
                        at_least=0.03,
                        source="above 0",
                    ),
                )
            ),
        ),
        scales={
            "smoke": {
                "seeds": 1,
                "sizes": (100, 300),
                "epochs": (1, 5),
                "training": {**_TASK, **_SMALL, "test_rows": 200},
            },
            "laptop": {
                "seeds": 3,
                "sizes": (500, 1000, 1500, 2000, 3000),
                "epochs": (10, 100),
                "training": {**_TASK, **_SMALL, "initialization_rate": 0.8},
            },
            "paper": {
                "seeds": 10,
                "sizes": (1000, 2000, 3000, 4000, 5000),
                "epochs": (400, 4000),
                "training": {**_TASK, **_BOOK},
            },
        },
        measure=_measure,
        figure=_figure,
        notes=(
            "At laptop scale: width 64, initialization rate 0.8, learning rate 1e-3, 100 epochs, looked at after 10 "
            "and 100 as the source does after 400 and 4000. Forward is given m to recite n in (…, m, 3, n, …); one "
            "sentence of the source names the directions the other way round. At the ends of the range of sizes, where "
            "neither or both directions are learned, they are equal within the error."
        ),
    ),
)
