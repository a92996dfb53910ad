"""The random feature method: fixed random functions around centres, their factors by least squares.

Chen, Chi, E and Yang 2022 (J. Mach. Learn. 1, 268); eq. 5.12.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from jaxtyping import Float
from scipy.linalg import lstsq

from anchorlab.errors import InputError

from .collocation import Collocation
from .domains import grid_sizes
from .equation import PDE
from .linear import Index, Linearized, check_linear, linearized_condition, linearized_equation

_LARGEST = 200e6  # numbers in the matrix of least squares


@dataclass(frozen=True, kw_only=True)
class RandomFeatures:
    """Σ over parts i, features j of c_ij ψ_i(x) tanh(k_ij · (x - c_i) / r_i + b_ij).

    - `parts`: boxes that the domain is cut into, about; each has `features`;
    - `reach`: k and b are uniform between -reach and reach; `scales` multiply k, one share of the features each (the
      r_i of eq. 5.12 are these scales times half of the box's size);
    - `points`: inside (a grid by default) and of each condition; `seed`: of k and b.

    ψ are products of smoothed boxes that add up to 1. Raises InputError for values that cannot be used.
    """

    parts: int = 4
    features: int = 100
    reach: float = 1.0
    scales: tuple[float, ...] = (1.0,)
    interior: int = 2000
    boundary: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("parts", "features", "interior", "boundary"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)}: must be at least 1")
        if self.reach <= 0 or not self.scales or min(self.scales) <= 0:
            raise InputError(f"reach={self.reach}, scales={self.scales}: must be positive")


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
    check_linear(pde, "rfm")
    basis = _Basis(pde, method)
    collocation = Collocation(interior=method.interior, boundary=method.boundary, inside="grid")
    if basis.count * (method.interior + method.boundary * len(pde.conditions)) > _LARGEST:
        raise InputError(
            f"parts={method.parts}, features={method.features}: {basis.count} features for {method.interior} points "
            f"do not fit in memory; must be fewer"
        )
    inside, _ = collocation.interior_points(pde.domain, 0, 0)
    blocks = [_block(basis, pde, linearized_equation(pde, inside), inside)]
    for condition in pde.conditions:
        points, normals = collocation.condition_points(pde.domain, condition, 0, 0)
        if condition.name.startswith("periodic"):
            blocks.append(_periodic(basis, pde, condition.name, points))
        else:
            blocks.append(_block(basis, pde, linearized_condition(pde, condition, points, normals), points))
    scaled = []
    for matrix, right in blocks:
        # Every row as large as the others, as in the paper: no condition is drowned by second derivatives.
        size = np.abs(matrix).max(1, keepdims=True)
        size[size == 0] = 1
        scaled.append((matrix / size, right / size[:, 0]))
    matrix, right = (np.concatenate(parts) for parts in zip(*scaled, strict=True))
    factors = lstsq(matrix, right, lapack_driver="gelsy", check_finite=False, cond=1e-14)[0]
    return features_function(pde, method, factors), factors


def features_function(
    pde: PDE, method: RandomFeatures, factors: Float[np.ndarray, " feature"]
) -> Callable[[np.ndarray], np.ndarray]:
    """The function that the features with these factors are."""
    basis = _Basis(pde, method)

    def evaluate(points: Float[np.ndarray, "n axes"]) -> Float[np.ndarray, " n"]:
        return np.asarray(basis.columns(points, [()])[()] @ factors)

    return evaluate


def _block(basis: _Basis, pde: PDE, linear: Linearized, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    factors = linear.by_index(pde.domain.space)
    wanted = list(factors)
    if any(len(index) > 2 for index in wanted):
        raise InputError("method='rfm': derivatives above the second are not available; use 'pinn'")
    columns = basis.columns(points, wanted)
    matrix = sum((factors[index][:, None] * columns[index] for index in wanted), start=np.zeros((1, 1)))
    return matrix, -linear.constant


def _periodic(basis: _Basis, pde: PDE, name: str, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    axis = pde.domain.names.index(name.removeprefix("periodic "))
    columns = basis.columns(points, [(), (axis,)])
    half = len(points) // 2
    matrix = np.concatenate([part[:half] - part[half:] for part in columns.values()])
    return matrix, np.zeros(2 * half)
