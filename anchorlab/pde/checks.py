"""Whether a problem can be posed: functions of the right shapes, and as many conditions as its derivatives need."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from anchorlab.errors import InputError

from .conditions import BoundaryCondition, Condition, Data, Initial, Neumann, Periodic, Robin
from .domains import Box, Difference, Domain
from .unknown import At, Key, Probing, Tracing, indices

if TYPE_CHECKING:
    from .equation import PDE

_PROBES = 20


def check_arguments(label: str, function: Callable[..., Any], names: Sequence[str]) -> None:
    """Raise InputError unless a function needs as many arguments as `names`; it may have more with default values."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    arguments = list(inspect.signature(function).parameters.values())
    needed = [one for one in arguments if one.default is inspect.Parameter.empty and one.kind in kinds]
    open_end = any(one.kind is inspect.Parameter.VAR_POSITIONAL for one in arguments)
    if len(needed) > len(names) or (len(needed) < len(names) and not open_end):
        raise InputError(f"{label}: must be a function of ({', '.join(names)})")


def check_conditions(pde: "PDE") -> None:
    """Raise InputError for conditions of no unknown function, of wrong shapes, and for missing ones."""
    names = [condition.name for condition in pde.conditions]
    if len(set(names)) < len(names):
        raise InputError(f"conditions: {', '.join(names)} must differ in kind or place")
    for one in pde.conditions:
        if not 0 <= one.output < pde.outputs:
            allowed = f"0 to {pde.outputs - 1}" if pde.outputs > 1 else "0 (PDE(outputs=…) says how many there are)"
            raise InputError(f"{one.name}: output={one.output} is no unknown function; must be {allowed}")
        _check_shapes(pde, one)
    by_output = _keys_by_output(pde)
    if not any(isinstance(one, Data) for one in pde.conditions):
        _check_initial(pde, by_output)
        _check_boundary(pde, by_output)


def check_residual(name: str, residual: Tensor, points: Tensor, domain: Domain) -> None:
    """Raise InputError for the first point at which a residual [member, n] is not finite."""
    bad = (~residual.isfinite()).nonzero()
    if len(bad):
        member, number = bad[0].tolist()
        values = points[member, number % points.shape[1]].tolist()
        where = ", ".join(f"{n}={v:.6g}" for n, v in zip(domain.names, values, strict=True))
        value = residual[member, number].item()
        raise InputError(f"{name}: its residual is {value} at {where}; must be finite everywhere")


def check_value_known(pde: "PDE", method: str) -> None:
    """Raise InputError if nothing says what u is, but only what its derivatives are."""
    keys = [pde.keys(pde.equation), *(pde.condition_keys(one) for one in pde.conditions if type(one) is not Periodic)]
    if not any(() in own for own in keys):
        raise InputError(
            f"method={method!r}: with u, u + 1 solves {pde.name}, too: only derivatives are known; "
            "add Dirichlet or Robin on a part of the boundary"
        )


def check_energy(pde: "PDE") -> None:
    """Raise InputError for conditions under which the energy is not least at the solution."""
    for one in pde.conditions:
        if not isinstance(one, Robin):
            continue
        place = one.places(pde.domain, _PROBES, np.random.Generator(np.random.Philox(0)))
        if not isinstance(one, Neumann) or one.target(At(torch.tensor(place.points), pde.domain.names)).any():
            raise InputError(
                f"method='ritz': {one.name} needs a term of the energy on the boundary, which there is not; use 'pinn'"
            )


def _check_shapes(pde: "PDE", condition: Condition) -> None:
    place = condition.places(pde.domain, 4, np.random.Generator(np.random.Philox(0)))
    at = At(torch.tensor(place.points), pde.domain.names)
    left = condition.left(at, pde.unknown(Tracing(at.points, pde.outputs)), torch.tensor(place.normals))
    for name, found in (("left", left), ("target", condition.target(at))):
        if found.shape != at.points.shape[:-1]:
            raise InputError(
                f"{condition.name}: {name} gives shape {list(found.shape)}, must be [{len(place.points)}], one number "
                "for each point"
            )


