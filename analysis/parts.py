"""Where each architecture keeps its parts: blocks, attention, feed-forward nets, and the way from stream to logits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from anchorlab.errors import InputError


@dataclass(frozen=True)
class _Layout:
    """Paths of the parts; those of a layer are relative to its block, and empty where a model has no such part."""

    blocks: str
    attention: str
    feed_forward: str = ""
    neurons: str = ""  # the matrix that reads the feed-forward net's neurons
    final_norm: str = ""
    head: str = "lm_head"


_LLAMA = _Layout("model.layers", "self_attn", "mlp", "mlp.down_proj", "model.norm")
_LAYOUTS = {
    "gpt2": _Layout("transformer.h", "attn", "mlp", "mlp.c_proj", "transformer.ln_f"),
    "anchorlab_post_ln": _Layout("layers", "self_attn", "mlp", "mlp.down_proj"),
    "anchorlab_simplified": _Layout("layers", "", head=""),
    "gpt_neox": _Layout("gpt_neox.layers", "attention", "mlp", "mlp.dense_4h_to_h", "gpt_neox.final_layer_norm"),
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2"), _LLAMA),
}


@dataclass(frozen=True)
class Parts:
    """The parts of one model, layer by layer; those that it does not have beside its blocks are empty."""

    blocks: tuple[nn.Module, ...]
    attentions: tuple[nn.Module, ...]
    feed_forwards: tuple[nn.Module, ...]
    neurons: tuple[nn.Module, ...]
    final_norm: nn.Module
    head: nn.Module

    def unembed(self, stream: Float[Tensor, "*rows width"], layer: int) -> Float[Tensor, "*rows vocabulary"]:
        """Logits of the residual stream behind `layer` blocks (0: the embedding): the logit lens.

        They pass the final layer norm where the model has one. The simplified model has no head: what remains of its
        value maps takes its place, as if every position read itself in the remaining layers.
        """
        if isinstance(self.head, nn.Identity):
            for block in self.blocks[layer:]:
                stream = block.v_proj(stream)  # type: ignore[operator]
            return stream
        logits: Tensor = self.head(self.final_norm(stream))
        return logits


def parts(model: nn.Module) -> Parts:
    """The parts of a model.

    Raises `InputError` for a model type whose parts are not known, such as one without attention.
    """
    kind = model.config.model_type if isinstance(model, PreTrainedModel) else type(model).__name__
    if kind not in _LAYOUTS:
        raise InputError(f"model: the parts of {kind!r} are not known; known: {', '.join(_LAYOUTS)}")
    layout = _LAYOUTS[kind]
    blocks = tuple(model.get_submodule(layout.blocks).children())

    def of_each(path: str) -> tuple[nn.Module, ...]:
        return tuple(block.get_submodule(path) for block in blocks)

    return Parts(
        blocks=blocks,
        attentions=of_each(layout.attention) if layout.attention else (),
        feed_forwards=of_each(layout.feed_forward) if layout.feed_forward else (),
        neurons=of_each(layout.neurons) if layout.neurons else (),
        final_norm=model.get_submodule(layout.final_norm) if layout.final_norm else nn.Identity(),
        head=model.get_submodule(layout.head) if layout.head else nn.Identity(),
    )


@contextmanager
def replaced(handles: list[RemovableHandle]) -> Iterator[None]:
    """Remove torch hooks at the end of the block."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def first(output: Any) -> Tensor:
    """The tensor among what a module returns: itself, or the first of a tuple."""
    tensor: Tensor = output[0] if isinstance(output, tuple) else output
    return tensor


def with_first(output: Any, tensor: Tensor) -> Any:
    """What a module returned, with another tensor in its first place."""
    return (tensor, *output[1:]) if isinstance(output, tuple) else tensor


@torch.no_grad()
def residual_stream(
    model: nn.Module, rows: Tensor, found: Parts | None = None
) -> list[Float[Tensor, "batch length width"]]:
    """The residual stream before the first block and behind every block."""
    known = found or parts(model)
    kept: list[Tensor] = []
    before = known.blocks[0].register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0].detach()))
    behind = [
        block.register_forward_hook(lambda module, inputs, output: kept.append(first(output).detach()))
        for block in known.blocks
    ]
    with replaced([before, *behind]):
        model(input_ids=rows)
    return kept
