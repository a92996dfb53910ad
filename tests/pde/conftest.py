"""Problems with known solutions, one of every kind."""

import math
from collections.abc import Callable

import pytest
import torch

from anchorlab import pde
from anchorlab.pde import At

PI = math.pi


def _wave(at: At) -> torch.Tensor:
    return torch.sin(PI * at.x)


@pytest.fixture
def manufactured() -> Callable[[str], pde.PDE]:
    """A linear problem by the kind of its conditions or domain."""

    def make(kind: str) -> pde.PDE:
        if kind == "dirichlet":
            return pde.problem("poisson")
        if kind == "robin":
            return pde.PDE(
                domain=pde.Interval(0, 1),
                equation=lambda at, u: -u.laplacian() - PI**2 * _wave(at),
                conditions=[pde.Neumann(on="x=0", value=-PI), pde.Robin(on="x=1", value=-PI)],
                exact=_wave,
            )
        if kind == "periodic":
            return pde.PDE(
                domain=pde.Interval(0, 1),
                equation=lambda at, u: u.value - u.laplacian() - (1 + 4 * PI**2) * torch.sin(2 * PI * at.x + 1),
                conditions=[pde.Periodic(axis="x")],
                exact=lambda at: torch.sin(2 * PI * at.x + 1),
            )
        if kind == "disk":
            return pde.PDE(
                domain=pde.Disk(),
                equation=lambda at, u: -u.laplacian() - 4,
                conditions=[pde.Dirichlet()],
                exact=lambda at: 1 - at.x**2 - at.y**2,
            )
        if kind == "advection":
            return pde.PDE(
                domain=pde.Box({"x": (0, 1), "y": (0, 1)}),
                equation=lambda at, u: (
                    -u.laplacian() + 2 * u.d("x") + at.y * u.d("y") - u.d("x", "y") / 2 - _source(at)
                ),
                conditions=[pde.Dirichlet(value=lambda at: torch.exp(at.x) * at.y**2)],
                exact=lambda at: torch.exp(at.x) * at.y**2,
            )
        return pde.problem(kind)

    def _source(at: At) -> torch.Tensor:
        growth = torch.exp(at.x)
        return growth * (-(at.y**2) - 2 + 2 * at.y**2 + 2 * at.y**2 - at.y)

    return make
