"""Residuals of a differential equation as a Problem of the engine: one network per member, each from its own seed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from anchorlab.engine.problem import Batch, Measurement, Parameters
from anchorlab.errors import InputError
from anchorlab.models.mlp import MLP
from anchorlab.models.mlp_initialization import Initialization
from anchorlab.validation import check_known

from .checks import check_residual
from .collocation import Collocation
from .conditions import Condition, Periodic
from .equation import PDE
from .errors import errors_of, measured_points
from .fused import backward
from .linear import is_linear, linearized_condition, linearized_equations
from .squares import Squares, squares
from .trial import Trial, Wrapping
from .unknown import At, Key

LossName = Literal["residual", "energy"]
COEFFICIENTS = "coefficients"
_MERGED = 8  # points of a condition join the others if these are so many times more


class _Term(NamedTuple):
    """One part of the loss and the derivatives that it needs; the inside has no condition."""

    name: str
    condition: Condition | None
    keys: tuple[Key, ...]


@dataclass
class _Group:
    """Terms whose points go through the network together; `slices` are theirs among the points."""

    trial: Trial
    terms: list[_Term]
    slices: list[slice]


class _Placed(NamedTuple):
    """The batch of one group; normals and targets of each of its conditions; its loss as squares if all is linear."""

    points: Tensor
    wrapping: Wrapping | None
    normals: list[Tensor]
    targets: list[Tensor]
    squares: Squares | None


def check_network(pde: PDE, network: MLP, loss: LossName) -> None:
    """Raise InputError for a loss that an equation does not have, and for a network of another shape."""
    check_known("loss", loss, ("residual", "energy"))
    if loss == "energy" and pde.energy is None:
        raise InputError(f"method='ritz': {pde.name} has no energy; give PDE(energy=…) or use 'pinn'")
    if (network.inputs, network.outputs) != (pde.domain.dimensions, pde.outputs):
        raise InputError(
            f"network: {network.inputs} inputs and {network.outputs} outputs, must be "
            f"{pde.domain.dimensions} and {pde.outputs}"
        )


class ResidualProblem:
    """Members that solve one equation from different seeds; each draws its own points.

    `loss` is the mean squared residual (PINN, eqs. 15.4-15.8) or the energy (Ritz, eq. 15.12), plus the weighted mean
    squared residuals of all soft conditions; `equation_weight` multiplies the first. `inside` are every member's own
    points instead of those drawn inside. Raises InputError for points at which a residual is not finite, and an
    equation without the energy that is asked for.
    """

    steps_per_epoch = 1

    def __init__(
        self,
        pde: PDE,
        network: MLP,
        initialization: Initialization,
        seeds: Sequence[int],
        collocation: Collocation,
        *,
        loss: LossName = "residual",
        equation_weight: float = 1.0,
        dtype: torch.dtype = torch.float32,
        start: Sequence[Mapping[str, Tensor]] | None = None,
        inside: Sequence[np.ndarray] | None = None,
        device: torch.device | str = "cpu",
    ):
        check_network(pde, network, loss)
        self.pde, self.network, self.members = pde, network, len(seeds)
        self._initialization, self._seeds, self._start = initialization, list(seeds), start
        self._collocation, self._dtype, self._device = collocation, dtype, torch.device(device)
        self._inside = inside
        self._energy = loss == "energy"
        self._function = pde.energy if self._energy and pde.energy is not None else pde.equation
        self._weight = equation_weight
        self._groups = self._grouped()
        self._quadratic = not self._energy and self._is_linear()
        self._held: tuple[tuple[tuple[int, ...], int] | None, Batch] = (None, ())
        self._trial = Trial(network, pde.domain, pde.conditions, [()])
        self._measured = self._measured_points()
        self._check_finite()
        if self._quadratic and not self._squares_hold():
            self._quadratic, self._held = False, (None, ())

    def _grouped(self) -> list[_Group]:
        """Few groups: a condition goes with the inside if it needs no more of the network and has few points."""
        pde = self.pde
        soft = [one for one in pde.conditions if not one.hard]
        inside = _Term("equation", None, pde.keys(self._function))
        terms = [_Term(one.name, one, pde.condition_keys(one)) for one in soft]
        size = len(self._collocation.interior_points(pde.domain, 0, 0)[0])
        first = Trial(self.network, pde.domain, pde.conditions, inside.keys)
        grouped: dict[tuple[Key, ...], list[_Term]] = {inside.keys: [inside]}
        for term in terms:
            assert term.condition is not None
            count = len(self._collocation.condition_points(pde.domain, term.condition, 0, 0).points)
            joins = set(term.keys) <= first.available and count * _MERGED <= size
            grouped.setdefault(inside.keys if joins else term.keys, []).append(term)
        return [
            _Group(Trial(self.network, pde.domain, pde.conditions, keys), members, [])
            for keys, members in grouped.items()
        ]

    def _is_linear(self) -> bool:
        """Whether the loss is a sum of squares that are linear in the net's parts, each at one point."""
        pointwise = not any(isinstance(one, Periodic) for one in self.pde.conditions)
        single = self.pde.outputs == self.pde.equations == 1 and not self.pde.coefficients
        plain = single and all(group.trial.fused for group in self._groups)
        return plain and pointwise and is_linear(self.pde)

    def _squares_hold(self) -> bool:
        """Whether the squares are the loss near two functions: an equation can bend where `is_linear` did not look."""
        rows = [self.initialize(member) for member in range(self.members)]
        start = {name: torch.stack([row[name] for row in rows]).to(self._device) for name in rows[0]}
        batch, tolerance = self.batch(range(self.members), 0), 1e3 * torch.finfo(self._dtype).eps
        for scale in (1.0, 3.0):
            parameters = {name: scale * tensor for name, tensor in start.items()}
            places = {name: torch.zeros_like(tensor) for name, tensor in start.items()}
            squares, whole = self.write_gradients(parameters, batch, places), self.loss(parameters, batch)
            if squares is None or not torch.allclose(squares, whole, rtol=tolerance, atol=0):
                return False
        return True

    def initialize(self, member: int) -> dict[str, Tensor]:
        """Fresh parameters of one member, or those that it starts from; unknown numbers are among them."""
        if self._start is not None:
            return {name: tensor.to(self._dtype) for name, tensor in self._start[member].items()}
        found = self.network.initialize(self._initialization, self._seeds[member], dtype=self._dtype)
        if self.pde.coefficients:
            found[COEFFICIENTS] = torch.tensor(list(self.pde.coefficients.values()), dtype=self._dtype)
        return found

    def batch(self, members: Sequence[int], step: int) -> Batch:
        """All points of this step: of every group points and wrapping, weights of the inside, targets and normals."""
        key = (tuple(members), self._collocation.round(step))
        if self._held[0] != key:
            rows = [self._rows(member, key[1]) for member in members]
            self._held = (key, tuple(torch.stack(column) for column in zip(*rows, strict=True)))
        return self._held[1]

    def _rows(self, member: int, drawing: int) -> list[Tensor]:
        """The batch of one member."""
        domain, seed, found = self.pde.domain, self._seeds[member], []
        weights = torch.empty(0)
        for group in self._groups:
            points, normals, targets, slices, start = [], [], [], [], 0
            facing: list[np.ndarray | None] = []
            inner: list[np.ndarray] = []
            for term in group.terms:
                if term.condition is None:
                    if self._inside is None:
                        inside, weight = self._collocation.interior_points(domain, seed, drawing)
                    else:
                        inside, weight = self._inside[member], np.ones(len(self._inside[member]))
                    points.append(inside)
                    weight = weight if self._energy else weight / weight.sum()
                    weights = self._tensor(weight)
                    facing.append(None)
                    inner.append(self._weight * weight)
                else:
                    place = self._collocation.condition_points(domain, term.condition, seed, drawing)
                    points.append(place.points)
                    normals.append(self._tensor(place.normals))
                    facing.append(place.normals)
                    inner.append(np.full(len(place.points), term.condition.weight / len(place.points)))
                    at = At(torch.as_tensor(place.points), domain.names)
                    targets.append(term.condition.target(at).to(self._device, self._dtype).clone())
                slices.append(slice(start, start + len(points[-1])))
                start += len(points[-1])
            group.slices = slices
            together = torch.as_tensor(np.concatenate(points))
            found.append(self._tensor(together))
            wrapping = group.trial.wrapping(together) if group.trial.wrapped else None
            if wrapping is not None:
                found += [self._tensor(part) for part in wrapping]
            found += [*normals, *targets]
            if self._quadratic:
                found += [self._tensor(part) for part in self._squares(group, points, facing, inner, wrapping)]
        return [*found, weights]

    def _squares(
        self,
        group: _Group,
        points: Sequence[np.ndarray],
        normals: Sequence[np.ndarray | None],
        weights: Sequence[np.ndarray],
        wrapping: Wrapping | None,
    ) -> Squares:
        """The loss of a group as weighted squares that are linear in the net's parts."""
        rows = []
        for term, place, facing in zip(group.terms, points, normals, strict=True):
            if term.condition is None:
                rows += linearized_equations(self.pde, place)
            else:
                assert facing is not None
                rows.append(linearized_condition(self.pde, term.condition, place, facing))
        return squares(rows, weights, group.trial.keys, group.trial.parts, wrapping)

    def _tensor(self, values: np.ndarray | Tensor) -> Tensor:
        return torch.as_tensor(values).to(self._device, self._dtype).contiguous()

    def loss(self, parameters: Parameters, batch: Batch) -> Float[Tensor, " member"]:
        """The loss of every member."""
        parts = [
            group.trial(parameters, place.points, place.wrapping)
            for group, place in zip(self._groups, self._placed(batch), strict=True)
        ]
        return self._total(self._losses(parts, batch, parameters.get(COEFFICIENTS)))

    def write_gradients(
        self, parameters: Parameters, batch: Batch, places: Mapping[str, Tensor]
    ) -> Float[Tensor, " member"] | None:
        """The same loss with its gradients: autograd sees only the equation, the net's part is written out."""
        if not all(group.trial.fused for group in self._groups):
            return None
        placed = self._placed(batch)
        with torch.no_grad():
            passes = [
                group.trial.by_hand(parameters, place.points) for group, place in zip(self._groups, placed, strict=True)
            ]
            if self._quadratic:
                total: Tensor | None = None
                for (stacked, tape), place in zip(passes, placed, strict=True):
                    assert place.squares is not None
                    losses, gradient = place.squares.loss(stacked)
                    backward(tape, gradient, places, add=total is not None)
                    total = losses if total is None else total + losses
                return total
        leaves = [stacked.requires_grad_() for stacked, _ in passes]
        parts = [
            group.trial.named(leaf, place.wrapping)
            for group, leaf, place in zip(self._groups, leaves, placed, strict=True)
        ]
        coefficients = parameters.get(COEFFICIENTS)
        losses = self._total(self._losses(parts, batch, coefficients))
        wanted = leaves if coefficients is None else [*leaves, coefficients]
        gradients = torch.autograd.grad(losses.sum(), wanted, allow_unused=True, materialize_grads=True)
        with torch.no_grad():
            for number, (_, tape) in enumerate(passes):
                backward(tape, gradients[number], places, add=number > 0)
            if coefficients is not None:
                places[COEFFICIENTS].copy_(gradients[-1])
        return losses.detach()

    def _total(self, parts: Sequence[tuple[Condition | None, Tensor]]) -> Float[Tensor, " member"]:
        (_, total), *others = parts
        for condition, part in others:
            assert condition is not None
            total = total + part if condition.weight == 1 else torch.add(total, part, alpha=condition.weight)
        return total

    def _losses(
        self, parts: Sequence[Mapping[Key, Tensor]], batch: Batch, coefficients: Tensor | None
    ) -> list[tuple[Condition | None, Tensor]]:
        """Every term's part of the loss before its weight, the inside first."""
        found: list[tuple[Condition | None, Tensor]] = []
        for term, residuals in self._residuals(parts, batch, coefficients):
            if term.condition is None:
                first, *others = residuals if self._energy else [one.square() for one in residuals]
                total = (sum(others, start=first) * batch[-1]).sum(1)
                found.append((None, total if self._weight == 1 else total * self._weight))
            else:
                found.append((term.condition, residuals[0].square().mean(1)))
        return found

    def _residuals(
        self, parts: Sequence[Mapping[Key, Tensor]], batch: Batch, coefficients: Tensor | None
    ) -> Iterator[tuple[_Term, Sequence[Tensor]]]:
        """Every term's residuals, or the energy of the inside, from the derivatives at every group's points."""
        for group, place, known in zip(self._groups, self._placed(batch), parts, strict=True):
            facing = iter(zip(place.normals, place.targets, strict=True))
            for term, chosen in zip(group.terms, group.slices, strict=True):
                alone = len(group.terms) == 1
                here = place.points if alone else place.points[:, chosen]
                own = known if alone else {key: known[key][:, chosen] for key in term.keys}
                if term.condition is None:
                    yield term, self.pde.evaluate(self._function, here, own, coefficients)
                else:
                    normals, target = next(facing)
                    left = term.condition.left(At(here, self.pde.domain.names), self.pde.unknown(own), normals)
                    yield term, [left - target]

    def _placed(self, batch: Batch) -> list[_Placed]:
        """The batch of every group by name."""
        queue, found = iter(batch), []
        for group in self._groups:
            points = next(queue)
            wrapping = Wrapping(next(queue), next(queue)) if group.trial.wrapped else None
            count = sum(term.condition is not None for term in group.terms)
            normals, targets = ([next(queue) for _ in range(count)] for _ in range(2))
            linear = Squares(next(queue), next(queue), next(queue)) if self._quadratic else None
            found.append(_Placed(points, wrapping, normals, targets, linear))
        return found

    def _check_finite(self) -> None:
        """Raise InputError for the first point at which a residual is not finite before any step."""
        rows = [self.initialize(member) for member in range(self.members)]
        parameters = {name: torch.stack([row[name] for row in rows]).to(self._device) for name in rows[0]}
        batch = self.batch(range(self.members), 0)
        placed = self._placed(batch)
        with torch.no_grad():
            parts = [
                group.trial(parameters, place.points, place.wrapping)
                for group, place in zip(self._groups, placed, strict=True)
            ]
            slices = [
                place.points[:, chosen]
                for group, place in zip(self._groups, placed, strict=True)
                for chosen in group.slices
            ]
            residuals = self._residuals(parts, batch, parameters.get(COEFFICIENTS))
            for (term, found), points in zip(residuals, slices, strict=True):
                for residual in found:
                    check_residual(term.name, residual, points, self.pde.domain)

    def _measured_points(self) -> tuple[Tensor, Wrapping | None, np.ndarray | None]:
        points = measured_points(self.pde.domain)
        placed = torch.as_tensor(points)
        wrapping = self._trial.wrapping(placed) if self._trial.wrapped else None
        cast = None if wrapping is None else Wrapping(*(self._tensor(part) for part in wrapping))
        return self._tensor(placed), cast, self.pde.exact_values(points)

    def values(self, parameters: Parameters) -> Float[Tensor, "member n outputs"]:
        """Every member's solution at the points where errors are measured."""
        points, wrapping, _ = self._measured
        members = parameters["layers.0.weight"].shape[0]
        return self._trial(parameters, points.expand(members, *points.shape), wrapping)[()]

    def evaluate(self, parameters: Parameters, members: Sequence[int]) -> list[Measurement]:
        """Loss and its parts on the points used last, unknown numbers, and errors where there is a solution."""
        batch = self._held[1] if self._held[0] and self._held[0][0] == tuple(members) else self.batch(members, 0)
        known = [
            group.trial(parameters, place.points, place.wrapping)
            for group, place in zip(self._groups, self._placed(batch), strict=True)
        ]
        losses = self._losses(known, batch, parameters.get(COEFFICIENTS))
        parts = {"": self._total(losses)}
        for condition, part in losses:
            parts["equation" if condition is None else condition.name] = part
        columns = [("train", group, "loss", values.tolist()) for group, values in parts.items()]
        for place, name in enumerate(self.pde.coefficients):
            columns.append(("", name, "coefficient", parameters[COEFFICIENTS][:, place].tolist()))
        exact = self._measured[2]
        if exact is not None:
            found = self.values(parameters).double().cpu().numpy()
            errors = [errors_of(one if exact.ndim == 2 else one[:, 0], exact) for one in found]
            columns += [("test", "", name, [error[name] for error in errors]) for name in errors[0]]
        return [
            Measurement(member, split, group, metric, value)
            for split, group, metric, values in columns
            for member, value in zip(members, values, strict=True)
        ]

    def save(self, member: int, parameters: Parameters, folder: Path) -> None:
        """Write the member's net; `load_mlp` opens it. Unknown numbers are with it."""
        self.network.save(parameters, folder)
