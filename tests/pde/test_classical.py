"""Finite differences, Jacobi's iteration and random features on problems with known solutions."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from anchorlab import pde
from anchorlab.errors import InputError
from anchorlab.pde.differences import FiniteDifferences, System, jacobi

Make = Callable[[str], pde.PDE]


def fd_error(problem: pde.PDE, nodes: int) -> float:
    system = System(problem, FiniteDifferences(nodes=nodes))
    exact = problem.exact_values(system.grid.points)
    assert exact is not None
    inside = problem.domain.contains(system.grid.points)
    return float(np.abs(system.solve() - exact)[inside].max())


@pytest.mark.parametrize(
    ("kind", "order"),
    [("dirichlet", 2), ("robin", 2), ("periodic", 2), ("poisson2d", 2), ("advection", 2), ("heat", 2)],
)
def test_differences_are_of_second_order(manufactured: Make, kind: str, order: int) -> None:
    coarse, fine = (fd_error(manufactured(kind), nodes) for nodes in (21, 41))
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.35)


def test_differences_on_a_disk_take_the_boundary_at_the_next_node(manufactured: Make) -> None:
    assert fd_error(manufactured("disk"), 81) < fd_error(manufactured("disk"), 21) < 0.15


def test_newton_solves_a_nonlinear_equation() -> None:
    bratu = pde.PDE(
        domain=pde.Interval(0, 1),
        equation=lambda at, u: -u.laplacian() + u.value**3 - math.pi**2 * torch.sin(math.pi * at.x)
        - torch.sin(math.pi * at.x) ** 3,
        conditions=[pde.Dirichlet()],
        exact=lambda at: torch.sin(math.pi * at.x),
    )  # fmt: skip
    assert fd_error(bratu, 101) < 1e-4


def test_burgers_in_time_is_near_the_exact_solution() -> None:
    system = System(pde.problem("burgers"), FiniteDifferences(nodes=(201, 41)))
    exact = pde.problem("burgers").exact_values(system.grid.points)
    assert exact is not None
    early = system.grid.points[:, 1] < 0.3  # before the front is steeper than the grid
    assert np.abs(system.solve() - exact)[early].max() < 0.03


def test_jacobi_has_the_known_spectrum() -> None:
    """The eigenvectors of I - D⁻¹A are sin kπx with eigenvalues cos kπh (exercise 3 of the chapter)."""
    system = System(pde.problem("poisson"), FiniteDifferences(nodes=33))
    matrix, right = system.near(np.zeros(33))
    nodes, h = system.grid.axes[0], 1 / 32
    for k in (1, 5, 20):
        mode, zero = np.sin(k * math.pi * nodes), np.zeros(33)
        found, _ = jacobi(matrix, zero, mode, pde.Jacobi(nodes=33, iterations=3, tolerance=0.0))
        np.testing.assert_allclose(found, math.cos(k * math.pi * h) ** 3 * mode, atol=1e-12)
    found, history = jacobi(matrix, right, np.zeros(33), pde.Jacobi(nodes=33, iterations=10_000, tolerance=1e-12))
    np.testing.assert_allclose(found, system.solve(), atol=1e-9)
    assert history.step.iloc[-1] < 10_000  # it stops at the tolerance


def test_jacobi_that_grows_is_an_error() -> None:
    growing = pde.PDE(
        domain=pde.Interval(0, 1),
        equation=lambda at, u: -u.laplacian() - 900 * u.value - 1,
        conditions=[pde.Dirichlet()],
    )
    system = System(growing, FiniteDifferences(nodes=33))
    with pytest.raises(InputError, match="method='jacobi': the iteration diverged by step"):
        jacobi(*system.near(np.zeros(33)), np.zeros(33), pde.Jacobi(nodes=33, iterations=20_000))


@pytest.mark.parametrize(
    ("kind", "limit"),
    [("dirichlet", 1e-10), ("robin", 1e-9), ("periodic", 1e-9), ("poisson2d", 1e-4), ("disk", 1e-3), ("heat", 1e-3)],
)
def test_random_features_solve_linear_problems(manufactured: Make, kind: str, limit: float, tmp_path: Path) -> None:
    settings = {"interior": 600, "boundary": 80, "features": 60}
    solution = pde.solve(manufactured(kind), "rfm", out=tmp_path, progress=False, **settings)
    assert solution.error()["relative_l2"] < limit


def test_windows_of_random_features_add_up_to_one() -> None:
    from anchorlab.pde.features import RandomFeatures, _Basis

    basis = _Basis(pde.problem("poisson2d"), RandomFeatures(parts=9, features=1))
    points = np.random.default_rng(0).random((50, 2))
    total = sum(basis._window((points - centre) / basis.radii, part)[()] for part, centre in enumerate(basis.centres))
    np.testing.assert_allclose(total, 1)


@pytest.mark.parametrize(
    ("name", "method", "settings", "message"),
    [
        ("burgers", "rfm", {}, "method='rfm': burgers is not linear in u"),
        ("inverse", "fd", {}, "method='fd': cannot use Data"),
        ("inverse", "rfm", {}, "only networks"),
        ("poisson", "fd", {"nodes": 2}, "nodes=2: must be one number, or 1, of at least 3"),
        ("poisson", "fd", {"nods": 2}, "setting: unknown value 'nods'; did you mean 'nodes'?"),
        ("poisson", "rfm", {"features": 0}, "features=0: must be at least 1"),
        ("poisson", "rfm", {"features": 10**6}, "do not fit in memory"),
        ("poisson", "jacobi", {"iterations": 0}, "iterations=0"),
    ],
)
def test_what_a_method_cannot_do_is_told(
    name: str, method: str, settings: dict[str, int], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        pde.solve(pde.problem(name), method, out=tmp_path / "run", progress=False, **settings)
