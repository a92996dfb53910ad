"""Values and derivatives of a plain net with the backward pass written out: small nets are slow because of the number
of operations, and here they are few.

`MLP.derivatives` carries the same numbers forward through any net; each of its operations is then differentiated on its
own. Here a sum of second derivatives (a Laplacian) is carried as one number, too.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from anchorlab.models.mlp import MLP

Pair = tuple[int, int]


class Carried:
    """What is carried beside the value: first derivatives in these inputs, and sums of second ones.

    Inputs of second derivatives must be among `firsts`.
    """

    def __init__(self, firsts: tuple[int, ...] = (), seconds: tuple[tuple[Pair, ...], ...] = ()):
        self.firsts = firsts
        self.seconds = seconds

    @cached_property
    def count(self) -> int:
        """How many numbers there are at a point, the value included."""
        return 1 + len(self.firsts) + len(self.seconds)

    @cached_property
    def terms(self) -> list[tuple[int, list[Pair]]]:
        """Every sum: its place among all parts, and those of its first derivatives."""
        place = {axis: 1 + number for number, axis in enumerate(self.firsts)}
        start = 1 + len(self.firsts)
        return [(start + k, [(place[i], place[j]) for i, j in terms]) for k, terms in enumerate(self.seconds)]


class _Rule(NamedTuple):
    """An activation σ with σ'' = k σ σ' (`own_slope`: tanh) or σ'' = k σ (sines)."""

    kind: str
    curvature: float
    own_slope: bool
    factor: float = 1.0

    def __call__(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """σ(z) and σ'(z)."""
        if self.own_slope:
            value = torch.tanh(z)
            return value, 1 - value * value
        if self.kind == "sin":
            turned = z * self.factor
            return torch.sin(turned), torch.cos(turned).mul_(self.factor)
        sine, cosine = torch.sin(z).mul_(0.5), torch.cos(z).mul_(0.5)
        half = z.shape[-1] // 2
        first, second = (cosine[..., :half], sine[..., half:]), (-sine[..., :half], cosine[..., half:])
        return torch.cat(first, -1), torch.cat(second, -1)


def _rule(name: str) -> _Rule | None:
    kind, _, parameter = name.partition(":")
    factor = float(parameter or 1)
    rules = {
        "tanh": _Rule("tanh", -2.0, True),
        "sin": _Rule("sin", -(factor**2), False, factor),
        "cos_sin": _Rule("cos_sin", -1.0, False),
    }
    return rules.get(kind)


def is_plain(network: MLP) -> bool:
    """Whether this works for a net: one activation of tanh, sin, cos_sin; no features that change its layers."""
    names = set(network.activation_names)
    plain = not (network.residual or network.antisymmetric or network.frequencies)
    return plain and len(names) == 1 and _rule(names.pop()) is not None and network.bias == (True, True)


class _Layer(NamedTuple):
    """What the backward pass needs of a hidden layer; `products` are of first derivatives, for every sum of seconds."""

    z: Tensor
    value: Tensor
    slope: Tensor
    products: list[Tensor]
    handed: Tensor


class Tape(NamedTuple):
    """What the backward pass needs of a forward one."""

    network: MLP
    rule: _Rule
    carried: Carried
    points: Tensor
    weights: list[Tensor]
    layers: list[_Layer]


def parts(
    network: MLP, parameters: Mapping[str, Tensor], points: Float[Tensor, "member n inputs"], carried: Carried
) -> Float[Tensor, "member part n outputs"]:
    """Value, first derivatives and sums of second ones at every point; can be differentiated once in the parameters."""
    names = list(network.shapes())
    weights = (parameters[name] for name in names)
    found: Tensor = _Parts.apply(network, carried, points, names, *weights)  # type: ignore[no-untyped-call]
    return found


class _Parts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, network: MLP, carried: Carried, points: Tensor, names: list[str], *weights: Tensor) -> Tensor:
        ctx.parameters = dict(zip(names, weights, strict=True))
        found, ctx.tape = forward(network, ctx.parameters, points, carried)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        places = {name: torch.empty_like(weight) for name, weight in ctx.parameters.items()}
        backward(ctx.tape, gradient, places)
        return (None, None, None, None, *places.values())


def forward(
    network: MLP, parameters: Mapping[str, Tensor], points: Float[Tensor, "member n inputs"], carried: Carried
) -> tuple[Float[Tensor, "member part n outputs"], Tape]:
    """Value, first derivatives and sums of second ones at every point, and what `backward` needs."""
    rule = _rule(network.activation_names[0])
    assert rule is not None, network.activation
    weights = [parameters[f"layers.{k}.{kind}"] for k in range(len(network.widths) + 1) for kind in ("weight", "bias")]
    if network.input_scales:
        weights[0] = weights[0] * network.unit_scales().to(points)
    layers = []
    z = _first_layer(carried, points, weights[0], weights[1])
    for layer in range(2, len(weights), 2):
        layers.append(_through(rule, carried, z))
        z = _affine(layers[-1].handed, weights[layer], weights[layer + 1])
    found = z if network.output_scale == 1 else z * network.output_scale
    return found, Tape(network, rule, carried, points, weights, layers)


