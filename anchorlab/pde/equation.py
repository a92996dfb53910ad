"""A differential equation with all that belongs to it: domain, conditions, energy, unknown numbers, exact solution."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from anchorlab.errors import InputError

from .conditions import BoundaryCondition, Condition, Data, Initial, Periodic
from .domains import Box, Difference, Domain
from .unknown import At, Coefficients, Key, Tracing, Unknown, indices

Function = Callable[..., Any]
"""Of points, the unknown and, where there are coefficients, these: `lambda at, u: -u.laplacian() - 1`."""


@dataclass(frozen=True, kw_only=True)
class PDE:
    """`equation` is zero inside of `domain`, and `conditions` hold.

    - `equation`: a function of points and unknown, of the points' shape; a tuple for a system of them;
    - `energy`: what the solution minimizes the integral of (Ritz, eq. 15.11), if anything;
    - `coefficients`: numbers that are unknown, too, with their first guesses: an inverse problem, which needs `Data`;
    - `exact`: the solution, or a reference, as a function of points; errors are measured against it;
    - `outputs`: how many functions are unknown.

    Raises InputError for an equation that cannot be evaluated, and for missing conditions.
    """

    domain: Domain
    equation: Function
    conditions: Sequence[Condition] = ()
    energy: Function | None = None
    coefficients: Mapping[str, float] = field(default_factory=dict)
    exact: Callable[[At], Tensor] | None = None
    outputs: int = 1
    name: str = "equation"

    def __post_init__(self) -> None:
        names = [condition.name for condition in self.conditions]
        if len(set(names)) < len(names):
            raise InputError(f"conditions: {', '.join(names)} must differ in kind or place")
        keys = self.keys(self.equation)
        self._check_initial(keys)
        self._check_boundary(keys)

    def keys(self, function: Function) -> tuple[Key, ...]:
        """The derivatives that a function of points and unknown asks for."""
        points = torch.tensor(self.domain.interior(3, _random()))[None]
        parts = Tracing(points, self.outputs)
        found = self.evaluate(function, points, parts, torch.tensor([list(self.coefficients.values())]).double())
        for one in found:
            if one.shape != points.shape[:-1]:
                raise InputError(f"equation: gives shape {list(one.shape)}, must be that of the points, [member, n]")
        return tuple(parts)

    def condition_keys(self, condition: Condition) -> tuple[Key, ...]:
        """The derivatives that a condition asks for."""
        points = torch.tensor(self.domain.interior(4, _random()))
        parts = Tracing(points, self.outputs)
        condition.left(At(points, self.domain.names), self.unknown(parts), torch.ones_like(points))
        return tuple(parts)

    def evaluate(
        self,
        function: Function,
        points: Float[Tensor, "*batch n axes"],
        parts: Mapping[Key, Tensor],
        coefficients: Float[Tensor, "*batch coefficient"] | None = None,
    ) -> tuple[Float[Tensor, "*batch n"], ...]:
        """What a function of points and unknown gives, as a tuple."""
        at = At(points, self.domain.names)
        arguments: list[Any] = [at, self.unknown(parts)]
        if self.coefficients:
            assert coefficients is not None
            arguments.append(Coefficients(coefficients, list(self.coefficients)))
        if len(inspect.signature(function).parameters) != len(arguments):
            shown = "(at, u, coefficients)" if self.coefficients else "(at, u)"
            raise InputError(f"equation: must be a function of {shown}")
        found = function(*arguments)
        found = found if isinstance(found, tuple) else (found,)
        if not all(isinstance(one, Tensor) for one in found):
            raise InputError("equation: must give a tensor for all points; use at.x, u.value and torch's functions")
        return found

    def unknown(self, parts: Mapping[Key, Tensor]) -> Unknown:
        """The unknown with these derivatives."""
        return Unknown(parts, self.domain.names, self.domain.space)

    def exact_values(self, points: Float[np.ndarray, "n axes"]) -> Float[np.ndarray, " n"] | None:
        """The exact solution or reference in float64, if there is one."""
        if self.exact is None:
            return None
        at = At(torch.as_tensor(points, dtype=torch.float64), self.domain.names)
        values: Float[np.ndarray, " n"] = torch.as_tensor(self.exact(at)).expand(len(points)).numpy()
        return values

    def fingerprint(self) -> list[float]:
        """A few numbers that change when equation, conditions or exact solution do, for the run folder."""
        points = torch.tensor(self.domain.interior(3, _random()))[None]
        guess = torch.tensor([list(self.coefficients.values())]).double()
        found: list[Tensor] = []
        for function in (self.equation, self.energy):
            if function is not None:
                found += self.evaluate(function, points, Tracing(points, self.outputs), guess)
        for condition in self.conditions:
            places = torch.tensor(condition.places(self.domain, 4, _random()).points)
            at = At(places, self.domain.names)
            parts = Tracing(places, self.outputs)
            left = condition.left(at, self.unknown(parts), torch.ones_like(places))
            found += [left.sum() + 2 * condition.target(at).sum(), torch.tensor(condition.weight)]
        return [float(f"{one.double().sum().item():.6g}") for one in found]

    def record(self) -> dict[str, Any]:
        """What a run folder says of it."""
        return {
            "problem": self.name,
            "domain": str(self.domain),
            "conditions": [f"{one.name}{' (hard)' if one.hard else ''}" for one in self.conditions],
            "coefficients": dict(self.coefficients),
            "fingerprint": self.fingerprint(),
        }

    def _orders(self, keys: Sequence[Key]) -> dict[int, int]:
        """The highest derivative in every axis."""
        orders: dict[int, int] = {}
        for index in indices(keys, self.domain.space):
            for axis in index:
                orders[axis] = max(orders.get(axis, 0), index.count(axis))
        return orders

    def _check_initial(self, keys: Sequence[Key]) -> None:
        time = self.domain.time
        if time is None or any(isinstance(one, Data) for one in self.conditions):
            return
        order = self._orders(keys).get(self.domain.names.index(time), 0)
        known = sum(isinstance(one, Initial) for one in self.conditions)
        if known < order * self.outputs:
            raise InputError(
                f"conditions: {known} initial ones for derivatives of order {order} in {time}; add Initial"
            )

    def _check_boundary(self, keys: Sequence[Key]) -> None:
        orders = {axis: order for axis, order in self._orders(keys).items() if axis in self.domain.space}
        if not orders or any(isinstance(one, Data) for one in self.conditions):
            return
        places = [one for one in self.conditions if isinstance(one, BoundaryCondition | Periodic)]
        if not places:
            names = ", ".join(self.domain.names[axis] for axis in orders)
            raise InputError(
                f"conditions: derivatives in {names} but no boundary condition; add Dirichlet, Neumann, Robin, Periodic"
            )
        on = {one.on for one in places if isinstance(one, BoundaryCondition)}
        if isinstance(self.domain, Difference) and not ("boundary" in on or {"outer", "holes"} <= on):
            raise InputError(f"conditions: known on {', '.join(sorted(on))} only; must cover 'outer' and 'holes'")
        if isinstance(self.domain, Box):
            for axis, order in orders.items():
                self._check_sides(self.domain, axis, order, places)

    def _check_sides(self, box: Box, axis: int, order: int, places: Sequence[Condition]) -> None:
        name = box.names[axis]
        known = 0
        for one in places:
            if isinstance(one, BoundaryCondition):
                known += sum(side[0] == axis for side in box.sides(one.on))
            elif isinstance(one, Periodic) and one.axis == name:
                known += 2
        if known < order:
            sides = " and ".join(box.side_name(axis, end) for end in (0, 1))
            raise InputError(
                f"conditions: {known} at {sides} for derivatives of order {order} in {name}; add the missing one"
            )


def _random() -> np.random.Generator:
    return np.random.Generator(np.random.Philox(0))
