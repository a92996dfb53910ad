"""Logits of the last position only: the exact short-cut behind training.

The loss reads one position, so the last block computes one query, its feed-forward net and the head one row per
sequence (`blocks`); the first block comes from tables where that takes less time (`first_block`). Losses and gradients
are those of the full forward pass. Parameters are stacked: a leading member axis in front of the Hugging Face shape.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedConfig

from .blocks import last_block, whole_block
from .first_block import first_block, tables_pay
from .network import Network, network_of
from .outputs import check_length
from .stacked import embedding, layer_norm

Forward: TypeAlias = Callable[
    [Mapping[str, Tensor], Int[Tensor, "member batch length"]], Float[Tensor, "member batch vocabulary"]
]


def last_position_logits(config: PreTrainedConfig) -> Forward | None:
    """A function (stacked parameters, token rows) -> logits of the last position, or None if the model has none.

    The mapping has the names of `model.named_parameters()` (a tied head is absent) and tensors with a leading member
    axis; token rows are [member, batch, length], logits [member, batch, vocabulary]. No dropout is applied. Members
    are independent. Works under `torch.autocast`; softmax and layer norm are then computed in float32. The function
    raises `ValueError` for rows longer than the model's positions.
    """
    parts = network_of(config)
    if parts is None:
        return None

    def forward(
        weights: Mapping[str, Tensor], input_ids: Int[Tensor, "member batch length"]
    ) -> Float[Tensor, "member batch vocabulary"]:
        return _logits(parts(weights), input_ids)

    return forward


def _logits(
    network: Network, input_ids: Int[Tensor, "member batch length"]
) -> Float[Tensor, "member batch vocabulary"]:
    check_length(input_ids, network.positions.shape[1])
    *earlier, last = network.blocks
    if earlier and tables_pay(network, input_ids):
        stream = first_block(network, earlier.pop(0), input_ids)
    else:
        stream = embedding(input_ids, network.tokens, network.positions)
    for block in earlier:
        stream = whole_block(network, block, stream)
    answer = last_block(network, last, stream)
    return network.head(layer_norm(answer, network.final_norm.gain, network.final_norm.shift, network.epsilon))
