"""One view of both Transformers: GPT-2 (pre-LN) and the post-LN Transformer as the same chain of parts.

In both, attention and feed-forward net read a layer norm of the residual stream; they differ in what the sublayer's
output is added to: the stream itself (pre-LN) or what the sublayer read (post-LN).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from transformers import GPT2Config, PreTrainedConfig
from transformers.activations import ACT2FN

from .activations import gelu_tanh
from .post_ln import PostLNConfig
from .stacked import affine, linear

Parameters = Mapping[str, Tensor]


@dataclass(frozen=True)
class Linear:
    """A linear map with an optional bias."""

    weight: Float[Tensor, "member inputs outputs"]
    bias: Float[Tensor, "member outputs"] | None = None

    def __call__(self, rows: Float[Tensor, "member *rows inputs"]) -> Float[Tensor, "member *rows outputs"]:
        """The map of each member's rows."""
        return linear(rows, self.weight, self.bias)


@dataclass(frozen=True)
class Affine:
    """Gain and shift of a layer norm."""

    gain: Float[Tensor, "member width"]
    shift: Float[Tensor, "member width"]

    def __call__(self, rows: Float[Tensor, "member *rows width"]) -> Float[Tensor, "member *rows width"]:
        """Each member's normalized rows, scaled and shifted."""
        return affine(rows, self.gain, self.shift)


@dataclass(frozen=True)
class Block:
    """One block; `attention_norm` is None where attention reads the stream itself (the first block of post-LN)."""

    attention_norm: Affine | None
    query: Linear
    key: Linear
    value: Linear
    output: Linear
    feed_forward_norm: Affine
    up: Linear
    down: Linear


@dataclass(frozen=True)
class Network:
    """A Transformer of stacked members."""

    tokens: Float[Tensor, "member vocabulary width"]
    positions: Float[Tensor, "member positions width"]
    blocks: tuple[Block, ...]
    final_norm: Affine
    head: Linear
    heads: int
    epsilon: float
    pre_norm: bool
    activation: Callable[[Tensor], Tensor]


def network_of(config: PreTrainedConfig) -> Callable[[Parameters], Network] | None:
    """A function from stacked parameters to the parts of a model so configured; None if it has other parts."""
    if not getattr(config, "is_causal", True):  # Hugging Face then builds a mask that shows later positions too
        return None
    if isinstance(config, PostLNConfig):
        return partial(post_ln_network, config)
    if isinstance(config, GPT2Config) and _is_plain(config):
        return partial(gpt2_network, config)
    return None


def _is_plain(config: GPT2Config) -> bool:
    """None of GPT-2's variants that the parts do not follow."""
    variants = (config.scale_attn_by_inverse_layer_idx, config.reorder_and_upcast_attn, config.add_cross_attention)
    return not any(variants) and config.scale_attn_weights


def gpt2_network(config: GPT2Config, weights: Parameters) -> Network:
    """The parts of `GPT2LMHeadModel`."""

    def norm(name: str) -> Affine:
        return Affine(weights[f"transformer.{name}.weight"], weights[f"transformer.{name}.bias"])

    def conv(name: str) -> Linear:
        return Linear(weights[f"transformer.{name}.weight"], weights[f"transformer.{name}.bias"])

    def block(layer: int) -> Block:
        fused = conv(f"h.{layer}.attn.c_attn")
        assert fused.bias is not None
        query, key, value = map(Linear, fused.weight.chunk(3, -1), fused.bias.chunk(3, -1))
        return Block(
            attention_norm=norm(f"h.{layer}.ln_1"),
            query=query,
            key=key,
            value=value,
            output=conv(f"h.{layer}.attn.c_proj"),
            feed_forward_norm=norm(f"h.{layer}.ln_2"),
            up=conv(f"h.{layer}.mlp.c_fc"),
            down=conv(f"h.{layer}.mlp.c_proj"),
        )

    tokens = weights["transformer.wte.weight"]
    name = config.activation_function
    return Network(
        tokens=tokens,
        positions=weights["transformer.wpe.weight"],
        blocks=tuple(block(layer) for layer in range(config.n_layer)),
        final_norm=norm("ln_f"),
        head=Linear((tokens if config.tie_word_embeddings else weights["lm_head.weight"]).mT),
        heads=config.n_head,
        epsilon=config.layer_norm_epsilon,
        pre_norm=True,
        activation=gelu_tanh if name in ("gelu_pytorch_tanh", "gelu_new") else ACT2FN[name],
    )


def post_ln_network(config: PostLNConfig, weights: Parameters) -> Network:
    """The parts of `PostLNForCausalLM`."""

    def matrix(name: str) -> Linear:
        return Linear(weights[f"{name}.weight"].mT)

    def norm(name: str) -> Affine:
        return Affine(weights[f"{name}.weight"], weights[f"{name}.bias"])

    def block(layer: int) -> Block:
        attention, mlp = f"layers.{layer}.self_attn", f"layers.{layer}.mlp"
        return Block(
            attention_norm=norm(f"layers.{layer - 1}.mlp_norm") if layer else None,
            query=matrix(f"{attention}.q_proj"),
            key=matrix(f"{attention}.k_proj"),
            value=matrix(f"{attention}.v_proj"),
            output=matrix(f"{attention}.o_proj"),
            feed_forward_norm=norm(f"layers.{layer}.attention_norm"),
            up=matrix(f"{mlp}.up_proj"),
            down=matrix(f"{mlp}.down_proj"),
        )

    tokens = weights["embed_tokens.weight"]
    return Network(
        tokens=tokens,
        positions=weights["embed_positions.weight"],
        blocks=tuple(block(layer) for layer in range(config.num_hidden_layers)),
        final_norm=norm(f"layers.{config.num_hidden_layers - 1}.mlp_norm"),
        head=Linear((tokens if config.tie_word_embeddings else weights["lm_head.weight"]).mT, weights["lm_head.bias"]),
        heads=config.num_attention_heads,
        epsilon=config.layer_norm_eps,
        pre_norm=False,
        activation=functional.relu,
    )
