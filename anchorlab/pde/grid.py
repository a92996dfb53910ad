"""Nodes on a grid, and functions through values at them."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.interpolate import NdBSpline, make_interp_spline

from anchorlab.errors import InputError

_ROUNDED = 1e-6  # of an axis: points that were in float32 may be so far beyond its ends


class Grid(NamedTuple):
    """Nodes along every axis, ends included, and all of them as points (last axis fastest)."""

    axes: tuple[Float[np.ndarray, " nodes"], ...]
    points: Float[np.ndarray, "node axes"]

    @property
    def shape(self) -> tuple[int, ...]:
        """Nodes along every axis."""
        return tuple(len(axis) for axis in self.axes)

    def function(
        self, values: Float[np.ndarray, " node"]
    ) -> Callable[[Float[np.ndarray, "n axes"]], Float[np.ndarray, " n"]]:
        """Values at nodes as a function of points: cubic where there are enough nodes.

        The function raises InputError for points outside of the grid; on its edge they may be off by rounding.
        """
        coefficients, knots = values.reshape(self.shape), []
        degrees = tuple(min(3, count - 1) for count in self.shape)
        # One axis after the other, each solved directly: RegularGridInterpolator's solver of all stops at 1e-4.
        for number, (axis, degree) in enumerate(zip(self.axes, degrees, strict=True)):
            spline = make_interp_spline(axis, coefficients, k=degree, axis=number)
            coefficients = np.moveaxis(spline.c, 0, number)
            knots.append(spline.t)
        between = NdBSpline(tuple(knots), np.ascontiguousarray(coefficients), degrees)
        low, high = (np.array([axis[end] for axis in self.axes]) for end in (0, -1))

        def evaluate(points: Float[np.ndarray, "n axes"]) -> Float[np.ndarray, " n"]:
            inside = np.clip(points, low, high)
            far = (np.abs(inside - points) > _ROUNDED * (high - low)).any(1)
            if far.any():
                where = ", ".join(f"{one:g}" for one in points[far][0])
                raise InputError(f"points: ({where}) is outside of the grid; must be in the domain")
            found: Float[np.ndarray, " n"] = between(inside)
            return found

        return evaluate
