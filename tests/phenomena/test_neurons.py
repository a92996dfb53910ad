"""Neurons of two-layer ReLU nets: against closed forms, planted slopes and planted directions."""

import math
import pickle

import numpy as np
import pandas as pd
import pytest
import torch

from anchorlab.engine.stopping import TargetLoss
from anchorlab.engine.store import MetricRow
from anchorlab.errors import InputError
from anchorlab.phenomena import MLP, Initialization
from anchorlab.phenomena.neurons import (
    Neurons,
    active,
    condensed_groups,
    condensed_share,
    relative_distance,
    scaling_exponent,
    theoretical_boundary,
    zero_crossings,
)

NET = MLP(inputs=1, widths=(4,), activation="relu", bias=(True, False))


def stacked(net: MLP, seed: int = 0) -> dict[str, torch.Tensor]:
    drawn = net.initialize(Initialization.by_rate(0.5), seed, dtype=torch.float64)
    return {name: tensor[None] for name, tensor in drawn.items()}


def on_circle(angles: list[float], lengths: list[float], outputs: list[float]) -> Neurons:
    directions = np.column_stack([np.cos(angles), np.sin(angles)])
    return Neurons(np.array(lengths)[:, None] * directions, np.array(outputs))


def test_direction_and_amplitude_rebuild_the_net():
    parameters = stacked(NET)
    neurons = Neurons.of(parameters)
    x = np.linspace(-2, 2, 9)
    rows = np.column_stack([x, np.ones(9)])
    rebuilt = np.maximum(rows @ neurons.directions.T, 0) @ (np.sign(neurons.outputs) * neurons.amplitudes)
    wanted = NET(parameters, torch.tensor(x)[:, None])[0, :, 0].numpy()
    assert rebuilt == pytest.approx(wanted, abs=1e-12)


def test_angles_are_those_of_the_source():
    found = on_circle([0.0, math.pi / 3, math.pi, -math.pi / 2], [1, 2, 3, 4], [1, -1, 2, 0.5])
    assert found.angles == pytest.approx([0, math.pi / 3, -math.pi, -math.pi / 2])
    assert found.amplitudes == pytest.approx([1, 2, 6, 2])


def test_a_neuron_of_zero_weights_has_no_direction():
    found = Neurons(np.zeros((1, 2)), np.ones(1))
    assert found.directions.tolist() == [[0, 0]]
    assert found.amplitudes.tolist() == [0]


def test_dead_neurons_are_those_without_gradient():
    x = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
    wide = MLP(inputs=1, widths=(200,), activation="relu", bias=(True, False))
    parameters = {name: tensor.requires_grad_() for name, tensor in stacked(wide).items()}
    (wide(parameters, x) - 3).square().sum().backward()
    moves = parameters["layers.0.weight"].grad[0, 0].abs() + parameters["layers.0.bias"].grad[0].abs()
    dead = Neurons.of(parameters).dead(x.numpy())
    assert 0 < dead.sum() < 200
    assert ((moves == 0).numpy() == dead).all()


@pytest.mark.parametrize("bias", [True, False])
def test_the_largest_curvature_is_that_of_the_hessian_at_a_perfect_fit(bias):
    net = MLP(inputs=2, widths=(3,), activation="relu", bias=(bias, False))
    parameters = stacked(net, 3)
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    names = list(parameters)
    targets = net(parameters, x)

    def loss(*tensors: torch.Tensor) -> torch.Tensor:
        return 0.5 * (net(dict(zip(names, tensors, strict=True)), x) - targets).square().mean()

    blocks = torch.autograd.functional.hessian(loss, tuple(parameters[name] for name in names))
    sizes = [parameters[name].numel() for name in names]
    rows = [
        torch.cat([block.reshape(height, width) for block, width in zip(row, sizes, strict=True)], 1)
        for row, height in zip(blocks, sizes, strict=True)
    ]
    hessian = torch.cat(rows)
    wanted = float(torch.linalg.eigvalsh(hessian)[-1])
    assert Neurons.of(parameters).largest_curvature(x.numpy()) == pytest.approx(wanted, rel=1e-9)


def test_relative_distance_is_eq_7_3():
    start = Neurons(np.array([[3.0, 4.0], [0.0, 0.0]]), np.ones(2))
    end = Neurons(np.array([[3.0, 4.0], [0.0, 10.0]]), np.zeros(2))
    assert relative_distance(start, end) == pytest.approx(2.0)
    assert relative_distance(start, start) == 0


@pytest.mark.parametrize("slope", [-0.5, 0.0, 0.375])
def test_a_planted_power_law_is_found(slope):
    widths = [1000, 5000, 40000]
    found = scaling_exponent(widths, [3 * width**slope for width in widths])
    assert found.exponent == pytest.approx(slope, abs=1e-12)
    assert found.standard_error == pytest.approx(0, abs=1e-7)
    assert math.exp(found.intercept) == pytest.approx(3)


def test_the_standard_error_is_the_scatter_of_slopes_of_noisy_lines():
    random = np.random.Generator(np.random.Philox(0))
    widths = [100, 200, 400, 800, 1600]
    found = [
        scaling_exponent(widths, np.exp(0.5 * np.log(widths) + 0.1 * random.normal(size=5)).tolist())
        for _ in range(800)
    ]
    scatter = np.std([one.exponent for one in found])
    assert np.sqrt(np.mean([one.standard_error**2 for one in found])) == pytest.approx(scatter, rel=0.1)


def test_two_points_have_a_slope_without_error():
    assert math.isnan(scaling_exponent([1, 2], [1, 2]).standard_error)


