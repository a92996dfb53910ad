"""What a trained model answers: its logits and its most likely token at the last position."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


@torch.no_grad()
def logits(
    model: nn.Module, tokens: Int[np.ndarray, "n length"], *, batch: int = 1024
) -> Float[Tensor, "n vocabulary"]:
    """Logits at the last position, on the CPU in float32, computed `batch` rows at a time.

    The model is evaluated without dropout and left in the mode it came in. Raises `ValueError` if `tokens` has no rows.
    """
    if len(tokens) == 0:
        raise ValueError("tokens: no rows to answer")
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    was_training = model.training
    model.eval()
    try:
        parts = [
            model(input_ids=torch.from_numpy(rows.astype(np.int64)).to(device)).logits[:, -1].float().cpu()
            for rows in (tokens[start : start + batch] for start in range(0, len(tokens), batch))
        ]
    finally:
        model.train(was_training)
    return torch.cat(parts)


def answers(model: nn.Module, tokens: Int[np.ndarray, "n length"], *, batch: int = 1024) -> Int[np.ndarray, " n"]:
    """The token id with the highest logit at the last position."""
    return logits(model, tokens, batch=batch).argmax(dim=-1).numpy()
