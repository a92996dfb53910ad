"""Activations of fully connected nets, each with its first two derivatives."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from anchorlab.errors import InputError
from anchorlab.validation import check_known

Derivatives = tuple[Tensor, ...]
"""σ(z), σ'(z), σ''(z) up to the order asked for."""


def _tanh(z: Tensor, _: float, order: int) -> Derivatives:
    value = torch.tanh(z)
    if order == 0:
        return (value,)
    slope = 1 - value * value
    return (value, slope) if order == 1 else (value, slope, -2 * value * slope)


def _relu(z: Tensor, _: float, order: int) -> Derivatives:
    value = torch.relu(z)
    return (value, (z > 0).to(z.dtype), torch.zeros_like(z))[: order + 1]


def _sigmoid(z: Tensor, _: float, order: int) -> Derivatives:
    value = torch.sigmoid(z)
    slope = value * (1 - value)
    return (value, slope, slope * (1 - 2 * value))[: order + 1]


def _softplus(z: Tensor, _: float, order: int) -> Derivatives:
    return (functional.softplus(z), *_sigmoid(z, 1.0, 1))[: order + 1]


def _sin(z: Tensor, a: float, order: int) -> Derivatives:
    value = torch.sin(a * z)
    return (value,) if order == 0 else (value, a * torch.cos(a * z), -a * a * value)[: order + 1]


def _half_cos_half_sin(z: Tensor, _: float, order: int) -> Derivatives:
    """Half of the units 0.5 cos z, the others 0.5 sin z."""
    units = z.shape[-1]
    phase = torch.zeros(units, dtype=z.dtype, device=z.device)
    phase[: units // 2] = math.pi / 2
    return tuple(0.5 * part for part in _sin(z + phase, 1.0, order))


def _ricker(z: Tensor, a: float, order: int) -> Derivatives:
    # Eq. 4.3, π^(1/4) / (15 a) (1 - (z/a)²) exp(-(z/a)²/2), with y = z / a.
    y = z / a
    bell = math.pi**0.25 / (15 * a) * torch.exp(-0.5 * y * y)
    square = y * y
    return (
        (1 - square) * bell,
        y * (square - 3) * bell / a,
        (-3 + 6 * square - square * square) * bell / a**2,
    )[: order + 1]


def _power_tanh(z: Tensor, power: int, order: int) -> Derivatives:
    """z^power tanh z."""
    tanh, *more = _tanh(z, 1.0, order)
    factor, slope, curvature = z**power, power * z ** (power - 1), power * (power - 1) * z ** max(power - 2, 0)
    value = factor * tanh
    if order == 0:
        return (value,)
    first = slope * tanh + factor * more[0]
    return (value, first) if order == 1 else (value, first, curvature * tanh + 2 * slope * more[0] + factor * more[1])


def _s2relu(z: Tensor, _: float, order: int) -> Derivatives:
    """sin(2πz) ReLU(z) ReLU(1 - z): smooth and zero outside (0, 1)."""
    inside = ((z > 0) & (z < 1)).to(z.dtype)
    factor, slope = inside * z * (1 - z), inside * (1 - 2 * z)
    sine = _sin(z, 2 * math.pi, order)
    value = sine[0] * factor
    if order == 0:
        return (value,)
    first = sine[1] * factor + sine[0] * slope
    return (
        (value, first) if order == 1 else (value, first, sine[2] * factor + 2 * sine[1] * slope - 2 * inside * sine[0])
    )


def _identity(z: Tensor, _: float, order: int) -> Derivatives:
    return (z, torch.ones_like(z), torch.zeros_like(z))[: order + 1]


_RULES: dict[str, Callable[[Tensor, float, int], Derivatives]] = {
    "tanh": _tanh,
    "relu": _relu,
    "sigmoid": _sigmoid,
    "softplus": _softplus,
    "sin": _sin,
    "ricker": _ricker,
    "x_tanh": lambda z, _, order: _power_tanh(z, 1, order),
    "x2_tanh": lambda z, _, order: _power_tanh(z, 2, order),
    "s2relu": _s2relu,
    "cos_sin": _half_cos_half_sin,
    "identity": _identity,
}
_WITH_PARAMETER = ("sin", "ricker")

NAMES = tuple(_RULES)
"""All activations; `sin` and `ricker` take a parameter a: `sin:10` is sin(10 z), `ricker:0.3` has width 0.3."""


class Activation(NamedTuple):
    """One activation with its parameter; calling it gives σ(z) and its derivatives up to `order`."""

    name: str
    parameter: float = 1.0

    def __call__(self, z: Float[Tensor, "*shape"], order: int = 0) -> Derivatives:
        """σ(z), σ'(z), σ''(z) up to `order` (at most 2), each of z's shape."""
        return _RULES[self.name](z, self.parameter, order)


def activation(text: str) -> Activation:
    """The activation of a name such as `tanh`, `sin:10` or `ricker:0.3`; raises InputError for an unknown one."""
    name, _, parameter = text.partition(":")
    check_known("activation", name, NAMES)
    if not parameter:
        return Activation(name)
    try:
        value = float(parameter)
    except ValueError:
        value = 0.0
    if name not in _WITH_PARAMETER or not (math.isfinite(value) and value > 0):
        raise InputError(
            f"activation={text!r}: only {' and '.join(_WITH_PARAMETER)} take a parameter, a positive number"
        )
    return Activation(name, value)
