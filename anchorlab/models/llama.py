"""Hugging Face's Llama (pre-LN with RMS norms, rotary positions, gated feed-forward net), sized for a task."""

from typing import cast

from transformers import LlamaConfig, LlamaForCausalLM

from anchorlab.errors import InputError

from .options import Option
from .validation import check_positive_integer, check_positive_number

OPTIONS = {
    "layers": Option(4, "number of blocks"),
    "heads": Option(4, "attention heads per block; must divide the width"),
    "key_value_heads": Option(None, "heads of keys and values; must divide the heads, as many when not given"),
    "width": Option(400, "width of the residual stream, d_model"),
    "head_width": Option(None, "columns of one head, an even number; width / heads when not given"),
    "feed_forward_width": Option(None, "hidden units of the feed-forward net; 8/3 * width when not given, as in Llama"),
    "tie_embeddings": Option(False, "the head shares the token embedding"),
    "rope_base": Option(10_000.0, "base of the rotary wavelengths, θ"),
    "rms_norm_epsilon": Option(1e-6, "added to the mean square in every RMS norm"),
}


def build_llama(
    vocabulary_size: int,
    max_length: int,
    *,
    layers: int,
    heads: int,
    key_value_heads: int | None,
    width: int,
    head_width: int | None,
    feed_forward_width: int | None,
    tie_embeddings: bool,
    rope_base: float,
    rms_norm_epsilon: float,
) -> LlamaForCausalLM:
    """`LlamaForCausalLM` with eager attention, so that attention maps can be read; no token is declared as padding.

    Raises:
        InputError: a width that the heads do not divide, an odd head width, key and value heads that do not divide the
            heads.
    """
    if width % heads:  # Hugging Face refuses it whatever the head width
        raise InputError(f"width: must be divisible by heads={heads} for llama, got {width}")
    if (columns := head_width or width // heads) % 2:
        raise InputError(f"head_width: must be even, because rotary positions turn pairs of columns; got {columns}")
    groups = check_positive_integer("key_value_heads", heads if key_value_heads is None else key_value_heads)
    if heads % groups:
        raise InputError(f"key_value_heads: must divide heads={heads}, got {groups}")
    config = LlamaConfig(
        vocab_size=vocabulary_size,
        max_position_embeddings=max_length,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=groups,
        head_dim=columns,
        intermediate_size=8 * width // 3 if feed_forward_width is None else feed_forward_width,
        rms_norm_eps=check_positive_number("rms_norm_epsilon", rms_norm_epsilon),
        rope_parameters={"rope_type": "default", "rope_theta": check_positive_number("rope_base", rope_base)},
        tie_word_embeddings=tie_embeddings,
        bos_token_id=None,
        eos_token_id=None,
        use_cache=False,
    )
    return cast(LlamaForCausalLM, LlamaForCausalLM._from_config(config, attn_implementation="eager"))
