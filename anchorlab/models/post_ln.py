"""The post-LN Transformer of eqs. 13.3-13.6 (arXiv 2405.05409), as a Hugging Face model."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import CausalLMOutput
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .options import Option
from .outputs import causal_output, check_length
from .validation import check_positive_integer, check_positive_number, head_width_of

OPTIONS = {
    "layers": Option(2, "number of blocks"),
    "heads": Option(1, "attention heads per block"),
    "width": Option(400, "width of the residual stream, d_model"),
    "head_width": Option(None, "columns of one head, d_k = d_v; width / heads when not given"),
    "feed_forward_width": Option(None, "hidden units of the feed-forward net, d_ff; 3 * width when not given"),
    "tie_embeddings": Option(False, "the head's matrix is the token embedding"),
    "layer_norm_epsilon": Option(1e-5, "added to the variance in every layer norm"),
}


class PostLNConfig(PreTrainedConfig):
    """Shape of the post-LN Transformer; the defaults are arXiv 2405.05409's two layers (2,732,201 parameters)."""

    model_type = "anchorlab_post_ln"

    vocab_size: int = 201
    max_position_embeddings: int = 20
    hidden_size: int = 400
    num_hidden_layers: int = 2
    num_attention_heads: int = 1
    head_dim: int = 200
    intermediate_size: int = 1200
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02
    tie_word_embeddings: bool = False


def eager_attention(
    module: nn.Module,
    query: Float[Tensor, "batch heads length head_width"],
    key: Float[Tensor, "batch heads length head_width"],
    value: Float[Tensor, "batch heads length head_width"],
    attention_mask: Float[Tensor, "#batch 1 length length"] | None,
    *,
    scaling: float,
    **kwargs: Any,
) -> tuple[Float[Tensor, "batch length heads head_width"], Float[Tensor, "batch heads length length"]]:
    """Eq. 13.5: softmax(Q Kᵀ / √d_k + mask) V, with the softmax in float32 or wider."""
    scores = query @ key.transpose(-1, -2) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    attention = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(value.dtype)
    return (attention @ value).transpose(1, 2), attention


def attention_function(config: PreTrainedConfig) -> Callable[..., tuple[Tensor, Tensor | None]]:
    """The attention function in place: `eager_attention`, or what analysis code registered with Hugging Face."""
    chosen: Callable[..., tuple[Tensor, Tensor | None]] = ALL_ATTENTION_FUNCTIONS.get_interface(
        config._attn_implementation, eager_attention
    )
    return chosen


class SelfAttention(nn.Module):
    """Eqs. 13.4-13.5 and W^attn: bias-free Q, K, V and output projections around one attention map per head."""

    is_causal = True

    def __init__(self, config: PostLNConfig, layer_idx: int) -> None:
        super().__init__()
        inner = config.num_attention_heads * config.head_dim
        self.config, self.layer_idx = config, layer_idx
        self.num_key_value_groups, self.scaling = 1, config.head_dim**-0.5
        self.q_proj = nn.Linear(config.hidden_size, inner, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, inner, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, inner, bias=False)
        self.o_proj = nn.Linear(inner, config.hidden_size, bias=False)

    def forward(
        self, hidden: Float[Tensor, "batch length width"], mask: Tensor | None, **kwargs: Any
    ) -> tuple[Float[Tensor, "batch length width"], Tensor | None]:
        """The attention output [batch, length, width] and its maps [batch, heads, length, length]."""
        batch, length, _ = hidden.shape

        def heads(projected: Tensor) -> Tensor:
            return projected.view(batch, length, -1, self.config.head_dim).transpose(1, 2)

        attend = attention_function(self.config)
        query, key, value = heads(self.q_proj(hidden)), heads(self.k_proj(hidden)), heads(self.v_proj(hidden))
        mixed, attention = attend(self, query, key, value, mask, scaling=self.scaling, dropout=0.0, **kwargs)
        projected: Tensor = self.o_proj(mixed.reshape(batch, length, -1))
        return projected, attention


