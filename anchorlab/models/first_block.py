"""The first block from tables: what it reads is a function of (token, position) alone.

Before attention, the stream is E[t, p] = token_t + position_p, and its layer norm is linear in E apart from one scalar.
So queries, keys and values, the latter times the output matrix, are sums of a token's and a position's row, times that
scalar, plus a constant: no matrix meets the rows of the batch. Behind attention, r_p = own_p + Σ_j a_pj value_j; its
layer norm is linear apart from one scalar, too. So the feed-forward net's first map W gives
(own_p W + Σ_j a_pj (value_j W)) / σ_p plus a constant, where own W and value W are tables as well.

Position 0 sees itself only and takes one row per token. Under pre-LN the stream is left without its mean over the
width, which every reader removes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .blocks import feed_forward
from .network import Block, Network
from .short_rows import add_mixtures, causal_attention, gather, inverse_deviation, mixtures, split_heads
from .stacked import linear, product_dtype


@dataclass(frozen=True)
class _Tables:
    """Rows by token and position. A query adds `value` rows, weighted by attention, to its `own` row.

    Values are those of all heads side by side, each as wide as the stream.
    """

    query: Float[Tensor, "member vocabulary length inner"]
    key: Float[Tensor, "member vocabulary length inner"]
    value: Float[Tensor, "member vocabulary length values"]
    own: Float[Tensor, "member vocabulary length width"]


@dataclass(frozen=True)
class _HiddenTables:
    """The rows of `_Tables` times the feed-forward net's first matrix, and what its layer norm and bias add."""

    value: Float[Tensor, "member vocabulary length hidden_values"]
    own: Float[Tensor, "member vocabulary length hidden"]
    constant: Float[Tensor, "member hidden"]


def tables_pay(network: Network, input_ids: Int[Tensor, "member batch length"]) -> bool:
    """Whether the tables take less time than the block: few tokens beside the rows, short rows beside the width."""
    batch, length = input_ids.shape[1:]
    vocabulary, width = network.tokens.shape[1:]
    return 128 * vocabulary <= batch * width and network.heads * length <= width


def hidden_tables_pay(network: Network, length: int) -> bool:
    """Whether the feed-forward net's first map, too, takes less time from tables."""
    return 10 * network.heads * length <= network.tokens.shape[-1]


def first_block(
    network: Network, block: Block, input_ids: Int[Tensor, "member batch length"]
) -> Float[Tensor, "member batch length width"]:
    """The stream behind the first block at every position."""
    length = input_ids.shape[-1]
    tables, hidden_tables = _tables(network, block, length)
    start = _first_position(network, block, tables, hidden_tables)
    start = gather(start, input_ids[:, :, :1], start.dtype)
    if length == 1:
        return start
    index = input_ids * length + torch.arange(length, device=input_ids.device)
    low = product_dtype(tables.own)

    def rows(table: Tensor, index: Tensor, dtype: torch.dtype = low) -> Tensor:
        return gather(table.flatten(1, 2), index, dtype)

    later = index[:, :, 1:]
    query = split_heads(rows(tables.query, later), network.heads)
    key = split_heads(rows(tables.key, index), network.heads)
    attention = causal_attention(query, key).unflatten(0, (*input_ids.shape[:2], network.heads)).transpose(2, 3)
    mixed = mixtures(_weights(attention.to(low)), _entries(network, rows(tables.value, index)))
    own = rows(tables.own, later, tables.own.dtype)
    stream = own + mixed.view(own.shape)
    if hidden_tables is None:
        return torch.cat([start, feed_forward(network, block, stream)], 2)
    scale = inverse_deviation(stream, network.epsilon)
    constant = hidden_tables.constant.to(low)[:, None, None]
    hidden = torch.addcmul(constant, rows(hidden_tables.own, later), scale.to(low))
    weights = _weights((attention * scale.unsqueeze(3)).to(low))
    hidden = add_mixtures(hidden, weights, _entries(network, rows(hidden_tables.value, index)))
    return torch.cat([start, _feed_forward_end(network, block, stream, scale, hidden)], 2)


def _first_position(
    network: Network, block: Block, tables: _Tables, hidden_tables: _HiddenTables | None
) -> Float[Tensor, "member vocabulary width"]:
    """The stream behind the block at position 0, for every token."""

    def with_own_value(own: Tensor, value: Tensor) -> Tensor:
        by_head: Tensor = value[:, :, 0].unflatten(-1, (network.heads, -1))
        return own[:, :, 0] + by_head.sum(2)

    stream = with_own_value(tables.own, tables.value)
    if hidden_tables is None:
        return feed_forward(network, block, stream)
    scale = inverse_deviation(stream, network.epsilon)
    hidden = hidden_tables.constant[:, None] + scale * with_own_value(hidden_tables.own, hidden_tables.value)
    return _feed_forward_end(network, block, stream, scale, hidden.to(product_dtype(hidden)))


