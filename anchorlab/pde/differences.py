"""Finite differences on a grid, solved directly (sparse LU), and by Jacobi's iteration."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from pydantic.dataclasses import dataclass
from scipy import sparse
from scipy.sparse.linalg import spsolve

from anchorlab.errors import InputError
from anchorlab.setting_types import NonNegative, PositiveWhole, Whole, Wholes
from anchorlab.validation import checked

from .conditions import BoundaryCondition, Condition, Data, Dirichlet, Initial, Periodic
from .domains import Box, Difference, Domain
from .equation import PDE
from .errors import errors_of
from .grid import Grid
from .linear import Index, Linearized, check_finite, is_linear, linearized_condition, linearized_equations
from .unknown import indices

_NEWTON, _CLOSE = 50, 1e-10
_ZERO = 1e-13  # of the numbers that cancel
_SMALL = 1e-8  # residual of a solution, as part of the terms that make it up
_GROWN = 1e3  # times the first update of Jacobi's iteration: more than on any way to a solution


@checked
@dataclass(frozen=True, kw_only=True)
class FiniteDifferences:
    """Central differences of second order in space, backward ones of second order in time; Newton if not linear.

    `nodes` along every axis (one number, or one for each). Round boundaries and holes need Dirichlet conditions, which
    are taken at the nodes next to them. Raises InputError for what differences cannot do.
    """

    nodes: Whole | Wholes = 101

    def grid(self, pde: PDE) -> Grid:
        """The grid of a problem's domain."""
        count = pde.domain.dimensions
        sizes = (self.nodes,) * count if isinstance(self.nodes, int) else tuple(self.nodes)
        if len(sizes) != count or min(sizes) < 3:
            raise InputError(f"nodes={self.nodes}: must be one number, or {count}, of at least 3")
        axes = tuple(np.linspace(low, high, n) for (low, high), n in zip(pde.domain.bounds, sizes, strict=True))
        return Grid(axes, np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, count))


