"""The spectrum of the activation decides which frequency is learned first (section 6.1.2, figure 6.3)."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure

from anchorlab.models.mlp_activations import activation
from anchorlab.phenomena.spectra import spectrum
from anchorlab.report.style import BLUE, finish, new_figure

from ..chapter04.activations import RICKER, SETTING, fit_nets, net_scales, order, order_values
from ..chapter04.curves import error_table
from ..chapter04.panels import colour_bar, error_map
from ..claims import Claim, Condition, Value
from ..reproduction import Measured, Reproduction
from ..study import Study

_SHARP, _SMOOTH = "a = 0.1, ASI", "a = 0.3, ASI"
_NETS = {name: RICKER[name] for name in (_SMOOTH, _SHARP)}


def _measure(study: Study) -> Measured:
    errors = error_table(fit_nets(study), ("net", "seed"))
    curves = pd.concat([ricker_table(name, kind["activation"]) for name, kind in study.settings["nets"].items()])
    ratio = peak_of(curves, _SHARP) / peak_of(curves, _SMOOTH)
    orders = order_values(errors, study.settings["learned"], study.settings["networks"])
    values = [*orders, *(Value(seed, "peak", ratio) for seed in study.seeds)]
    return Measured(values=values, tables={"errors": errors, "activations": curves})


def ricker_table(net: str, name: str, reach: float = 8.0, count: int = 4096) -> pd.DataFrame:
    """An activation and the amplitudes of its spectrum: columns net, domain (`x` or `k`), at, value."""
    points = (torch.arange(count, dtype=torch.float64) / count * 2 - 1) * reach
    values = activation(name)(points)[0]
    found = spectrum(points, values)
    parts = {"x": (points, values), "k": (found.frequencies, found.coefficients.abs() * 2 * reach)}
    tables = [
        pd.DataFrame({"net": net, "domain": domain, "at": at.numpy(), "value": value.numpy()})
        for domain, (at, value) in parts.items()
    ]
    return pd.concat(tables, ignore_index=True)


def peak_of(curves: pd.DataFrame, net: str) -> float:
    """The frequency of the largest amplitude; √2 / a for the Ricker function."""
    rows = curves[(curves["net"] == net) & (curves["domain"] == "k")]
    return float(rows["at"].iloc[int(rows["value"].argmax())])


def _figure(result: Mapping[str, pd.DataFrame]) -> Figure:
    curves, errors = result["activations"], result["errors"]
    names = list(dict.fromkeys(curves["net"]))
    figure = new_figure(10.5, 2.7 * len(names))
    for (left, middle, right), name in zip(figure.subplots(len(names), 3, squeeze=False), names, strict=True):
        for axes, domain, reach in ((left, "x", 2.0), (middle, "k", 50.0)):
            rows = curves[(curves["net"] == name) & (curves["domain"] == domain) & (curves["at"].abs() <= reach)]
            axes.plot(rows["at"], rows["value"], color=BLUE)
            finish(axes, x="x" if domain == "x" else "frequency k", title=name if domain == "x" else "its spectrum")
        chosen = errors[(errors["net"] == name) & (errors["seed"] == 0)]
        colour_bar(right, error_map(right, chosen, "relative error"))
    return figure


_SCALES: Mapping[str, Mapping[str, Any]] = net_scales(_NETS)

REPRODUCTIONS = (
    Reproduction(
        id="fig6.3",
        title="A Ricker activation that falls off from a higher frequency leaves no order of frequencies",
        source="section 6.1.2, figure 6.3, equation 6.1",
        claim=Claim(
            text="With a = 0.3 the spectrum of the Ricker activation falls off from a low frequency, and low "
            "frequencies are learned first; with a = 0.1 from a higher one, and there is no clear order.",
            conditions=(
                Condition(
                    quantity="peak",
                    text="frequency from which the spectrum falls off with a = 0.1, over that with a = 0.3",
                    at_least=2.9,
                    at_most=3.1,
                    source="a higher frequency (√2 / a by equation 6.1)",
                ),
                order(_SMOOTH, kept=True),
                order(_SHARP, kept=False),
            ),
        ),
        scales=_SCALES,
        measure=_measure,
        figure=_figure,
        notes=f"The trainings are those of figure 4.9. {SETTING}",
    ),
)