def _keys_by_output(pde: "PDE") -> list[tuple[Key, ...]]:
    """The derivatives of every unknown function that the equation asks for: those in which it has a slope."""
    keys = pde.keys(pde.equation)
    if pde.outputs == 1:
        return [keys]
    random = np.random.Generator(np.random.Philox(0))
    points = torch.tensor(pde.domain.interior(_PROBES, random))[None]
    made = Probing(points, pde.outputs)
    leaves = {key: made[key].requires_grad_() for key in keys}
    guess = torch.tensor([list(pde.coefficients.values())]).double()
    with torch.enable_grad():
        found = pde.evaluate(pde.equation, points, leaves, guess)
        # Random factors: slopes of two equations must not cancel.
        total = sum((torch.tensor(random.random(one.shape)) * one).sum() for one in found)
    assert isinstance(total, torch.Tensor)
    if not total.requires_grad:
        return [keys] * pde.outputs
    slopes = torch.autograd.grad(total, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return [
        tuple(key for key, slope in zip(keys, slopes, strict=True) if (slope[..., output] != 0).any())
        for output in range(pde.outputs)
    ]


def _orders(pde: "PDE", keys: Sequence[Key]) -> dict[int, int]:
    """The highest derivative in every axis."""
    orders: dict[int, int] = {}
    for index in indices(keys, pde.domain.space):
        for axis in index:
            orders[axis] = max(orders.get(axis, 0), index.count(axis))
    return orders


def _whose(pde: "PDE", output: int) -> str:
    return f" of u[{output}]" if pde.outputs > 1 else ""


def _check_initial(pde: "PDE", by_output: Sequence[Sequence[Key]]) -> None:
    time = pde.domain.time
    if time is None:
        return
    for output, keys in enumerate(by_output):
        order = _orders(pde, keys).get(pde.domain.names.index(time), 0)
        known = sum(isinstance(one, Initial) and one.output == output for one in pde.conditions)
        if known < order:
            raise InputError(
                f"conditions: {known} initial ones for derivatives{_whose(pde, output)} of order {order} in {time}; "
                f"add Initial{f'(output={output})' if pde.outputs > 1 else ''}"
            )


def _check_boundary(pde: "PDE", by_output: Sequence[Sequence[Key]]) -> None:
    """Second derivatives need conditions of their own function; first ones of a system may share what there is."""
    places = [one for one in pde.conditions if isinstance(one, BoundaryCondition | Periodic)]
    space = pde.domain.space
    needed = [{axis: n for axis, n in _orders(pde, keys).items() if axis in space} for keys in by_output]
    if pde.outputs == 1:
        _check_covered(pde.domain, needed[0], places, "")
    elif any(order > 1 for orders in needed for order in orders.values()):
        # One with first derivatives beside them, such as a pressure, has no boundary values of its own.
        for output, orders in enumerate(needed):
            own = [one for one in places if one.output == output]
            second = {axis: order for axis, order in orders.items() if order > 1}
            _check_covered(pde.domain, second, own, _whose(pde, output))
    else:
        total = {axis: sum(orders.get(axis, 0) for orders in needed) for axis in space}
        _check_covered(pde.domain, {axis: n for axis, n in total.items() if n}, places, " of all unknown functions")


def _check_covered(domain: Domain, orders: Mapping[int, int], places: Sequence[Condition], whose: str) -> None:
    if not orders:
        return
    if not places:
        names = ", ".join(domain.names[axis] for axis in orders)
        raise InputError(
            f"conditions: derivatives{whose} in {names} but no boundary condition; "
            "add Dirichlet, Neumann, Robin, Periodic"
        )
    outer = domain.outer if isinstance(domain, Difference) else domain
    if isinstance(domain, Difference):
        _check_difference(domain, {one.on for one in places if isinstance(one, BoundaryCondition)}, whose)
    if isinstance(outer, Box):
        for axis, order in orders.items():
            _check_sides(outer, axis, order, places, whose)


def _check_difference(domain: Difference, on: set[str], whose: str) -> None:
    holes = {f"holes[{k}]" for k in range(len(domain.holes))}
    outside = on - {"holes"} - holes  # some sides of a box may be enough
    if not (outside and ("boundary" in on or "holes" in on or holes <= on)):
        raise InputError(f"conditions: known{whose} on {', '.join(sorted(on))} only; must cover 'outer' and 'holes'")


def _check_sides(box: Box, axis: int, order: int, places: Sequence[Condition], whose: str) -> None:
    name = box.names[axis]
    known = 0
    for one in places:
        if isinstance(one, BoundaryCondition) and not one.on.startswith("holes"):
            known += sum(side[0] == axis for side in box.sides("boundary" if one.on == "outer" else one.on))
        elif isinstance(one, Periodic) and one.axis == name:
            known += 2
    if known < order:
        sides = " and ".join(box.side_name(axis, end) for end in (0, 1))
        raise InputError(
            f"conditions: {known} at {sides} for derivatives{whose} of order {order} in {name}; add the missing one"
        )
