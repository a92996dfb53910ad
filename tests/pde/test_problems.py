"""How a problem is told apart from another, how systems and parts of boundaries are stated, and what is refused."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anchorlab import pde
from anchorlab.errors import InputError
from anchorlab.pde import At, Coefficients, Unknown
from anchorlab.pde.problem import ResidualProblem

POINTS = np.array([[0.2], [0.4], [0.7]])
SQUARE = pde.Box({"x": (0.0, 1.0), "y": (0.0, 1.0)})


def holed(*centres: tuple[float, float]) -> pde.Difference:
    return pde.Difference(SQUARE, tuple(pde.Disk(centre, 0.1) for centre in centres))


def line(**settings: Any) -> pde.PDE:
    """-u″ = 1 on (0, 1) with some parts replaced."""
    known: dict[str, Any] = {
        "domain": pde.Interval(0, 1),
        "equation": lambda at, u: -u.laplacian() - 1,
        "conditions": [pde.Dirichlet()],
        "exact": lambda at: at.x * (1 - at.x) / 2,
    }
    return pde.PDE(**known | settings)


def plane(**settings: Any) -> pde.PDE:
    """-Δu = 1 on the square with a hole, with some parts replaced."""
    known: dict[str, Any] = {
        "domain": holed((0.4, 0.4)),
        "equation": lambda at, u: -u.laplacian() - 1,
        "conditions": [pde.Dirichlet()],
    }
    return pde.PDE(**known | settings)


def system(*conditions: pde.Condition, **settings: Any) -> pde.PDE:
    """-u₀″ = u₁ and -u₁″ = 0 on (0, 1)."""
    known: dict[str, Any] = {
        "domain": pde.Interval(0, 1),
        "equation": lambda at, u: (-u[0].laplacian() - u[1].value, -u[1].laplacian()),
        "conditions": conditions or [pde.Dirichlet(), pde.Dirichlet(output=1, value=1.0)],
        "outputs": 2,
    }
    return pde.PDE(**known | settings)


def scaled(factor: float) -> Callable[[At, Unknown], torch.Tensor]:
    return lambda at, u, k=factor: -u.laplacian() - k


def data(order: int) -> list[pde.Condition]:
    return [pde.Dirichlet(), pde.Data(points=POINTS, values=np.array([0.1, 0.2, 0.3])[::order])]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (line(), line(exact=lambda at: at.x * (1 - at.x) / 2 + 1e-3)),
        (line(), line(exact=None)),
        (line(), line(energy=lambda at, u: 0.5 * u.gradient_squared() - u.value)),
        (line(conditions=data(1)), line(conditions=data(-1))),
        (line(conditions=[pde.Dirichlet()]), line(conditions=[pde.Dirichlet(hard=True)])),
        (line(), line(conditions=[pde.Dirichlet(value=lambda at: at.x * 1e-6)])),
        (line(), line(equation=lambda at, u: -u.laplacian() - 1 + torch.relu(u.value - 5))),
        (line(), line(equation=lambda at, u: (-u.laplacian() - 1, 0 * u.value))),
        (line(equation=scaled(1.0)), line(equation=scaled(1.0 + 1e-7))),
        (plane(), plane(domain=holed((0.4, 0.41)))),
        (plane(), plane(domain=pde.Difference(SQUARE, (pde.Disk((0.4, 0.4), 0.1001),)))),
        (plane(domain=holed((0.2, 0.2), (0.7, 0.7))), plane(domain=holed((0.2, 0.7), (0.7, 0.2)))),
        # The sum of both equations is the same for either sign.
        (
            system(equation=lambda at, u: (-u[0].laplacian() - at.x, -u[1].laplacian() + at.x)),
            system(equation=lambda at, u: (-u[0].laplacian() + at.x, -u[1].laplacian() - at.x)),
        ),
        (
            system(equation=lambda at, u: (-u[0].laplacian() - u[1].value, -u[1].laplacian())),
            system(equation=lambda at, u: (-u[1].laplacian() - u[0].value, -u[0].laplacian())),
        ),
        (system(), system(pde.Dirichlet(value=1.0), pde.Dirichlet(output=1))),
    ],
)
def test_a_changed_problem_has_another_fingerprint(one: pde.PDE, other: pde.PDE) -> None:
    assert one.fingerprint() != other.fingerprint()


def test_the_same_problem_has_the_same_fingerprint() -> None:
    assert pde.problem("holes").fingerprint() == pde.problem("holes").fingerprint()
    same = line(domain=pde.Box({"x": (np.float64(0), np.int64(1))}), name="another name")
    assert same.fingerprint() == line().fingerprint()


def test_a_changed_problem_does_not_get_the_stored_solution(tmp_path: Path) -> None:
    pde.solve(plane(), "fd", out=tmp_path / "run", nodes=9, progress=False)
    with pytest.raises(InputError, match="holds a run with other settings"):
        pde.solve(plane(domain=holed((0.4, 0.6))), "fd", out=tmp_path / "run", nodes=9, progress=False)


def test_functions_may_hold_numbers_in_default_values() -> None:
    assert line().keys(scaled(1.0)) == ((0, 0),)
    assert line(equation=scaled(1.0)).equations == 1
    with pytest.raises(InputError, match=r"equation: must be a function of \(at, u, coefficients\)"):
        line(equation=lambda at, u, k=1.0: u.laplacian(), coefficients={"a": 1.0}, conditions=data(1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: line(conditions=[pde.Dirichlet(output=1)]), r"output=1 is no unknown function; must be 0 \(PDE"),
        (lambda: system(pde.Dirichlet(output=2)), "output=2 is no unknown function; must be 0 to 1"),
        (lambda: pde.Dirichlet(output=-1), "output=-1 must be a whole number"),
        (lambda: pde.Dirichlet(weight=math.inf), "weight=inf must be positive and finite"),
        (lambda: pde.Dirichlet(weight="1"), "weight='1' must be positive and finite"),  # type: ignore[arg-type]
        (lambda: line(outputs=0), "outputs=0: must be a whole number of at least 1"),
        (
            lambda: system(pde.Dirichlet(), pde.Neumann()),
            r"derivatives of u\[1\] in x but no boundary condition; add Dirichlet",
        ),
        (
            lambda: system(pde.Dirichlet(), pde.Dirichlet(output=1, on="x=0")),
            r"conditions: 1 at x=0 and x=1 for derivatives of u\[1\] of order 2 in x; add the missing one",
        ),
        (
            lambda: pde.PDE(
                domain=pde.Box({"t": (0, 1)}, time="t"),
                equation=lambda at, u: (u[0].d("t") - u[1].value, u[1].d("t") + u[0].value),
                conditions=[pde.Initial(), pde.Initial(order=1)],
                outputs=2,
            ),
            r"conditions: 0 initial ones for derivatives of u\[1\] of order 1 in t; add Initial\(output=1\)",
        ),
        (
            lambda: system(pde.Dirichlet(on="x=0"), equation=lambda at, u: (u[0].d("x") - u[1].value, u[1].d("x") - 1)),
            "conditions: 1 at x=0 and x=1 for derivatives of all unknown functions of order 2 in x",
        ),
        (
            lambda: line(conditions=[pde.Dirichlet(value=lambda at: torch.zeros(3, 3))]),
            r"dirichlet: value gives shape \[3, 3\], must be of shape \[2\]",
        ),
        (lambda: line(conditions=[pde.Dirichlet(value=lambda at: "0")]), "dirichlet: value gives '0'"),
        (lambda: line(exact=lambda at: at.points), r"exact: gives shape \[3, 1\], must be \[3\] for 3 points"),
        (lambda: system(exact=lambda at: at.x), r"exact: gives shape \[3\], must be \[3, 2\] for 3 points"),
        (lambda: line(energy=lambda at, u: u.value.sum()), r"energy: gives shape \[\], must be \[1, 3\] for 3 points"),
        (lambda: line(energy=lambda at, u: 1.0), "energy: must give a tensor"),
        (lambda: line(energy=lambda at: at.x), r"energy: must be a function of \(at, u\)"),
        (lambda: plane(conditions=[pde.Dirichlet(on="outer")]), "known on outer only; must cover 'outer' and 'holes'"),
        (lambda: plane(conditions=[pde.Dirichlet(on="holes")]), "known on holes only; must cover 'outer' and 'holes'"),
        (lambda: plane(conditions=[pde.Dirichlet(on="holes[1]")]), r"on='holes\[1\]': must be 'holes' or one of"),
        (
            lambda: plane(conditions=[pde.Dirichlet(on=on) for on in ("x=0", "y=0", "y=1", "holes")]),
            "conditions: 1 at x=0 and x=1 for derivatives of order 2 in x",
        ),
    ],
)
def test_problems_that_cannot_be_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_a_pressure_needs_no_boundary_values_of_its_own() -> None:
    def stokes(at: At, u: Unknown) -> tuple[torch.Tensor, ...]:
        first, second, pressure = (u[k] for k in range(3))
        return (
            -first.laplacian() + pressure.d("x"),
            -second.laplacian() + pressure.d("y"),
            first.d("x") + second.d("y"),
        )

    conditions = [pde.Dirichlet(), pde.Dirichlet(output=1)]
    assert pde.PDE(domain=SQUARE, equation=stokes, conditions=conditions, outputs=3).equations == 3


def test_a_network_solves_a_system(tmp_path: Path) -> None:
    problem = system(exact=lambda at: (at.x * (1 - at.x) / 2, torch.ones_like(at.x)))
    settings: dict[str, Any] = {"widths": (20,), "interior": 40, "steps": 50, "lbfgs_steps": 150, "dtype": "float64"}
    found = pde.solve(problem, "pinn", out=tmp_path / "run", progress=False, **settings)
    x = np.linspace(0, 1, 5)
    values = found(x)
    assert values.shape == (5, 2)
    np.testing.assert_allclose(values, np.stack([x * (1 - x) / 2, np.ones(5)], 1), atol=5e-3)
    assert found.error() == pytest.approx(found.final, rel=1e-6)
    assert {"loss dirichlet", "loss dirichlet of u[1]"} <= set(found.history)
    again = pde.load(problem, tmp_path / "run")
    assert again(At(torch.tensor(x)[:, None], ["x"])).shape == (5, 2)


@pytest.mark.parametrize("method", ["fd", "rfm", "jacobi"])
def test_systems_are_refused_by_methods_for_one_function(method: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"2 equations for 2 unknown functions|has 2 unknown functions"):
        pde.solve(system(), method, out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def two_equations(at: At, u: Unknown) -> tuple[torch.Tensor, torch.Tensor]:
    """The second one alone decides where the first one leaves a slope open."""
    return u.d("x", "x"), u.d("x") - 2


def test_all_equations_for_one_function_count(tmp_path: Path) -> None:
    problem = line(equation=two_equations, conditions=[pde.Dirichlet(on="x=0"), pde.Neumann(on="x=1", value=2.0)])
    only_second = line(equation=lambda at, u: (0 * u.value, u.d("x") - 2), conditions=[pde.Dirichlet(on="x=0")])
    for number, one in enumerate((problem, only_second)):
        found = pde.solve(one, "rfm", out=tmp_path / f"rfm{number}", progress=False, features=20, interior=100)
        assert found(np.array([0.5]))[0] == pytest.approx(1.0, abs=1e-6)
    with pytest.raises(InputError, match="has 2 equations for 1 unknown functions"):
        pde.solve(problem, "fd", out=tmp_path / "fd", progress=False)


def test_a_network_minimizes_all_equations() -> None:
    """The loss that is trained is the one of all equations, also where each is linear."""
    network = pde.MLP(inputs=1, widths=(5,))
    made = pde.ResidualProblem(
        line(equation=two_equations), network, pde.Initialization.named("xavier"), [0], pde.Collocation(interior=9)
    )
    parameters = {name: value[None] for name, value in made.initialize(0).items()}
    batch = made.batch([0], 0)
    places = {name: torch.zeros_like(value) for name, value in parameters.items()}
    written = made.write_gradients({n: v.clone() for n, v in parameters.items()}, batch, places)
    assert written is not None
    torch.testing.assert_close(written, made.loss(parameters, batch))
    single = pde.ResidualProblem(
        line(equation=lambda at, u: u.d("x", "x")), network, pde.Initialization.named("xavier"), [0],
        pde.Collocation(interior=9),
    )  # fmt: skip
    assert made.loss(parameters, batch) > single.loss(parameters, single.batch([0], 0)) + 1


def test_outer_sides_and_holes_have_conditions_of_their_own(tmp_path: Path) -> None:
    """u = x + y: known on three sides and both holes, its slope on the fourth side."""

    def value(at: At) -> torch.Tensor:
        return at.x + at.y

    parts = ["x=0", "y=0", "y=1", "holes[0]", "holes[1]"]
    problem = plane(
        domain=holed((0.3, 0.3), (0.7, 0.6)),
        equation=lambda at, u: -u.laplacian(),
        conditions=[pde.Neumann(on="x=1", value=1.0), *(pde.Dirichlet(on=part, value=value) for part in parts)],
        exact=value,
    )
    for method, settings in (("fd", {"nodes": 21}), ("rfm", {"interior": 300, "boundary": 40, "features": 30})):
        found = pde.solve(problem, method, out=tmp_path / method, progress=False, **settings)  # type: ignore[arg-type]
        assert found.error()["relative_l2"] < 3e-3, method
    slope = plane(conditions=[pde.Dirichlet(on="outer"), pde.Neumann(on="holes")])
    with pytest.raises(InputError, match="method='fd': neumann holes needs straight sides"):
        pde.solve(slope, "fd", out=tmp_path / "slope", progress=False)


def test_unknown_numbers_start_at_finite_guesses() -> None:
    def equation(at: At, u: Unknown, c: Coefficients) -> torch.Tensor:
        return c.a * u.laplacian()

    with pytest.raises(InputError, match="coefficients: the first guess a=nan must be finite"):
        line(equation=equation, coefficients={"a": math.nan}, conditions=data(1))


NO_VALUE = {"equation": lambda at, u: u.laplacian() + torch.cos(2 * math.pi * at.x), "exact": None}


@pytest.mark.parametrize(
    ("problem", "method", "message"),
    [
        (lambda: line(conditions=[pde.Neumann()], **NO_VALUE), "rfm", "only derivatives are known; add Dirichlet"),
        (lambda: line(conditions=[pde.Periodic(axis="x")], **NO_VALUE), "pinn", "only derivatives are known"),
        (
            lambda: line(
                conditions=[pde.Dirichlet(on="x=0"), pde.Neumann(on="x=1", value=1.0)],
                energy=lambda at, u: u.gradient_squared() / 2 - u.value,
            ),
            "ritz",
            "needs a term of the energy on the boundary",
        ),
        (
            lambda: line(
                conditions=[pde.Dirichlet(on="x=0"), pde.Robin(on="x=1")],
                energy=lambda at, u: u.gradient_squared() / 2 - u.value,
            ),
            "ritz",
            "needs a term of the energy on the boundary",
        ),
    ],
)
def test_what_a_method_would_get_wrong_is_refused(
    problem: Callable[[], pde.PDE], method: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        pde.solve(problem(), method, out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_free_end_without_slope_is_what_the_energy_wants() -> None:
    problem = line(
        conditions=[pde.Dirichlet(on="x=0"), pde.Neumann(on="x=1")],
        energy=lambda at, u: u.gradient_squared() / 2 - u.value,
    )
    pde.check(problem, pde.method("ritz"))


def bent_in_a_spot(at: At, u: Unknown) -> torch.Tensor:
    spot = (at.x - 0.15) ** 2 + (at.y - 0.5) ** 2 < 0.01
    return -u.laplacian() + torch.where(spot, 300 * u.value**2, 0 * u.value) - 1


@pytest.mark.parametrize(("equation", "linear"), [(bent_in_a_spot, False), (lambda at, u: -u.laplacian() - 1, True)])
def test_an_equation_that_bends_in_a_spot_is_not_trained_as_a_linear_one(equation: Any, linear: bool) -> None:
    problem = plane(domain=SQUARE, equation=equation, exact=None)
    network = pde.MLP(inputs=2, widths=(8,), activation="tanh")
    points = pde.Collocation(interior=500, boundary=20)
    residuals = ResidualProblem(problem, network, pde.Initialization.named("xavier"), [0, 1], points)
    parameters = {
        name: torch.stack([residuals.initialize(member)[name] for member in range(2)])
        for name in residuals.initialize(0)
    }
    batch = residuals.batch([0, 1], 0)
    places = {name: torch.zeros_like(tensor) for name, tensor in parameters.items()}
    found = residuals.write_gradients(parameters, batch, places)
    assert found is not None
    torch.testing.assert_close(found, residuals.loss(parameters, batch))
    assert (residuals._placed(batch)[0].squares is not None) == linear
