"""A differential equation with all that belongs to it: domain, conditions, energy, unknown numbers, exact solution."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from anchorlab.errors import InputError

from .checks import check_arguments, check_conditions
from .conditions import Condition
from .domains import Domain
from .fingerprint import fingerprint
from .unknown import At, Coefficients, Key, Tracing, Unknown

_TRACED = 3  # points at which functions are tried

Function = Callable[..., Any]
"""Of points, the unknown and, where there are coefficients, these: `lambda at, u: -u.laplacian() - 1`."""


@dataclass(frozen=True, kw_only=True)
class PDE:
    """`equation` is zero inside of `domain`, and `conditions` hold.

    - `equation`: a function of points and unknown, of the points' shape; a tuple for a system of them;
    - `energy`: what the solution minimizes the integral of (Ritz, eq. 15.11), if anything;
    - `coefficients`: numbers that are unknown, too, with their first guesses: an inverse problem, which needs `Data`;
    - `exact`: the solution, or a reference, as a function of points (of a system a tuple of their values, or [n,
      outputs]); errors are measured against it;
    - `outputs`: how many functions are unknown: u[0], u[1]; conditions say which by `output`.

    Raises InputError for functions that cannot be evaluated or give wrong shapes, and for missing conditions.
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
        if isinstance(self.outputs, bool) or not isinstance(self.outputs, int) or self.outputs < 1:
            raise InputError(f"outputs={self.outputs!r}: must be a whole number of at least 1")
        arguments = ["at", "u", "coefficients"] if self.coefficients else ["at", "u"]
        for name, value in self.coefficients.items():
            if not math.isfinite(value):
                raise InputError(f"coefficients: the first guess {name}={value} must be finite")
        for label, function in (("equation", self.equation), ("energy", self.energy)):
            if function is not None:
                check_arguments(label, function, arguments)
                self.keys(function)
        check_conditions(self)
        self.exact_values(self.domain.interior(_TRACED, _random()))

    def keys(self, function: Function) -> tuple[Key, ...]:
        """The derivatives that a function of points and unknown asks for; of `equation` and `energy` found once."""
        if function is self.equation:
            return self._equation[0]
        return self._energy[0] if function is self.energy else self._trace("function", function)[0]

    @property
    def equations(self) -> int:
        """How many equations `equation` gives."""
        return self._equation[1]

    @cached_property
    def _equation(self) -> tuple[tuple[Key, ...], int]:
        return self._trace("equation", self.equation)

    @cached_property
    def _energy(self) -> tuple[tuple[Key, ...], int]:
        assert self.energy is not None
        return self._trace("energy", self.energy)

    def _trace(self, label: str, function: Function) -> tuple[tuple[Key, ...], int]:
        """The derivatives that a function asks for, and how many things it gives."""
        points = torch.tensor(self.domain.interior(_TRACED, _random()))[None]
        parts = Tracing(points, self.outputs)
        found = self.evaluate(function, points, parts, torch.tensor([list(self.coefficients.values())]).double())
        for one in found:
            if one.shape != points.shape[:-1]:
                raise InputError(
                    f"{label}: gives shape {list(one.shape)}, must be {list(points.shape[:-1])} for {_TRACED} points, "
                    "that of the points, [member, n]"
                )
        return tuple(parts), len(found)

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
        found = function(*arguments)
        found = found if isinstance(found, tuple) else (found,)
        if not all(isinstance(one, Tensor) for one in found):
            label = "energy" if function is self.energy else "equation"
            raise InputError(f"{label}: must give a tensor for all points; use at.x, u.value and torch's functions")
        return found

    def unknown(self, parts: Mapping[Key, Tensor]) -> Unknown:
        """The unknown with these derivatives."""
        return Unknown(parts, self.domain.names, self.domain.space)

    def exact_values(self, points: Float[np.ndarray, "n axes"]) -> Float[np.ndarray, "n *outputs"] | None:
        """The exact solution or reference in float64, if there is one: [n], of a system [n, outputs]."""
        return None if self.exact is None else self.values_of(self.exact, points, "exact")

    def values_of(
        self, function: Callable[[At], Any], points: Float[np.ndarray, "n axes"], label: str
    ) -> Float[np.ndarray, "n *outputs"]:
        """A solution given as a function of points (of a system: a tuple, or a last axis), in float64.

        Raises InputError, naming the function by `label`, for values of another shape.
        """
        found = function(At(torch.as_tensor(points, dtype=torch.float64), self.domain.names))
        wanted = (len(points),) if self.outputs == 1 else (len(points), self.outputs)
        try:
            if isinstance(found, tuple | list):
                found = torch.stack([torch.as_tensor(one).expand(len(points)) for one in found], -1)
            values: np.ndarray = torch.as_tensor(found).detach().expand(wanted).cpu().double().numpy()
        except (RuntimeError, TypeError, ValueError):
            shape = list(found.shape) if isinstance(found, Tensor | np.ndarray) else type(found).__name__
            raise InputError(f"{label}: gives shape {shape}, must be {list(wanted)} for {len(points)} points") from None
        return values

    def fingerprint(self) -> str:
        """A text that changes when the problem does, for the run folder; see `fingerprint.fingerprint`."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        return fingerprint(self)

    def record(self) -> dict[str, Any]:
        """What a run folder says of it."""
        return {
            "problem": self.name,
            "domain": str(self.domain),
            "conditions": [f"{one.name}{' (hard)' if one.hard else ''}" for one in self.conditions],
            "coefficients": dict(self.coefficients),
            "fingerprint": self.fingerprint(),
        }


def _random() -> np.random.Generator:
    return np.random.Generator(np.random.Philox(0))
