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
from .short_rows import gather, inverse_deviation, mixtures, products, softmax
from .stacked import linear, product_dtype


@dataclass(frozen=True)
class _Tables:
    """Rows by token and position. A query of position p adds `value` rows, weighted by attention, to its `own` row."""

    query: Float[Tensor, "member vocabulary length inner"]
    key: Float[Tensor, "member vocabulary length inner"]
    value: Float[Tensor, "member vocabulary length heads*width"]
    own: Float[Tensor, "member vocabulary length width"]


@dataclass(frozen=True)
class _HiddenTables:
    """The rows of `_Tables` times the feed-forward net's first matrix, and what its layer norm and bias add."""

    value: Float[Tensor, "member vocabulary length heads*hidden"]
    own: Float[Tensor, "member vocabulary length hidden"]
    constant: Float[Tensor, "member hidden"]


def tables_pay(network: Network, input_ids: Int[Tensor, "member batch length"]) -> bool:
    """Whether the tables take less time than the block: few tokens beside the rows, short rows beside the width."""
    batch, length = input_ids.shape[1:]
    vocabulary, width = network.tokens.shape[1:]
    return 2 * vocabulary <= batch and 4 * network.heads * length <= width


def hidden_tables_pay(network: Network, length: int) -> bool:
    """Whether the feed-forward net's first map, too, takes less time from tables."""
    return 12 * network.heads * length <= network.tokens.shape[-1]


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
    attention = _attention(network, block, rows(tables.query, later), rows(tables.key, index))
    stream = rows(tables.own, later, tables.own.dtype) + _mix(attention, rows(tables.value, index))
    if hidden_tables is None:
        return torch.cat([start, feed_forward(network, block, stream)], 2)
    scale = inverse_deviation(stream, network.epsilon)
    constant = hidden_tables.constant.to(low)[:, None, None]
    own = torch.addcmul(constant, rows(hidden_tables.own, later), scale.to(low))
    hidden = _mix(attention * scale.unsqueeze(3), rows(hidden_tables.value, index), own)
    return torch.cat([start, _feed_forward_end(network, block, stream, scale, hidden)], 2)


def _first_position(
    network: Network, block: Block, tables: _Tables, hidden_tables: _HiddenTables | None
) -> Float[Tensor, "member vocabulary width"]:
    """The stream behind the block at position 0, for every token."""

    def with_own_value(own: Tensor, value: Tensor) -> Tensor:
        return own[:, :, 0] + value[:, :, 0].unflatten(-1, (network.heads, -1)).sum(2)

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


def _attention(
    network: Network,
    block: Block,
    query: Float[Tensor, "member batch queries inner"],
    key: Float[Tensor, "member batch length inner"],
) -> Float[Tensor, "member batch queries heads length"]:
    """Causal attention of the last `queries` positions."""

    def by_head(rows: Tensor) -> Tensor:
        return rows.unflatten(-1, (network.heads, -1)).transpose(2, 3).flatten(0, 2)

    scores = products(by_head(query), by_head(key))
    queries, length = scores.shape[1:]
    hidden = torch.ones(queries, length, dtype=torch.bool, device=query.device).triu(1 + length - queries)
    wide = scores.to(torch.promote_types(scores.dtype, torch.float32)) * network.scale(block)
    attention = softmax(wide.masked_fill(hidden, -torch.inf))
    return attention.view(*query.shape[:2], network.heads, queries, length).transpose(2, 3)


def _mix(
    attention: Float[Tensor, "member batch queries heads length"],
    rows: Float[Tensor, "member batch length heads*width"],
    base: Float[Tensor, "member batch queries width"] | None = None,
) -> Float[Tensor, "member batch queries width"]:
    """The rows of every head weighted by its attention, added up (in place on `base`, if given)."""
    members, batch, queries, heads, length = attention.shape
    weights = attention.to(rows.dtype).transpose(3, 4).reshape(members * batch, queries, length * heads)
    mixed = mixtures(weights, rows.reshape(members * batch, length * heads, -1), base)
    return mixed.view(members, batch, queries, -1)


def _tables(network: Network, block: Block, length: int) -> tuple[_Tables, _HiddenTables | None]:
    embedded = torch.cat([network.tokens, network.positions[:, :length]], 1)
    centred = _centred(embedded)
    query, key, value, query_constant, value_constant = _projections(network, block, embedded, centred)
    own = torch.cat([centred[:, :-length], centred[:, -length:] + _centred(value_constant)], 1)
    scale = None
    if block.attention_norm is not None:
        scale = inverse_deviation(*_spread([centred], length), network.epsilon)
    if not hidden_tables_pay(network, length):
        query, key, value = _spread([query, key, _heads_aside(value)], length, scale)
        return _Tables(query + query_constant.unsqueeze(1), key, value, *_spread([own], length)), None
    hidden_own, hidden_value, constant = _hidden_rows(block, own, value)
    own, hidden_own = _spread([own, hidden_own], length)
    parts = [query, key, _heads_aside(value), _heads_aside(hidden_value)]
    query, key, value, hidden_value = _spread(parts, length, scale)
    return _Tables(query + query_constant.unsqueeze(1), key, value, own), _HiddenTables(hidden_value, hidden_own, constant)


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
    hidden_own, hidden_value, constant = (
        linear(read, block.up.weight).to(own.dtype).split([count, heads * count, 1], 1)
    )
    constant = constant.squeeze(1)
    if block.up.bias is not None:
        constant = constant + block.up.bias
    return hidden_own, hidden_value.unflatten(1, (heads, count)), constant


def _heads_aside(rows: Float[Tensor, "member heads rows width"]) -> Float[Tensor, "member rows heads*width"]:
    return rows.transpose(1, 2).flatten(2)


def _spread(
    parts: Sequence[Float[Tensor, "member rows _"]], length: int, scale: Tensor | None = None
) -> tuple[Tensor, ...]:
    """Tables of token row plus position row (the last `length` rows), times `scale`; all parts in one pass."""
    rows = torch.cat(list(parts), -1)
    table = rows[:, :-length, None] + rows[:, None, -length:]
    if scale is not None:
        table = table * scale
    return table.split([part.shape[-1] for part in parts], -1)


def _centred(rows: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows width"]:
    wide = rows.to(torch.promote_types(rows.dtype, torch.float32))
    return wide - wide.mean(-1, keepdim=True)
