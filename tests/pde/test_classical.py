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
from anchorlab.pde.classical import _solve
from anchorlab.pde.differences import FiniteDifferences, System, jacobi
from anchorlab.pde.grid import Grid
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
        ("poisson", "rfm", {"features": 0}, "features=0: input should be greater than 0"),
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


@pytest.mark.parametrize("method", ["fd", "jacobi"])
def test_differences_cannot_use_two_conditions_at_one_node(method: str, tmp_path: Path) -> None:
    # u″ = 6x with u(0) = 0 and u′(0) = 1: without its slope u = 0 at x = 0 would leave the equation open.
    both = line(
        equation=lambda at, u: u.laplacian() - 6 * at.x,
        conditions=[pde.Dirichlet(on="x=0"), pde.Neumann(on="x=0", value=-1.0)],
    )
    with pytest.raises(InputError, match=rf"method='{method}': neumann x=0: all its nodes have another condition; .*"):
        pde.solve(both, method, out=tmp_path / "run", progress=False, nodes=11)
    # Sides that share a corner are something else.
    square = pde.Box({"x": (0, 1), "y": (0, 1)})
    sides = [pde.Dirichlet(on="x=0"), pde.Dirichlet(on="x=1"), pde.Neumann(on="y=0"), pde.Neumann(on="y=1")]
    System(line(domain=square, conditions=sides), FiniteDifferences(nodes=3))


@pytest.mark.parametrize("method", ["fd", "jacobi"])
def test_a_condition_of_the_whole_boundary_gives_way_on_no_side(method: str, tmp_path: Path) -> None:
    axes = {"x": (0.0, 1.0), "y": (0.0, 2.0)}
    corner = pde.Difference(pde.Box(axes), (pde.Disk((0.5, 1.0), 0.2),))
    cases = [
        (pde.Box(axes), [pde.Neumann(), pde.Dirichlet(on="y=2")], "neumann: all its nodes at y=2 have"),
        (pde.Box(axes), [pde.Dirichlet(on="x=0"), pde.Dirichlet()], "dirichlet: all its nodes at x=0 have"),
        (pde.Interval(0, 1), [pde.Robin(), pde.Dirichlet(on="x=1")], "robin: all its nodes at x=1 have"),
        (
            corner,
            [pde.Neumann(on="outer"), pde.Dirichlet(on="x=1"), pde.Dirichlet(on="holes")],
            "neumann outer: all its nodes at x=1 have",
        ),
    ]
    for number, (domain, conditions, message) in enumerate(cases):
        problem = line(domain=domain, equation=lambda at, u: -u.laplacian() - 1, conditions=conditions, exact=None)
        with pytest.raises(InputError, match=rf"method='{method}': {message} another condition; .*") as caught:
            pde.solve(problem, method, out=tmp_path / str(number), progress=False, nodes=21)
        assert "\n" not in str(caught.value)


def test_box_shaped_holes_reach_no_further_than_their_corners() -> None:
    box = pde.Box({"x": (-1, 1), "y": (-1, 1)})
    domain = pde.Difference(box, (pde.Box({"x": (-0.25, 0.25), "y": (-0.25, 0.25)}),))
    whole, parts = (
        System(line(domain=domain, conditions=conditions), FiniteDifferences(nodes=41))
        for conditions in ([pde.Dirichlet()], [pde.Dirichlet(on="outer"), pde.Dirichlet(on="holes")])
    )
    np.testing.assert_array_equal(whole.free, parts.free)
    np.testing.assert_array_equal(whole.solve(), parts.solve())
    points = whole.grid.points
    edge = np.isclose(np.abs(points).max(1), 0.25) | np.isclose(np.abs(points).max(1), 1)
    assert not whole.free[edge].any()
    assert whole.free[np.isclose(points[:, 0], 0.25) & (np.abs(points[:, 1]) > 0.3) & ~edge].all()


@pytest.mark.parametrize("nodes", [(41, 81), (3, 41), (2, 3, 9)])
def test_a_grid_gives_the_values_at_its_nodes(nodes: tuple[int, ...]) -> None:
    axes = tuple(np.linspace(0, 1 + place, count) for place, count in enumerate(nodes))
    grid = Grid(axes, np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(nodes)))
    values = np.random.default_rng(0).standard_normal(len(grid.points))
    np.testing.assert_allclose(grid.function(values)(grid.points), values, atol=1e-10)


def test_between_nodes_the_solution_is_of_second_order(manufactured: Make) -> None:
    problem = manufactured("poisson2d")
    points = np.random.default_rng(0).random((2000, 2))
    exact = problem.exact_values(points)
    systems = [System(problem, FiniteDifferences(nodes=nodes)) for nodes in (41, 81)]
    coarse, fine = (np.abs(one.grid.function(one.solve())(points) - exact).max() for one in systems)
    assert math.log2(coarse / fine) == pytest.approx(2, abs=0.1)


def test_jacobi_that_ends_while_it_grows_is_an_error(tmp_path: Path) -> None:
    slope = line(conditions=[pde.Dirichlet(on="x=0"), pde.Neumann(on="x=1")])
    with pytest.raises(InputError, match=r"method='jacobi': Jacobi's iteration grows, .* to .*; use 'fd'"):
        pde.solve(slope, "jacobi", out=tmp_path / "run", progress=False, nodes=21, iterations=500)
    # Rounding that adds up from the solution on is no growth.
    system = System(slope, FiniteDifferences(nodes=21))
    solved = system.solve()
    jacobi(*system.near(solved), solved, pde.Jacobi(nodes=21, iterations=50, tolerance=0.0))


def test_errors_of_jacobi_count_nodes_of_the_domain(manufactured: Make, tmp_path: Path) -> None:
    found = pde.solve(manufactured("disk"), "jacobi", out=tmp_path / "run", progress=False, nodes=31, tolerance=1e-6)
    assert found.final["relative_l2"] == pytest.approx(found.error()["relative_l2"], rel=0.03)
    assert found.final["max_error"] == pytest.approx(found.error()["max_error"], rel=0.2)


def test_jacobi_stays_at_the_solution_it_begins_with(manufactured: Make, tmp_path: Path) -> None:
    """Its periodic row says u(1) - u(0) = 0, not u(1) = 0."""
    problem = manufactured("periodic")
    start = pde.solve(problem, "fd", out=tmp_path / "fd", progress=False, nodes=21)
    values, history = _solve(problem, pde.Jacobi(nodes=21, iterations=50), start)
    np.testing.assert_allclose(values, start(np.linspace(0, 1, 21)), atol=1e-9)
    assert history["update"].iloc[0] < 1e-9
    # What is known is set, however wrong the start is.
    known = line(conditions=[pde.Dirichlet(value=2.0)])
    values, _ = _solve(known, pde.Jacobi(nodes=21, iterations=1), start)
    np.testing.assert_array_equal(values[[0, -1]], 2.0)