class System:
    """The equations of all nodes: `matrix` u = `right`, near a function u if the equation is not linear.

    `name` is that of the method in errors. Raises InputError for what differences cannot do.
    """

    def __init__(self, pde: PDE, method: FiniteDifferences, name: str = "fd"):
        self.pde, self.grid, self.name = pde, method.grid(pde), name
        if pde.outputs != 1 or pde.equations != 1 or pde.coefficients:
            what = f"{pde.equations} equations for {pde.outputs} unknown functions"
            raise InputError(
                f"method={name!r}: {pde.name} has {'unknown numbers' if pde.coefficients else what}; "
                "differences solve one equation for one function, use 'pinn'"
            )
        self._keys = indices(pde.keys(pde.equation), pde.domain.space)
        if pde.domain.time is not None and (pde.domain.names.index(pde.domain.time),) * 2 in self._keys:
            raise InputError(f"method={name!r}: {pde.name} has second derivatives in time; use 'rfm' or 'pinn'")
        if any(len(index) > 2 for index in self._keys):
            raise InputError(f"method={self.name!r}: derivatives above the second have no differences here; use 'pinn'")
        self._periodic = {pde.domain.names.index(one.axis) for one in pde.conditions if isinstance(one, Periodic)}
        self._matrices: dict[Index, sparse.csr_array] = {}
        self._known = self._condition_rows()

    @cached_property
    def free(self) -> Bool[np.ndarray, " node"]:
        """The nodes at which the equation holds, no condition."""
        taken = np.zeros(len(self.grid.points), dtype=bool)
        taken[self._known[0]] = True
        return ~taken

    def derivative(self, index: Index) -> sparse.csr_array:
        """The matrix that differentiates values at nodes."""
        if index not in self._matrices:
            orders = [index.count(axis) for axis in range(self.pde.domain.dimensions)]
            found = sparse.csr_array(np.ones((1, 1)))
            for axis, order in enumerate(orders):
                found = sparse.kron(found, self._along(axis, order), format="csr")
            self._matrices[index] = found
        return self._matrices[index]

    def _along(self, axis: int, order: int) -> sparse.csr_array:
        nodes = self.grid.axes[axis]
        if order == 0:
            return sparse.eye_array(len(nodes), format="csr")
        if axis not in self.pde.domain.space:
            return _backward(len(nodes), nodes[1] - nodes[0])
        return _central(len(nodes), nodes[1] - nodes[0], order, axis in self._periodic)

    def _condition_rows(self) -> tuple[np.ndarray, sparse.csr_array, np.ndarray]:
        """Nodes at which a condition holds, with its rows and right sides; the first condition of a node counts."""
        pde, points = self.pde, self.grid.points
        nodes, rows, right = [], [], []
        taken = np.zeros(len(points), dtype=bool)
        for condition in sorted(pde.conditions, key=lambda one: not isinstance(one, Dirichlet | Initial)):
            chosen, normals = self._places(condition)
            kept = ~taken[chosen]
            self._check_counts(condition, normals, kept)
            chosen, normals = chosen[kept], normals[kept]
            taken[chosen] = True
            nodes.append(chosen)
            if isinstance(condition, Periodic):
                axis = pde.domain.names.index(condition.axis)
                step = int(np.prod(self.grid.shape[axis + 1 :])) * (self.grid.shape[axis] - 1)
                eye = sparse.eye_array(len(points), format="csr")
                rows.append(eye[chosen] - eye[chosen - step])
                right.append(np.zeros(len(chosen)))
                continue
            linear = linearized_condition(pde, condition, points[chosen], normals)
            check_finite(pde, condition.name, linear, points[chosen])
            rows.append(self._rows(linear, chosen))
            right.append(-linear.constant)
        if not nodes:
            return np.zeros(0, dtype=int), sparse.csr_array((0, len(points))), np.zeros(0)
        return np.concatenate(nodes), sparse.vstack(rows, format="csr"), np.concatenate(right)

    def _check_counts(self, condition: Condition, normals: np.ndarray, kept: Bool[np.ndarray, " some"]) -> None:
        """Raise InputError if a condition counts at no node of one of its sides: that is more than corners."""
        domain, sides = self.pde.domain, np.unique(normals, axis=0)
        for facing in sides:
            if not kept[(normals == facing).all(1)].any():
                axis = int(np.abs(facing).argmax())
                end = domain.bounds[axis, int(facing[axis] > 0)]
                where = f" at {domain.names[axis]}={end:g}" if len(sides) > 1 else ""
                raise InputError(
                    f"method={self.name!r}: {condition.name}: all its nodes{where} have another condition; "
                    "differences can use one a node, use 'rfm' or 'pinn'"
                )

    def _places(self, condition: Condition) -> tuple[np.ndarray, np.ndarray]:
        """The nodes of a condition, and normals there."""
        pde, points = self.pde, self.grid.points
        normals = np.zeros_like(points)
        if isinstance(condition, Data):
            raise InputError(f"method={self.name!r}: cannot use Data; use 'pinn' or 'rfm'")
        if isinstance(condition, Initial):
            axis = pde.domain.names.index(str(pde.domain.time))
            chosen = points[:, axis] == self.grid.axes[axis][0]
        elif isinstance(pde.domain, Box):
            chosen, normals = self._on_sides(pde.domain, condition)
        elif isinstance(condition, Dirichlet) and condition.on == "boundary":
            chosen = ~_within(pde.domain, points)
        elif isinstance(pde.domain, Difference) and isinstance(condition, BoundaryCondition):
            chosen = np.zeros(len(points), dtype=bool)
            for domain, on, sign in pde.domain.parts(condition.on):
                if isinstance(domain, Box) and sign > 0:
                    here, normals = self._on_sides(domain, replace(condition, on=on))
                    # A node of a side that a hole covers is the hole's.
                    chosen |= here & pde.domain.contains(points)
                elif isinstance(condition, Dirichlet):
                    chosen |= domain.contains(points) if sign < 0 else ~_within(domain, points)
                else:
                    raise self._refused(condition)
        else:
            raise self._refused(condition)
        return chosen.nonzero()[0], normals[chosen]

    def _refused(self, condition: Condition) -> InputError:
        return InputError(
            f"method={self.name!r}: {condition.name} needs straight sides; use Dirichlet on round boundaries and holes"
        )

    def _on_sides(self, box: Box, condition: Condition) -> tuple[Bool[np.ndarray, " node"], np.ndarray]:
        """Which nodes are on the sides of a condition, and normals of all nodes."""
        points = self.grid.points
        chosen, normals = np.zeros(len(points), dtype=bool), np.zeros_like(points)
        for axis, end in self._sides(box, condition):
            here = points[:, axis] == self.grid.axes[axis][-end]
            chosen |= here
            normals[here] = 0
            normals[here, axis] = 2 * end - 1
        return chosen, normals

    @staticmethod
    def _sides(box: Box, condition: Condition) -> Sequence[tuple[int, int]]:
        if isinstance(condition, Periodic):
            return [(box.names.index(condition.axis), 1)]
        assert isinstance(condition, BoundaryCondition)
        return box.sides(condition.on)

    def _rows(self, linear: Linearized, chosen: np.ndarray) -> sparse.csr_array:
        terms = [
            sparse.diags_array(factor) @ self.derivative(index)[chosen]
            for index, factor in linear.by_index(self.pde.domain.space).items()
        ]
        return sum(terms[1:], start=terms[0])

    def near(
        self, values: Float[np.ndarray, " node"], nodes: Int[np.ndarray, " some"] | None = None
    ) -> tuple[sparse.csr_array, Float[np.ndarray, " some"]]:
        """Rows and right sides of all nodes or of some, linearized near these values."""
        chosen = np.arange(len(values)) if nodes is None else nodes
        free = chosen[self.free[chosen]]
        around = {index: self.derivative(index)[free] @ values for index in self._keys}
        (linear,) = linearized_equations(self.pde, self.grid.points[free], around)
        check_finite(self.pde, "equation", linear, self.grid.points[free])
        known = np.isin(self._known[0], chosen)
        placed = np.concatenate([free, self._known[0][known]])
        order = np.argsort(placed)
        matrix = sparse.vstack([self._rows(linear, free), self._known[1][known]], format="csr")[order]
        return matrix, np.concatenate([-linear.constant, self._known[2][known]])[order]

    def solve(self) -> Float[np.ndarray, " node"]:
        """The solution at all nodes, one time after the other.

        Raises InputError where Newton's iteration does not end or nothing is found.
        """
        linear = is_linear(self.pde)
        values = self._march(linear)
        if linear and not self._solves(values):
            values = self._march(False)  # it bends where nobody had looked
        return values

    def _march(self, linear: bool) -> Float[np.ndarray, " node"]:
        values = np.zeros(len(self.grid.points))
        levels = self._levels()
        for number, nodes in enumerate(levels):
            if number:
                values[nodes] = values[levels[number - 1]]
            self._solve_level(values, nodes, linear)
        return values

    def _solves(self, values: Float[np.ndarray, " node"]) -> bool:
        """Whether the equations, taken near these values, hold up to rounding."""
        rows, right = self.near(values)
        size = np.abs(rows) @ np.abs(values) + np.abs(right)
        return bool(np.abs(rows @ values - right).max() <= _SMALL * size.max())

    def _levels(self) -> list[Int[np.ndarray, " some"]]:
        """The nodes of every time; all of them without time."""
        numbers = np.arange(len(self.grid.points)).reshape(self.grid.shape)
        if self.pde.domain.time is None:
            return [numbers.ravel()]
        return list(
            np.moveaxis(numbers, self.pde.domain.names.index(self.pde.domain.time), 0).reshape(
                self.grid.shape[self.pde.domain.names.index(self.pde.domain.time)], -1
            )
        )

    def _solve_level(self, values: Float[np.ndarray, " node"], nodes: Int[np.ndarray, " some"], linear: bool) -> None:
        """Newton's iteration for the nodes of one time; those before it are known."""
        for _ in range(_NEWTON):
            rows, right = self.near(values, nodes)
            own = rows[:, nodes]
            check_unique(own, self.pde, self.name)
            change = spsolve(own.tocsc(), right - rows @ values)
            if not np.isfinite(change).all():
                what = f"the equations of {self.pde.name} have no unique solution on this grid"
                raise InputError(f"method={self.name!r}: {what}; check the conditions, or take other nodes")
            values[nodes] += change
            if linear or np.abs(change).max() <= _CLOSE * max(1.0, np.abs(values).max()):
                return
        raise InputError(f"method={self.name!r}: Newton's iteration did not end in {_NEWTON} steps; take more nodes")