def _feed_forward_end(
    network: Network,
    block: Block,
    stream: Float[Tensor, "member *rows width"],
    scale: Float[Tensor, "member *rows 1"],
    hidden: Float[Tensor, "member *rows hidden"],
) -> Float[Tensor, "member *rows width"]:
    base = stream if network.pre_norm else block.feed_forward_norm(stream * scale)
    return base + block.down(network.activation(hidden))


def _weights(attention: Float[Tensor, "member batch queries heads length"]) -> Float[Tensor, "flat queries entries"]:
    """Attention in the order in which a gathered row of a table has its entries: by position, then by head."""
    return attention.transpose(3, 4).flatten(3).flatten(0, 1)


def _entries(network: Network, rows: Float[Tensor, "member batch length values"]) -> Float[Tensor, "flat entries _"]:
    separate: Tensor = rows.unflatten(-1, (network.heads, -1))
    return separate.flatten(2, 3).flatten(0, 1)


def _tables(network: Network, block: Block, length: int) -> tuple[_Tables, _HiddenTables | None]:
    embedded = torch.cat([network.tokens, network.positions[:, :length]], 1)
    centred = _centred(embedded)
    query, key, value, query_constant, value_constant = _projections(network, block, embedded, centred)
    own = torch.cat([centred[:, :-length], centred[:, -length:] + _centred(value_constant)], 1)
    scale = None
    if block.attention_norm is not None:
        scale = inverse_deviation(_spread([centred], length)[0], network.epsilon)
    unscaled, scaled = [own], [query, key, _heads_aside(value)]
    hidden_constant = None
    if hidden_tables_pay(network, length):
        hidden_own, hidden_value, hidden_constant = _hidden_rows(block, own, value)
        unscaled.append(hidden_own)
        scaled.append(_heads_aside(hidden_value))
    own_tables, scaled_tables = _spread(unscaled, length), _spread(scaled, length, scale)
    query, key, value = scaled_tables[:3]
    tables = _Tables(query + query_constant.unsqueeze(1), key, value, own_tables[0])
    if hidden_constant is None:
        return tables, None
    return tables, _HiddenTables(scaled_tables[3], own_tables[1], hidden_constant)


def _projections(
    network: Network,
    block: Block,
    embedded: Float[Tensor, "member rows width"],
    centred: Float[Tensor, "member rows width"],
) -> tuple[Tensor, ...]:
    """Query, key and value rows before the layer norm's scale, and the constants of queries and of attention's output.

    Key constants are left out: the softmax ignores them. Value constants arrive whole because attention sums to 1.
    """
    norm = block.attention_norm
    if norm is None:
        read = torch.cat([embedded, torch.zeros_like(embedded[:, :1])], 1)
    else:
        read = torch.cat([centred * norm.gain[:, None], norm.shift[:, None]], 1)
    query, key, value = (linear(read, part.weight).to(read.dtype) for part in (block.query, block.key, block.value))
    query_constant, value_constant = query[:, -1:], value[:, -1:]
    if block.query.bias is not None and block.value.bias is not None:
        query_constant = query_constant + block.query.bias[:, None]
        value_constant = value_constant + block.value.bias[:, None]
    by_head = value[:, :-1].unflatten(-1, (network.heads, -1)).transpose(1, 2).flatten(0, 1)
    output = block.output.weight.unflatten(1, (network.heads, -1)).flatten(0, 1)
    added = linear(by_head, output).unflatten(0, (-1, network.heads))
    return query[:, :-1], key[:, :-1], _centred(added), query_constant, block.output(value_constant)


def _hidden_rows(
    block: Block, own: Float[Tensor, "member rows width"], value: Float[Tensor, "member heads rows width"]
) -> tuple[
    Float[Tensor, "member rows hidden"], Float[Tensor, "member heads rows hidden"], Float[Tensor, "member hidden"]
]:
    norm, (heads, count) = block.feed_forward_norm, value.shape[1:3]
    gained = torch.cat([own, value.flatten(1, 2)], 1) * norm.gain[:, None]
    read = torch.cat([gained, norm.shift[:, None]], 1)
    hidden_own, hidden_value, constant = linear(read, block.up.weight).to(own.dtype).split([count, heads * count, 1], 1)
    constant = constant.squeeze(1)
    if block.up.bias is not None:
        constant = constant + block.up.bias
    return hidden_own, hidden_value.unflatten(1, (heads, count)), constant


def _heads_aside(rows: Float[Tensor, "member heads rows width"]) -> Float[Tensor, "member rows values"]:
    return rows.transpose(1, 2).flatten(2)


def _spread(
    parts: Sequence[Float[Tensor, "member rows _"]], length: int, scale: Tensor | None = None
) -> tuple[Tensor, ...]:
    """Tables of token row plus position row (the last `length` rows), times `scale`; all parts in one pass."""
    rows = torch.cat(list(parts), -1)
    table = rows[:, :-length, None] + rows[:, None, -length:]
    if scale is not None:
        table = table * scale
    pieces: tuple[Tensor, ...] = table.split([part.shape[-1] for part in parts], -1)
    return pieces


def _centred(rows: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows width"]:
    wide = rows.to(torch.promote_types(rows.dtype, torch.float32))
    return wide - wide.mean(-1, keepdim=True)
