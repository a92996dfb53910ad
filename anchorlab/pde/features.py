"""The random feature method: fixed random functions around centres, their factors by least squares.

Chen, Chi, E and Yang 2022 (J. Mach. Learn. 1, 268); eq. 5.12.
"""

from collections.abc import Callable
from itertools import combinations_with_replacement

import numpy as np
from jaxtyping import Float
from pydantic.dataclasses import dataclass
from scipy.linalg import lstsq

from anchorlab.errors import InputError
from anchorlab.setting_types import Positive, Positives, PositiveWhole, Seed
from anchorlab.validation import checked

from .collocation import Collocation
from .conditions import Periodic
from .domains import grid_sizes
from .equation import PDE
from .linear import (
    Index,
    Linearized,
    check_finite,
    check_linear,
    linearized_condition,
    linearized_equations,
    not_linear,
)
from .unknown import indices

_LARGEST = 200e6  # numbers in the matrix of least squares
_CHECKED = 200  # points at which the equation is looked at again
_BENT = 1e-6  # of the terms of an equation: more than rounding


@checked
@dataclass(frozen=True, kw_only=True)
class RandomFeatures:
    """Σ over parts i, features j of c_ij ψ_i(x) tanh(k_ij · (x - c_i) / r_i + b_ij).

    - `parts`: boxes that the domain is cut into, about; each has `features`;
    - `reach`: k and b are uniform between -reach and reach; `scales` multiply k, one share of the features each (the
      r_i of eq. 5.12 are these scales times half of the box's size);
    - `points`: inside (a grid by default) and of each condition; `seed`: of k and b.

    ψ are products of smoothed boxes that add up to 1. Raises InputError for values that cannot be used.
    """

    parts: PositiveWhole = 4
    features: PositiveWhole = 100
    reach: Positive = 1.0
    scales: Positives = (1.0,)
    interior: PositiveWhole = 2000
    boundary: PositiveWhole = 200
    seed: Seed = 0

    def __post_init__(self) -> None:
        if not self.scales:
            raise InputError("scales=(): there must be at least one")


