"""Operations on many short sequences, in the forms that take the least time there, with their gradients.

Rows of a few scores, products of a few rows and narrow tables are where the general kernels spend most of their time
on something else. Every result is a function of its arguments alone: nothing depends on the order of threads.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

_NARROW = 256  # columns up to which adding rows one by one is the faster gradient of a gather


def softmax(scores: Float[Tensor, "*rows length"]) -> Float[Tensor, "*rows length"]:
    """Softmax over the last axis, in float32 or wider; -inf is no weight. On 9 scores torch's takes 4 times as long."""
    wide = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if scores.device.type != "cpu":
        return wide.softmax(-1)
    weights: Tensor = _Softmax.apply(wide)  # type: ignore[no-untyped-call]
    return weights


class _Softmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor) -> Tensor:
        weights = (scores - scores.amax(-1, keepdim=True)).exp_()
        weights.div_(weights.sum(-1, keepdim=True))
        ctx.save_for_backward(weights)
        return weights

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        weights: Tensor = ctx.saved_tensors[0]
        product: Tensor = weights * gradient
        return product - weights * product.sum(-1, keepdim=True)


def split_heads(rows: Float[Tensor, "member batch length inner"], heads: int) -> Float[Tensor, "flat length head"]:
    """Heads, side by side in the last axis, as separate batches: member, batch and head in one leading axis."""
    separate: Tensor = rows.unflatten(-1, (heads, -1))
    return separate.transpose(2, 3).flatten(0, 2)


def causal_attention(
    query: Float[Tensor, "flat queries head"], key: Float[Tensor, "flat length head"]
) -> Float[Tensor, "flat queries length"]:
    """Attention of the last `queries` positions to all up to themselves, in float32 or wider."""
    scores = products(query, key)
    queries, length = scores.shape[1:]
    later = torch.ones(queries, length, dtype=torch.bool, device=query.device).triu(1 + length - queries)
    wide = scores.to(torch.promote_types(scores.dtype, torch.float32)) * query.shape[-1] ** -0.5
    return softmax(wide.masked_fill(later, -torch.inf))


def products(
    left: Float[Tensor, "batch rows width"], right: Float[Tensor, "batch others width"]
) -> Float[Tensor, "batch rows others"]:
    """Scalar products of every left with every right row, in their own type also under autocast."""
    result: Tensor = _Products.apply(left, right)  # type: ignore[no-untyped-call]
    return result


def mixtures(
    weights: Float[Tensor, "batch rows others"], rows: Float[Tensor, "batch others width"]
) -> Float[Tensor, "batch rows width"]:
    """Weighted sums of rows, in their own type also under autocast."""
    result: Tensor = _Mixtures.apply(weights, rows, None)  # type: ignore[no-untyped-call]
    return result


def add_mixtures(
    base: Float[Tensor, "*batches rows width"],
    weights: Float[Tensor, "batch rows others"],
    rows: Float[Tensor, "batch others width"],
) -> Float[Tensor, "*batches rows width"]:
    """`base` with the mixtures added in place; its leading axes flatten to `batch`."""
    result: Tensor = _Mixtures.apply(weights, rows, base)  # type: ignore[no-untyped-call]
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
    result: Tensor = _InverseDeviation.apply(rows, epsilon)  # type: ignore[no-untyped-call]
    return result


class _InverseDeviation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, epsilon: float) -> Tensor:
        square = torch.linalg.vector_norm(rows, dim=-1, keepdim=True).square()
        scale: Tensor = (square / rows.shape[-1] + epsilon).rsqrt()
        ctx.save_for_backward(rows, scale)
        return scale

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        rows, scale = ctx.saved_tensors
        slope: Tensor = gradient * scale.pow(3) * (-1 / rows.shape[-1])
        return rows * slope, None


def gather(
    table: Float[Tensor, "member entries width"], index: Int[Tensor, "member *rows"], dtype: torch.dtype
) -> Float[Tensor, "member *rows width"]:
    """The entries of each member's own table, in `dtype`; gradients are summed in the table's wider type."""
    members, entries, width = table.shape
    if members > 1:  # one table of all members: entry `member * entries + index`
        offsets = torch.arange(members, device=index.device) * entries
        index = index + offsets.view(-1, *[1] * (index.ndim - 1))
    rows: Tensor = _Gather.apply(table.reshape(members * entries, width), index.flatten(), dtype)  # type: ignore[no-untyped-call]
    return rows.view(*index.shape, width)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(index)
        ctx.entries, ctx.dtype = len(table), table.dtype
        low: Tensor = table.to(dtype)
        return low.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (index,) = ctx.saved_tensors
        wide = gradient.to(ctx.dtype)
        if wide.device.type == "cpu" and wide.shape[-1] <= _NARROW:  # not on a GPU, where its order is left to chance
            return wide.new_zeros(ctx.entries, wide.shape[-1]).index_add_(0, index, wide), None, None
        return torch.ops.aten.embedding_dense_backward(wide, index, ctx.entries, -1, False), None, None
