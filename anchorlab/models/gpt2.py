"""Hugging Face's GPT-2 (pre-LN, biases, final layer norm), sized for a task."""

from typing import cast

from transformers import GPT2Config, GPT2LMHeadModel

from anchorlab.errors import InputError
from anchorlab.validation import check_known

from .options import Option
from .validation import check_positive_integer, check_positive_number, head_width_of

ACTIVATIONS = ("gelu_pytorch_tanh", "gelu", "relu", "silu")

OPTIONS = {
    "layers": Option(4, "number of blocks"),
    "heads": Option(4, "attention heads per block; must divide the width"),
    "width": Option(400, "width of the residual stream, d_model"),
    "head_width": Option(None, "width / heads; GPT-2 allows no other value"),
    "feed_forward_width": Option(None, "hidden units of the feed-forward net; 4 * width when not given"),
    "tie_embeddings": Option(False, "the head shares the token embedding"),
    "activation": Option("gelu_pytorch_tanh", f"one of {', '.join(ACTIVATIONS)}"),
    "layer_norm_epsilon": Option(1e-5, "added to the variance in every layer norm"),
}


def build_gpt2(
    vocabulary_size: int,
    max_length: int,
    *,
    layers: int,
    heads: int,
    width: int,
    head_width: int | None,
    feed_forward_width: int | None,
    tie_embeddings: bool,
    activation: str,
    layer_norm_epsilon: float,
) -> GPT2LMHeadModel:
    """`GPT2LMHeadModel` without dropout and with eager attention, so that attention maps can be read.

    `gelu_pytorch_tanh` is the function of GPT-2's own `gelu_new`, evaluated faster. No token is declared as padding.

    Raises:
        InputError: a width that the heads do not divide, a head width other than width / heads, an unknown activation.
    """
    if head_width_of(width, heads, None) != (head_width or width // heads):
        raise InputError(f"head_width: must be width / heads = {width // heads} for gpt2, got {head_width}")
    check_known("activation", activation, ACTIVATIONS)
    config = GPT2Config(
        vocab_size=vocabulary_size,
        n_positions=max_length,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        n_inner=check_positive_integer("feed_forward_width", feed_forward_width or 4 * width),
        activation_function=activation,
        layer_norm_epsilon=check_positive_number("layer_norm_epsilon", layer_norm_epsilon),
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        tie_word_embeddings=tie_embeddings,
        bos_token_id=None,
        eos_token_id=None,
        use_cache=False,
    )
    return cast(GPT2LMHeadModel, GPT2LMHeadModel._from_config(config, attn_implementation="eager"))
