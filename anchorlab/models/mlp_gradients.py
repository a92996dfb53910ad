"""Gradients of fully connected nets without autograd: the same numbers with a third of the memory traffic."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from .mlp import MLP
from .mlp_activations import activation

OutputLoss = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From outputs [member, n, outputs] to the losses [member] and their gradients in the outputs."""

_BACKWARD_FROM_VALUE: dict[str, Callable[..., Tensor]] = {
    "tanh": torch.ops.aten.tanh_backward.grad_input,
    "relu": lambda gradient, value, grad_input: torch.ops.aten.threshold_backward.grad_input(
        gradient, value, 0, grad_input=grad_input
    ),
}
_IN_PLACE = {"tanh": torch.tanh_, "relu": torch.relu_}
_SLOPE_FROM_VALUE: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": lambda value: 1 - value.square_(),
    "relu": lambda value: value.sign_(),
}


@torch.no_grad()
def write_gradients(
    network: MLP,
    parameters: Mapping[str, Tensor],
    inputs: Float[Tensor, "member n inputs"],
    loss: OutputLoss,
    places: Mapping[str, Tensor],
) -> Float[Tensor, " member"]:
    """The loss of every member; its gradients are written to `places`, one for each parameter and of its shape."""
    hidden = network.first_layer_inputs(inputs)
    layers = [network.layer(parameters, number) for number in range(len(network.widths) + 1)]
    read, slopes = [], []
    for number, name in enumerate(network.activation_names):
        read.append(hidden)
        product = _affine(hidden, *layers[number])
        if name in _IN_PLACE:
            value, slope = _IN_PLACE[name](product), None
        else:
            value, slope = activation(name)(product, 1)
        slopes.append(value if slope is None else slope)
        hidden = value + hidden if network.residual and number else value
    read.append(hidden)
    losses, gradient = loss(network.combine(_affine(hidden, *layers[-1])))
    gradient = network.spread(gradient)
    for number in reversed(range(len(layers))):
        weight, bias = layers[number]
        if number < len(network.widths):
            passed = gradient
            gradient = _through(network.activation_names[number], gradient, slopes[number], keep=network.residual)
        _write_weight(network, number, _product(read[number], gradient), places)
        if bias is not None:
            torch.sum(_by_copy(gradient, network), 2, out=_bias_place(network, number, places))
        if number == 1 and network.outputs == 1 and len(layers) == 2:
            _write_first_of_two(network, read[0], gradient, weight, slopes[0], places)
            break
        if number:
            before = gradient * weight.mT if weight.shape[-1] == 1 else torch.bmm(gradient, weight.mT)
            skips = network.residual and 0 < number < len(network.widths)
            gradient = before + passed if skips else before
    return losses


def _affine(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if rows.shape[-1] == 1:  # a product with one number needs no matrix kernel
        return rows * weight if bias is None else torch.addcmul(bias[:, None], rows, weight)
    return torch.bmm(rows, weight) if bias is None else torch.baddbmm(bias[:, None], rows, weight)


def _through(name: str, gradient: Tensor, slope: Tensor, *, keep: bool) -> Tensor:
    place = torch.empty_like(gradient) if keep else gradient
    if name in _BACKWARD_FROM_VALUE:
        _BACKWARD_FROM_VALUE[name](gradient, slope, grad_input=place)
        return place
    return torch.mul(gradient, slope, out=place)


def _product(rows: Tensor, gradient: Tensor) -> Tensor:
    return torch.bmm(gradient.mT, rows).mT if gradient.shape[-1] == 1 else torch.bmm(rows.mT, gradient)


def _write_weight(network: MLP, number: int, found: Tensor, places: Mapping[str, Tensor]) -> None:
    if number == 0 and network.input_scales:
        found = found * network.unit_scales().to(found)
    place = places[f"layers.{number}.weight"]
    place.copy_(found.view(place.shape) if found.is_contiguous() else found.reshape(place.shape))


def _bias_place(network: MLP, number: int, places: Mapping[str, Tensor]) -> Tensor:
    # A place may be a part of a larger tensor: only its last axis can be viewed as two.
    place: Tensor = places[f"layers.{number}.bias"].unflatten(-1, (2 if network.antisymmetric else 1, -1))
    return place


def _by_copy(found: Tensor, network: MLP) -> Tensor:
    parted: Tensor = found.unflatten(0, (-1, 2 if network.antisymmetric else 1))
    return parted


def _write_first_of_two(
    network: MLP,
    rows: Float[Tensor, "copy n inputs"],
    gradient: Float[Tensor, "copy n 1"],
    weight: Float[Tensor, "copy width 1"],
    slope: Float[Tensor, "copy n width"],
    places: Mapping[str, Tensor],
) -> None:
    """The first layer's gradients in a two-layer net of one output; `gradient` and `weight` are the output's.

    A neuron's output weight is the same for all rows: it can multiply their sum instead of each.
    """
    (name,) = network.activation_names
    slope = _SLOPE_FROM_VALUE[name](slope) if name in _IN_PLACE else slope
    weighted = torch.cat((rows * gradient, gradient), -1)  # the last column is the bias's
    found = torch.bmm(weighted.mT, slope).mul_(weight.mT)
    _write_weight(network, 0, found[:, :-1], places)
    if network.bias[0]:
        _bias_place(network, 0, places).copy_(_by_copy(found[:, -1], network))
