"""L-BFGS of a population: one iteration of every member at once on the full batch, each with its own line search."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

HISTORY = 50
"""Pairs of steps and gradient changes that are kept: scipy's 10 are few for ill-conditioned residuals."""

ENTRIES = tuple(f"{kind}_{number}" for kind in "sy" for number in range(HISTORY))
_DECREASE, _CURVATURE = 1e-4, 0.9  # of the weak Wolfe conditions
_TRIALS = 20
_CAUTIOUS = 1e-10  # a pair counts if y·s is above this share of |y||s|


class Evaluation(NamedTuple):
    """Every member's loss and gradient at its weights."""

    losses: Float[Tensor, " member"]
    gradient: Float[Tensor, "member parameter"]


class _Search(NamedTuple):
    """Where every member's line search stands: the bracket of its step length, and what it has accepted."""

    low: Tensor
    high: Tensor
    length: Tensor
    done: Tensor


def iterate(
    weights: Float[Tensor, "member parameter"],
    state: Mapping[str, Float[Tensor, "member parameter"]],
    here: Evaluation,
    evaluate: Callable[[], Evaluation],
    rate: Float[Tensor, "member 1"],
    active: Bool[Tensor, " member"],
) -> Evaluation:
    """One iteration of the active members, in place; `evaluate` looks at the weights as they are. The others stay.

    `state` holds the newest pair first: `s_k` are steps, `y_k` changes of the gradient, zero where there is none. The
    direction is that of the two-loop recursion (Nocedal and Wright 2006, algorithm 7.4); its length, first `rate`, is
    halved or doubled until the loss has fallen enough and its slope is flatter (weak Wolfe conditions, by bisection).
    Without any pair the first length is min(1, 1 / |g|₁) times `rate`. A pair with a tiny y·s is not kept. A member
    that finds no lower loss stays where it is and forgets its pairs; so does one whose loss could fall by no more than
    rounding.

    Returns loss and gradient at the new weights.
    """
    steps, changes = ([state[f"{kind}_{k}"] for k in range(HISTORY)] for kind in "sy")
    gradient = torch.where(active[:, None], here.gradient, 0.0)
    direction = _direction(steps, changes, gradient)
    slope = (gradient * direction).sum(1, keepdim=True)
    # Rounding can turn the direction uphill; steepest descent then.
    uphill = slope >= 0
    direction = torch.where(uphill, -gradient, direction)
    slope = torch.where(uphill, -(gradient * gradient).sum(1, keepdim=True), slope)
    fresh = uphill | (_dot(steps[0], changes[0]) == 0)
    first = torch.where(fresh, (1 / gradient.abs().sum(1, keepdim=True)).clamp(max=1.0), 1.0) * rate
    start = weights.clone()
    worth_it = (-slope * first > torch.finfo(weights.dtype).eps * here.losses[:, None].abs())[:, 0]
    found, moved = _line_search(weights, start, here, evaluate, direction, slope, first, active & worth_it)
    kept = moved[:, None]
    weights.copy_(torch.where(kept, weights, start))
    step = torch.where(kept, weights - start, 0.0)
    change = torch.where(kept, found.gradient - gradient, 0.0)
    _remember(steps, changes, step, change, forget=(active & ~moved)[:, None])
    losses = torch.where(moved, found.losses, here.losses)
    return Evaluation(losses, torch.where(kept, found.gradient, here.gradient))


def _dot(a: Tensor, b: Tensor) -> Float[Tensor, "member 1"]:
    return (a * b).sum(1, keepdim=True)


def _direction(steps: list[Tensor], changes: list[Tensor], gradient: Tensor) -> Tensor:
    """Minus the inverse Hessian's estimate times the gradient; a missing pair (y·s = 0) changes nothing."""
    q = -gradient
    inverses, alphas = [], []
    for step, change in zip(steps, changes, strict=True):
        curvature = _dot(step, change)
        inverses.append(torch.where(curvature > 0, 1 / curvature, 0.0))
        alphas.append(inverses[-1] * _dot(step, q))
        q = torch.addcmul(q, alphas[-1], change, value=-1)
    squares = _dot(changes[0], changes[0])
    q = q * torch.where(inverses[0] > 0, _dot(steps[0], changes[0]) / squares, 1.0)
    for step, change, inverse, alpha in zip(steps[::-1], changes[::-1], inverses[::-1], alphas[::-1], strict=True):
        q = torch.addcmul(q, alpha - inverse * _dot(change, q), step)
    return q


def _line_search(
    weights: Tensor,
    start: Tensor,
    here: Evaluation,
    evaluate: Callable[[], Evaluation],
    direction: Tensor,
    slope: Float[Tensor, "member 1"],
    first: Float[Tensor, "member 1"],
    active: Tensor,
) -> tuple[Evaluation, Bool[Tensor, " member"]]:
    """Leave every member's weights where its search ends; what is found there, and which members moved downhill.

    Members that have ended stay where they are while the others go on. A member without a point that fulfils both
    conditions takes the furthest one with a loss that is low enough.
    """
    before = here.losses[:, None]
    # Below this the change of a loss is rounding.
    slack = torch.finfo(weights.dtype).eps * before.abs()
    chosen = active[:, None]
    search = _Search(
        torch.zeros_like(first), torch.full_like(first, torch.inf), torch.where(chosen, first, 0.0), ~chosen
    )
    found = here
    for _ in range(_TRIALS):
        weights.copy_(torch.where(chosen, torch.addcmul(start, search.length, direction), start))
        found = evaluate()
        enough = found.losses[:, None] <= before + _DECREASE * search.length * slope + slack
        enough &= found.gradient.isfinite().all(1, keepdim=True)
        flat = _dot(found.gradient, direction) >= _CURVATURE * slope
        search = _narrowed(search, enough, flat)
        if search.done.all():
            break
    else:
        last = torch.where(search.done, search.length, search.low)
        weights.copy_(torch.where(chosen, torch.addcmul(start, last, direction), start))
        found = evaluate()
        search = search._replace(length=last)
    lower = found.losses[:, None] <= before + slack
    return found, (lower & chosen & (search.length > 0))[:, 0]


def _narrowed(search: _Search, enough: Tensor, flat: Tensor) -> _Search:
    """The next length: halfway to a length that was too long, or twice one that was too short."""
    low, high, length, done = search
    accepted = done | (enough & flat)
    high = torch.where(~accepted & ~enough, length, high)
    low = torch.where(~accepted & enough, length, low)
    following = torch.where(high.isinf(), 2 * low, 0.5 * (low + high))
    return _Search(low, high, torch.where(accepted, length, following), accepted)


def _remember(steps: list[Tensor], changes: list[Tensor], step: Tensor, change: Tensor, forget: Tensor) -> None:
    """Put a pair before the others where it is good; forget all where nothing lower was found."""
    size = torch.linalg.vector_norm(step, dim=1, keepdim=True) * torch.linalg.vector_norm(change, dim=1, keepdim=True)
    good = (_dot(step, change) > _CAUTIOUS * size) & (size > 0)
    for pairs, newest in ((steps, step), (changes, change)):
        for older, newer in zip(pairs[:0:-1], pairs[-2::-1], strict=True):
            older.copy_(torch.where(forget, 0.0, torch.where(good, newer, older)))
        pairs[0].copy_(torch.where(forget, 0.0, torch.where(good, newest, pairs[0])))
