"""The blocks of a Transformer, for all positions and for the last position alone."""

from jaxtyping import Float
from torch import Tensor

from .network import Affine, Block, Linear, Network
from .short_rows import mixtures, products, softmax
from .stacked import attend, layer_norm, linear, lowered, normalize


def whole_block(
    network: Network, block: Block, stream: Float[Tensor, "member batch length width"]
) -> Float[Tensor, "member batch length width"]:
    """The stream behind the block at every position."""
    rows = stream if block.attention_norm is None else _norm(network, block.attention_norm, stream)
    low = lowered(rows)
    mixed = attend(block.query(low), block.key(low), block.value(low), network.heads)
    return feed_forward(network, block, (stream if network.pre_norm else rows) + block.output(mixed))


def feed_forward(
    network: Network, block: Block, stream: Float[Tensor, "member *rows width"]
) -> Float[Tensor, "member *rows width"]:
    """The stream behind the feed-forward net; `stream` already holds what attention added."""
    rows = _norm(network, block.feed_forward_norm, stream)
    expanded = network.activation(block.up(rows))
    return (stream if network.pre_norm else rows) + block.down(expanded)


def last_block(
    network: Network, block: Block, stream: Float[Tensor, "member batch length width"]
) -> Float[Tensor, "member batch width"]:
    """The stream behind the block at the last position, with keys and values absorbed into its one query.

    Per head, q · (W_K x_j + b_K) is (W_Kᵀ q) · x_j plus a constant that the softmax ignores, and attention sums to 1,
    so that Σ_j a_j (W_V x_j + b_V) = W_V (Σ_j a_j x_j) + b_V: no matrix meets all positions.
    """
    norm = block.attention_norm
    rows = stream if norm is None else normalize(stream, network.epsilon)
    last = rows[:, :, -1] if norm is None else norm(rows[:, :, -1])
    query = _absorbed_query(network, block, last) * (block.query.weight.shape[-1] // network.heads) ** -0.5
    if norm is not None:  # gain and shift, too, act on one row per sequence
        query = query * norm.gain[:, None, None]
    # One query per head takes no time that narrower rows would save on a CPU.
    read = (rows if rows.device.type == "cpu" else lowered(rows)).flatten(0, 1)
    attention = softmax(products(query.to(read.dtype).flatten(0, 1), read))
    mixed = mixtures(attention.to(read.dtype), read).view(query.shape)
    if norm is not None:
        mixed = norm(mixed)
    base = stream[:, :, -1] if network.pre_norm else last
    return feed_forward(network, block, base + _values(network, block, mixed))


def _absorbed_query(
    network: Network, block: Block, last: Float[Tensor, "member batch width"]
) -> Float[Tensor, "member batch heads width"]:
    members, batch, width = last.shape
    if network.heads == 1:
        return _chain(last, block.query, Linear(block.key.weight.mT)).unsqueeze(2)
    query = block.query(last).view(members, batch, network.heads, -1).transpose(1, 2).flatten(0, 1)
    key = block.key.weight.view(members, width, network.heads, -1).transpose(1, 2).flatten(0, 1)
    return linear(query, key.mT).view(members, network.heads, batch, width).transpose(1, 2)


def _values(
    network: Network, block: Block, mixed: Float[Tensor, "member batch heads width"]
) -> Float[Tensor, "member batch width"]:
    members, batch, heads, width = mixed.shape
    if heads == 1:
        return _chain(mixed.squeeze(2), block.value, block.output)
    value = block.value.weight.view(members, width, heads, -1).transpose(1, 2).flatten(0, 1)
    by_head = linear(mixed.transpose(1, 2).flatten(0, 1), value)
    joined = by_head.view(members, heads, batch, -1).transpose(1, 2).flatten(2)
    return block.output(joined if block.value.bias is None else joined + block.value.bias[:, None])


def _chain(
    rows: Float[Tensor, "member batch inputs"], first: Linear, second: Linear
) -> Float[Tensor, "member batch outputs"]:
    """`second(first(rows))`, by the product of the two matrices where that takes less arithmetic."""
    batch, inputs = rows.shape[1:]
    inner, outputs = second.weight.shape[1:]
    if batch * (inputs + outputs) * inner <= (batch + inner) * inputs * outputs:
        return second(first(rows))
    bias = second.bias if first.bias is None else second(first.bias.unsqueeze(1)).squeeze(1)
    return linear(rows, linear(first.weight, second.weight), bias)


def _norm(
    network: Network, norm: Affine, stream: Float[Tensor, "member *rows width"]
) -> Float[Tensor, "member *rows width"]:
    return layer_norm(stream, norm.gain, norm.shift, network.epsilon)
