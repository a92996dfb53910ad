"""From problem to solution: networks learn, run folders hold what is needed, errors name what is wrong."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anchorlab import pde
from anchorlab.engine import Monitor, Run
from anchorlab.errors import InputError, Interrupted
from anchorlab.pde.networks import train_networks

SMALL = {"widths": (20, 20), "interior": 60, "progress": False}


def line(**settings: object) -> pde.PDE:
    """-u″ = f on (0, 1) with some parts replaced."""
    known: dict[str, object] = {
        "domain": pde.Interval(0, 1),
        "equation": lambda at, u: -u.laplacian() - math.pi**2 * torch.sin(math.pi * at.x),
        "conditions": [pde.Dirichlet()],
        "exact": lambda at: torch.sin(math.pi * at.x),
    }
    return pde.PDE(**known | settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("hard", [False, True])
def test_residuals_solve_poisson(hard: bool, tmp_path: Path) -> None:
    settings = {"steps": 100, "lbfgs_steps": 150, "dtype": "float64"}
    solution = pde.solve(pde.problem("poisson", hard=hard), "pinn", out=tmp_path / "run", **SMALL, **settings)  # type: ignore[arg-type]
    assert solution.final["relative_l2"] < 1e-3
    assert solution.best["relative_l2"] <= solution.final["relative_l2"]
    assert solution.error() == pytest.approx(solution.final, rel=1e-6)
    if hard:
        assert np.abs(solution(np.array([0.0, 1.0]))).max() < 1e-12


@pytest.mark.parametrize(("weight", "error"), [(200.0, 2**0.5 * math.pi / 200), (None, 0.0)])
def test_the_energy_solves_poisson_up_to_its_penalty(weight: float | None, error: float, tmp_path: Path) -> None:
    """With w times the mean of both squares at the ends, the minimum is π/w above the solution; a hard one is exact."""
    problem = pde.problem("poisson", weight=weight, hard=weight is None)
    settings = {"steps": 100, "lbfgs_steps": 200, "inside": "grid", "dtype": "float64"}
    solution = pde.solve(problem, "ritz", out=tmp_path / "run", **SMALL, **settings)  # type: ignore[arg-type]
    assert solution.final["relative_l2"] == pytest.approx(error, abs=2e-3)


def test_the_coefficient_of_an_inverse_problem_is_found(tmp_path: Path) -> None:
    solution = pde.solve(
        pde.problem("inverse", weight=100.0),
        "pinn",
        out=tmp_path / "run",
        steps=200,
        lbfgs_steps=250,
        dtype="float64",
        **SMALL,  # type: ignore[arg-type]
    )
    assert solution.coefficients["a"] == pytest.approx(2.0, rel=0.01)
    assert solution.history["a"].iloc[0] == 1.0


def test_the_hybrid_goes_on_from_the_network(tmp_path: Path) -> None:
    solution = pde.solve(
        pde.problem("poisson", weight=100.0),
        "hybrid",
        out=tmp_path / "run",
        steps=60,
        nodes=31,
        iterations=4000,
        **SMALL,  # type: ignore[arg-type]
    )
    assert solution.final["max_error"] < 2e-3
    assert (tmp_path / "run-network" / "model").is_dir()


def test_seeds_are_members_and_each_is_as_it_would_be_alone(tmp_path: Path) -> None:
    settings = {**SMALL, "steps": 30, "dtype": "float64"}
    together = pde.solve_seeds(line(), "pinn", out=tmp_path / "all", seeds=[3, 5], **settings)  # type: ignore[arg-type]
    alone = pde.solve(line(), "pinn", out=tmp_path / "one", seed=5, **settings)  # type: ignore[arg-type]
    x = np.linspace(0, 1, 9)
    np.testing.assert_allclose(together[1](x), alone(x), rtol=1e-7)
    assert np.abs(np.asarray(together[0](x)) - np.asarray(together[1](x))).max() > 1e-3


def test_global_random_numbers_are_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    pde.solve(line(), "pinn", out=tmp_path / "run", steps=2, **SMALL)  # type: ignore[arg-type]
    assert (before == torch.random.get_rng_state()).all()


@pytest.mark.parametrize("method", ["fd", "rfm", "jacobi", "pinn"])
def test_a_run_folder_opens_again(method: str, tmp_path: Path) -> None:
    settings = {**SMALL, "steps": 5} if method == "pinn" else {"progress": False}
    made = pde.solve(line(), method, out=tmp_path / "run", **settings)  # type: ignore[arg-type]
    opened = pde.load(line(), tmp_path / "run")
    assert opened.error() == made.error()
    assert opened.history.equals(made.history)
    assert (tmp_path / "run" / "solution.png").is_file()
    assert Run.open(tmp_path / "run").status == "finished"
    again = pde.solve(line(), method, out=tmp_path / "run", **settings)  # type: ignore[arg-type]
    assert again.seconds == made.seconds
    with pytest.raises(InputError, match=r"holds a run with other settings|holds a solution of"):
        pde.load(line(equation=lambda at, u: -u.laplacian() - 1), tmp_path / "run")


def test_a_solution_is_the_reference_of_another(tmp_path: Path) -> None:
    differences = pde.solve(line(), "fd", out=tmp_path / "fd", nodes=201, progress=False)
    unknown = line(exact=None)
    features = pde.solve(unknown, "rfm", out=tmp_path / "rfm", progress=False)
    with pytest.raises(InputError, match="has no exact solution; give a reference"):
        features.error()
    assert features.error(differences)["relative_l2"] < 1e-4
    with pytest.raises(InputError, match=r"points: shape \[3, 2\] must be \[n, 1\]"):
        features(np.zeros((3, 2)))


def test_points_are_drawn_anew_when_asked(tmp_path: Path) -> None:
    problem = pde.ResidualProblem(
        line(), pde.MLP(inputs=1, widths=(4,)), pde.Initialization.named("xavier"), [0, 1],
        pde.Collocation(interior=20, resample_every=2),
    )  # fmt: skip
    first, second, third = (problem.batch([0, 1], step)[0] for step in (0, 1, 2))
    assert first is second
    assert not torch.equal(first, third)
    assert not torch.equal(first[0], first[1])
    problem.batch([1], 5)
    torch.testing.assert_close(problem.batch([0, 1], 1)[0], first, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"conditions": []}, "derivatives in x but no boundary condition; add Dirichlet, Neumann, Robin, Periodic"),
        ({"conditions": [pde.Dirichlet(on="x=0")]}, "conditions: 1 at x=0 and x=1 for derivatives of order 2 in x"),
        ({"conditions": [pde.Dirichlet(), pde.Dirichlet()]}, "must differ in kind or place"),
        ({"conditions": [pde.Dirichlet(on="x=3")]}, "on='x=3': must be 'boundary' or one of its sides x=0, x=1"),
        ({"equation": lambda at, u: -u.laplacian() - at.y}, "coordinate: unknown value 'y'"),
        ({"equation": lambda at, u: u.d("z") - 1}, "coordinate: unknown value 'z'"),
        ({"equation": lambda at, u, c: u.value}, r"must be a function of \(at, u\)"),
        ({"equation": lambda at, u: u.laplacian().mean()}, r"equation: gives shape \[\]"),
        ({"equation": lambda at, u: 1.0}, "equation: must give a tensor"),
    ],
)
def test_problems_that_cannot_be_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        line(**wrong)


def test_missing_initial_conditions_are_told() -> None:
    with pytest.raises(InputError, match="conditions: 0 initial ones for derivatives of order 1 in t; add Initial"):
        pde.PDE(
            domain=pde.Box({"x": (0, 1), "t": (0, 1)}, time="t"),
            equation=lambda at, u: u.d("t") - u.laplacian(),
            conditions=[pde.Dirichlet()],
        )


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("pin", {}, "method: unknown value 'pin'; did you mean 'pinn'?"),
        ("pinn", {"step": 3}, "setting: unknown value 'step'; did you mean 'steps'?"),
        ("pinn", {"steps": 0}, "steps=0: input should be greater than 0"),
        ("pinn", {"learning_rate": -1.0}, "learning_rate=-1.0: input should be greater than 0"),
        ("pinn", {"interior": 0}, "interior=0: input should be greater than 0"),
        ("pinn", {"dtype": "float16"}, "dtype: unknown value 'float16'"),
        ("pinn", {"optimizer": "lbfgs", "resample_every": 1}, "resample_every: L-BFGS needs the same points"),
        ("pinn", {"network": pde.MLP(inputs=2, widths=(3,))}, "network: 2 inputs and 1 outputs, must be 1 and 1"),
        ("ritz", {}, "method='ritz': equation has no energy"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(
    method: str, settings: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        pde.solve(line(), method, out=tmp_path / "run", progress=False, **settings)  # type: ignore[arg-type]


def test_a_residual_that_is_not_finite_names_its_point(tmp_path: Path) -> None:
    singular = line(equation=lambda at, u: -u.laplacian() - 1 / (at.x - 0.5).clamp(min=0))
    with pytest.raises(InputError, match=r"equation: its residual is -inf at x=0\.\d+; must be finite everywhere"):
        pde.solve(singular, "pinn", out=tmp_path / "run", progress=False, interior=50)


def test_an_unstable_step_is_one_line_and_keeps_the_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"learning_rate: the training diverged \(loss is (inf|nan) in step \d+\)"):
        pde.solve(line(), "pinn", out=tmp_path / "run", optimizer="gd", learning_rate=1e30, steps=20, **SMALL)  # type: ignore[arg-type]
    assert Run.open(tmp_path / "run").status == "diverged"


def test_adam_then_lbfgs_has_one_history(tmp_path: Path) -> None:
    solution = pde.solve(line(), "pinn", out=tmp_path / "run", steps=20, lbfgs_steps=10, dtype="float64", **SMALL)  # type: ignore[arg-type]
    assert solution.history.step.iloc[-1] == 30
    assert solution.history.step.is_monotonic_increasing
    assert solution.history.seconds.is_monotonic_increasing
    assert (tmp_path / "run-adam").is_dir()


def test_a_seed_that_diverged_leaves_lbfgs_to_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = pde.MLP.initialize

    def spoiled(self: pde.MLP, rule: pde.Initialization, seed: int, **settings: Any) -> dict[str, torch.Tensor]:
        found = start(self, rule, seed, **settings)
        return found | ({"layers.2.weight": found["layers.2.weight"] * 1e160} if seed == 1 else {})

    monkeypatch.setattr(pde.MLP, "initialize", spoiled)
    settings = {**SMALL, "steps": 10, "lbfgs_steps": 5, "dtype": "float64", "figures": False}
    found = pde.solve_seeds(line(), "pinn", out=tmp_path, seeds=[0, 1, 2], **settings)  # type: ignore[arg-type]
    assert [one.status for one in found] == ["finished", "diverged", "finished"]
    assert [int(one.history.step.iloc[-1]) for one in (found[0], found[2])] == [15, 15]
    assert found[1].folder == tmp_path / "seed-1-adam"
    assert not (tmp_path / "seed-1").exists()


def test_the_seconds_of_an_interrupted_training_count(tmp_path: Path) -> None:
    method = pde.method("pinn", widths=(20, 20), interior=60, steps=42, evaluate_every=1)
    assert isinstance(method, pde.NetworkMethod)
    steps = iter(range(1, 41))
    with pytest.raises(Interrupted):
        train_networks(line(), method, [0], [tmp_path / "run"], Monitor(should_stop=lambda: next(steps) == 40))
    (found,) = train_networks(line(), method, [0], [tmp_path / "run"])
    assert found.history.step.tolist() == list(range(43))
    assert found.history.seconds.is_monotonic_increasing


@pytest.mark.parametrize("method", ["pinn", "hybrid"])
def test_both_stages_are_opened_from_folders_that_were_moved(method: str, tmp_path: Path) -> None:
    own = {"lbfgs_steps": 3} if method == "pinn" else {"nodes": 11, "iterations": 20}
    settings = {**SMALL, "steps": 5, "dtype": "float64", **own}
    made = pde.solve(pde.problem("poisson"), method, out=tmp_path / "there" / "run", seed=3, **settings)  # type: ignore[arg-type]
    (tmp_path / "there").rename(tmp_path / "here")
    opened = pde.load(pde.problem("poisson"), tmp_path / "here" / "run")
    assert opened.history.equals(made.history)
    assert (opened.seconds, opened.seed) == (made.seconds, made.seed)
    assert opened.seed == 3
    assert str(tmp_path) not in (tmp_path / "here" / "run" / "config.json").read_text()
    again = pde.solve(pde.problem("poisson"), method, out=tmp_path / "here" / "run", seed=3, **settings)  # type: ignore[arg-type]
    assert again.history.equals(made.history)


@pytest.mark.parametrize("method", ["pinn", "hybrid", "fd"])
def test_folders_of_all_stages_are_checked_first(method: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "letter.txt").write_text("dear reader")
    own = {"pinn": {**SMALL, "steps": 5, "lbfgs_steps": 3}, "hybrid": {**SMALL, "steps": 5}}.get(method, {})
    with pytest.raises(InputError, match="the folder is not empty and holds no run"):
        pde.solve(pde.problem("poisson"), method, out=tmp_path / "run", **{"progress": False, **own})  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    settings = {**SMALL, "steps": np.int64(4), "learning_rate": np.float32(0.001)}
    found = pde.solve_seeds(
        line(), "pinn", out=tmp_path, seeds=np.arange(2), evaluate_at=np.array([1, 3]), figures=False, **settings  # type: ignore[arg-type]
    )  # fmt: skip
    assert [one.seed for one in found] == [0, 1]
    assert {1, 3} <= set(found[0].history.step)


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("pinn", {"steps": 1.5}, "steps=1.5: "),
        ("pinn", {"steps": True}, "steps=True: must be a number, not true or false"),
        ("pinn", {"cosine": "maybe"}, "cosine='maybe': input should be a valid boolean"),
        ("pinn", {"widths": 20}, "widths=20: input should be a valid tuple"),
        ("pinn", {"widths": ("a",)}, "widths.0='a': "),
        ("pinn", {"activation": "tan"}, "'tan'"),
        ("pinn", {"points": 100}, "points=100: must be a Collocation"),
        ("pinn", {"kind": "ritz"}, "setting: unknown value 'kind'"),
        ("pinn", {"equation_weight": math.inf}, "equation_weight=inf: "),
        ("pinn", {"interior": "many"}, "interior='many': "),
        ("pinn", {"inside": "grit"}, "inside: unknown value 'grit'; did you mean 'grid'?"),
        ("rfm", {"scales": (math.nan,)}, "scales.0=nan: "),
        ("rfm", {"reach": "far"}, "reach='far': "),
        ("fd", {"nodes": "ten"}, "nodes='ten': "),
        ("jacobi", {"tolerance": -1}, "tolerance=-1: input should be greater than or equal to 0"),
        ("jacobi", {"iterations": 0}, "iterations=0: input should be greater than 0"),
        ("rfm", {"scales": ()}, "scales=(): there must be at least one"),
        ("rfm", {"reach": 0}, "reach=0: input should be greater than 0"),
        ("pinn", {"lbfgs_steps": -1}, "lbfgs_steps=-1: input should be greater than or equal to 0"),
        ("hybrid", {"nodes": (3, "a"), "widths": (4,)}, "nodes"),
    ],
)
def test_settings_of_wrong_types_are_one_line(method: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        pde.method(method, **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ([], "seeds: there must be at least one"),
        ([-1], "seed=-1: must be a whole number of at least 0"),
        ([0.5], "seed=0.5: must be a whole number of at least 0"),
        ([3, 3], "seeds: 3 is given twice; give it once"),
    ],
)
def test_seeds_that_cannot_be_are_refused(seeds: list[Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        pde.solve_seeds(line(), "pinn", out=tmp_path, seeds=seeds)
