"""Three frequencies of one amplitude: which of them is learned first (section 4.1.3, figure 4.7)."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from anchorlab.phenomena import Points
from anchorlab.phenomena.spectra import sines
from anchorlab.report.style import BLUE, finish, new_figure

from ..claims import Claim, Condition
from ..reproduction import Measured, Reproduction
from ..study import Study
from .curves import TARGET, curve_fit, error_table, output_table, periodic, ratio_values, spectrum_table
from .panels import colour_bar, error_map, spectra

LEARNED = 0.1  # Δ_F of a frequency that is learned


def _measure(study: Study) -> Measured:
    settings = study.settings
    frequencies, training = tuple(settings["frequencies"]), settings["training"]
    points = periodic(settings["points"])
    data = {"train": Points(points, sines(points, frequencies))}
    shown = [step for step in settings["shown"] if step <= training["steps"]]
    runs = study.fit(
        {
            seed: curve_fit(training, data, seed, frequencies=frequencies, shown=points, snapshots=shown)
            for seed in study.seeds
        }
    )
    errors = error_table(runs)
    outputs = output_table(runs[0], points, data["train"].targets, shown)
    tables = {"errors": errors, "outputs": outputs, "spectra": spectrum_table(outputs, 2 * max(frequencies))}
    return Measured(values=ratio_values(errors, settings["learned"]), tables=tables)


def _figure(result: Mapping[str, pd.DataFrame]) -> Figure:
    figure = new_figure(11, 3.2)
    left, middle, right = figure.subplots(1, 3)
    target = result["outputs"][result["outputs"]["step"] == TARGET]
    left.plot(target["x"], target["value"], color=BLUE)
    finish(left, x="x", title="target")
    spectra(middle, result["spectra"], [step for step in dict.fromkeys(result["spectra"]["step"]) if step != TARGET])
    middle.set_title("spectra")
    errors = result["errors"]
    colour_bar(right, error_map(right, errors[errors["seed"] == 0], "relative error"))
    return figure


def _scale(points: int, shown: tuple[int, ...], training: Mapping[str, Any], seeds: int = 3) -> dict[str, Any]:
    fixed = {"activation": "tanh", "initialization": "xavier", "learning_rate": 2e-4}
    return {
        "seeds": seeds,
        "frequencies": (1, 3, 5),
        "points": points,
        "learned": LEARNED,
        "shown": shown,
        "training": {**fixed, **training},
    }


def later(low: int, high: int) -> Condition:
    """Frequency `high` is learned much later than `low`."""
    return Condition(
        quantity=f"{high} after {low}",
        text=f"steps until Δ_F({high}) ≤ {LEARNED:g}, over those until Δ_F({low}) is",
        at_least=2,
        source="low frequencies converge much faster",
    )


REPRODUCTIONS = (
    Reproduction(
        id="fig4.7",
        title="Of three frequencies with one amplitude the lowest is learned first",
        source="section 4.1.3, figure 4.7",
        claim=Claim(
            text="For sin x + sin 3x + sin 5x, whose peaks are equal, the relative error of a peak falls the "
            "sooner the lower its frequency; the low ones converge much faster.",
            conditions=(later(1, 3), later(3, 5)),
        ),
        scales={
            "smoke": _scale(40, (5,), {"widths": (20, 20), "steps": 50}, seeds=1),
            "laptop": _scale(201, (50, 300, 2500), {"widths": (200, 200, 200, 100), "steps": 2500}),
            "paper": _scale(201, (50, 300, 5000), {"widths": (200, 200, 200, 100), "steps": 5000}, seeds=10),
        },
        measure=_measure,
        figure=_figure,
        notes="The text gives neither net nor optimizer: tanh, widths 200-200-200-100, Adam 2e-4 and 201 points are "
        "those of the frequency principle's papers. 'Much faster' is read as at least twice as fast.",
    ),
)