@pytest.mark.parametrize(("lines", "wanted"), [(False, 4), (True, 2)])
def test_planted_directions_are_counted(lines, wanted):
    angles = np.repeat([0.3, 0.3 + np.pi, 1.5, 1.5 - np.pi], [5, 4, 3, 2])
    jitter = 0.05 * np.random.Generator(np.random.Philox(1)).uniform(-1, 1, 14)
    neurons = on_circle((angles + jitter).tolist(), list(range(1, 15)), [1.0] * 14)
    groups = condensed_groups(neurons.weights, lines=lines)
    assert len(set(groups)) == wanted
    assert np.bincount(groups).tolist() == ([9, 5] if lines else [5, 4, 3, 2])


def test_active_neurons_are_large():
    assert active(np.array([1.0, 0.05, 0.5]), 0.1).tolist() == [True, False, True]


def test_the_condensed_share_of_planted_heaps():
    places = np.array([-0.95, -0.95, 0.55, 0.05])
    weights = np.array([2.0, 1.0, 6.0, 1.0])
    share = {"low": -1.0, "high": 1.0, "bins": 20}
    assert condensed_share(places, weights, heaviest=1, **share) == pytest.approx(0.6)
    assert condensed_share(places, weights, heaviest=2, **share) == pytest.approx(0.9)
    even = np.linspace(-0.999, 0.999, 2000)
    assert condensed_share(even, np.ones(2000), heaviest=5, **share) == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize(("ratio", "rate"), [(-1.0, 1.0), (0.0, 1.0), (0.5, 1.5)])
def test_the_boundary_of_the_theory(ratio, rate):
    assert theoretical_boundary(ratio) == rate


def test_crossings_are_interpolated():
    rates = [0.5, 1.0, 1.5, 2.0]
    rows = {0.0: [-0.3, -0.1, 0.3, 0.5], 0.5: [-1.0, -0.5, -0.2, -0.1], -0.5: [0.1, 0.2, 0.3, 0.4]}
    table = pd.DataFrame(
        [(rate, ratio, value) for ratio, values in rows.items() for rate, value in zip(rates, values, strict=True)],
        columns=["rate", "rate_ratio", "exponent"],
    )
    found = zero_crossings(table.sample(frac=1, random_state=0)).set_index("rate_ratio")
    assert found["rate"][0.0] == pytest.approx(1.125)
    assert found["rate"][[0.5, -0.5]].isna().all()
    assert found["boundary"].to_dict() == {-0.5: 1.0, 0.0: 1.0, 0.5: 1.5}
    table.loc[(table["rate_ratio"] == 0) & (table["rate"] == 1.0), "exponent"] = math.nan
    assert zero_crossings(table).set_index("rate_ratio")["rate"][0.0] == pytest.approx(1.0)
    table.loc[table["rate_ratio"] == 0, "exponent"] = math.nan
    without = zero_crossings(table).set_index("rate_ratio")["rate"]
    assert sorted(without.index) == [-0.5, 0.0, 0.5]
    assert math.isnan(without[0.0])


TWO = on_circle([0.0, 1.0], [1, 1], [1, 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Neurons.of(stacked(MLP(inputs=1, widths=(2, 2)))), "must be those of a net with one hidden layer"),
        (lambda: Neurons.of(stacked(MLP(inputs=1, widths=(2,), outputs=2))), "must be of one member and one output"),
        (lambda: Neurons(np.ones((2, 3)), np.ones(2)).angles, "weights of 3 numbers: only"),
        (lambda: TWO.dead(np.ones((4, 3))), "inputs of 3 numbers: the neurons read 2"),
        (lambda: relative_distance(TWO, Neurons(np.ones((3, 2)), np.ones(3))), "must be equal"),
        (lambda: relative_distance(Neurons(np.zeros((2, 2)), np.ones(2)), TWO), "the start is 0"),
        (lambda: scaling_exponent([10, 10], [1, 2]), r"widths=\[10, 10\]: need at least two"),
        (lambda: scaling_exponent([10, 20], [1]), r"widths=\[10, 20\]: need at least two"),
        (lambda: scaling_exponent([10, 20], [1, 0]), r"distances=\[1, 0\]: .*positive"),
        (lambda: scaling_exponent([10, 20], [1, math.nan]), "positive and finite"),
        (lambda: condensed_groups(TWO.weights, threshold=1.0), r"threshold=1.0: must be between 0 and 1"),
        (lambda: active(np.ones(2), 0.0), r"share=0.0: must be above 0 and at most 1"),
        (
            lambda: condensed_share(np.ones(2), np.ones(2), low=0, high=2, bins=4, heaviest=4),
            "heaviest=4: must be at least 1 and less than bins=4",
        ),
        (
            lambda: condensed_share(np.ones(2), np.zeros(2), low=0, high=2, bins=4, heaviest=1),
            "amplitudes: all are 0",
        ),
        (lambda: zero_crossings(pd.DataFrame({"rate": [1.0]})), "has no column exponent, rate_ratio"),
    ],
)
def test_bad_input_is_told_in_one_line(call, message):
    with pytest.raises(InputError, match=message) as error:
        call()
    assert len(str(error.value).splitlines()) == 1


def test_the_target_loss_stops_at_the_newest_evaluation():
    def history(*losses: float, split: str = "train") -> list[MetricRow]:
        return [MetricRow(step, split, "", "loss", loss) for step, loss in enumerate(losses)]

    rule = TargetLoss(0.1)
    assert rule.reason([]) is None
    assert rule.reason(history(1.0, 0.2)) is None
    assert rule.reason(history(0.05, 0.2)) is None
    assert rule.reason(history(1.0, 0.1)) == "loss on train reached 0.1"
    assert rule.reason(history(1.0, 0.01, split="test")) is None
    assert rule.reason(history(1.0, math.nan)) is None
    assert pickle.loads(pickle.dumps(rule)) == rule
