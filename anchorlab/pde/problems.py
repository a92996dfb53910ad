"""Named problems, each with a known solution."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from anchorlab.validation import check_known

from .conditions import Data, Dirichlet, Initial
from .domains import Box, Difference, Disk, Interval
from .equation import PDE
from .unknown import At, Coefficients, Unknown

_SOURCE = ((1.0, 1), (4.0, 4), (-8.0, 8), (16.0, 24))
"""Amplitudes and frequencies of g in eq. 15.18."""


def problem(name: str, *, weight: float | None = None, hard: bool = False) -> PDE:
    """A named problem; `weight` is that of its conditions, which hold exactly if `hard`.

    Raises InputError for an unknown name.
    """
    check_known("problem", name, PROBLEMS)
    return PROBLEMS[name](1.0 if weight is None else weight, hard)


def poisson(weight: float = 1.0, hard: bool = False) -> PDE:
    """-u″ = π² sin πx on (0, 1), u = 0 at both ends."""
    return _poisson("poisson", 0.0, 1.0, lambda x: torch.sin(math.pi * x), _sine, weight, hard)


def four_frequency(weight: float = 1.0, hard: bool = False) -> PDE:
    """Eq. 15.18: -u″ = sin x + 4 sin 4x - 8 sin 8x + 16 sin 24x on (-1, 1), u = 0 at both ends."""

    def source(x: Tensor) -> Tensor:
        return torch.stack([amplitude * torch.sin(k * x) for amplitude, k in _SOURCE]).sum(0)

    def exact(x: Tensor) -> Tensor:
        line = sum(amplitude / k**2 * math.sin(k) for amplitude, k in _SOURCE)
        return torch.stack([amplitude / k**2 * torch.sin(k * x) for amplitude, k in _SOURCE]).sum(0) - line * x

    return _poisson("four-frequency", -1.0, 1.0, exact, source, weight, hard)


def poisson2d(weight: float = 1.0, hard: bool = False) -> PDE:
    """-Δu = 2π² sin πx sin πy on the unit square, u = 0 on its boundary."""
    return _waves("poisson2d", Box({"x": (0.0, 1.0), "y": (0.0, 1.0)}), math.pi, weight, hard)


def holes(weight: float = 1.0, hard: bool = False) -> PDE:
    """Eq. 15.20: -Δu = 2μ² sin μx sin μy, μ = 7π, on a square with three holes, u known on all boundaries.

    The source does not tell where its holes are.
    """
    outer = Box({"x": (-1.0, 1.0), "y": (-1.0, 1.0)})
    disks = (Disk((-0.5, -0.5), 0.1), Disk((0.0, 0.5), 0.2), Disk((0.5, -0.5), 0.2))
    return _waves("holes", Difference(outer, disks), 7 * math.pi, weight, hard)


def heat(weight: float = 1.0, hard: bool = False) -> PDE:
    """u_t = 0.4 u_xx on (0, 1), u(x, 0) = sin πx, u = 0 at both ends, until t = 1."""

    def start(at: At) -> Tensor:
        return torch.sin(math.pi * at.x)

    return PDE(
        name="heat",
        domain=Box({"x": (0.0, 1.0), "t": (0.0, 1.0)}, time="t"),
        equation=lambda at, u: u.d("t") - 0.4 * u.d("x", "x"),
        conditions=_both(start, weight, hard),
        exact=lambda at: torch.exp(-0.4 * math.pi**2 * at.t) * torch.sin(math.pi * at.x),
    )


def burgers(weight: float = 1.0, hard: bool = False) -> PDE:
    """u_t + u u_x = (0.01/π) u_xx on (-1, 1), u(x, 0) = -sin πx, u = 0 at both ends, until t = 1 (Raissi et al.)."""

    def start(at: At) -> Tensor:
        return -torch.sin(math.pi * at.x)

    return PDE(
        name="burgers",
        domain=Box({"x": (-1.0, 1.0), "t": (0.0, 1.0)}, time="t"),
        equation=lambda at, u: u.d("t") + u.value * u.d("x") - 0.01 / math.pi * u.d("x", "x"),
        conditions=_both(start, weight, hard),
        exact=_burgers_exact,
    )


def inverse(weight: float = 1.0, hard: bool = False) -> PDE:
    """-a u″ = π² sin πx on (0, 1) with unknown a (2; first guess 1), u = 0 at both ends, u known at ten points."""
    points = np.linspace(0.05, 0.95, 10)

    def equation(at: At, u: Unknown, c: Coefficients) -> Tensor:
        return -c.a * u.laplacian() - math.pi**2 * torch.sin(math.pi * at.x)

    return PDE(
        name="inverse",
        domain=Interval(0.0, 1.0),
        equation=equation,
        conditions=[
            Dirichlet(weight=weight, hard=hard),
            Data(points=points[:, None], values=np.sin(math.pi * points) / 2, weight=weight),
        ],
        coefficients={"a": 1.0},
        exact=lambda at: torch.sin(math.pi * at.x) / 2,
    )


PROBLEMS: Mapping[str, Callable[[float, bool], PDE]] = {
    "poisson": poisson,
    "poisson2d": poisson2d,
    "four-frequency": four_frequency,
    "heat": heat,
    "burgers": burgers,
    "inverse": inverse,
    "holes": holes,
}


def _sine(x: Tensor) -> Tensor:
    return math.pi**2 * torch.sin(math.pi * x)


def _poisson(
    name: str,
    low: float,
    high: float,
    exact: Callable[[Tensor], Tensor],
    source: Callable[[Tensor], Tensor],
    weight: float,
    hard: bool,
) -> PDE:
    """-u″ = `source` with u = 0 at both ends, and its energy (eq. 15.11)."""
    return PDE(
        name=name,
        domain=Interval(low, high),
        equation=lambda at, u: -u.laplacian() - source(at.x),
        energy=lambda at, u: 0.5 * u.gradient_squared() - source(at.x) * u.value,
        conditions=[Dirichlet(weight=weight, hard=hard)],
        exact=lambda at: exact(at.x),
    )


def _waves(name: str, domain: Box | Difference, mu: float, weight: float, hard: bool) -> PDE:
    """-Δu = 2μ² sin μx sin μy with the solution sin μx sin μy on the boundary."""

    def exact(at: At) -> Tensor:
        return torch.sin(mu * at.x) * torch.sin(mu * at.y)

    return PDE(
        name=name,
        domain=domain,
        equation=lambda at, u: -u.laplacian() - 2 * mu**2 * exact(at),
        energy=lambda at, u: 0.5 * u.gradient_squared() - 2 * mu**2 * exact(at) * u.value,
        conditions=[Dirichlet(value=exact, weight=weight, hard=hard)],
        exact=exact,
    )


def _both(start: Callable[[At], Tensor], weight: float, hard: bool) -> list[Dirichlet | Initial]:
    """u = 0 at both ends and `start` at the first time; hard conditions share the one function that fulfils both."""
    ends = Dirichlet(value=start if hard else 0.0, weight=weight, hard=hard)
    return [ends, Initial(value=start, weight=weight, hard=hard)]


def _burgers_exact(at: At) -> Tensor:
    """Cole and Hopf's solution by Gauss-Hermite quadrature."""
    viscosity = 0.01 / math.pi
    places, weights = np.polynomial.hermite.hermgauss(100)
    x, t = at.x.double()[..., None], at.t.double()[..., None]
    y = x - torch.tensor(places) * torch.sqrt(4 * viscosity * t)
    # The largest exponent is taken out: alone it would overflow.
    exponent = -torch.cos(math.pi * y) / (2 * math.pi * viscosity)
    mass = torch.tensor(weights) * torch.exp(exponent - exponent.amax(-1, keepdim=True))
    return (-(torch.sin(math.pi * y) * mass).sum(-1) / mass.sum(-1)).to(at.x.dtype)
