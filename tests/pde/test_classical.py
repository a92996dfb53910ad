"""Finite differences, Jacobi's iteration and random features on problems with known solutions."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anchorlab import pde
from anchorlab.errors import InputError
from anchorlab.pde import At, Unknown
from anchorlab.pde.differences import FiniteDifferences, System, jacobi
from anchorlab.pde.linear import is_linear

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
        ("inverse", "fd", {}, "method='fd': inverse has unknown numbers"),
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


def line(**settings: Any) -> pde.PDE:
    """-u″ = 1 on (0, 1) with some parts replaced."""
    known: dict[str, Any] = {
        "domain": pde.Interval(0, 1),
        "equation": lambda at, u: -u.laplacian() - 1,
        "conditions": [pde.Dirichlet()],
    }
    return pde.PDE(**known | settings)


def bent(at: At, u: Unknown) -> torch.Tensor:
    """Linear up to u = 5; with 10 at both ends the solution stays above: 5 + 5 cosh(k (x - 1/2)) / cosh(k / 2)."""
    return -u.laplacian() + 1e3 * torch.relu(u.value - 5.0)


BENT = line(equation=bent, conditions=[pde.Dirichlet(value=10.0)])


def test_equations_that_bend_far_from_zero_are_not_linear(tmp_path: Path) -> None:
    assert not is_linear(BENT)
    values = System(BENT, FiniteDifferences(nodes=401)).solve()
    width = 1000**0.5
    exact = 5 + 5 * np.cosh(width * (np.linspace(0, 1, 401) - 0.5)) / np.cosh(width / 2)
    np.testing.assert_allclose(values, exact, atol=0.01)


@pytest.mark.parametrize("method", ["rfm", "jacobi", "fd"])
def test_what_no_probe_saw_is_seen_in_the_solution(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anchorlab.pde.linear._SIZES", (1.0, 1.0))
    assert is_linear(BENT)
    settings = {"rfm": {"features": 30, "interior": 100}, "jacobi": {"nodes": 11}, "fd": {"nodes": 41}}[method]
    if method == "fd":
        found = pde.solve(BENT, method, out=tmp_path / "run", progress=False, **settings)  # type: ignore[arg-type]
        assert found(np.array([0.5]))[0] == pytest.approx(5, abs=0.01)  # linear: 10
        return
    with pytest.raises(InputError, match=f"method='{method}': equation is not linear in u; use 'fd' or 'pinn'"):
        pde.solve(BENT, method, out=tmp_path / "run", progress=False, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["fd", "jacobi"])
@pytest.mark.parametrize("conditions", [[pde.Neumann()], [pde.Periodic(axis="x")]])
def test_derivatives_alone_leave_a_constant_open(method: str, conditions: list[pde.Condition], tmp_path: Path) -> None:
    open_end = line(equation=lambda at, u: -u.laplacian() - torch.cos(math.pi * at.x), conditions=conditions)
    with pytest.raises(InputError, match=r"with u, u \+ 1 solves equation, too: .* add Dirichlet or Robin"):
        pde.solve(open_end, method, out=tmp_path / "run", progress=False, nodes=11)


@pytest.mark.parametrize("method", ["fd", "rfm"])
def test_numbers_that_are_not_finite_name_their_point(method: str, tmp_path: Path) -> None:
    broken = line(equation=lambda at, u: -u.laplacian() - torch.sqrt(0.5 - at.x))
    with pytest.raises(InputError, match=r"equation: its residual is nan at x=0\.5\d*; must be finite everywhere"):
        pde.solve(broken, method, out=tmp_path / "run", progress=False)
    # A problem without a solution leaves its folder to the mended one.
    edge = line(conditions=[pde.Dirichlet(value=lambda at: 1 / at.x)])
    with pytest.raises(InputError, match="dirichlet: its residual is -inf at x=0; must be finite everywhere"):
        pde.solve(edge, method, out=tmp_path / "run", progress=False)


def test_differences_have_no_use_for_data(tmp_path: Path) -> None:
    measured = line(conditions=[pde.Dirichlet(), pde.Data(points=np.array([[0.5]]), values=np.array([0.1]))])
    with pytest.raises(InputError, match="method='fd': cannot use Data; use 'pinn' or 'rfm'"):
        pde.solve(measured, "fd", out=tmp_path / "run", progress=False)


def test_a_grid_gives_values_on_its_own_edge_and_none_beyond() -> None:
    third = pde.Interval(0.1, 0.3)
    grid = FiniteDifferences(nodes=5).grid(line(domain=third))
    evaluate = grid.function(np.linspace(1, 3, 5))
    ends = np.array([[0.1], [0.3]], dtype=np.float32).astype(float)  # 0.1 in float32 is above 0.1, 0.3 as well
    np.testing.assert_allclose(evaluate(ends), [1, 3], atol=1e-6)
    np.testing.assert_allclose(evaluate(np.array([[0.1], [0.1 + 0.2]])), [1, 3])
    with pytest.raises(InputError, match=r"points: \(0\.31\) is outside of the grid"):
        evaluate(np.array([[0.2], [0.31]]))


def test_derivatives_are_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    traced = pde.PDE._trace
    monkeypatch.setattr(pde.PDE, "_trace", lambda self, *args: calls.append(args[0]) or traced(self, *args))
    nonlinear = line(equation=lambda at, u: -u.laplacian() + u.value**3 - 1)
    System(nonlinear, FiniteDifferences(nodes=11)).solve()
    assert calls == ["equation"]
