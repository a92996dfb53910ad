"""Logits of every position, for members of one shape stacked: what a loss over whole rows reads."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedConfig

from .blocks import whole_block
from .network import network_of
from .outputs import check_length
from .stacked import embedding, layer_norm

ForwardEverywhere: TypeAlias = Callable[
    [Mapping[str, Tensor], Int[Tensor, "member batch length"]], Float[Tensor, "member batch length vocabulary"]
]


def all_position_logits(config: PreTrainedConfig) -> ForwardEverywhere | None:
    """A function (stacked parameters, token rows) -> logits of every position, or None if the model has none.

    Parameters, token rows, autocast and errors are those of `last_position_logits`; logits are those of the full
    forward pass, [member, batch, length, vocabulary].
    """
    parts = network_of(config)
    if parts is None:
        return None

    def forward(
        weights: Mapping[str, Tensor], input_ids: Int[Tensor, "member batch length"]
    ) -> Float[Tensor, "member batch length vocabulary"]:
        network = parts(weights)
        check_length(input_ids, network.positions.shape[1])
        stream = embedding(input_ids, network.tokens, network.positions)
        for block in network.blocks:
            stream = whole_block(network, block, stream)
        return network.head(layer_norm(stream, network.final_norm.gain, network.final_norm.shift, network.epsilon))

    return forward
