"""Stored attention of some sequences: checked, and summed up for the scores."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from anchorlab.errors import InputError

from .attention_sums import AttentionSums
from .sight import Sight

_TOLERANCE = 1e-3  # of the sum of a query's weights
_Weights = Float[Tensor, "rows layers heads query source"]


@dataclass(frozen=True)
class HeadBatch:
    """Attention of some sequences of one length.

    - `weights`: after the softmax; entry [r, l, h, i, j] is how much position i reads from position j;
    - `tokens`: needed for the scores `duplicate` and `induction`;
    - `value_norms`: length |v_j| of each head's value vectors (of its group's, where heads share them);
    - `places`: position, from 0, of named tokens in every row: `key`, `anchor 1`, `last`, …
    """

    weights: Float[Tensor, "rows layers heads query source"]
    tokens: Int[Tensor, "rows length"] | None = None
    value_norms: Float[Tensor, "rows layers heads source"] | None = None
    places: Mapping[str, Int[Tensor, " rows"]] = field(default_factory=dict)


def summed(batch: HeadBatch, sight: Sight, offsets: tuple[int, ...], name: str) -> AttentionSums:
    """The sums of `batch`; raises InputError, which calls it `name`, unless it is attention within `sight`."""
    _check_shapes(batch, sight, name)
    for role, place in batch.places.items():
        if len(place) and not 0 <= int(place.min()) <= int(place.max()) < sight.length:
            raise InputError(f"{name}: places[{role!r}] must be positions from 0 to {sight.length - 1}")
    # In at least single precision sums over queries are exact enough.
    weights = batch.weights.to(torch.promote_types(batch.weights.dtype, torch.float32))
    device = weights.device
    sight = sight.to(device)
    if len(weights):
        if batch.value_norms is not None and not bool(batch.value_norms.min() >= 0):
            raise InputError(f"{name}: value_norms must be lengths, neither negative nor NaN")
        _check_weights(weights, sight, name, torch.finfo(batch.weights.dtype).eps)

    def read(columns: Int[Tensor, "layers heads column"]) -> Float[Tensor, "rows layers heads column query"]:
        at = columns[None, :, :, None].expand(*weights.shape[:-1], -1)
        return weights.gather(-1, at).mT

    rows, layers, heads = weights.shape[:3]
    sums = AttentionSums.empty(
        (rows, layers, heads),
        sight,
        offsets,
        read,
        token_ids=None if batch.tokens is None else batch.tokens.to(device),
        value_norms=None if batch.value_norms is None else batch.value_norms.to(device),
        places={role: place.cpu().long() for role, place in batch.places.items()},
    )
    sums.add(weights, 0, 0)
    return sums


def _check_shapes(batch: HeadBatch, sight: Sight, name: str) -> None:
    shape, length = tuple(batch.weights.shape), sight.length
    visible = (len(sight.first), length, length)
    fits = len(shape) == 5 and shape[3:] == (length, length) and len(sight.first) in (1, shape[1])
    if not (fits and shape[1] and shape[2] and batch.weights.is_floating_point()):
        raise InputError(
            f"{name}: weights of shape {shape} do not fit `visible` of shape {visible}; "
            "must be floating point, (rows, layers, heads, length, length)"
        )
    allowed = {"tokens": (batch.tokens, (shape[0], length)), "value_norms": (batch.value_norms, (*shape[:3], length))}
    allowed |= {f"places[{role!r}]": (place, shape[:1]) for role, place in batch.places.items()}
    for what, (tensor, expected) in allowed.items():
        if tensor is not None and tuple(tensor.shape) != expected:
            raise InputError(f"{name}: {what} of shape {tuple(tensor.shape)}; must have {expected} like the weights")


def _check_weights(weights: _Weights, sight: Sight, name: str, precision: float) -> None:
    # Comparisons are false for NaN.
    if not bool(weights.min() >= 0):
        raise InputError(f"{name}: weights must be attention after the softmax, neither negative nor NaN")
    tolerance = max(_TOLERANCE, precision)
    sums, seen = weights.sum(-1), (weights * sight.mask()[:, None]).sum(-1)
    if not bool(sums.max() <= 1 + tolerance):
        raise InputError(f"{name}: weights of a query sum to {float(sums.max()):.4g}; must be at most 1")
    if not bool((sums - seen).max() <= tolerance):
        raise InputError(f"{name}: weights of a query are {float((sums - seen).max()):.2g} on sources not in `visible`")
