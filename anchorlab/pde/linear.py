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


def linearized_equation(
    pde: PDE, points: Float[np.ndarray, "n axes"], around: Mapping[Index, Float[np.ndarray, " n"]] | None = None
) -> Linearized:
    """The equation near `around` (its derivatives at the points; None: near zero), exact for linear equations."""
    if pde.outputs != 1 or pde.coefficients:
        raise InputError(f"method: {pde.name} has several or unknown quantities; only networks ('pinn') can solve it")
    placed = torch.as_tensor(points, dtype=torch.float64)

    def residual(parts: Mapping[Key, Tensor]) -> Tensor:
        return pde.evaluate(pde.equation, placed, parts)[0]

    return _linearized(residual, pde.keys(pde.equation), pde.domain.space, len(points), around)


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
    """Whether the equation is linear in the unknown: its factors are the same near any function."""
    random = np.random.Generator(np.random.Philox(1))
    points = pde.domain.interior(20, random)
    wanted = indices(pde.keys(pde.equation), pde.domain.space)
    near = [linearized_equation(pde, points, {index: random.normal(size=20) for index in wanted}) for _ in range(2)]
    return all(
        np.allclose(near[0].factors[key], near[1].factors[key], rtol=1e-8, atol=1e-10) for key in near[0].factors
    )


def check_linear(pde: PDE, method: str) -> None:
    """Raise InputError unless the equation is linear in the unknown."""
    if not is_linear(pde):
        raise InputError(f"method={method!r}: {pde.name} is not linear in u; use 'fd' or 'pinn'")


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
