"""Where an equation holds: intervals, boxes (with time as one axis), disks, and domains with holes."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from anchorlab.errors import InputError

Points = Float[np.ndarray, "n axes"]
_ROUNDS = 200  # of rejection before a domain counts as empty
_NEAR = 1e-12
_SAME_SIDE = 1e-5  # of the length: how far a side's name may be from its place


class Boundary(NamedTuple):
    """Points of a boundary and the outward unit normals there."""

    points: Points
    normals: Points


class Domain(ABC):
    """A set of points with named coordinates; the axis named `time` is no part of its boundary."""

    names: tuple[str, ...]
    time: str | None = None

    @property
    def dimensions(self) -> int:
        """How many coordinates a point has, time included."""
        return len(self.names)

    @property
    def space(self) -> tuple[int, ...]:
        """The axes that are not time."""
        return tuple(axis for axis, name in enumerate(self.names) if name != self.time)

    @property
    @abstractmethod
    def bounds(self) -> Float[np.ndarray, "axes 2"]:
        """The smallest box around it."""

    @property
    @abstractmethod
    def volume(self) -> float:
        """Its length, area or volume, over time as well."""

    @abstractmethod
    def contains(self, points: Points) -> Bool[np.ndarray, " n"]:
        """Which points are inside or on the boundary."""

    @abstractmethod
    def boundary(self, count: int, random: np.random.Generator, on: str = "boundary") -> Boundary:
        """Uniform points of the whole boundary, or of the part that `on` names; raises InputError for unknown parts."""

    @abstractmethod
    def distance(self, points: Points) -> Float[np.ndarray, " n"]:
        """A function that is zero on the boundary, positive inside, and smooth; numpy or torch."""

    def interior(self, count: int, random: np.random.Generator) -> Points:
        """Uniform points inside; raises InputError if the domain is empty."""
        low, high = self.bounds.T
        found: list[Points] = []
        missing = count
        for _ in range(_ROUNDS):
            drawn = low + (high - low) * random.random((max(2 * missing, 100), self.dimensions))
            found.append(drawn[self.contains(drawn)][:missing])
            missing -= len(found[-1])
            if missing == 0:
                return np.concatenate(found)
        raise InputError(f"domain={self}: is empty, or nearly: too few of {_ROUNDS} draws of points are inside")

    def grid(self, count: int) -> tuple[Points, Float[np.ndarray, " n"]]:
        """About `count` points on a grid, with the weights of the midpoint rule.

        The weights add up to the volume; raises InputError if no point is inside.
        """
        low, high = self.bounds.T
        sizes = grid_sizes(high - low, count)
        axes = [a + (b - a) * (np.arange(n) + 0.5) / n for a, b, n in zip(low, high, sizes, strict=True)]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, self.dimensions)
        points = points[self.contains(points)]
        if not len(points):
            raise InputError(f"domain={self}: is empty: none of {math.prod(sizes)} grid points is inside")
        return points, np.full(len(points), self.volume / len(points))

    def initial(self, count: int, random: np.random.Generator) -> Points:
        """Uniform points at the first time; raises InputError for a domain without time."""
        if self.time is None:
            raise InputError(f"initial condition: domain={self} has no time; name its axis, as in Box(..., time='t')")
        points = self.interior(count, random)
        axis = self.names.index(self.time)
        points[:, axis] = self.bounds[axis, 0]
        return points


@dataclass(frozen=True)
class Box(Domain):
    """A product of intervals with named axes: `Box({"x": (0, 1), "t": (0, 2)}, time="t")`.

    Parts of the boundary are named like `x=0`. Raises InputError for an empty interval or an unknown time.
    """

    axes: Mapping[str, tuple[float, float]]
    time: str | None = None

    def __post_init__(self) -> None:
        if not self.axes:
            raise InputError("axes: a box needs at least one")
        for name, (low, high) in self.axes.items():
            if not name.isidentifier():
                raise InputError(f"axes: {name!r} must be a name such as 'x'")
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise InputError(f"domain: {name}=({low}, {high}) is empty; the first number must be below the second")
        if self.time is not None and self.time not in self.axes:
            raise InputError(f"time={self.time!r}: must be one of the axes {', '.join(self.axes)}")

    def __str__(self) -> str:
        return " x ".join(f"{name} in ({low:g}, {high:g})" for name, (low, high) in self.axes.items())

    @property
    def names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The axes."""
        return tuple(self.axes)

    @property
    def bounds(self) -> Float[np.ndarray, "axes 2"]:
        """Both ends of every axis."""
        return np.array(list(self.axes.values()), dtype=float)

    @property
    def volume(self) -> float:
        """The product of the lengths."""
        return float(np.prod(self.bounds[:, 1] - self.bounds[:, 0]))

    def contains(self, points: Points) -> Bool[np.ndarray, " n"]:
        """Which points are between both ends of every axis."""
        low, high = self.bounds.T
        inside: Bool[np.ndarray, " n"] = np.all((points >= low - _NEAR) & (points <= high + _NEAR), axis=1)
        return inside

    def sides(self, on: str = "boundary") -> list[tuple[int, int]]:
        """The sides that are meant: the axis, and 0 or 1 for its lower or upper end."""
        every = list(product(self.space, (0, 1)))
        if on == "boundary":
            return every
        named = {self.side_name(axis, end): (axis, end) for axis, end in every}
        name, _, text = on.replace(" ", "").partition("=")
        for axis, end in every:
            low, high = self.bounds[axis]
            # Names are rounded: that of a side at π is x=3.14159.
            if name == self.names[axis] and abs(_number(text) - self.bounds[axis, end]) <= _SAME_SIDE * (high - low):
                return [(axis, end)]
        raise InputError(f"on={on!r}: must be 'boundary' or one of its sides {', '.join(named) or '(it has none)'}")

    def side_name(self, axis: int, end: int) -> str:
        """The name of a side: `x=0`."""
        return f"{self.names[axis]}={self.bounds[axis, end]:g}"

    def boundary(self, count: int, random: np.random.Generator, on: str = "boundary") -> Boundary:
        """Uniform points of all sides or of one; both ends of an interval, each once or repeated, if it is one."""
        sides = self.sides(on)
        lengths = self.bounds[:, 1] - self.bounds[:, 0]
        if not sides:
            raise InputError(f"on={on!r}: the domain {self} has no boundary in space; use Initial")
        if self.dimensions == 1:
            chosen = np.arange(len(sides))
        else:
            areas = np.array([self.volume / lengths[axis] for axis, _ in sides])
            chosen = np.repeat(np.arange(len(sides)), _shares(areas / areas.sum(), count, random))
        points = self.bounds[:, 0] + lengths * random.random((len(chosen), self.dimensions))
        normals = np.zeros_like(points)
        for place, (axis, end) in enumerate(sides):
            points[chosen == place, axis] = self.bounds[axis, end]
            normals[chosen == place, axis] = 2 * end - 1
        return Boundary(points, normals)

    def distance(self, points: Points) -> Float[np.ndarray, " n"]:
        """The product of 4 (x - a)(b - x) / (b - a)² over all axes of space."""
        found = 1.0
        for axis in self.space:
            low, high = (float(end) for end in self.bounds[axis])
            found = found * (4 / (high - low) ** 2) * (points[..., axis] - low) * (high - points[..., axis])  # type: ignore[assignment]
        return found  # type: ignore[return-value]


