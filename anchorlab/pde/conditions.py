"""What holds on the boundary, at the first time, and where the solution was measured."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from anchorlab.errors import InputError

from .domains import Boundary, Box, Domain
from .unknown import At, Unknown

Value = float | Callable[[At], Tensor]
"""A number, or a function of the points."""


def at_points(value: Value, at: At, name: str = "condition") -> Float[Tensor, "*batch n"]:
    """The value at every point, also where it is one number; raises InputError, with `name`, for other shapes."""
    found = value(at) if callable(value) else value
    shape = at.points.shape[:-1]
    try:
        return torch.as_tensor(found, dtype=at.points.dtype, device=at.points.device).expand(shape)
    except (RuntimeError, TypeError, ValueError):
        given = f"shape {list(found.shape)}" if isinstance(found, Tensor | np.ndarray) else f"{found!r:.60}"
        raise InputError(
            f"{name}: value gives {given}, must be of shape {list(shape)}, one number for each point"
        ) from None


@dataclass(frozen=True, kw_only=True)
class Condition(ABC):
    """A condition that the loss holds softly: its mean squared residual times `weight`, of function `output`."""

    weight: float = 1.0
    output: int = 0
    hard: ClassVar[bool] = False

    def __post_init__(self) -> None:
        number = isinstance(self.weight, Real) and not isinstance(self.weight, bool)
        if not (number and 0 < self.weight < math.inf):
            raise InputError(f"{self.name}: weight={self.weight!r} must be positive and finite")
        if isinstance(self.output, bool) or not isinstance(self.output, Integral) or self.output < 0:
            raise InputError(f"{self.name}: output={self.output!r} must be a whole number: 0, 1, …")

    @property
    def name(self) -> str:
        """What errors and histories call it: its kind and place, and the function if it is not the first."""
        return f"{self.place} of u[{self.output}]" if self.output else self.place

    @property
    def place(self) -> str:
        """Its kind and place."""
        return type(self).__name__.lower()

    @abstractmethod
    def places(self, domain: Domain, count: int, random: np.random.Generator) -> Boundary:
        """Points where it is asked for, and normals."""

    @abstractmethod
    def left(self, at: At, u: Unknown, normals: Float[Tensor, "*batch n axes"]) -> Float[Tensor, "*batch n"]:
        """What should be equal to `target`; linear in u."""

    @abstractmethod
    def target(self, at: At) -> Float[Tensor, "*batch n"]:
        """What it should be equal to."""


@dataclass(frozen=True, kw_only=True)
class BoundaryCondition(Condition):
    """Of the whole boundary, or of the part that `on` names.

    Parts: `x=0` of a box; of a difference `outer`, sides of an outer box, `holes`, and `holes[0]`, `holes[1]`, ….
    """

    value: Value = 0.0
    on: str = "boundary"

    @property
    def place(self) -> str:
        """Its kind and place."""
        kind = type(self).__name__.lower()
        return kind if self.on == "boundary" else f"{kind} {self.on}"

    def places(self, domain: Domain, count: int, random: np.random.Generator) -> Boundary:
        """Points of this part of the boundary."""
        return domain.boundary(count, random, self.on)

    def target(self, at: At) -> Float[Tensor, "*batch n"]:
        """The value."""
        return at_points(self.value, at, self.name)


@dataclass(frozen=True, kw_only=True)
class Dirichlet(BoundaryCondition):
    """u = `value`; with `hard` exactly so: the net N becomes g + d N, g the value and d zero on this part."""

    hard: bool = False  # type: ignore[misc]

    def left(self, at: At, u: Unknown, normals: Tensor) -> Tensor:
        """u."""
        return u[self.output].value


@dataclass(frozen=True, kw_only=True)
class Robin(BoundaryCondition):
    """`a` u + `b` ∂u/∂n = `value`, with n the outward normal; a = 0, b = 1 is `Neumann`."""

    a: float = 1.0
    b: float = 1.0

    def left(self, at: At, u: Unknown, normals: Tensor) -> Tensor:
        """a u + b ∂u/∂n."""
        chosen = u[self.output]
        slopes = chosen.gradient()
        space = chosen.space
        flux = sum((slope * normals[..., axis] for axis, slope in zip(space, slopes, strict=True)), start=0 * slopes[0])
        return self.b * flux if self.a == 0 else self.a * chosen.value + self.b * flux


@dataclass(frozen=True, kw_only=True)
class Neumann(Robin):
    """∂u/∂n = `value`."""

    a: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Periodic(Condition):
    """u and its derivative in `axis` are the same at both ends of this axis of a box."""

    axis: str

    @property
    def place(self) -> str:
        """Its kind and axis."""
        return f"periodic {self.axis}"

    def places(self, domain: Domain, count: int, random: np.random.Generator) -> Boundary:
        """Points of the lower end, and then the same of the upper one."""
        if not isinstance(domain, Box) or self.axis not in [domain.names[axis] for axis in domain.space]:
            raise InputError(f"periodic: axis={self.axis!r} must be an axis of space of a box")
        axis = domain.names.index(self.axis)
        low = domain.boundary(count, random, domain.side_name(axis, 0))
        high = low.points.copy()
        high[:, axis] = domain.bounds[axis, 1]
        return Boundary(np.concatenate([low.points, high]), np.concatenate([low.normals, -low.normals]))

    def left(self, at: At, u: Unknown, normals: Tensor) -> Tensor:
        """Differences between both ends of the value and of the derivative."""
        parts = [u[self.output].value, u[self.output].d(self.axis)]
        low, high = torch.stack(parts, -2).chunk(2, -1)
        return (low - high).flatten(-2)

    def target(self, at: At) -> Tensor:
        """Zero."""
        return torch.zeros_like(at.points[..., 0])


@dataclass(frozen=True, kw_only=True)
class Initial(Condition):
    """At the first time u (`order` 0) or its derivative in time (`order` 1) is `value`; `hard` as for `Dirichlet`."""

    value: Value = 0.0
    order: int = 0
    hard: bool = False  # type: ignore[misc]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.order not in (0, 1) or (self.hard and self.order):
            raise InputError(f"initial: order={self.order} must be 0 or 1, and 0 if it is hard")

    @property
    def place(self) -> str:
        """Its kind and order."""
        return "initial" if self.order == 0 else "initial slope"

    def places(self, domain: Domain, count: int, random: np.random.Generator) -> Boundary:
        """Points at the first time; one is enough where time is all there is."""
        points = domain.initial(count if domain.space else 1, random)
        return Boundary(points, np.zeros_like(points))

    def left(self, at: At, u: Unknown, normals: Tensor) -> Tensor:
        """u or its derivative in time."""
        chosen = u[self.output]
        return chosen.value if self.order == 0 else chosen.d(chosen.time)

    def target(self, at: At) -> Float[Tensor, "*batch n"]:
        """The value."""
        return at_points(self.value, at, self.name)


@dataclass(frozen=True, kw_only=True, eq=False)
class Data(Condition):
    """The solution is known at some points (eq. 15.8); raises InputError for points and values that do not fit."""

    points: Float[np.ndarray, "n axes"]
    values: Float[np.ndarray, " n"]

    def __post_init__(self) -> None:
        super().__post_init__()
        points, values = np.asarray(self.points, dtype=float), np.asarray(self.values, dtype=float)
        if points.ndim != 2 or values.shape != points.shape[:1] or not len(values):
            raise InputError(f"data: points {points.shape} and values {values.shape} must be [n, axes] and [n]")
        if not (np.isfinite(points).all() and np.isfinite(values).all()):
            raise InputError("data: all points and values must be finite")
        # Copies of their own: later changes of the caller's arrays must not change the problem.
        object.__setattr__(self, "points", points.copy())
        object.__setattr__(self, "values", values.copy())

    def places(self, domain: Domain, count: int, random: np.random.Generator) -> Boundary:
        """The points, whatever `count` says."""
        points = self.points
        if points.shape[1] != domain.dimensions:
            raise InputError(f"data: points have {points.shape[1]} coordinates, the domain has {domain.dimensions}")
        return Boundary(points, np.zeros_like(points))

    def left(self, at: At, u: Unknown, normals: Tensor) -> Tensor:
        """u."""
        return u[self.output].value

    def target(self, at: At) -> Tensor:
        """The values."""
        values = torch.as_tensor(self.values, dtype=at.points.dtype, device=at.points.device)
        return values.expand(at.points.shape[:-1])
