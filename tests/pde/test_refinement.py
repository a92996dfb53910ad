"""Points where the residual is large: drawn from the network so far, the same after an interruption."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anchorlab import pde
from anchorlab.engine import Monitor, Run
from anchorlab.errors import InputError, Interrupted
from anchorlab.pde.networks import train_networks
from anchorlab.pde.refinement import refined_points

SMALL: dict[str, Any] = {"widths": (10,), "interior": 60, "dtype": "float64", "steps": 20}


def steep(hard: bool = False) -> pde.PDE:
    """-u″ = 1 + 1000 in (0.4, 0.45): the residual of a flat function is large there."""
    return pde.PDE(
        domain=pde.Interval(0, 1),
        equation=lambda at, u: -u.laplacian() - 1 - 1000 * ((at.x > 0.4) & (at.x < 0.45)),
        conditions=[pde.Dirichlet(hard=hard)],
    )


def flat() -> tuple[pde.MLP, dict[str, torch.Tensor]]:
    network = pde.MLP(inputs=1, widths=(4,), outputs=1, activation="tanh")
    start = network.initialize(pde.Initialization.named("xavier"), 0, dtype=torch.float64)
    return network, {name: torch.zeros_like(tensor) for name, tensor in start.items()}


@pytest.mark.parametrize("hard", [False, True])
def test_half_of_the_new_points_follow_the_residual(hard: bool) -> None:
    network, zero = flat()
    points = pde.Collocation(interior=4000)
    first, _ = points.interior_points(steep().domain, 0, 0)
    found = refined_points(steep(hard), network, zero, points, 0, 1)
    assert np.array_equal(found[:4000], first)
    added = found[4000:, 0]
    assert len(np.unique(added)) == 800
    # |residual| is 1001 on a twentieth, its mean 51: that part gets 0.05 (1 + 1001 / 51) / 2 of them.
    assert ((added > 0.4) & (added < 0.45)).mean() == pytest.approx(0.5, abs=0.06)
    assert np.histogram(added, 10, (0, 1))[0].min() > 20
    assert np.array_equal(found, refined_points(steep(hard), network, zero, points, 0, 1))
    for seed, refinement in ((1, 1), (0, 2)):
        other = refined_points(steep(hard), network, zero, points, seed, refinement, found)
        assert np.array_equal(other[:4800], found)
        assert not np.isin(other[4800:], added).any()


def test_a_residual_that_is_zero_everywhere_adds_uniform_points() -> None:
    network, zero = flat()
    harmonic = pde.PDE(domain=pde.Interval(0, 1), equation=lambda at, u: u.laplacian(), conditions=[pde.Dirichlet()])
    found = refined_points(harmonic, network, zero, pde.Collocation(interior=5000), 0, 1)
    assert np.histogram(found[5000:, 0], 4, (0, 1))[0] == pytest.approx([250] * 4, abs=60)


def test_a_residual_that_is_not_finite_is_one_line() -> None:
    network, zero = flat()
    broken = pde.PDE(
        domain=pde.Interval(-1, 1),
        equation=lambda at, u: u.laplacian() - torch.where((at.x > 0.5) & (at.x < 0.51), math.inf, 0.0),
        conditions=[pde.Dirichlet()],
    )
    with pytest.raises(InputError, match=r"equation: its residual is -inf at x=0\.50\d*; must be finite everywhere"):
        refined_points(broken, network, zero, pde.Collocation(interior=2000), 0, 1)


def test_lbfgs_is_cut_into_parts_with_points_of_their_own(tmp_path: Path) -> None:
    method = pde.method("pinn", **SMALL, lbfgs_steps=11, refinements=2)
    assert isinstance(method, pde.NetworkMethod)
    assert [(one.optimizer, one.steps, one.refinement) for one in method.stages] == [
        ("adam", 20, 0),
        ("lbfgs", 3, 0),
        ("lbfgs", 4, 1),
        ("lbfgs", 4, 2),
    ]
    found = pde.solve_seeds(pde.problem("inverse"), method, out=tmp_path, seeds=[0, 1], figures=False)
    names = {f"seed-{seed}{part}" for seed in (0, 1) for part in ("", "-adam", "-lbfgs-1", "-lbfgs-2")}
    assert {path.name for path in tmp_path.iterdir()} == names
    one = found[1]
    assert one.history.step.iloc[-1] == 31
    assert one.history.step.is_monotonic_increasing
    assert one.history.seconds.is_monotonic_increasing
    assert pde.load(pde.problem("inverse"), tmp_path / "seed-1").history.equals(one.history)


def test_an_interrupted_part_goes_on_with_the_same_points(tmp_path: Path) -> None:
    method = pde.method("pinn", **SMALL, lbfgs_steps=30, refinements=2)
    assert isinstance(method, pde.NetworkMethod)
    (whole,) = train_networks(steep(), method, [3], [tmp_path / "whole"])
    calls = iter(range(1, 10_000))
    with pytest.raises(Interrupted):
        train_networks(steep(), method, [3], [tmp_path / "run"], Monitor(should_stop=lambda: next(calls) == 37))
    assert Run.open(tmp_path / "run-lbfgs-2").status not in ("finished", "diverged")
    (found,) = train_networks(steep(), method, [3], [tmp_path / "run"])
    points = np.linspace(0, 1, 11)
    assert np.array_equal(found(points), whole(points))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        (
            "pinn",
            {"refinements": 1},
            r"refinements=1: must be from 0 to below lbfgs_steps=0, which they",
        ),
        ("pinn", {"refinements": -1, "lbfgs_steps": 5}, r"refinements=-1: input should be greater than or equal to 0"),
        ("pinn", {"refinements": 5, "lbfgs_steps": 5}, r"refinements=5: must be from 0 to below lbfgs_steps=5"),
        ("ritz", {"refinements": 1, "lbfgs_steps": 5}, r"refinements=1: only for 'pinn'; an energy needs"),
    ],
)
def test_refinements_that_cannot_be_are_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        pde.method(name, **settings)