def Interval(low: float, high: float, name: str = "x") -> Box:  # noqa: N802 - it makes a box of one axis
    """The numbers between two ends."""
    return Box({name: (low, high)})


@dataclass(frozen=True)
class Disk(Domain):
    """The points of a plane within `radius` of `center`; raises InputError unless the radius is positive."""

    center: tuple[float, float] = (0.0, 0.0)
    radius: float = 1.0
    names: tuple[str, ...] = ("x", "y")

    def __post_init__(self) -> None:
        if not (math.isfinite(self.radius) and self.radius > 0):
            raise InputError(f"domain: radius={self.radius} leaves it empty; it must be positive")

    def __str__(self) -> str:
        return f"disk of radius {self.radius:g} around ({self.center[0]:g}, {self.center[1]:g})"

    @property
    def bounds(self) -> Float[np.ndarray, "axes 2"]:
        """The square around it."""
        return np.array([[one - self.radius, one + self.radius] for one in self.center])

    @property
    def volume(self) -> float:
        """π r²."""
        return math.pi * self.radius**2

    def contains(self, points: Points) -> Bool[np.ndarray, " n"]:
        """Which points are not further away than the radius."""
        return ((points - np.array(self.center)) ** 2).sum(1) <= self.radius**2 * (1 + _NEAR)  # type: ignore[no-any-return]

    def boundary(self, count: int, random: np.random.Generator, on: str = "boundary") -> Boundary:
        """Uniform points of the circle."""
        if on != "boundary":
            raise InputError(f"on={on!r}: a disk has only 'boundary'")
        angle = 2 * math.pi * random.random(count)
        normals = np.stack([np.cos(angle), np.sin(angle)], 1)
        return Boundary(np.array(self.center) + self.radius * normals, normals)

    def distance(self, points: Points) -> Float[np.ndarray, " n"]:
        """1 - |x - c|² / r²."""
        x, y = points[..., 0] - self.center[0], points[..., 1] - self.center[1]
        return 1 - (x * x + y * y) / self.radius**2


