"""Equations as linear ones: the factor of every derivative at every point, found by differentiating the equation."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from anchorlab.errors import InputError

from .conditions import Condition
from .equation import PDE
from .unknown import At, Key, Tracing, indices

Index = tuple[int, ...]
_SIZES = (1.0, 1.0, 1e-3, 1e3, 1e6)  # of the functions near which factors are compared


class Linearized(NamedTuple):
    """`constant` + Σ `factors`[key] times the derivative of that key, at every point."""

    factors: Mapping[Key, Float[np.ndarray, " n"]]
    constant: Float[np.ndarray, " n"]

    def by_index(self, space: Sequence[int]) -> dict[Index, Float[np.ndarray, " n"]]:
        """The factors of plain derivatives: that of a Laplacian belongs to all its terms."""
        found: dict[Index, Float[np.ndarray, " n"]] = {}
        for key, factor in self.factors.items():
            for index in indices([key], space):
                found[index] = found.get(index, 0) + factor
        return found


def linearized_equations(
    pde: PDE, points: Float[np.ndarray, "n axes"], around: Mapping[Index, Float[np.ndarray, " n"]] | None = None
) -> list[Linearized]:
    """Every equation near `around` (its derivatives at the points; None: near zero), exact for linear ones.

    Raises InputError for several unknown functions and for unknown numbers.
    """
    if pde.outputs != 1 or pde.coefficients:
        what = f"{pde.outputs} unknown functions" if pde.outputs != 1 else "unknown numbers"
        raise InputError(f"method: {pde.name} has {what}; only networks can solve it, use 'pinn'")
    placed = torch.as_tensor(points, dtype=torch.float64)

    def residual(number: int) -> Callable[[Mapping[Key, Tensor]], Tensor]:
        return lambda parts: pde.evaluate(pde.equation, placed, parts)[number]

    keys, space = pde.keys(pde.equation), pde.domain.space
    return [_linearized(residual(number), keys, space, len(points), around) for number in range(pde.equations)]


def linearized_condition(
    pde: PDE, condition: Condition, points: Float[np.ndarray, "n axes"], normals: Float[np.ndarray, "n axes"]
) -> Linearized:
    """A condition's left side minus its target."""
    at = At(torch.as_tensor(points, dtype=torch.float64), pde.domain.names)
    facing = torch.as_tensor(normals, dtype=torch.float64)
    traced = Tracing(at.points, 1)
    condition.left(at, pde.unknown(traced), facing)
    target = condition.target(at)

    def residual(parts: Mapping[Key, Tensor]) -> Tensor:
        return condition.left(at, pde.unknown(parts), facing) - target

    return _linearized(residual, tuple(traced), pde.domain.space, len(points), None)


def is_linear(pde: PDE) -> bool:
    """Whether the equation is linear in the unknown: its factors are the same near functions of several sizes.

    What bends only where no probe was is not seen: who solves a linear system compares residuals afterwards.
    """
    random = np.random.Generator(np.random.Philox(1))
    points = pde.domain.interior(20, random)
    wanted = indices(pde.keys(pde.equation), pde.domain.space)
    first, *others = [
        linearized_equations(pde, points, {index: size * random.normal(size=20) for index in wanted}) for size in _SIZES
    ]
    return all(
        np.allclose(one.factors[key], near.factors[key], rtol=1e-8, atol=1e-10, equal_nan=True)
        for other in others
        for one, near in zip(first, other, strict=True)
        for key in one.factors
    )


def check_linear(pde: PDE, method: str) -> None:
    """Raise InputError unless the equation is linear in the unknown."""
    if not is_linear(pde):
        raise not_linear(pde, method)


def not_linear(pde: PDE, method: str) -> InputError:
    """The error of a method that needs a linear equation."""
    return InputError(f"method={method!r}: {pde.name} is not linear in u; use 'fd' or 'pinn'")


def check_finite(pde: PDE, name: str, linear: Linearized, points: Float[np.ndarray, "n axes"]) -> None:
    """Raise InputError for the first point at which an equation or a condition is not finite."""
    for values in (linear.constant, *linear.factors.values()):
        bad = (~np.isfinite(values)).nonzero()[0]
        if len(bad):
            where = ", ".join(f"{n}={v:.6g}" for n, v in zip(pde.domain.names, points[bad[0]], strict=True))
            raise InputError(f"{name}: its residual is {values[bad[0]]} at {where}; must be finite everywhere")


def _linearized(
    residual: Callable[[Mapping[Key, Tensor]], Tensor],
    keys: Sequence[Key],
    space: Sequence[int],
    count: int,
    around: Mapping[Index, np.ndarray] | None,
) -> Linearized:
    def start(key: Key) -> np.ndarray:
        if around is None:
            return np.zeros(count)
        return np.sum([around[index] for index in indices([key], space)], axis=0)  # type: ignore[no-any-return]

    values = {key: start(key) for key in keys}
    leaves: dict[Key, Tensor] = {key: torch.tensor(value)[:, None].requires_grad_() for key, value in values.items()}
    found = residual(leaves)
    slopes = torch.autograd.grad(found.sum(), list(leaves.values()), allow_unused=True, materialize_grads=True)
    factors = {key: slope[:, 0].numpy() for key, slope in zip(leaves, slopes, strict=True)}
    constant = found.detach().numpy() - sum(factors[key] * value for key, value in values.items())
    return Linearized(factors, constant)
