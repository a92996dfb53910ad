"""Layers over stacked parameters: everything has a leading member axis, and a single member takes the plain kernels."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from .short_rows import causal_attention, gather, mixtures, split_heads


def linear(
    rows: Float[Tensor, "member *rows inputs"],
    weight: Float[Tensor, "member inputs outputs"],
    bias: Float[Tensor, "member outputs"] | None = None,
) -> Float[Tensor, "member *rows outputs"]:
    """Each member's rows times its own matrix, plus its own bias."""
    flat = rows.flatten(1, -2)
    if weight.shape[0] == 1:
        # squeeze, not [0]: its gradient is a view, where indexing would fill a zero tensor.
        single, matrix = flat.squeeze(0), weight.squeeze(0)
        product = single @ matrix if bias is None else torch.addmm(bias.squeeze(0), single, matrix)
    else:
        product = torch.bmm(flat, weight) if bias is None else torch.baddbmm(bias.unsqueeze(1), flat, weight)
    return product.view(*rows.shape[:-1], weight.shape[-1])


def normalize(rows: Float[Tensor, "*rows width"], epsilon: float) -> Float[Tensor, "*rows width"]:
    """Layer norm without gain and shift, in float32 or wider."""
    wide = rows.to(torch.promote_types(rows.dtype, torch.float32))
    return functional.layer_norm(wide, rows.shape[-1:], eps=epsilon)


def affine(
    rows: Float[Tensor, "member *rows width"],
    gain: Float[Tensor, "member width"],
    shift: Float[Tensor, "member width"],
) -> Float[Tensor, "member *rows width"]:
    """Each member's rows times its gain, plus its shift."""
    shape = (len(gain), *[1] * (rows.ndim - 2), gain.shape[-1])
    return torch.addcmul(shift.view(shape), rows, gain.view(shape))


def layer_norm(
    rows: Float[Tensor, "member *rows width"],
    gain: Float[Tensor, "member width"],
    shift: Float[Tensor, "member width"],
    epsilon: float,
) -> Float[Tensor, "member *rows width"]:
    """Layer norm with each member's gain and shift, in float32 or wider."""
    if len(gain) > 1:
        return affine(normalize(rows, epsilon), gain, shift)
    wide = rows.to(torch.promote_types(rows.dtype, torch.float32))
    return functional.layer_norm(wide, rows.shape[-1:], gain.squeeze(0), shift.squeeze(0), epsilon)


def product_dtype(rows: Tensor) -> torch.dtype:
    """The type in which a matrix product reads these rows: autocast's, where that is on."""
    kind = rows.device.type
    if torch.is_autocast_enabled(kind) and rows.dtype == torch.float32:
        return torch.get_autocast_dtype(kind)
    return rows.dtype


def lowered(rows: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The rows as autocast hands them to a matrix product: cast once for several products."""
    return rows.to(product_dtype(rows))


def embedding(
    input_ids: Int[Tensor, "member batch length"],
    tokens: Float[Tensor, "member vocabulary width"],
    positions: Float[Tensor, "member positions width"],
) -> Float[Tensor, "member batch length width"]:
    """Token plus position embedding of each member's rows."""
    return gather(tokens, input_ids, tokens.dtype) + positions[:, None, : input_ids.shape[-1]]


def attend(
    query: Float[Tensor, "member batch length inner"],
    key: Float[Tensor, "member batch length inner"],
    value: Float[Tensor, "member batch length inner"],
    heads: int,
) -> Float[Tensor, "member batch length inner"]:
    """Causal attention of every position, heads side by side in the last axis; the softmax is in float32 or wider."""
    if query.device.type == "cpu" and query.dtype not in (torch.float32, torch.float64) and query.shape[2] <= 128:
        # There the fused kernel's gradient takes 3-15 times as long.
        attention = causal_attention(split_heads(query, heads), split_heads(key, heads)).to(value.dtype)
        mixed: Tensor = mixtures(attention, split_heads(value, heads)).unflatten(0, (*query.shape[:2], heads))
        return mixed.transpose(2, 3).flatten(3)

    def by_head(rows: Tensor) -> Tensor:
        return rows.view(-1, rows.shape[2], heads, rows.shape[3] // heads).transpose(1, 2)

    fused = functional.scaled_dot_product_attention(by_head(query), by_head(key), by_head(value), is_causal=True)
    return fused.transpose(1, 2).reshape(query.shape)
