"""What a trained model answers: its logits and its most likely token at the last position."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Without dropout and gradients inside the block; the model's mode is left as it was."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def entry_device(model: nn.Module) -> torch.device:
    """Where tokens go in: to the first weights of a model on several devices; accelerate moves them from the CPU."""
    devices = (parameter.device for parameter in model.parameters())
    return next((device for device in devices if device.type != "meta"), torch.device("cpu"))


def batches(
    model: nn.Module, tokens: Int[np.ndarray, "n length"], batch: int
) -> Iterator[tuple[int, Int[Tensor, "rows length"]]]:
    """The rows on the model's device, `batch` at a time, each time with the number of the first of them.

    Raises `ValueError` if there are no rows.
    """
    if len(tokens) == 0:
        raise ValueError("tokens: no rows to answer")
    device = entry_device(model)
    for start in range(0, len(tokens), batch):
        yield start, torch.from_numpy(tokens[start : start + batch].astype(np.int64)).to(device)


def logits(
    model: nn.Module, tokens: Int[np.ndarray, "n length"], *, batch: int = 1024
) -> Float[Tensor, "n vocabulary"]:
    """Logits at the last position, on the CPU in float32, computed `batch` rows at a time.

    The model is evaluated without dropout and left in the mode it came in. Raises `ValueError` if `tokens` has no rows.
    """
    with evaluating(model):
        return torch.cat(
            [model(input_ids=rows).logits[:, -1].float().cpu() for _, rows in batches(model, tokens, batch)]
        )


def answers(model: nn.Module, tokens: Int[np.ndarray, "n length"], *, batch: int = 1024) -> Int[np.ndarray, " n"]:
    """The token id with the highest logit at the last position."""
    with evaluating(model):
        found = [model(input_ids=rows).logits[:, -1].argmax(dim=-1).cpu() for _, rows in batches(model, tokens, batch)]
    return torch.cat(found).numpy()


def position_answers(
    model: nn.Module, tokens: Int[np.ndarray, "n length"], *, batch: int = 1024
) -> Int[np.ndarray, "n length"]:
    """The token id with the highest logit at every position, though only the last one is trained on."""
    with evaluating(model):
        found = [model(input_ids=rows).logits.argmax(dim=-1).cpu() for _, rows in batches(model, tokens, batch)]
    return torch.cat(found).numpy()