def check_unique(matrix: sparse.csr_array, pde: PDE, method: str) -> None:
    """Raise InputError if a constant can be added to every solution: nothing but derivatives is known."""
    if (np.abs(matrix @ np.ones(matrix.shape[1])) <= _ZERO * np.abs(matrix).sum(1)).all():
        raise InputError(
            f"method={method!r}: with u, u + 1 solves {pde.name}, too: only derivatives are known; "
            "add Dirichlet or Robin on a part of the boundary"
        )


def _within(domain: Domain, points: Float[np.ndarray, "n axes"]) -> Bool[np.ndarray, " n"]:
    if isinstance(domain, Difference):
        # Not its distance: a box's is zero along its sides' lines, far beyond its corners, too. Edges are in the holes.
        inside = _within(domain.outer, points)
        for hole in domain.holes:
            inside &= ~hole.contains(points)
        return inside
    between: Bool[np.ndarray, " n"] = domain.contains(points) & (domain.distance(points) > _CLOSE)
    return between


@checked
@dataclass(frozen=True, kw_only=True)
class Jacobi:
    """u ← u + D⁻¹ (f - A u) on the grid of `nodes`, until the update is below `tolerance` or after `iterations`.

    `evaluate_every` iterations errors are measured. Raises InputError for values that cannot be used.
    """

    nodes: Whole | Wholes = 101
    iterations: PositiveWhole = 20_000
    tolerance: NonNegative = 1e-10
    evaluate_every: PositiveWhole = 100


