"""Fully connected nets: against torch's own layers, torch.func's derivatives and closed forms."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.func import hessian, jacfwd, vmap

from anchorlab.errors import InputError
from anchorlab.models.mlp import MLP, gaussian_frequencies, load_mlp, octaves
from anchorlab.models.mlp_activations import NAMES, activation
from anchorlab.models.mlp_initialization import RULES, Initialization

FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "antisymmetric": {"antisymmetric": True},
    "scales": {"input_scales": (1.0, 2.0, 4.0)},
    "waves": {"frequencies": octaves(2, 2)},
    "residual": {"residual": True},
    "scaled": {"output_scale": 0.3, "bias": (False, True), "outputs": 2},
}


def _net(form: str, name: str = "tanh") -> tuple[MLP, dict[str, torch.Tensor]]:
    """A net of two members, both copies of an antisymmetric one unlike each other."""
    net = MLP(inputs=2, widths=(6, 6), activation=name, **FORMS[form])
    random = torch.Generator().manual_seed(0)
    members = [net.initialize(Initialization.by_rate(0.3), seed, dtype=torch.float64) for seed in (1, 2)]
    stacked = {key: torch.stack([one[key] for one in members]) for key in members[0]}
    noise = {key: torch.randn(value.shape, generator=random, dtype=torch.float64) for key, value in stacked.items()}
    return net, {key: value + 0.2 * noise[key] for key, value in stacked.items()}


def _points(count: int = 5) -> torch.Tensor:
    return torch.rand(count, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64) - 0.3


@pytest.mark.parametrize("name", NAMES)
def test_slopes_and_curvatures_of_activations_are_those_of_autograd(name: str) -> None:
    one = activation(name)
    z = torch.linspace(-2.05, 2.05, 40, dtype=torch.float64)[:, None].requires_grad_()
    value, slope, curvature = one(z, 2)
    (first,) = torch.autograd.grad(value.sum(), z, create_graph=True)
    torch.testing.assert_close(slope, first)
    if first.requires_grad:
        (second,) = torch.autograd.grad(first.sum(), z, allow_unused=True)
        expected = torch.zeros_like(z) if second is None else second
        torch.testing.assert_close(curvature, expected, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(one(z, 0)[0], value)


def test_activations_are_those_of_the_book() -> None:
    z = torch.tensor([[-0.7, 0.2, 0.4, 1.3]], dtype=torch.float64)
    a = 0.3
    ricker = math.pi**0.25 / (15 * a) * (1 - (z / a) ** 2) * torch.exp(-((z / a) ** 2) / 2)  # eq. 4.3
    torch.testing.assert_close(activation("ricker:0.3")(z)[0], ricker)
    torch.testing.assert_close(activation("sin:10")(z)[0], torch.sin(10 * z))
    s2relu = torch.sin(2 * math.pi * z) * torch.relu(z) * torch.relu(1 - z)
    torch.testing.assert_close(activation("s2relu")(z)[0], s2relu)
    torch.testing.assert_close(activation("x2_tanh")(z)[0], z**2 * torch.tanh(z))
    halves = 0.5 * torch.cat((torch.cos(z[:, :2]), torch.sin(z[:, 2:])), 1)
    torch.testing.assert_close(activation("cos_sin")(z)[0], halves)


def test_plain_net_is_torchs_own() -> None:
    net, parameters = _net("plain")
    layers: list[nn.Module] = []
    for number, (inputs, outputs) in enumerate(net.layer_sizes):
        layer = nn.Linear(inputs, outputs, dtype=torch.float64)
        layer.weight.data = parameters[f"layers.{number}.weight"][1].T
        layer.bias.data = parameters[f"layers.{number}.bias"][1]
        layers += [layer, nn.Tanh()]
    expected = nn.Sequential(*layers[:-1])(_points())
    torch.testing.assert_close(net(parameters, _points())[1], expected)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["tanh", "ricker:0.8", "x2_tanh", "cos_sin"])
def test_derivatives_are_those_of_torch_func(form: str, name: str) -> None:
    net, parameters = _net(form, name)
    points = _points()
    wanted = [(), (0,), (1, 0), (1, 1), (0, 1, 1)]
    found = net.derivatives(parameters, points, wanted)
    assert list(found) == wanted

    def value(point: torch.Tensor) -> torch.Tensor:
        return net({key: one[1:] for key, one in parameters.items()}, point[None])[0, 0, 0]

    slopes, curvatures = vmap(jacfwd(value))(points), vmap(hessian(value))(points)
    thirds = vmap(jacfwd(hessian(value)))(points)
    expected = [vmap(value)(points), slopes[:, 0], curvatures[:, 0, 1], curvatures[:, 1, 1], thirds[:, 0, 1, 1]]
    for index, one in zip(wanted, expected, strict=True):
        torch.testing.assert_close(found[index][1, :, 0], one, msg=f"{index}")


def test_derivatives_can_be_differentiated_in_the_parameters() -> None:
    net, parameters = _net("plain")
    weights = {key: one.requires_grad_() for key, one in parameters.items()}

    def curvature(*values: torch.Tensor) -> torch.Tensor:
        return net.derivatives(dict(zip(weights, values, strict=True)), _points(2), [(0, 0)])[0, 0]

    assert torch.autograd.gradcheck(curvature, tuple(weights.values()))


def test_antisymmetric_net_starts_at_zero_and_learns() -> None:
    net = MLP(inputs=1, widths=(8,), antisymmetric=True)
    start = net.initialize(Initialization.named("xavier"), 0)
    parameters = {key: one[None].requires_grad_() for key, one in start.items()}
    points = torch.linspace(0, 1, 5)[:, None]
    outputs = net(parameters, points)
    assert outputs.abs().max() < 1e-7
    slopes = torch.autograd.grad(outputs.sum(), list(parameters.values()))
    assert all(one.abs().max() > 1e-3 for one in slopes)


def test_parts_of_the_first_layer_read_scaled_inputs() -> None:
    scaled, parameters = _net("scales")
    plain = MLP(inputs=2, widths=(6, 6))
    weight = parameters["layers.0.weight"] * torch.tensor([1, 1, 2, 2, 4, 4])
    expected = plain(parameters | {"layers.0.weight": weight}, _points())
    torch.testing.assert_close(scaled(parameters, _points()), expected)


@given(st.integers(1, 4), st.integers(1, 3))
def test_octaves_are_powers_of_two_times_pi_on_each_axis(count: int, inputs: int) -> None:
    found = octaves(count, inputs)
    assert len(found) == count * inputs
    assert all(sum(one != 0 for one in row) == 1 for row in found)
    assert sorted({max(row) for row in found}) == pytest.approx([math.pi * 2**level for level in range(count)])


def test_gaussian_frequencies_have_the_asked_spread_and_depend_on_the_seed() -> None:
    found = torch.tensor(gaussian_frequencies(4000, 2, 3.0, 1))
    assert found.std().item() == pytest.approx(2 * math.pi * 3, rel=0.03)
    assert (
        gaussian_frequencies(3, 1, 1.0, 1) == gaussian_frequencies(3, 1, 1.0, 1) != gaussian_frequencies(3, 1, 1.0, 2)
    )


@pytest.mark.parametrize("rule", RULES)
def test_named_rules_have_the_published_spreads(rule: str) -> None:
    net = MLP(inputs=300, widths=(500,), outputs=200)
    found = net.initialize(Initialization.named(rule), 0)
    fan_in = {"lecun": 1 / 300, "he": 2 / 300, "xavier": 2 / 800, "pytorch": 1 / 3 / 300}[rule]
    assert found["layers.0.weight"].var().item() == pytest.approx(fan_in, rel=0.02)
    reference = nn.Linear(300, 500)
    if rule == "pytorch":
        assert found["layers.0.weight"].abs().max().item() == pytest.approx(
            reference.weight.abs().max().item(), rel=0.01
        )
        assert found["layers.0.bias"].std().item() == pytest.approx(reference.bias.std().item(), rel=0.2)
    else:
        assert not found["layers.0.bias"].any()


def test_two_layer_rates_give_their_scaling_parameters() -> None:
    """κ = β₁β₂ and κ' = β₁/β₂ (eq. 7.9, α = 1) are m^-γ and m^-γ'."""
    width, rate, ratio = 40_000, 1.5, -0.25
    found = MLP(inputs=1, widths=(width,)).initialize(Initialization.two_layer(width, rate, ratio), 0)
    inner, outer = found["layers.0.weight"].std().item(), found["layers.1.weight"].std().item()
    assert inner * outer == pytest.approx(width**-rate, rel=0.02)
    assert outer / inner == pytest.approx(width**-ratio, rel=0.02)
    assert found["layers.0.bias"].std().item() == pytest.approx(inner, rel=0.02)


def test_a_seed_is_the_same_net_in_both_precisions() -> None:
    net = MLP(inputs=2, widths=(5,))
    single, double = (
        net.initialize(Initialization.by_rate(1), 4, dtype=kind) for kind in (torch.float32, torch.float64)
    )
    for name, value in double.items():
        torch.testing.assert_close(single[name], value.float(), rtol=0, atol=0)


@pytest.mark.parametrize("form", FORMS)
def test_saved_net_is_the_same(form: str, tmp_path: Path) -> None:
    net, parameters = _net(form)
    net.save({key: one[0] for key, one in parameters.items()}, tmp_path / "model")
    opened, weights = load_mlp(tmp_path / "model")
    assert opened == net
    torch.testing.assert_close(opened(weights, _points()), net(parameters, _points())[:1])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"widths": ()}, "widths: must have at least one hidden layer"),
        ({"widths": (3, 0)}, "widths"),
        ({"activation": "tahn"}, "activation: unknown value 'tahn'; did you mean 'tanh'"),
        ({"activation": "tanh:2"}, "activation='tanh:2': only sin and ricker take a parameter"),
        ({"activation": "sin:-1"}, "a positive number"),
        ({"activation": ("tanh",)}, "one for each of 2 hidden layers"),
        ({"widths": (3, 4), "residual": True}, "must all be equal"),
        ({"input_scales": (1.0,) * 9}, "9 scales are more than 3 units"),
        ({"output_scale": math.inf}, "must be finite"),
        ({"frequencies": ((1.0, 2.0),)}, "every row must have 1 numbers"),
    ],
)
def test_wrong_shapes_are_refused_in_one_line(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        MLP(**({"inputs": 1, "widths": (3, 3)} | wrong))
    assert "\n" not in str(caught.value)


def test_wrong_initializations_and_folders_are_refused(tmp_path: Path) -> None:
    net = MLP(inputs=1, widths=(3,))
    with pytest.raises(InputError, match="3 layers given, the net has 2"):
        net.initialize(Initialization.normal(1, 1, 1), 0)
    with pytest.raises(InputError, match="exactly one"):
        Initialization(rule="he", rate=0.5)
    with pytest.raises(InputError, match="did you mean 'xavier'"):
        Initialization.named("xavie")
    with pytest.raises(InputError, match="not be negative"):
        Initialization.normal(-1, 1)
    with pytest.raises(InputError, match=r"mlp\.json is missing"):
        load_mlp(tmp_path)
