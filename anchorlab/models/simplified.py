"""The simplified two-layer model of section 12.7.2: attention and value maps only."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from anchorlab.errors import InputError

from .options import Option
from .outputs import causal_output, check_length, refuse_labels
from .post_ln import attention_function

OPTIONS = {
    "layers": Option(2, "always 2"),
    "heads": Option(1, "always 1"),
    "width": Option(None, "always the vocabulary size: the model has no output projection"),
}


class SimplifiedConfig(PreTrainedConfig):
    """Shape of the simplified model: its width is `vocab_size`."""

    model_type = "anchorlab_simplified"

    vocab_size: int = 201
    max_position_embeddings: int = 20
    num_hidden_layers: int = 2
    num_attention_heads: int = 1
    initializer_range: float = 0.02
    tie_word_embeddings: bool = False


class SimplifiedLayer(nn.Module):
    """softmax(X W_Q W_Kᵀ Xᵀ / √d) X W_V, without mask, layer norm, residual, feed-forward net or output projection."""

    is_causal = False

    def __init__(self, config: SimplifiedConfig, layer_idx: int) -> None:
        super().__init__()
        width = config.vocab_size
        self.config, self.layer_idx = config, layer_idx
        self.num_key_value_groups, self.scaling = 1, width**-0.5
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)

    def forward(
        self, hidden: Float[Tensor, "batch length width"]
    ) -> tuple[Float[Tensor, "batch length width"], Float[Tensor, "batch 1 length length"] | None]:
        """The layer's output and its attention map."""
        attend = attention_function(self.config)
        query, key, value = (project(hidden)[:, None] for project in (self.q_proj, self.k_proj, self.v_proj))
        mixed, attention = attend(self, query, key, value, None, scaling=self.scaling, dropout=0.0)
        return mixed[:, :, 0], attention


class SimplifiedForCausalLM(PreTrainedModel):
    """X_out = Attn_2 Attn_1 X_1 W_V1 W_V2 with X_1 = token + position embedding of width d = vocabulary size.

    The logits are X_out itself, [batch, length, vocabulary]. Nothing is masked: every position sees the whole row.
    """

    config_class = SimplifiedConfig
    base_model_prefix = "model"
    _supports_attention_backend = True

    def __init__(self, config: SimplifiedConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.vocab_size)
        self.embed_positions = nn.Embedding(config.max_position_embeddings, config.vocab_size)
        self.layers = nn.ModuleList([SimplifiedLayer(config, layer) for layer in range(config.num_hidden_layers)])
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self,
        input_ids: Int[Tensor, "batch length"],
        *,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> CausalLMOutput | tuple[Any, ...]:
        """Logits and, if asked for, attention maps [batch, 1, length, length]; other keyword arguments are ignored."""
        refuse_labels(self, labels)
        check_length(input_ids, self.config.max_position_embeddings)
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        hidden = self.embed_tokens(input_ids) + self.embed_positions(positions)
        states, attentions = [hidden], []
        for layer in self.layers:
            hidden, attention = layer(hidden)
            states.append(hidden)
            attentions.append(attention)
        return causal_output(
            self,
            hidden,
            hidden_states=states if output_hidden_states else None,
            attentions=attentions if output_attentions or self.config.output_attentions else None,
            return_dict=return_dict,
        )


def build_simplified(
    vocabulary_size: int, max_length: int, *, layers: int, heads: int, width: int | None
) -> SimplifiedForCausalLM:
    """The simplified model; only the vocabulary and the row length are free.

    Raises:
        InputError: another number of layers or heads, or a width other than the vocabulary size.
    """
    for field, value, only in (("layers", layers, 2), ("heads", heads, 1), ("width", width, vocabulary_size)):
        if value not in (None, only):
            raise InputError(f"{field}: must be {only} for model simplified, got {value}")
    return SimplifiedForCausalLM(SimplifiedConfig(vocab_size=vocabulary_size, max_position_embeddings=max_length))