def jacobi(
    matrix: sparse.csr_array,
    right: Float[np.ndarray, " node"],
    start: Float[np.ndarray, " node"],
    method: Jacobi,
    exact: Float[np.ndarray, " some"] | None = None,
    *,
    target: float = 0.0,
    inside: Bool[np.ndarray, " node"] | None = None,
) -> tuple[Float[np.ndarray, " node"], pd.DataFrame]:
    """Iterate from `start`; the history has step, seconds, update (the largest change) and errors against `exact`.

    `exact` is of the nodes `inside`, which errors count (of all if it is not given). Stops early when the largest error
    is at most `target`. Raises InputError for a zero on the diagonal and where the iteration grows without bound.
    """
    diagonal = matrix.diagonal()
    if (diagonal == 0).any():
        raise InputError("method='jacobi': the matrix has a zero on its diagonal")
    # One product an iteration: u ← (I - D⁻¹ A) u + D⁻¹ f.
    iteration = (sparse.eye_array(len(right)) - sparse.diags_array(1 / diagonal) @ matrix).tocsr()
    moved = right / diagonal
    chosen = slice(None) if inside is None else inside
    values, rows, seconds, since = start.copy(), [], 0.0, time.perf_counter()
    for step in range(method.iterations + 1):
        new = iteration @ values + moved
        if step % method.evaluate_every == 0 or step == method.iterations:
            seconds += time.perf_counter() - since
            with np.errstate(invalid="ignore"):  # infinite values are an error below
                update = float(np.abs(new - values).max())
            errors: Mapping[str, float] = {} if exact is None else errors_of(values[chosen], exact)
            rows.append({"step": step, "seconds": seconds, "update": update, **errors})
            if not np.isfinite(update):
                raise InputError(
                    f"method='jacobi': the iteration diverged by step {step}; the matrix is not suited to it"
                )
            if update <= method.tolerance or errors.get("max_error", np.inf) <= target:
                break
            since = time.perf_counter()
        if step < method.iterations:
            values = new
    else:
        # From a solution the first update is rounding only, which may add up.
        first = max(rows[0]["update"], _CLOSE * float(np.abs(values).max()))
        if update > _GROWN * first:
            raise InputError(
                f"method='jacobi': Jacobi's iteration grows, its update from {rows[0]['update']:.1e} to {update:.1e}; "
                "use 'fd'"
            )
    return values, pd.DataFrame(rows)


def _central(count: int, h: float, order: int, periodic: bool) -> sparse.csr_array:
    """First or second differences along one axis; at the ends one-sided ones, or around where it is periodic."""
    weights = ([-0.5, 0.0, 0.5], [1.0, -2.0, 1.0])[order - 1]
    found = sparse.diags_array(weights, offsets=[-1, 0, 1], shape=(count, count)).tolil()
    ends = ([-1.5, 2.0, -0.5], [2.0, -5.0, 4.0, -1.0])[order - 1][:count]
    if periodic:
        found[0, count - 2] = weights[0]
        found[count - 1, 1] = weights[2]
    else:
        sign = -1.0 if order == 1 else 1.0
        found[0, : len(ends)] = ends
        found[count - 1, count - len(ends) :] = [sign * one for one in ends[::-1]]
    return found.tocsr() / h**order


def _backward(count: int, h: float) -> sparse.csr_array:
    """First derivatives in time from the past: of second order, of first order in the first step."""
    found = sparse.diags_array([0.5, -2.0, 1.5], offsets=[-2, -1, 0], shape=(count, count)).tolil()
    found[0, 0], found[1, 0], found[1, 1] = 0, -1, 1
    return found.tocsr() / h