def backward(
    tape: Tape, gradient: Float[Tensor, "member part n outputs"], places: Mapping[str, Tensor], *, add: bool = False
) -> None:
    """Write (or `add`) the gradient in the parameters, from that in `forward`'s result, to `places`."""
    network, firsts = tape.network, tape.carried.firsts
    if network.output_scale != 1:
        gradient = gradient * network.output_scale
    for number in range(len(tape.layers), 0, -1):
        layer, weight = tape.layers[number - 1], tape.weights[2 * number]
        members, count, rows, width = gradient.shape
        flat = gradient.reshape(members, count * rows, width)
        read = layer.handed.view(members, count * rows, -1)
        _put(places[f"layers.{number}.weight"], torch.bmm(read.transpose(1, 2), flat), add)
        _put(places[f"layers.{number}.bias"], gradient[:, 0].sum(1), add)
        below = torch.bmm(flat, weight.transpose(1, 2)).view(members, count, rows, -1)
        gradient = _through_backward(tape.rule, tape.carried, layer, below)
    value = gradient[:, 0]
    direct = torch.bmm(tape.points.transpose(1, 2), value)
    if firsts:
        slopes = gradient[:, 1 : 1 + len(firsts)].sum(2)
        if firsts == tuple(range(direct.shape[1])):
            direct += slopes
        else:
            direct[:, list(firsts)] += slopes
    if network.input_scales:
        direct *= network.unit_scales().to(direct)
    _put(places["layers.0.weight"], direct, add)
    _put(places["layers.0.bias"], value.sum(1), add)


def _put(place: Tensor, value: Tensor, add: bool) -> None:
    if add:
        place.add_(value)
    else:
        place.copy_(value)


def _first_layer(carried: Carried, points: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The first derivatives of W x + b are rows of W, the second ones are 0."""
    if carried.count == 1:
        return torch.baddbmm(bias[:, None], points, weight)[:, None]
    z = weight.new_zeros(len(weight), carried.count, points.shape[1], weight.shape[-1])
    torch.baddbmm(bias[:, None], points, weight, out=z[:, 0])
    rows = weight if carried.firsts == tuple(range(weight.shape[1])) else weight[:, list(carried.firsts)]
    z[:, 1 : 1 + len(carried.firsts)] = rows[:, :, None]
    return z


def _affine(read: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    members, count, rows, width = read.shape
    z = torch.bmm(read.view(members, count * rows, width), weight).view(members, count, rows, -1)
    z[:, 0].add_(bias[:, None])
    return z


def _through(rule: _Rule, carried: Carried, z: Tensor) -> _Layer:
    """σ of the value; σ' times every derivative, and for second ones σ'' times products of first ones."""
    if carried.count == 1:
        value, slope = rule(z[:, 0])
        return _Layer(z, value, slope, [], value[:, None])
    # A view costs as much as the operation on a small tensor: all of them are made at once.
    own = z.unbind(1)
    value, slope = rule(own[0])
    handed = z * slope[:, None]
    out = handed.unbind(1)
    out[0].copy_(value)
    inner, products = out if rule.own_slope else own, []
    for place, terms in carried.terms:
        (i, j), *rest = terms
        product = inner[i] * own[j]
        for i, j in rest:
            product.addcmul_(inner[i], own[j])
        out[place].addcmul_(value, product, value=rule.curvature)
        products.append(product)
    return _Layer(z, value, slope, products, handed)


def _through_backward(rule: _Rule, carried: Carried, layer: _Layer, gradient: Tensor) -> Tensor:
    z, value, slope, products, _ = layer
    below = gradient * slope[:, None]
    if carried.count == 1:
        return below
    out, own = below.unbind(1), z.unbind(1)
    source, k = below if rule.own_slope else gradient, rule.curvature
    inner = out if rule.own_slope else gradient.unbind(1)
    # σ'' times first derivatives goes to the other factor of every product. With σ'' = k σ σ' half of that must be
    # there when σ'' of all parts is summed: this makes up for that part of σ''' which is the square of σ.
    halves = []
    for place, terms in carried.terms:
        bend = value * inner[place]
        for i, j in terms:
            halves.append((out[i], bend * own[j], k if i == j else k / 2))
            if i != j:
                halves.append((out[j], bend * own[i], k / 2))
    for target, half, factor in halves:
        target.add_(half, alpha=factor)
    weighted = (source[:, 1:] * z[:, 1:]).sum(1)
    for target, half, factor in halves:
        target.add_(half, alpha=factor)
    out[0].addcmul_(value, weighted, value=k)
    for (place, _), product in zip(carried.terms, products, strict=True):
        out[0].addcmul_(out[place], product, value=k)
    return below
