"""Logits of the last position only: the exact short-cut behind training.

The loss reads one position, so the last block computes one query, its feed-forward net and the head one row per
sequence; keys, values and all earlier blocks still see the whole row. Losses and gradients are those of the full
forward pass; with two layers the arithmetic is about half. Parameters are stacked: a leading member axis in front of
the Hugging Face shape.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional
from transformers import GPT2Config, PreTrainedConfig
from transformers.activations import ACT2FN

from .post_ln import PostLNConfig
from .stacked import attend, attend_last, embedding, layer_norm, linear

Forward: TypeAlias = Callable[
    [Mapping[str, Tensor], Int[Tensor, "member batch length"]], Float[Tensor, "member batch vocabulary"]
]


def last_position_logits(config: PreTrainedConfig) -> Forward | None:
    """A function (stacked parameters, token rows) -> logits of the last position, or None if the model has none.

    The mapping has the names of `model.named_parameters()` (a tied head is absent) and tensors with a leading member
    axis; token rows are [member, batch, length], logits [member, batch, vocabulary]. No dropout is applied. Members
    are independent. Works under `torch.autocast`; softmax and layer norm are then computed in float32.
    """
    if not getattr(config, "is_causal", True):  # Hugging Face then builds a mask that shows later positions too
        return None
    if isinstance(config, PostLNConfig):
        return _post_ln(config)
    if isinstance(config, GPT2Config) and _is_plain(config):
        return _gpt2(config)
    return None


def _is_plain(config: GPT2Config) -> bool:
    """None of GPT-2's variants that the short-cut does not follow."""
    variants = (config.scale_attn_by_inverse_layer_idx, config.reorder_and_upcast_attn, config.add_cross_attention)
    return not any(variants) and config.scale_attn_weights


def _gpt2(config: GPT2Config) -> Forward:
    heads, width, epsilon = config.n_head, config.n_embd, config.layer_norm_epsilon
    activation = ACT2FN[config.activation_function]
    if config.activation_function == "gelu_pytorch_tanh":
        activation = _gelu_tanh

    def mlp(weights: Mapping[str, Tensor], block: str, residual: Tensor) -> Tensor:
        normed = layer_norm(residual, weights[f"{block}.ln_2.weight"], weights[f"{block}.ln_2.bias"], epsilon)
        hidden = linear(normed, weights[f"{block}.mlp.c_fc.weight"], weights[f"{block}.mlp.c_fc.bias"])
        second, bias = weights[f"{block}.mlp.c_proj.weight"], weights[f"{block}.mlp.c_proj.bias"]
        return residual + linear(activation(hidden), second, bias)

    def project(weights: Mapping[str, Tensor], block: str, mixed: Tensor) -> Tensor:
        return linear(mixed, weights[f"{block}.attn.c_proj.weight"], weights[f"{block}.attn.c_proj.bias"])

    def whole_block(weights: Mapping[str, Tensor], block: str, residual: Tensor) -> Tensor:
        normed = layer_norm(residual, weights[f"{block}.ln_1.weight"], weights[f"{block}.ln_1.bias"], epsilon)
        fused = linear(normed, weights[f"{block}.attn.c_attn.weight"], weights[f"{block}.attn.c_attn.bias"])
        query, key, value = fused.chunk(3, dim=-1)
        residual = residual + project(weights, block, attend(query, key, value, heads))
        return mlp(weights, block, residual)

    def last_block(weights: Mapping[str, Tensor], block: str, residual: Tensor) -> Tensor:
        normed = layer_norm(residual, weights[f"{block}.ln_1.weight"], weights[f"{block}.ln_1.bias"], epsilon)
        sizes = [width, 2 * width]
        query_weight, pair_weight = torch.split(weights[f"{block}.attn.c_attn.weight"], sizes, dim=-1)
        query_bias, pair_bias = torch.split(weights[f"{block}.attn.c_attn.bias"], sizes, dim=-1)
        query = linear(normed[:, :, -1], query_weight, query_bias)
        key, value = linear(normed, pair_weight, pair_bias).chunk(2, dim=-1)
        last = residual[:, :, -1] + project(weights, block, attend_last(query, key, value, heads))
        return mlp(weights, block, last)

    def forward(
        weights: Mapping[str, Tensor], input_ids: Int[Tensor, "member batch length"]
    ) -> Float[Tensor, "member batch vocabulary"]:
        token_table, position_table = weights["transformer.wte.weight"], weights["transformer.wpe.weight"]
        residual = embedding(input_ids, token_table, position_table)
        for layer in range(config.n_layer - 1):
            residual = whole_block(weights, f"transformer.h.{layer}", residual)
        last = last_block(weights, f"transformer.h.{config.n_layer - 1}", residual)
        last = layer_norm(last, weights["transformer.ln_f.weight"], weights["transformer.ln_f.bias"], epsilon)
        head = token_table if config.tie_word_embeddings else weights["lm_head.weight"]
        return linear(last, head.mT)

    return forward


def _post_ln(config: PostLNConfig) -> Forward:
    heads, epsilon = config.num_attention_heads, config.layer_norm_eps

    def block(weights: Mapping[str, Tensor], name: str, hidden: Tensor, *, last: bool) -> Tensor:
        def project(matrix: str, rows: Tensor) -> Tensor:
            return linear(rows, weights[f"{name}.{matrix}.weight"].mT)

        def norm(which: str, rows: Tensor) -> Tensor:
            return layer_norm(rows, weights[f"{name}.{which}.weight"], weights[f"{name}.{which}.bias"], epsilon)

        key, value = project("self_attn.k_proj", hidden), project("self_attn.v_proj", hidden)
        if last:
            hidden = hidden[:, :, -1]
        query = project("self_attn.q_proj", hidden)
        mixed = attend_last(query, key, value, heads) if last else attend(query, key, value, heads)
        hidden = norm("attention_norm", hidden + project("self_attn.o_proj", mixed))
        expanded = functional.relu(project("mlp.up_proj", hidden))
        return norm("mlp_norm", project("mlp.down_proj", expanded) + hidden)

    def forward(
        weights: Mapping[str, Tensor], input_ids: Int[Tensor, "member batch length"]
    ) -> Float[Tensor, "member batch vocabulary"]:
        hidden = embedding(input_ids, weights["embed_tokens.weight"], weights["embed_positions.weight"])
        for layer in range(config.num_hidden_layers):
            hidden = block(weights, f"layers.{layer}", hidden, last=layer == config.num_hidden_layers - 1)
        head = weights["embed_tokens.weight"] if config.tie_word_embeddings else weights["lm_head.weight"]
        return linear(hidden, head.mT, weights["lm_head.bias"])

    return forward


def _gelu_tanh(hidden: Tensor) -> Tensor:
    return functional.gelu(hidden, approximate="tanh")
