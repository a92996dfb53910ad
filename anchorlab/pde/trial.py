"""The trial function: a net, or g + d N with a net N so that hard conditions hold exactly, with its derivatives."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import hessian, jacrev, vmap

from anchorlab.errors import InputError
from anchorlab.models.mlp import MLP

from .conditions import Condition, Dirichlet, Initial, at_points
from .domains import Box, Domain
from .fused import Carried, Tape, forward, is_plain, parts
from .unknown import LAPLACIAN, At, Key, indices


class Wrapping(NamedTuple):
    """At every point: the parts of u that do not depend on the net, and how its other parts follow from the net's."""

    constant: Float[Tensor, "*batch key n"]
    factors: Float[Tensor, "*batch key part n"]


class Trial:
    """u of one set of points, with the derivatives `keys`, for all members at once.

    Plain nets take the short way of `fused.parts`, others `MLP.derivatives`.
    """

    def __init__(self, network: MLP, domain: Domain, conditions: Sequence[Condition], keys: Sequence[Key]):
        self.network = network
        self.keys = tuple(keys)
        self._domain = domain
        self._hard = [one for one in conditions if one.hard]
        self._space = domain.space
        own = _with_lower(self.keys, self._space) if self._hard else self.keys
        self._carried = _carried(own, self._space)
        self.fused = is_plain(network) and self._carried is not None
        self._parts: tuple[Key, ...] = _parts_of(self._carried) if self._carried else own
        if self._hard and (network.outputs != 1 or self._carried is None):
            raise InputError("hard conditions: only for one unknown function and derivatives up to the second")

    @property
    def available(self) -> set[Key]:
        """The derivatives that are there, asked for or needed on the way to others."""
        return set(self.keys) if self._hard else set(self._parts) | set(self.keys)

    @property
    def wrapped(self) -> bool:
        """Whether there are hard conditions."""
        return bool(self._hard)

    @property
    def parts(self) -> tuple[Key, ...]:
        """The derivatives of the net itself, in their order."""
        return self._parts

    def wrapping(self, points: Float[Tensor, "n axes"]) -> Wrapping:
        """g and d with their derivatives at the points, put together by the product rule."""
        value, distance = _functions(self._hard, self._domain)
        g, d = (_derivatives(one, points) for one in (value, distance))
        place = {key: number for number, key in enumerate(self._parts)}
        constant = torch.stack([_of(g, key, self._space) for key in self.keys])
        factors = points.new_zeros(len(self.keys), len(self._parts), len(points))
        for row, key in zip(factors, self.keys, strict=True):
            row[place[()]] = _of(d, key, self._space)
            if key != ():
                row[place[key]] = d[()]
            for index in [key] if isinstance(key, tuple) else [(axis, axis) for axis in self._space]:
                if len(index) == 2:
                    row[place[index[:1]]] += d[index[1:]]
                    row[place[index[1:]]] += d[index[:1]]
        return Wrapping(constant, factors)

    def __call__(
        self,
        parameters: Mapping[str, Tensor],
        points: Float[Tensor, "member n axes"],
        wrapping: Wrapping | None = None,
    ) -> dict[Key, Float[Tensor, "member n outputs"]]:
        """Every member's derivatives; `wrapping` is that of the points where there are hard conditions."""
        if self.fused and self._carried is not None:
            return self.named(parts(self.network, parameters, points, self._carried), wrapping)
        plain = self.network.derivatives(parameters, points, indices(self._parts, self._space))
        return self.named(torch.stack([_of(plain, key, self._space) for key in self._parts], 1), wrapping)  # type: ignore[arg-type]

    def by_hand(
        self, parameters: Mapping[str, Tensor], points: Float[Tensor, "member n axes"]
    ) -> tuple[Float[Tensor, "member part n outputs"], Tape]:
        """The net's own parts and their tape, for `fused.backward`; only if `fused`."""
        assert self._carried is not None
        return forward(self.network, parameters, points, self._carried)

    def named(
        self, stacked: Float[Tensor, "member part n outputs"], wrapping: Wrapping | None = None
    ) -> dict[Key, Float[Tensor, "member n outputs"]]:
        """The derivatives of the trial function from the net's own parts."""
        if wrapping is None:
            return dict(zip(self._parts, stacked.unbind(1), strict=True))
        wrapped = wrapping.constant + (wrapping.factors * stacked[:, None, ..., 0]).sum(2)
        return {key: wrapped[:, number, :, None] for number, key in enumerate(self.keys)}


