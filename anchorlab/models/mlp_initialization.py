"""How the weights of a fully connected net start."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from anchorlab.errors import InputError
from anchorlab.validation import check_known

Spread = tuple[float, float]
"""Of one layer's weights and of its biases: the standard deviation, or half of a uniform distribution's width."""

_RULES: dict[str, Callable[[int, int], Spread]] = {
    "lecun": lambda inputs, _: (inputs**-0.5, 0.0),
    "he": lambda inputs, _: ((2 / inputs) ** 0.5, 0.0),
    "xavier": lambda inputs, outputs: ((2 / (inputs + outputs)) ** 0.5, 0.0),
    "pytorch": lambda inputs, _: (inputs**-0.5, inputs**-0.5),
}
RULES = tuple(_RULES)
"""Named rules; `pytorch` is that of `torch.nn.Linear` (uniform), the others are normal with zero biases."""


@dataclass(frozen=True, kw_only=True)
class Initialization:
    """Independent draws of all weights and biases around 0; use one of the constructors.

    Exactly one is set: `rule` (a name in `RULES`), `rate` (γ: spread d_in^-γ) or `layers` (the spreads of each layer).
    """

    rule: str | None = None
    rate: float | None = None
    layers: tuple[Spread, ...] | None = None
    distribution: Literal["normal", "uniform"] = "normal"

    def __post_init__(self) -> None:
        if sum(one is not None for one in (self.rule, self.rate, self.layers)) != 1:
            raise InputError("initialization: give exactly one of rule, rate and layers")
        if self.rule is not None:
            check_known("initialization", self.rule, RULES)
        if any(spread < 0 for pair in self.layers or () for spread in pair):
            raise InputError(f"initialization={self.layers}: spreads must not be negative")

    @classmethod
    def named(cls, rule: str) -> "Initialization":
        """A rule in `RULES`."""
        return cls(rule=rule, distribution="uniform" if rule == "pytorch" else "normal")

    @classmethod
    def by_rate(cls, rate: float) -> "Initialization":
        """Weights and biases ~ N(0, (d_in^-γ)²) with γ = `rate`; d_in counts what one unit of the layer reads."""
        return cls(rate=rate)

    @classmethod
    def normal(cls, *layers: Spread | float) -> "Initialization":
        """Each layer's standard deviation (one number for weights and biases, or one for each), first layer first."""
        return cls(layers=tuple((one, one) if isinstance(one, int | float) else one for one in layers))

    @classmethod
    def two_layer(cls, width: int, rate: float, rate_ratio: float) -> "Initialization":
        """Of a two-layer net of `width` units with output scale 1: κ = m^-γ and κ' = m^-γ' (eqs. 7.9, 7.12).

        γ = `rate` and γ' = `rate_ratio`: a ~ N(0, β₁²) and (w, b) ~ N(0, β₂²) with β₁β₂ = κ and β₁/β₂ = κ'.
        """
        outer, inner = width ** (-(rate + rate_ratio) / 2), width ** (-(rate - rate_ratio) / 2)
        return cls.normal((inner, inner), (outer, 0.0))

    def spreads(self, layer_sizes: Sequence[tuple[int, int]]) -> list[Spread]:
        """Spreads of layers with these inputs and outputs; raises InputError if `layers` are not as many."""
        if self.layers is not None:
            if len(self.layers) != len(layer_sizes):
                raise InputError(f"initialization: {len(self.layers)} layers given, the net has {len(layer_sizes)}")
            return list(self.layers)
        if self.rate is not None:
            return [(float(inputs) ** -self.rate,) * 2 for inputs, _ in layer_sizes]
        assert self.rule is not None
        return [_RULES[self.rule](inputs, outputs) for inputs, outputs in layer_sizes]