class FeedForward(nn.Module):
    """MLP(x) = ReLU(x W_1) W_2, without biases."""

    def __init__(self, config: PostLNConfig) -> None:
        super().__init__()
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, hidden: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows width"]:
        """The net applied to every row alone."""
        projected: Tensor = self.down_proj(torch.relu(self.up_proj(hidden)))
        return projected


class PostLNBlock(nn.Module):
    """Eq. 13.6: layer norm after the residual sum, once behind attention and once behind the feed-forward net."""

    def __init__(self, config: PostLNConfig, layer_idx: int) -> None:
        super().__init__()
        self.self_attn = SelfAttention(config, layer_idx)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = FeedForward(config)
        self.mlp_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(
        self, hidden: Float[Tensor, "batch length width"], mask: Tensor | None, **kwargs: Any
    ) -> tuple[Float[Tensor, "batch length width"], Tensor | None]:
        """The block's output [batch, length, width] and its attention maps."""
        attended, attention = self.self_attn(hidden, mask, **kwargs)
        hidden = self.attention_norm(hidden + attended)
        return self.mlp_norm(self.mlp(hidden) + hidden), attention


class PostLNForCausalLM(PreTrainedModel):
    """Post-LN decoder: X_1 = X W^em + X^pos (eq. 13.3), blocks (13.4-13.6), linear head with the only bias.

    `model(input_ids, output_attentions=True).attentions` holds one [batch, heads, length, length] map per layer.
    """

    config_class = PostLNConfig
    base_model_prefix = "model"
    _tied_weights_keys = {"lm_head.weight": "embed_tokens.weight"}  # noqa: RUF012 (an instance variable of the base)
    _supports_attention_backend = True

    def __init__(self, config: PostLNConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.embed_positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.layers = nn.ModuleList([PostLNBlock(config, layer) for layer in range(config.num_hidden_layers)])
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self,
        input_ids: Int[Tensor, "batch length"],
        attention_mask: Tensor | None = None,
        *,
        labels: Int[Tensor, "batch length"] | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> CausalLMOutput | tuple[Any, ...]:
        """Logits [batch, length, vocabulary]; `labels` are shifted by one position, as in every Hugging Face model.

        Other keyword arguments reach the attention function; `use_cache` has no effect (there is no cache).
        """
        kwargs.pop("use_cache", None)
        check_length(input_ids, self.config.max_position_embeddings)
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        hidden = self.embed_tokens(input_ids) + self.embed_positions(positions)
        mask = create_causal_mask(self.config, hidden, attention_mask, past_key_values=None)
        states, attentions = [hidden], []
        for layer in self.layers:
            hidden, attention = layer(hidden, mask, **kwargs)
            states.append(hidden)
            attentions.append(attention)
        return causal_output(
            self,
            self.lm_head(hidden),
            labels=labels,
            hidden_states=states if output_hidden_states else None,
            attentions=attentions if output_attentions or self.config.output_attentions else None,
            return_dict=return_dict,
        )


def build_post_ln(
    vocabulary_size: int,
    max_length: int,
    *,
    layers: int,
    heads: int,
    width: int,
    head_width: int | None,
    feed_forward_width: int | None,
    tie_embeddings: bool,
    layer_norm_epsilon: float,
) -> PostLNForCausalLM:
    """The post-LN Transformer of the given shape.

    Raises:
        InputError: a width that the heads do not divide while no head width is given.
    """
    config = PostLNConfig(
        vocab_size=vocabulary_size,
        max_position_embeddings=max_length,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        head_dim=head_width_of(width, heads, head_width),
        intermediate_size=check_positive_integer("feed_forward_width", feed_forward_width or 3 * width),
        layer_norm_eps=check_positive_number("layer_norm_epsilon", layer_norm_epsilon),
        tie_word_embeddings=tie_embeddings,
    )
    return PostLNForCausalLM(config)