def _carried(keys: Sequence[Key], space: Sequence[int]) -> Carried | None:
    """What `fused.parts` carries for these derivatives; None above second ones."""
    needed = indices(keys, space)
    if any(len(index) > 2 for index in needed):
        return None
    firsts = tuple(sorted({axis for index in needed for axis in index}))
    laplacian = tuple((axis, axis) for axis in space)
    seconds = [laplacian if isinstance(key, str) else (key,) for key in keys if isinstance(key, str) or len(key) == 2]
    return Carried(firsts, tuple(seconds))


def _parts_of(carried: Carried) -> tuple[Key, ...]:
    firsts: list[Key] = [(axis,) for axis in carried.firsts]
    seconds: list[Key] = [LAPLACIAN if len(terms) > 1 else terms[0] for terms in carried.seconds]
    return ((), *firsts, *seconds)


def _with_lower(keys: Sequence[Key], space: Sequence[int]) -> tuple[Key, ...]:
    lower: list[Key] = [()]
    for index in indices(keys, space):
        lower += [(axis,) for axis in index]
    return tuple(dict.fromkeys([*lower, *keys]))


def _of(found: Mapping[Key, Tensor], key: Key, space: Sequence[int]) -> Tensor:
    if not isinstance(key, str):
        return found[key]
    first, *others = (found[(axis, axis)] for axis in space)
    return sum(others, start=first)


def _functions(
    hard: Sequence[Condition], domain: Domain
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """g and d of points: the one value of all hard conditions, and the product of the distances from their places."""
    values = [one.value for one in hard if isinstance(one, Dirichlet | Initial)]
    if any(value is not values[0] and value != values[0] for value in values):
        raise InputError("hard conditions: must have one value, a function that fulfils all of them")

    def value(points: Tensor) -> Tensor:
        return at_points(values[0], At(points, domain.names))

    def distance(points: Tensor) -> Tensor:
        found = torch.ones_like(points[..., 0])
        for one in hard:
            found = found * _distance(one, domain, points)
        return found

    return value, distance


def _distance(condition: Condition, domain: Domain, points: Tensor) -> Tensor:
    if isinstance(condition, Initial):
        axis = domain.names.index(str(domain.time))
        low, high = (float(end) for end in domain.bounds[axis])
        return (points[..., axis] - low) / (high - low)
    on = condition.on if isinstance(condition, Dirichlet) else "boundary"
    if on == "boundary":
        distance: Tensor = domain.distance(points)  # type: ignore[arg-type, assignment]
        return distance
    if not isinstance(domain, Box):
        raise InputError(f"hard conditions: on={on!r} must be 'boundary', or a side of a box")
    ((axis, end),) = domain.sides(on)
    low, high = (float(edge) for edge in domain.bounds[axis])
    return (points[..., axis] - low) / (high - low) if end == 0 else (high - points[..., axis]) / (high - low)


def _derivatives(function: Callable[[Tensor], Tensor], points: Float[Tensor, "n axes"]) -> dict[Key, Tensor]:
    """All derivatives up to the second at every point."""
    slopes, bends = vmap(jacrev(function))(points), vmap(hessian(function))(points)
    axes = range(points.shape[1])
    found: dict[Key, Tensor] = {(): function(points)}
    found |= {(i,): slopes[:, i] for i in axes}
    return found | {(i, j): bends[:, i, j] for i in axes for j in axes if i <= j}
