"""Function fits in the engine: gradients by hand against autograd, members against single runs, bad input."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from anchorlab.engine import OptimizerSettings, Population, Schedule
from anchorlab.engine.functions import FunctionMember, FunctionProblem, Points
from anchorlab.errors import InputError
from anchorlab.models.mlp import MLP, octaves
from anchorlab.models.mlp_activations import NAMES
from anchorlab.models.mlp_initialization import Initialization
from anchorlab.phenomena import Fit, train_fits
from anchorlab.phenomena.fitting import parameters_of

FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "antisymmetric": {"antisymmetric": True},
    "scales": {"input_scales": (1.0, 2.0, 4.0)},
    "waves": {"frequencies": octaves(2, 2)},
    "residual": {"residual": True},
    "scaled": {"output_scale": 0.3, "bias": (False, True)},
    "one input": {"inputs": 1},
    "one output": {"outputs": 1},
    "two layers": {"widths": (6,), "outputs": 1},
    "two layers of one input": {"inputs": 1, "widths": (6,), "outputs": 1, "bias": (True, False)},
    "two antisymmetric layers": {"widths": (6,), "outputs": 1, "antisymmetric": True, "output_scale": 0.3},
    "two layers with scales": {"widths": (6,), "outputs": 1, "input_scales": (1.0, 2.0), "bias": (False, True)},
}


def _points(inputs: int, outputs: int, loss: str, seed: int = 0) -> Points:
    random = torch.Generator().manual_seed(seed)
    x = torch.rand(7, inputs, generator=random) * 2 - 1
    if loss == "cross_entropy":
        return Points(x, torch.randint(outputs, (7, 1), generator=random).float())
    return Points(x, torch.randn(7, outputs, generator=random))


@pytest.mark.parametrize("loss", ["mse", "half_mse", "cross_entropy"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_gradients_by_hand_are_those_of_autograd(form: str, name: str, loss: Any) -> None:
    net = MLP(**({"inputs": 2, "widths": (6, 6, 6), "outputs": 3, "activation": name} | FORMS[form]))
    members = [
        FunctionMember({"train": _points(net.inputs, net.outputs, loss, seed)}, Initialization.by_rate(0.3), seed)
        for seed in (1, 2)
    ]
    problem = FunctionProblem(net, members, loss=loss, dtype=torch.float64)
    starts = [problem.initialize(member) for member in (0, 1)]
    # Copies of an antisymmetric net that are equal would hide an exchange.
    random = torch.Generator().manual_seed(0)
    parameters = {
        key: (torch.stack([one[key] for one in starts]) + 0.1 * torch.randn(2, *value.shape, generator=random).double())
        for key, value in starts[0].items()
    }
    weights = {key: value.requires_grad_() for key, value in parameters.items()}
    batch = problem.batch([0, 1], 0)
    losses = problem.loss(weights, batch)
    gradients = torch.autograd.grad(losses.sum(), list(weights.values()))
    places = {key: torch.zeros_like(value) for key, value in weights.items()}
    torch.testing.assert_close(problem.write_gradients(weights, batch, places), losses.detach())
    for key, gradient in zip(weights, gradients, strict=True):
        torch.testing.assert_close(places[key], gradient, atol=1e-11, rtol=1e-9)


@pytest.mark.parametrize("optimizer", ["gd", "adam"])
@pytest.mark.parametrize("batch_size", [None, 3])
def test_members_follow_plain_torch_loops(optimizer: Any, batch_size: int | None) -> None:
    net = MLP(inputs=2, widths=(5, 4))
    data = {"train": _points(2, 1, "mse")}
    members = [FunctionMember(data, Initialization.by_rate(0.5), seed, order_seed=seed) for seed in (0, 1, 2)]
    problem = FunctionProblem(net, members, batch_size=batch_size, dtype=torch.float64)
    population = Population(problem, [OptimizerSettings(optimizer, Schedule.constant(r)) for r in (0.1, 0.2, 0.05)])
    population.advance(0, 12)
    for member, rate in enumerate((0.1, 0.2, 0.05)):
        own = {key: value.clone().requires_grad_() for key, value in problem.initialize(member).items()}
        rule = torch.optim.SGD if optimizer == "gd" else torch.optim.Adam
        torch_optimizer = rule(own.values(), lr=rate)
        for step in range(12):
            batch = problem.batch([member], step)
            hidden = batch.inputs[0]
            for layer in range(2):
                hidden = torch.tanh(hidden @ own[f"layers.{layer}.weight"] + own[f"layers.{layer}.bias"])
            output = hidden @ own["layers.2.weight"] + own["layers.2.bias"]
            torch_optimizer.zero_grad()
            functional.mse_loss(output, batch.targets[0]).backward()
            torch_optimizer.step()
        for key, value in population.member_parameters(member).items():
            torch.testing.assert_close(value, own[key].detach(), rtol=1e-10, atol=1e-12)


def test_a_member_that_diverges_stops_and_the_others_go_on_as_alone() -> None:
    net, data = MLP(inputs=2, widths=(5,), activation="x2_tanh"), {"train": _points(2, 1, "mse")}
    members = [FunctionMember(data, Initialization.by_rate(0.5), seed) for seed in (0, 1)]

    def trained(rates: list[float], chosen: list[FunctionMember]) -> tuple[Any, Population]:
        settings = [OptimizerSettings("gd", Schedule.constant(rate)) for rate in rates]
        population = Population(FunctionProblem(net, chosen, dtype=torch.float64), settings)
        return population.advance(0, 30), population

    result, both = trained([1e6, 0.05], members)
    assert list(result.diverged) == [0]
    _, alone = trained([0.05], members[1:])
    for key, value in alone.member_parameters(0).items():
        torch.testing.assert_close(both.member_parameters(1)[key], value, rtol=1e-10, atol=1e-12)


def test_mini_batches_of_an_epoch_are_a_permutation() -> None:
    x = torch.arange(12.0)[:, None]
    members = [
        FunctionMember({"train": Points(x, x)}, Initialization.by_rate(1), 0, order_seed=seed) for seed in (0, 1)
    ]
    problem = FunctionProblem(MLP(inputs=1, widths=(2,)), members, batch_size=4)
    epoch = torch.cat([problem.batch([0, 1], step).inputs for step in range(3)], 1)[..., 0]
    assert all(sorted(row.tolist()) == x[:, 0].tolist() for row in epoch)
    assert epoch[0].tolist() != epoch[1].tolist()
    assert problem.batch([1], 2).inputs[0, :, 0].tolist() == epoch[1, 8:].tolist()


def test_gradient_loss_is_that_of_autograd() -> None:
    net = MLP(inputs=2, widths=(5,), outputs=2)
    points = _points(2, 2, "mse")
    slopes = torch.randn(7, 2, 2, generator=torch.Generator().manual_seed(5))
    member = FunctionMember({"train": Points(points.inputs, points.targets, slopes)}, Initialization.by_rate(0.5), 0)
    problem = FunctionProblem(net, [member], gradient_weight=0.7, dtype=torch.float64)
    parameters = {key: value[None] for key, value in problem.initialize(0).items()}
    batch = problem.batch([0], 0)

    def outputs(x: torch.Tensor) -> torch.Tensor:
        return net(parameters, x)[0]

    x = batch.inputs[0]
    jacobian = torch.stack([torch.func.jacrev(outputs)(one[None])[0, :, 0] for one in x])
    expected = functional.mse_loss(outputs(x), batch.targets[0]) + 0.7 * functional.mse_loss(jacobian, slopes.double())
    torch.testing.assert_close(problem.loss(parameters, batch)[0], expected)


def test_classes_are_counted_right(tmp_path: Path) -> None:
    x = torch.linspace(-1, 1, 40)[:, None]
    data = {"train": Points(x, (x > 0).float()), "test": Points(x[::2], (x[::2] <= 0).float())}
    fit = Fit(
        network=MLP(inputs=1, widths=(16,), outputs=2),
        initialization=Initialization.named("xavier"),
        data=data,
        loss="cross_entropy",
        learning_rate=0.05,
        steps=150,
    )
    (run,) = train_fits({"one": fit}, tmp_path, progress=False)
    assert run.final("train") >= 0.97
    assert run.final("test") <= 0.05  # its labels are the opposite ones


def test_fits_are_measured_and_kept_where_asked_and_stacks_change_nothing(tmp_path: Path) -> None:
    x = torch.linspace(-1, 1, 9)[:, None]
    fits = {
        f"seed{seed}": Fit(
            network=MLP(inputs=1, widths=(4,)),
            initialization=Initialization.by_rate(0.5),
            data={"train": Points(x, torch.sin(3 * x))},
            seed=seed,
            steps=20,
            evaluate_every=20,
            evaluate_at=(1, 7),
            keep_checkpoints=True,
            dtype="float64",
        )
        for seed in range(3)
    }
    stacked = train_fits(fits, tmp_path / "stacked", members_at_once=3, progress=False)
    alone = train_fits(fits, tmp_path / "alone", members_at_once=1, progress=False)
    for one, other in zip(stacked, alone, strict=True):
        assert one.metrics()["step"].tolist() == [0, 1, 7, 20]
        assert one.checkpoints() == [0, 1, 7, 20]
        for step in (7, 20):
            for key, value in parameters_of(one, step).items():
                torch.testing.assert_close(value, parameters_of(other, step)[key], rtol=1e-10, atol=1e-12)
    assert train_fits(fits, tmp_path / "stacked", progress=False)[0].folder == stacked[0].folder  # ended: not repeated


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_size": 8}, "batch_size=8: must be between 1 and the 7 training points"),
        ({"gradient_weight": 1.0}, "need gradients"),
        ({"loss": "cross_entropy"}, "classes must be whole numbers from 0 to 0"),
    ],
)
def test_settings_that_do_not_fit_the_points_are_refused(wrong: dict[str, Any], message: str) -> None:
    member = FunctionMember({"train": _points(2, 1, "mse")}, Initialization.by_rate(0.5), 0)
    with pytest.raises(InputError, match=message):
        FunctionProblem(MLP(inputs=2, widths=(3,)), [member], **wrong)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({}, "one named 'train'"),
        ({"train": Points(torch.zeros(0, 1), torch.zeros(0, 1))}, "'train': has no points"),
        ({"train": Points(torch.zeros(3, 2), torch.zeros(3, 1))}, r"must be \[n, 1\] and \[n, 1\]"),
        ({"train": Points(torch.zeros(3, 1), torch.full((3, 1), torch.nan))}, "not finite"),
    ],
)
def test_points_that_do_not_fit_the_net_are_refused(splits: dict[str, Points], message: str) -> None:
    with pytest.raises(InputError, match=message):
        FunctionProblem(MLP(inputs=1, widths=(3,)), [FunctionMember(splits, Initialization.by_rate(0.5), 0)])


KNOWN: dict[str, Any] = {
    "network": MLP(inputs=1, widths=(2,)),
    "initialization": Initialization.by_rate(1),
    "data": {"train": Points(torch.zeros(2, 1), torch.zeros(2, 1))},
}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"learning_rate": 0}, "learning_rate=0: input should be greater than 0"),
        ({"learning_rate": float("inf")}, "learning_rate=inf: input should be a finite number"),
        ({"steps": -1}, "steps=-1: input should be greater than 0"),
        ({"steps": True}, "steps=True: must be a number, not true or false"),
        ({"seed": -1}, "seed=-1: input should be greater than or equal to 0"),
        ({"weight_decay": float("nan")}, "weight_decay=nan: input should be a finite number"),
        ({"steps": 1.5}, "steps=1.5: input should be a valid integer"),
        ({"optimizer": "adamm"}, "optimizer='adamm': input should be 'adamw', 'adam', 'sgd', 'gd' or 'lbfgs'"),
        ({"loss": "mae"}, "loss='mae': input should be 'mse', 'half_mse' or 'cross_entropy'"),
        ({"dtype": "float16"}, "dtype='float16': input should be 'float32' or 'float64'"),
        ({"evaluate_at": (-1,)}, "evaluate_at.0=-1: input should be greater than or equal to 0"),
        ({"momentun": 0.9}, "setting: unknown value 'momentun'; did you mean 'momentum'?"),
        ({"optimizer": "lbfgs", "batch_size": 1}, "optimizer='lbfgs': must have neither batch_size nor"),
        (
            {"data": {"train": Points(torch.zeros(2), torch.zeros(2))}},
            r"inputs \[2\] and targets \[2\] must be \[n, 1\]",
        ),
    ],
)
def test_fits_with_wrong_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Fit(**{**KNOWN, **wrong})


def test_no_fits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there are none"):
        train_fits({}, tmp_path)


def test_lbfgs_fits_starts_with_whole_steps(tmp_path: Path) -> None:
    x = torch.linspace(-1, 1, 20)[:, None]
    fit = Fit(
        network=MLP(inputs=1, widths=(10,)),
        initialization=Initialization.named("xavier"),
        data={"train": Points(x, torch.sin(x))},
        optimizer="lbfgs",
        steps=40,
        dtype="float64",
    )
    (run,) = train_fits({"one": fit}, tmp_path, progress=False)
    assert run.final("train", metric="loss") <= 1e-5


def test_fits_with_and_without_slopes_are_trained_apart(tmp_path: Path) -> None:
    x = torch.linspace(-1, 1, 5)[:, None]
    points = {"with": Points(x, x, torch.ones(5, 1, 1)), "without": Points(x, x)}
    fits = {name: Fit(**{**KNOWN, "data": {"train": one}}, steps=2) for name, one in points.items()}
    assert len(train_fits(fits, tmp_path, members_at_once=2, progress=False)) == 2
