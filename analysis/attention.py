"""Attention maps of one input row, for every layer and head."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import nn

from anchorlab.errors import InputError


class NoAttentionError(InputError):
    """The architecture has no attention to look at."""


@torch.no_grad()
def attention_maps(
    model: nn.Module, tokens: Int[np.ndarray, " length"]
) -> Float[np.ndarray, "layers heads query source"]:
    """Attention weights of one row: entry [l, h, i, j] is how much position i reads from position j.

    Raises `NoAttentionError` for a model without attention (LSTM, FNN) and `InputError` if the model has attention but
    returned none: transformers does that without a word under `attn_implementation="sdpa"`.
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    row = torch.from_numpy(tokens.astype(np.int64))[None].to(device)
    was_training = model.training
    model.eval()
    try:
        maps = getattr(model(input_ids=row, output_attentions=True), "attentions", None)
    finally:
        model.train(was_training)
    if maps is None:
        raise NoAttentionError(f"model: {type(model).__name__} has no attention")
    if len(maps) == 0 or any(layer is None for layer in maps):
        raise InputError(
            f"model: {type(model).__name__} returned no attention weights; load it with attn_implementation='eager'"
        )
    return torch.stack([layer[0].float().cpu() for layer in maps]).numpy()
