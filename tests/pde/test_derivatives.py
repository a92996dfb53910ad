"""Derivatives of networks by hand, of trial functions with hard conditions, against autograd and closed forms."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anchorlab import pde
from anchorlab.models.mlp import MLP
from anchorlab.models.mlp_initialization import Initialization
from anchorlab.pde.fused import Carried, is_plain, parts
from anchorlab.pde.problem import ResidualProblem
from anchorlab.pde.trial import Trial, Wrapping
from anchorlab.pde.unknown import LAPLACIAN, Key

RULE = Initialization.named("pytorch")


def stacked(network: MLP, members: int = 2) -> dict[str, torch.Tensor]:
    rows = [network.initialize(RULE, seed, dtype=torch.float64) for seed in range(members)]
    return {name: torch.stack([row[name] for row in rows]).requires_grad_() for name in rows[0]}


@settings(max_examples=25, deadline=None)
@given(
    activation=st.sampled_from(["tanh", "sin:3", "cos_sin"]),
    firsts=st.sampled_from([(), (0,), (1, 2), (0, 1, 2)]),
    scales=st.sampled_from([(), (1.0, 4.0)]),
    depth=st.integers(1, 3),
    data=st.data(),
)
def test_parts_and_gradients_are_those_of_the_general_way(
    activation: str, firsts: tuple[int, ...], scales: tuple[float, ...], depth: int, data: st.DataObject
) -> None:
    pairs = [(i, j) for i in firsts for j in firsts if i <= j]
    terms = st.lists(st.sampled_from(pairs), min_size=1, max_size=3) if pairs else st.nothing()
    seconds = data.draw(st.lists(terms.map(tuple), max_size=2)) if pairs else []
    network = MLP(inputs=3, widths=(6,) * depth, activation=activation, input_scales=scales, output_scale=1.5)
    assert is_plain(network)
    parameters, points = stacked(network), torch.rand(2, 5, 3, dtype=torch.float64)
    found = parts(network, parameters, points, Carried(firsts, tuple(seconds)))
    wanted = [(), *((i,) for i in firsts), *{pair for one in seconds for pair in one}]
    known = network.derivatives(parameters, points, wanted)
    sums = [sum((known[pair] for pair in one[1:]), start=known[one[0]]) for one in seconds]
    expected = torch.stack([known[()], *(known[(i,)] for i in firsts), *sums], 1)
    torch.testing.assert_close(found, expected)
    weights = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    own, general = (
        torch.autograd.grad((one * weights).sum(), list(parameters.values()), allow_unused=True, materialize_grads=True)
        for one in (found, expected)
    )
    for ours, theirs in zip(own, general, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("network", [{"residual": True}, {"antisymmetric": True}, {"activation": "softplus"}])
def test_other_nets_take_the_general_way(network: dict[str, object]) -> None:
    net = MLP(inputs=2, widths=(6, 6), **network)  # type: ignore[arg-type]
    assert not is_plain(net)
    found = Trial(net, pde.Box({"x": (0, 1), "y": (0, 1)}), [], [(), LAPLACIAN])(
        stacked(net), torch.rand(2, 4, 2).double()
    )
    plain = net.derivatives(stacked(net), torch.rand(2, 4, 2).double(), [(0, 0), (1, 1)])
    assert found[LAPLACIAN].shape == plain[(0, 0)].shape


def test_hard_conditions_hold_exactly_and_the_product_rule_is_exact() -> None:
    square = pde.Box({"x": (0, 1), "t": (0, 2)}, time="t")
    value = lambda at: torch.sin(math.pi * at.x)  # noqa: E731
    conditions = [pde.Dirichlet(value=value, hard=True), pde.Initial(value=value, hard=True)]
    keys: list[Key] = [(), (0,), (1,), (0, 0), (0, 1), (1, 1)]
    network = MLP(inputs=2, widths=(5, 5))
    trial, parameters = Trial(network, square, conditions, keys), stacked(network, 1)

    def function(points: torch.Tensor) -> torch.Tensor:
        wrapping = Wrapping(*(one[None] for one in trial.wrapping(points)))
        return trial(parameters, points[None], wrapping)[()][0, :, 0]

    def closed(point: torch.Tensor) -> torch.Tensor:
        x, t = point
        return torch.sin(math.pi * x) + 4 * x * (1 - x) * t / 2 * network(parameters, point[None, None])[0, 0, 0]

    points = torch.rand(4, 2, dtype=torch.float64)
    wrapping = Wrapping(*(one[None] for one in trial.wrapping(points)))
    found = {key: one[0, :, 0] for key, one in trial(parameters, points[None], wrapping).items()}
    for number, point in enumerate(points):
        slope, bend = torch.func.jacrev(closed)(point), torch.func.hessian(closed)(point)
        expected = torch.stack([closed(point), *slope, bend[0, 0], bend[0, 1], bend[1, 1]])
        torch.testing.assert_close(torch.stack([found[key][number] for key in keys]), expected)
    edges = torch.tensor([[0.0, 1.3], [1.0, 0.4], [0.3, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(function(edges), torch.sin(math.pi * edges[:, 0]), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ["poisson", "poisson2d", "heat", "burgers", "inverse"])
@pytest.mark.parametrize("hard", [False, True])
def test_gradients_by_hand_are_those_of_autograd(name: str, hard: bool) -> None:
    network = MLP(inputs=pde.problem(name).domain.dimensions, widths=(7, 6))
    problem = ResidualProblem(
        pde.problem(name, weight=3.0, hard=hard), network, RULE, [0, 1], pde.Collocation(interior=40, boundary=5),
        dtype=torch.float64,
    )  # fmt: skip
    rows = [problem.initialize(member) for member in range(2)]
    parameters = {key: torch.stack([row[key] for row in rows]).requires_grad_() for key in rows[0]}
    batch = problem.batch([0, 1], 0)
    places = {key: torch.empty_like(one) for key, one in parameters.items()}
    losses = problem.write_gradients(parameters, batch, places)
    expected = problem.loss(parameters, batch)
    assert losses is not None
    torch.testing.assert_close(losses, expected.detach())
    for (key, place), gradient in zip(
        places.items(), torch.autograd.grad(expected.sum(), list(parameters.values())), strict=True
    ):
        torch.testing.assert_close(place, gradient, msg=key)


def test_third_derivatives_take_the_general_way() -> None:
    beam = pde.PDE(
        domain=pde.Interval(0, 1),
        equation=lambda at, u: u.d("x", "x", "x") - 6,
        conditions=[pde.Dirichlet(on="x=0"), pde.Neumann(on="x=0"), pde.Dirichlet(on="x=1", value=1.0)],
        exact=lambda at: at.x**3,
    )
    problem = ResidualProblem(beam, MLP(inputs=1, widths=(5,)), RULE, [0], pde.Collocation(interior=10))
    rows = problem.initialize(0)
    parameters = {name: tensor[None].requires_grad_() for name, tensor in rows.items()}
    assert problem.write_gradients(parameters, problem.batch([0], 0), {}) is None
    assert np.isfinite(problem.loss(parameters, problem.batch([0], 0)).item())