class _Basis:
    """All features of all parts, with their derivatives."""

    def __init__(self, pde: PDE, method: RandomFeatures):
        self.bounds = pde.domain.bounds
        low, high = self.bounds.T
        self.sizes = grid_sizes(high - low, method.parts)
        steps = [(b - a) / n for a, b, n in zip(low, high, self.sizes, strict=True)]
        axes = [a + s * (np.arange(n) + 0.5) for a, s, n in zip(low, steps, self.sizes, strict=True)]
        self.centres = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(low))
        self.radii = np.array(steps) / 2
        random = np.random.Generator(np.random.Philox(np.random.SeedSequence([method.seed, 5, 12])))
        shape = (len(self.centres), len(low), method.features)
        scales = np.array(method.scales)[np.arange(method.features) * len(method.scales) // method.features]
        self.k = random.uniform(-method.reach, method.reach, shape) * scales
        self.b = random.uniform(-method.reach, method.reach, (len(self.centres), 1, method.features)) * scales

    @property
    def count(self) -> int:
        return len(self.centres) * self.k.shape[-1]  # type: ignore[no-any-return]

    def columns(self, points: Float[np.ndarray, "n axes"], wanted: list[Index]) -> dict[Index, np.ndarray]:
        """The wanted derivatives of every feature: [n, feature]."""
        found = {index: np.zeros((len(points), self.count)) for index in wanted}
        width = self.k.shape[-1]
        for part, centre in enumerate(self.centres):
            local = (points - centre) / self.radii
            window = self._window(local, part)
            near = window[()] != 0
            for _, window_part in _pairs(window, wanted):
                near |= window_part != 0
            rows = near.nonzero()[0]
            if not len(rows):
                continue
            features = self._features(local[rows], part)
            columns = slice(part * width, (part + 1) * width)
            for index in wanted:
                for left, right in _leibniz(index):
                    found[index][rows, columns] += window[left][rows, None] * features(right)
        return found

    def _features(self, local: Float[np.ndarray, "n axes"], part: int) -> Callable[[Index], np.ndarray]:
        k, value = self.k[part], np.tanh(local @ self.k[part] + self.b[part])
        slope = 1 - value * value

        def derivative(index: Index) -> np.ndarray:
            if not index:
                return value  # type: ignore[no-any-return]
            factor = np.prod([k[axis] / self.radii[axis] for axis in index], axis=0)
            return factor * (slope if len(index) == 1 else -2 * value * slope)  # type: ignore[no-any-return]

        return derivative

    def _window(self, local: Float[np.ndarray, "n axes"], part: int) -> dict[Index, np.ndarray]:
        """ψ of one part with its derivatives up to the second: a product over axes."""
        place = np.unravel_index(part, self.sizes)
        along = [
            [one / self.radii[axis] ** order for order, one in enumerate(_bump(local[:, axis], at == 0, at == n - 1))]
            for axis, (at, n) in enumerate(zip(place, self.sizes, strict=True))
        ]
        dimensions = range(len(along))
        found = {}
        for index in ((), *((i,) for i in dimensions), *combinations_with_replacement(dimensions, 2)):
            found[index] = np.prod([along[axis][index.count(axis)] for axis in dimensions], axis=0)
        return found


def _bump(y: np.ndarray, first: bool, last: bool) -> list[np.ndarray]:
    """1 up to 3/4 from the centre, 0 from 5/4 on, a polynomial between; with two derivatives.

    No slope where the domain ends. The paper's ψ_b has a sine between, whose second derivative jumps at the edges: a
    point on an edge would then get a wrong equation.
    """
    value, slope, bend = np.ones_like(y), np.zeros_like(y), np.zeros_like(y)
    for sign, outer in ((-1.0, first), (1.0, last)):
        if outer:
            continue
        edge, beyond = (sign * y > 0.75) & (sign * y < 1.25), sign * y >= 1.25
        t = 2 * (1.25 - sign * y[edge])
        value[edge] = t**4 * (35 - 84 * t + 70 * t**2 - 20 * t**3)
        slope[edge] = -2 * sign * 140 * t**3 * (1 - t) ** 3
        bend[edge] = 4 * 420 * t**2 * (1 - t) ** 2 * (1 - 2 * t)
        value[beyond] = 0
    return [value, slope, bend]


def _leibniz(index: Index) -> list[tuple[Index, Index]]:
    """Which derivatives of two factors make up that of their product."""
    if len(index) < 2:
        return [(index, ()), ((), index)] if index else [((), ())]
    i, j = index
    return [(index, ()), ((i,), (j,)), ((j,), (i,)), ((), index)]


def _pairs(window: dict[Index, np.ndarray], wanted: list[Index]) -> list[tuple[Index, np.ndarray]]:
    needed = {left for index in wanted for left, _ in _leibniz(index)}
    return [(index, window[index]) for index in needed]


def solve_features(
    pde: PDE, method: RandomFeatures
) -> tuple[Callable[[np.ndarray], np.ndarray], Float[np.ndarray, " feature"]]:
    """The solution as a function, and its factors; raises InputError for an equation that is not linear."""
    check_features(pde, method)
    basis = _Basis(pde, method)
    collocation = Collocation(interior=method.interior, boundary=method.boundary, inside="grid")
    inside, _ = collocation.interior_points(pde.domain, 0, 0)
    blocks = [_block(basis, pde, "equation", linear, inside) for linear in linearized_equations(pde, inside)]
    for condition in pde.conditions:
        points, normals = collocation.condition_points(pde.domain, condition, 0, 0)
        if isinstance(condition, Periodic):
            blocks.append(_periodic(basis, pde.domain.names.index(condition.axis), points))
        else:
            linear = linearized_condition(pde, condition, points, normals)
            blocks.append(_block(basis, pde, condition.name, linear, points))
    scaled = []
    for matrix, right in blocks:
        # Every row as large as the others, as in the paper: no condition is drowned by second derivatives.
        size = np.abs(matrix).max(1, keepdims=True)
        size[size == 0] = 1
        scaled.append((matrix / size, right / size[:, 0]))
    matrix, right = (np.concatenate(parts) for parts in zip(*scaled, strict=True))
    factors: np.ndarray = lstsq(matrix, right, lapack_driver="gelsy", check_finite=False, cond=1e-14)[0]
    _check_solution(basis, pde, factors, inside[:: max(1, len(inside) // _CHECKED)])
    return features_function(pde, method, factors), factors


def check_features(pde: PDE, method: RandomFeatures) -> None:
    """Raise InputError for an equation that is not linear, or has too high derivatives, and for too large matrices."""
    check_linear(pde, "rfm")
    asked = [*pde.keys(pde.equation), *(key for one in pde.conditions for key in pde.condition_keys(one))]
    if any(len(index) > 2 for index in indices(asked, pde.domain.space)):
        raise InputError("method='rfm': derivatives above the second are not available; use 'pinn'")
    lengths = pde.domain.bounds[:, 1] - pde.domain.bounds[:, 0]
    count = int(np.prod(grid_sizes(lengths, method.parts))) * method.features
    if count * (method.interior * pde.equations + method.boundary * len(pde.conditions)) > _LARGEST:
        raise InputError(
            f"parts={method.parts}, features={method.features}: {count} features for {method.interior} points "
            f"do not fit in memory; must be fewer"
        )


def _check_solution(
    basis: _Basis, pde: PDE, factors: Float[np.ndarray, " feature"], points: Float[np.ndarray, "n axes"]
) -> None:
    """Raise InputError if the equation near the solution is not the one that was solved: it bends on the way there."""
    columns = basis.columns(points, indices(pde.keys(pde.equation), pde.domain.space))
    found = {index: column @ factors for index, column in columns.items()}
    pairs = zip(linearized_equations(pde, points), linearized_equations(pde, points, found), strict=True)
    for far, near in pairs:
        solved, true = (
            one.constant + sum(factor * found[index] for index, factor in one.by_index(pde.domain.space).items())
            for one in (far, near)
        )
        size = np.abs(near.constant) + sum(
            np.abs(factor * found[index]) for index, factor in near.by_index(pde.domain.space).items()
        )
        if np.abs(solved - true).max() > _BENT * max(float(np.max(size)), np.finfo(float).tiny):
            raise not_linear(pde, "rfm")


def features_function(
    pde: PDE, method: RandomFeatures, factors: Float[np.ndarray, " feature"]
) -> Callable[[np.ndarray], np.ndarray]:
    """The function that the features with these factors are."""
    basis = _Basis(pde, method)

    def evaluate(points: Float[np.ndarray, "n axes"]) -> Float[np.ndarray, " n"]:
        return np.asarray(basis.columns(points, [()])[()] @ factors)

    return evaluate


def _block(basis: _Basis, pde: PDE, name: str, linear: Linearized, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    check_finite(pde, name, linear, points)
    factors = linear.by_index(pde.domain.space)
    wanted = list(factors)
    columns = basis.columns(points, wanted)
    matrix = sum((factors[index][:, None] * columns[index] for index in wanted), start=np.zeros((1, 1)))
    return matrix, -linear.constant


def _periodic(basis: _Basis, axis: int, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    columns = basis.columns(points, [(), (axis,)])
    half = len(points) // 2
    matrix = np.concatenate([part[:half] - part[half:] for part in columns.values()])
    return matrix, np.zeros(2 * half)
