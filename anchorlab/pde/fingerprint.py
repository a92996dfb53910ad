"""A short text that changes when a problem does: it decides whether a stored run answers the question asked."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from hashlib import sha256
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .domains import Domain
from .unknown import At, Probing

if TYPE_CHECKING:
    from .equation import PDE

_INSIDE, _EDGE = 100, 40  # probed points inside, and of each condition
_LENGTH = 16
_TINY = 1e-12  # relative to the others: rounding errors, which differ between machines


def fingerprint(pde: "PDE") -> str:
    """Of the domain, all functions at many points and for unknowns of many sizes, conditions, exact solution, guesses.

    Functions have no text of their own, so they are known by their values; a change that none of the probed points
    shows is not seen.
    """
    points = torch.tensor(pde.domain.interior(_INSIDE, _random()))[None]
    guess = torch.tensor([list(pde.coefficients.values())]).double()
    told: list[Any] = [_plain(pde.domain), pde.outputs, _plain(pde.coefficients), _numbers(points)]
    for function in (pde.equation, pde.energy):
        if function is None:
            told.append(None)
            continue
        found = pde.evaluate(function, points, Probing(points, pde.outputs), guess)
        told.append([_defaults(function), [_numbers(one) for one in found]])
    for condition in pde.conditions:
        place = condition.places(pde.domain, _EDGE, _random())
        at = At(torch.tensor(place.points), pde.domain.names)
        left = condition.left(at, pde.unknown(Probing(at.points, pde.outputs)), torch.tensor(place.normals))
        values = [_numbers(one) for one in (at.points, left, condition.target(at))]
        told.append([condition.name, bool(condition.hard), _plain(condition), values])
    exact = pde.exact_values(points[0].numpy())
    told.append(None if exact is None else _numbers(exact))
    return sha256(repr(told).encode()).hexdigest()[:_LENGTH]


def _numbers(values: "Tensor | np.ndarray") -> tuple[Any, ...]:
    """Shape and rounded values, each for itself: sums hide what cancels."""
    flat = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    numbers = flat.astype(float).ravel()
    finite = np.abs(numbers[np.isfinite(numbers)])
    small = _TINY * min(1.0, float(np.median(finite))) if len(finite) else 0.0
    return flat.shape, " ".join("0" if abs(one) < small else f"{one:.9g}" for one in numbers.tolist())


def _plain(value: Any) -> Any:
    """Numbers, names and arrays of a dataclass, whatever their types; functions only by their default values."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Real):
        return f"{float(value):.12g}"
    if isinstance(value, Tensor | np.ndarray):
        return _numbers(value)
    if isinstance(value, Mapping):
        return [(str(key), _plain(one)) for key, one in value.items()]
    if isinstance(value, Sequence):
        return [_plain(one) for one in value]
    if is_dataclass(value):
        return [type(value).__name__, [(one.name, _plain(getattr(value, one.name))) for one in fields(value)]]
    if isinstance(value, Domain):
        return [type(value).__name__, value.names, value.time, _numbers(value.bounds)]
    return [type(value).__name__, _defaults(value) if callable(value) else []]


def _defaults(function: Callable[..., Any]) -> list[Any]:
    """The default values of a function's own arguments, by which `lambda at, u, k=k: …` holds its numbers."""
    try:
        arguments = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    return [(one.name, _plain(one.default)) for one in arguments if one.default is not inspect.Parameter.empty]


def _random() -> np.random.Generator:
    return np.random.Generator(np.random.Philox(0))
