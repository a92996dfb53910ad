"""A model's attention weights: of one row, or streamed over many."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from anchorlab.errors import InputError

from .attention_hooks import AttentionHook, NoAttentionError, attention_modules, heads_of, hooked_attention
from .heads import HeadBatch
from .places import Places
from .predictions import batches, evaluating
from .sight import Sight

_WEIGHTS = 2**22  # in a batch
_FULL = "full_attention"


class _Recorder(AttentionHook):
    """Keeps every layer's weights and the lengths of its value vectors."""

    def __init__(self) -> None:
        self.kept: dict[int, Tensor] = {}
        self.value_norms: dict[int, Tensor] = {}

    def weights(self, layer: int, value: Tensor, weights: Tensor) -> Tensor:
        self.kept[layer] = weights.float()
        self.value_norms[layer] = value.float().norm(dim=-1)
        return weights


def record_attention(
    model: nn.Module, tokens: Int[np.ndarray, "n length"], *, places: Places | None = None, batch: int | None = None
) -> Iterator[HeadBatch]:
    """Attention weights and value lengths of all layers and heads, `batch` rows at a time, with the rows' `places`.

    By default a batch has as many rows as make four million weights (16 MiB), at least one.

    Raises `NoAttentionError` for a model without attention.
    """
    per_row = len(attention_modules(model)) * heads_of(model) * tokens.shape[1] ** 2
    for start, rows in batches(model, tokens, batch or max(1, _WEIGHTS // per_row)):
        with evaluating(model), hooked_attention(model, recorder := _Recorder()):
            model(input_ids=rows)
        if not (layers := sorted(recorder.kept)):
            raise NoAttentionError(f"model: {type(model).__name__} does not use Hugging Face's AttentionInterface")
        yield HeadBatch(
            weights=torch.stack([recorder.kept[layer] for layer in layers], dim=1),
            tokens=rows,
            value_norms=torch.stack([recorder.value_norms[layer] for layer in layers], dim=1),
            places={
                role: torch.from_numpy(at[start : start + len(rows)]).to(rows.device)
                for role, at in (places or {}).items()
            },
        )


def attention_maps(
    model: nn.Module, tokens: Int[np.ndarray, " length"]
) -> Float[np.ndarray, "layers heads query source"]:
    """Attention weights of one row: entry [l, h, i, j] is how much position i reads from position j.

    Raises `NoAttentionError` for a model without attention (LSTM, FNN).
    """
    (found,) = record_attention(model, tokens[None])
    maps: Float[np.ndarray, "layers heads query source"] = found.weights[0].cpu().numpy()
    return maps


def sees_later_positions(model: nn.Module) -> bool:
    """Whether the model's attention has no causal mask."""
    return not getattr(attention_modules(model)[0], "is_causal", True)


def sight_of(model: nn.Module, length: int) -> Sight:
    """What the positions of a row of `length` tokens see in every layer.

    All positions up to themselves, those within the window in layers that have one, or everything without a mask.
    Raises InputError for a model whose layers see something else, such as chunks.
    """
    config: Any = model.config
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None) or ["sliding_attention" if window else _FULL] * len(
        attention_modules(model)
    )
    if unknown := sorted(set(kinds) - {_FULL, "sliding_attention"}):
        raise InputError(
            f"model: what layers with {unknown[0]!r} see is not known; only full and sliding attention are"
        )
    if sees_later_positions(model):
        return Sight.everything(length)
    if window is None or set(kinds) == {_FULL}:
        return Sight.causal(length)
    layers = [Sight.causal(length, window if kind == "sliding_attention" else None) for kind in kinds]
    return Sight(torch.cat([one.first for one in layers]), torch.cat([one.last for one in layers]))


def visible_sources(model: nn.Module, length: int) -> Bool[Tensor, "#layers query source"]:
    """The same as a mask, as `score_heads` takes it."""
    return sight_of(model, length).mask()