@dataclass(frozen=True)
class Difference(Domain):
    """`outer` without the insides of `holes`; parts of its boundary: `outer`, `holes`, `holes[0]`, those of `outer`.

    Raises InputError if the holes leave nothing.
    """

    outer: Domain
    holes: tuple[Domain, ...]

    def __post_init__(self) -> None:
        if any(hole.names != self.outer.names for hole in self.holes) or self.outer.time is not None:
            raise InputError("holes: must have the coordinates of the domain, and no time")
        random = np.random.Generator(np.random.Philox(0))
        if not self.contains(self.outer.interior(2000, random)).any():
            raise InputError(f"domain={self}: is empty: its holes cover it")

    def __str__(self) -> str:
        return f"{self.outer} without {len(self.holes)} holes"

    @property
    def names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those of `outer`."""
        return self.outer.names

    @property
    def bounds(self) -> Float[np.ndarray, "axes 2"]:
        """Those of `outer`."""
        return self.outer.bounds

    @cached_property
    def volume(self) -> float:
        """By counting the points of a fine grid."""
        points, weights = self.outer.grid(40_000)
        return float(weights[self.contains(points)].sum())

    def contains(self, points: Points) -> Bool[np.ndarray, " n"]:
        """Which points are in `outer` and in no hole (on its edge is allowed)."""
        inside = self.outer.contains(points)
        for hole in self.holes:
            inside &= ~_strictly_inside(hole, points)
        return inside

    def parts(self, on: str = "boundary") -> list[tuple[Domain, str, float]]:
        """What a part is made of: a domain, the part of its boundary, and the sign of its normals.

        Raises InputError for a hole that is not there; sides are looked for in `outer`.
        """
        holes: list[tuple[Domain, str, float]] = [(hole, "boundary", -1.0) for hole in self.holes]
        if on == "holes":
            return holes
        if on.startswith("holes"):
            named = {f"holes[{number}]": hole for number, hole in enumerate(holes)}
            if on not in named:
                raise InputError(f"on={on!r}: must be 'holes' or one of {', '.join(named) or '(there are none)'}")
            return [named[on]]
        whole = on in ("boundary", "outer")
        return [(self.outer, "boundary" if whole else on, 1.0), *(holes if on == "boundary" else [])]

    def boundary(self, count: int, random: np.random.Generator, on: str = "boundary") -> Boundary:
        """Points of the outer boundary and of the holes' ones, in proportion to their lengths."""
        drawn = []
        for domain, part, sign in self.parts(on):
            points, normals = domain.boundary(8 * count, random, part)
            kept = self.contains(points)
            if kept.any():
                drawn.append((points[kept], sign * normals[kept], _length(domain) * kept.mean()))
        if not drawn:
            raise InputError(f"on={on!r}: no point of this part of the boundary is in the domain {self}")
        found = np.array([length for _, _, length in drawn])
        counts = _shares(found / found.sum(), count, random)
        # Evenly among all: a box gives those of one side after those of another.
        picked = [np.arange(n) * len(part) // max(n, 1) for (part, _, _), n in zip(drawn, counts, strict=True)]
        points = np.concatenate([part[rows] for (part, _, _), rows in zip(drawn, picked, strict=True)])
        normals = np.concatenate([part[rows] for (_, part, _), rows in zip(drawn, picked, strict=True)])
        return Boundary(points, normals)

    def distance(self, points: Points) -> Float[np.ndarray, " n"]:
        """The product of the distances from all parts of the boundary; raises InputError for a hole that is no disk."""
        found = self.outer.distance(points)
        for hole in self.holes:
            if not isinstance(hole, Disk):  # another one's distance is not negative everywhere outside of it
                raise InputError(f"hard conditions: hole {hole} must be a Disk; use hard=False")
            inside = hole.distance(points)
            found = found * -inside / (2 - inside)  # from 0 at the edge to 1 far away
        return found


def grid_sizes(lengths: Float[np.ndarray, " axes"], count: int) -> list[int]:
    """Points along every axis of a grid of about `count` points whose cells are about cubes.

    An axis counts as at least a sixteenth of the longest: lengths of other units than the others' leave it enough.
    """
    lengths = np.maximum(lengths, lengths.max() / 16)
    edge = (float(np.prod(lengths)) / count) ** (1 / len(lengths))
    return [max(1, round(length / edge)) for length in lengths.tolist()]


def _strictly_inside(domain: Domain, points: Points) -> Bool[np.ndarray, " n"]:
    distance: Bool[np.ndarray, " n"] = domain.contains(points) & (domain.distance(points) > _NEAR)
    return distance


def _length(domain: Domain) -> float:
    """The length of a plane domain's boundary (the area of a box's)."""
    if isinstance(domain, Disk):
        return 2 * math.pi * domain.radius
    lengths = domain.bounds[:, 1] - domain.bounds[:, 0]
    return 2 * float(sum(np.prod(lengths) / length for length in lengths))


def _shares(parts: Float[np.ndarray, " part"], count: int, random: np.random.Generator) -> Int[np.ndarray, " part"]:
    """Whole numbers near `parts` of `count` that add up to it: no part goes without, or chance decides which do."""
    if count < len(parts):
        return np.bincount(random.choice(len(parts), count, replace=False, p=parts), minlength=len(parts))
    shares = np.diff(np.round(np.concatenate([[0.0], np.cumsum(parts)]) * count).astype(int))
    while (shares == 0).any():
        shares[shares.argmin()] += 1
        shares[shares.argmax()] -= 1
    return shares


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
