"""Read and change a model's attention weights while it runs: the one mechanism behind recording, edits and ablations.

An attention function of our own is registered with Hugging Face's `AttentionInterface`, and eager attention's mask with
`AttentionMaskInterface` under the same name (with the first alone a model would be given no mask and see later
positions). It computes what eager attention computes, without dropout, for GPT-2, post-LN, simplified and Llama-family
models alike, and lets hooks see and replace the weights of every layer after the softmax, and what each head makes of
them.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask

from anchorlab.errors import InputError

_NAME = "anchorlab_hooked"


class NoAttentionError(InputError):
    """The architecture has no attention to look at."""


class AttentionHook:
    """What is called in every layer; both methods return their last argument unless a subclass replaces it."""

    def weights(
        self,
        layer: int,
        value: Float[Tensor, "batch heads source head_width"],
        weights: Float[Tensor, "batch heads query source"],
    ) -> Float[Tensor, "batch heads query source"]:
        """Given the attention weights of a layer (numbered from 0) after the softmax, the weights to go on with."""
        return weights

    def mixed(
        self, layer: int, mixed: Float[Tensor, "batch heads query head_width"]
    ) -> Float[Tensor, "batch heads query head_width"]:
        """Given what each head has read, before the output projection, what to go on with."""
        return mixed


_hooks: WeakKeyDictionary[nn.Module, tuple[AttentionHook, ...]] = WeakKeyDictionary()


@contextmanager
def hooked_attention(model: nn.Module, *hooks: AttentionHook) -> Iterator[None]:
    """Let `hooks` take part in every forward pass of `model` inside the block, in their order; blocks can be nested.

    Raises:
        NoAttentionError: the model has no attention that goes through Hugging Face's `AttentionInterface`.
    """
    modules = attention_modules(model)
    before = [_hooks.get(module, ()) for module in modules]
    for module, outer in zip(modules, before, strict=True):
        _hooks[module] = outer + hooks
    try:
        with attention_implementation(model, _NAME):
            yield
    finally:
        for module, outer in zip(modules, before, strict=True):
            _hooks[module] = outer


@contextmanager
def attention_implementation(model: nn.Module, name: str) -> Iterator[None]:
    """Let a model use the attention function that is registered under `name` inside the block.

    Raises `NoAttentionError` as `hooked_attention` does.
    """
    # Not by `set_attn_implementation`: of a class without readable source it only warns, and nothing would change.
    configs = {id(config): config for config in map(_config_of, (model, *attention_modules(model)))}.values()
    implementations = [config._attn_implementation for config in configs]
    for config in configs:
        config._attn_implementation = name
    try:
        yield
    finally:
        for config, implementation in zip(configs, implementations, strict=True):
            config._attn_implementation = implementation


def attention_modules(model: nn.Module) -> list[nn.Module]:
    """The attention modules of a model, the first layer's first; raises `NoAttentionError` if there is none."""
    # A module that attends knows its layer and its scale.
    found = [
        module
        for module in model.modules()
        if hasattr(module, "layer_idx") and hasattr(module, "scaling") and hasattr(module, "config")
    ]
    if not found or not isinstance(model, PreTrainedModel):
        raise NoAttentionError(
            f"model: {type(model).__name__} has no attention that goes through Hugging Face's AttentionInterface"
        )
    return sorted(found, key=layer_of)


def heads_of(model: nn.Module) -> int:
    """Attention heads of a layer."""
    return int(_config_of(model).num_attention_heads)


def _config_of(module: nn.Module) -> Any:
    return module.config


def layer_of(module: nn.Module) -> int:
    """The layer, from 0, that an attention module belongs to."""
    number: Any = module.layer_idx
    return int(number)


def _attention(
    module: nn.Module,
    query: Float[Tensor, "batch heads query head_width"],
    key: Float[Tensor, "batch key_heads source head_width"],
    value: Float[Tensor, "batch key_heads source value_width"],
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **others: Any,
) -> tuple[Float[Tensor, "batch query heads value_width"], Float[Tensor, "batch heads query source"]]:
    refuse_selections(module, others)
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = softmax(scores, s_aux).to(value.dtype)
    hooks, layer = _hooks.get(module, ()), layer_of(module)
    for hook in hooks:
        weights = hook.weights(layer, value, weights)
    mixed = weights @ value
    for hook in hooks:
        mixed = hook.mixed(layer, mixed)
    return mixed.transpose(1, 2).contiguous(), weights


def refuse_selections(module: nn.Module, others: Mapping[str, Any]) -> None:
    """Raise InputError for attention that chooses its sources, or weighs them, in another way than masks can tell."""
    for name in ("position_bias", "indices", "topk_indices", "block_indices"):
        if others.get(name) is not None:
            raise InputError(
                f"model: {type(module).__name__} chooses what it reads by {name!r}, which is not supported"
            )


def softmax(
    scores: Float[Tensor, "batch heads query source"], sinks: Float[Tensor, " heads"] | None
) -> Float[Tensor, "batch heads query source"]:
    """Attention weights in at least single precision; learned sinks take their share and are left out."""
    precise = torch.promote_types(scores.dtype, torch.float32)
    if sinks is None:
        return scores.softmax(-1, dtype=precise)
    beside = sinks[:, None, None].expand(*scores.shape[:-1], 1).to(scores.dtype)
    return torch.cat([scores, beside], dim=-1).softmax(-1, dtype=precise)[..., :-1]


AttentionInterface.register(_NAME, _attention)
AttentionMaskInterface.register(_NAME, eager_mask)
