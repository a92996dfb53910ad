"""Where the usual initializations lie in the plane of (γ, γ') (section 7.3.1, table 7.1)."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from anchorlab.models.mlp import MLP
from anchorlab.models.mlp_initialization import Initialization
from anchorlab.phenomena.neurons import theoretical_boundary
from anchorlab.report.style import BLACK, BLUE, SMALL, finish, new_figure

from ..claims import Claim, Condition, Value
from ..reproduction import Measured, Reproduction
from ..study import Study


class Scales(NamedTuple):
    """α, β₁ and β₂ of eqs. 7.4 and 7.5."""

    alpha: float
    outer: float
    inner: float

    @property
    def energy(self) -> float:
        """κ = β₁β₂ / α (eq. 7.9)."""
        return self.outer * self.inner / self.alpha

    @property
    def dynamics(self) -> float:
        """κ' = β₁ / β₂ (eq. 7.9)."""
        return self.outer / self.inner


def _rule(name: str) -> Callable[[int, int, float], tuple[MLP, Initialization]]:
    return lambda width, inputs, _: (_network(width, inputs), Initialization.named(name))


def _network(width: int, inputs: int, output_scale: float = 1.0) -> MLP:
    return MLP(inputs=inputs, widths=(width,), activation="relu", bias=(False, False), output_scale=output_scale)


_SETUPS: dict[str, Callable[[int, int, float], tuple[MLP, Initialization]]] = {
    "LeCun": _rule("lecun"),
    "He": _rule("he"),
    "Xavier": _rule("xavier"),
    "NTK": lambda width, inputs, _: (_network(width, inputs, width**-0.5), Initialization.normal(1.0, 1.0)),
    "mean field": lambda width, inputs, _: (_network(width, inputs, 1 / width), Initialization.normal(1.0, 1.0)),
    "E et al.": lambda width, inputs, power: (_network(width, inputs), Initialization.normal(1.0, width**-power)),
}
_STATED = {
    "LeCun": (0.5, 0.5),
    "He": (0.5, 0.5),
    "Xavier": (1.0, 0.0),
    "NTK": (0.5, 0.0),
    "mean field": (1.0, 0.0),
}
_EXACT = 1e-6


def stated(name: str, power: float) -> tuple[float, float]:
    """(γ, γ') of table 7.1; those of E et al. are both the power p of β = m^-p."""
    return _STATED.get(name, (power, power))


def scales(name: str, width: int, inputs: int, power: float) -> Scales:
    """α, β₁, β₂ of the network and initialization that go by this name, read off the code that draws the weights."""
    network, initialization = _SETUPS[name](width, inputs, power)
    (inner, _), (outer, _) = initialization.spreads(network.layer_sizes)
    return Scales(1 / network.output_scale, outer, inner)


def rates(name: str, widths: tuple[int, int], inputs: int, power: float) -> tuple[float, float]:
    """γ and γ' (eq. 7.12) between two widths: minus the slopes of log κ and log κ' in log m.

    The factors that do not depend on m drop out; of m + 1 and m + d nothing but m is left as the widths grow.
    """
    low, high = (scales(name, width, inputs, power) for width in widths)
    distance = math.log(widths[1] / widths[0])
    return -math.log(high.energy / low.energy) / distance, -math.log(high.dynamics / low.dynamics) / distance


def rate_table(widths: tuple[int, int], inputs: int, power: float) -> pd.DataFrame:
    """Columns initialization, rate, rate_ratio (measured), stated_rate, stated_ratio."""
    rows = [(name, *rates(name, widths, inputs, power), *stated(name, power)) for name in _SETUPS]
    return pd.DataFrame(rows, columns=["initialization", "rate", "rate_ratio", "stated_rate", "stated_ratio"])


def rate_values(table: pd.DataFrame) -> list[Value]:
    """For each initialization the larger distance of γ and γ' from those stated."""
    errors = [(table["rate"] - table["stated_rate"]).abs(), (table["rate_ratio"] - table["stated_ratio"]).abs()]
    largest = pd.concat(errors, axis=1).max(axis=1)
    return [Value(0, name, float(error)) for name, error in zip(table["initialization"], largest, strict=True)]


def _measure(study: Study) -> Measured:
    settings = study.settings
    low, high = settings["widths"]
    table = rate_table((low, high), settings["inputs"], settings["power"])
    return Measured(values=rate_values(table), tables={"initializations": table})


def _figure(result: Mapping[str, pd.DataFrame]) -> Figure:
    figure = new_figure(4.8, 4.0)
    axes = figure.subplots()
    table = result["initializations"]
    axes.plot(table["rate"], table["rate_ratio"], "o", color=BLUE)
    for (rate, ratio), found in table.round(2).groupby(["rate", "rate_ratio"]):
        axes.annotate(
            ", ".join(found["initialization"]), (rate, ratio), (7, -12), textcoords="offset points", fontsize=8
        )
    ratios = [-0.5, 0.0, 1.0]
    axes.plot([theoretical_boundary(one) for one in ratios], ratios, "--", color=BLACK, label="boundary")
    axes.set_xlim(0.3, 2)
    axes.legend(fontsize=SMALL, frameon=False, loc="lower right")
    finish(axes, x="γ", y="γ'", title="table 7.1")
    return figure


_SETTINGS: dict[str, Any] = {"seeds": 1, "inputs": 784, "power": 0.75, "widths": (10**9, 10**12)}

REPRODUCTIONS = (
    Reproduction(
        id="tab7.1",
        title="The usual initializations in the plane of (γ, γ')",
        source="section 7.3.1, table 7.1",
        claim=Claim(
            text="LeCun and He are at (1/2, 1/2), Xavier and mean field at (1, 0), NTK at (1/2, 0), E et al. at (p, p) "
            "for β = m^-p.",
            conditions=tuple(
                Condition(
                    quantity=name,
                    text=f"{name}: distance of γ and γ' from those stated, the larger",
                    at_most=_EXACT,
                    source=f"γ = {stated(name, 0.75)[0]:g}, γ' = {stated(name, 0.75)[1]:g}",
                )
                for name in _SETUPS
            ),
            seeds=1,
        ),
        scales=dict.fromkeys(("smoke", "laptop", "paper"), _SETTINGS),
        measure=_measure,
        figure=_figure,
        notes="Nothing is trained or drawn at random: κ and κ' come from the spreads that the library's own "
        "initializations have at two widths, so one seed decides. Xavier's m + 1 and m + d are m only in the limit: "
        "hence the large widths. The table's β' in the last row is β.",
    ),
)
