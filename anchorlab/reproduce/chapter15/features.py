"""Equation 5.12: the random feature method, with parts and scales, beside networks."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from anchorlab import pde
from anchorlab.report.style import finish, new_figure

from ..claims import Claim, Condition, Value
from ..reproduction import Measured, Reproduction
from ..study import Study
from .solving import draw_errors, histories, solved


def _measure(study: Study) -> Measured:
    chosen = study.settings
    smooth, oscillating = pde.problem("poisson2d"), pde.problem("four-frequency")
    found = {
        "random features": solved(study, "smooth", smooth, "rfm", **chosen["smooth"]),
        "network (PINN)": solved(study, "network", smooth, "pinn", **chosen["network"]),
    }
    parts = {
        "one part": solved(study, "one-part", oscillating, "rfm", parts=1, **chosen["oscillating"]),
        "parts": solved(study, "parts", oscillating, "rfm", **_divided(chosen)),
    }
    values = []
    for place, seed in enumerate(study.seeds):
        own, network = (found[name][place] for name in found)
        errors = {name: solutions[place].final["relative_l2"] for name, solutions in parts.items()}
        # A network that diverged is no rival that was beaten.
        lost = network.status == "diverged"
        gain = math.nan if lost else math.log10(network.best["relative_l2"] / own.final["relative_l2"])
        values += [
            Value(seed, "smooth", own.final["relative_l2"]),
            Value(seed, "seconds", math.nan if lost else own.seconds / network.seconds),
            Value(seed, "network", gain),
            Value(seed, "parts", math.log10(errors["one part"] / errors["parts"])),
        ]
    return Measured(values=values, tables={"smooth": histories(found), "oscillating": histories(parts)})


def _divided(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The same number of features in all, cut into parts."""
    whole = dict(chosen["oscillating"])
    return whole | {"parts": chosen["parts"], "features": whole["features"] // chosen["parts"]}


def _figure(tables: Mapping[str, pd.DataFrame]) -> Figure:
    figure = new_figure(9.0, 3.8)
    left, right = figure.subplots(1, 2)
    draw_errors(left, tables["smooth"], x="seconds")
    left.set_xscale("log")
    finish(left, x="seconds", y="relative L2 error", title="sin πx sin πy")
    draw_errors(right, tables["oscillating"], x="seconds")
    finish(right, x="seconds", y="relative L2 error", title="four frequencies, as many features")
    return figure


_LAPTOP: dict[str, Any] = {
    "seeds": 3,
    "smooth": {"parts": 4, "features": 100, "interior": 2000, "boundary": 200},
    "network": {"steps": 2000, "interior": 1000, "boundary": 200, "widths": [50, 50, 50]},
    "oscillating": {"features": 400, "interior": 1500},
    "parts": 8,
}
_SMOKE = _LAPTOP | {"seeds": 1, "network": {"steps": 5, "interior": 50, "boundary": 20, "widths": [8]}}

REPRODUCTIONS = (
    Reproduction(
        id="rfm",
        title="Random features on parts of the domain, solved by least squares",
        source="section 5.4, equation 5.12; Chen, Chi, E and Yang 2022",
        claim=Claim(
            text=(
                "Random features around the centres of many parts solve an oscillating problem better than as many "
                "around one centre; on a smooth problem they are more accurate than a network, in less time."
            ),
            conditions=(
                Condition(
                    quantity="parts",
                    text="powers of ten between the errors of one part and of several, four frequencies",
                    at_least=1.0,
                    source="parts and scales help high frequencies",
                ),
                Condition(quantity="smooth", text="relative L2 error for sin πx sin πy", at_most=1e-5),
                Condition(
                    quantity="network", text="powers of ten between the network's best error and this", at_least=1.0
                ),
                Condition(quantity="seconds", text="seconds as a share of the network's", at_most=1.0),
            ),
        ),
        scales={"smoke": _SMOKE, "laptop": _LAPTOP, "paper": _LAPTOP | {"seeds": 10}},
        measure=_measure,
        figure=_figure,
        notes=(
            "The section gives no numbers: the limits are chosen here. The windows ψ are polynomials with continuous "
            "second derivatives, where the paper's sine has jumps."
        ),
    ),
)
