"""Operations on many short rows, in the forms that take the least time there; all of them can be differentiated."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

_NARROW = 256


def softmax(scores: Float[Tensor, "*rows length"]) -> Float[Tensor, "*rows length"]:
    """Softmax over the last axis, in float32 or wider; -inf is no weight. Torch's own costs 4 times that on 9 scores."""
    wide = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if scores.device.type != "cpu":
        return wide.softmax(-1)
    weights: Tensor = _Softmax.apply(wide)
    return weights


class _Softmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor) -> Tensor:
        weights = (scores - scores.amax(-1, keepdim=True)).exp_()
        weights /= weights.sum(-1, keepdim=True)
        ctx.save_for_backward(weights)
        return weights

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (weights,) = ctx.saved_tensors
        product = weights * gradient
        return product - weights * product.sum(-1, keepdim=True)


def products(
    left: Float[Tensor, "batch rows width"], right: Float[Tensor, "batch others width"]
) -> Float[Tensor, "batch rows others"]:
    """Scalar products of every left with every right row, in their own type also under autocast."""
    result: Tensor = _Products.apply(left, right)
    return result


def mixtures(
    weights: Float[Tensor, "batch rows others"],
    rows: Float[Tensor, "batch others width"],
    base: Float[Tensor, "batch rows width"] | None = None,
) -> Float[Tensor, "batch rows width"]:
    """Weighted sums of rows in their own type also under autocast, added to `base` in place where that is given."""
    result: Tensor = _Mixtures.apply(weights, rows, base)
    return result


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(left, right)
        return _inner(left, right)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        left, right = ctx.saved_tensors  # gradients as sums of rows: products of columns are 3 times as slow
        return _outer(gradient, right), _outer(gradient.mT, left)


class _Mixtures(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor, rows: Tensor, base: Tensor | None) -> Tensor:
        ctx.save_for_backward(weights, rows)
        if base is None:
            return _outer(weights, rows)
        ctx.mark_dirty(base)
        with torch.autocast(rows.device.type, enabled=False):
            base.flatten(0, -3).baddbmm_(weights, rows)
        return base

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        weights, rows = ctx.saved_tensors
        summed = gradient.flatten(0, -3)
        return _inner(summed, rows), _outer(weights.mT, summed), gradient if ctx.needs_input_grad[2] else None


def _inner(left: Tensor, right: Tensor) -> Tensor:
    with torch.autocast(left.device.type, enabled=False):
        if left.shape[1] == 1:  # a matrix times a vector, which is faster than a vector times a transposed matrix
            return torch.bmm(right, left.mT).mT
        return torch.bmm(left, right.mT)


def _outer(weights: Tensor, rows: Tensor) -> Tensor:
    if rows.shape[1] == 1:
        return weights * rows
    with torch.autocast(rows.device.type, enabled=False):
        return torch.bmm(weights, rows)


def inverse_deviation(rows: Float[Tensor, "*rows width"], epsilon: float) -> Float[Tensor, "*rows 1"]:
    """1 / sqrt(mean square + epsilon) of rows without a mean: the scale of their layer norm."""
    result: Tensor = _InverseDeviation.apply(rows, epsilon)
    return result


class _InverseDeviation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, epsilon: float) -> Tensor:
        square = torch.linalg.vector_norm(rows, dim=-1, keepdim=True).square_()
        scale = square.div_(rows.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(rows, scale)
        return scale

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        rows, scale = ctx.saved_tensors
        return rows * (gradient * scale.pow(3) * (-1 / rows.shape[-1])), None


def gather(
    table: Float[Tensor, "member entries width"], index: Int[Tensor, "member *rows"], dtype: torch.dtype
) -> Float[Tensor, "member *rows width"]:
    """The entries of each member's own table, in `dtype`; gradients are summed in the table's type."""
    members, entries, width = table.shape
    if members > 1:  # one table of all members: entry `member * entries + index`
        offsets = torch.arange(members, device=index.device) * entries
        index = index + offsets.view(-1, *[1] * (index.ndim - 1))
    rows: Tensor = _Gather.apply(table.reshape(members * entries, width), index.flatten(), dtype)
    return rows.view(*index.shape, width)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(index)
        ctx.entries, ctx.dtype = len(table), table.dtype
        return table.to(dtype).index_select(0, index)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (index,) = ctx.saved_tensors
        wide = gradient.to(ctx.dtype)
        if wide.device.type == "cpu" and wide.shape[-1] <= _NARROW:  # not on a GPU, where its order is left to chance
            return wide.new_zeros(ctx.entries, wide.shape[-1]).index_add_(0, index, wide), None, None
        return torch.ops.aten.embedding_dense_backward(wide, index, ctx.entries, -1, False), None, None
