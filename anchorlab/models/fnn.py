"""The fully connected baseline of section 12.8: one net on the whole row."""

from itertools import pairwise
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.modeling_outputs import CausalLMOutput

from anchorlab.errors import InputError
from anchorlab.validation import check_known

from .options import Option
from .outputs import causal_output, check_length, refuse_labels

ACTIVATIONS = ("relu", "tanh", "gelu")
INPUTS = ("embedding", "one_hot")

OPTIONS = {
    "layers": Option(4, "hidden layers"),
    "heads": Option(1, "always 1: there is no attention"),
    "width": Option(400, "hidden units per layer, and width of a token's embedding"),
    "input_code": Option(
        "embedding", "what the first layer reads: concatenated embeddings, or one_hot codes, of the row"
    ),
    "activation": Option("relu", f"one of {', '.join(ACTIVATIONS)}"),
}


class FNNConfig(PreTrainedConfig):
    """Shape of the fully connected net; rows have exactly `max_position_embeddings` tokens."""

    model_type = "anchorlab_fnn"

    vocab_size: int = 201
    max_position_embeddings: int = 20
    hidden_size: int = 400
    num_hidden_layers: int = 4
    hidden_act: str = "relu"
    input_code: str = "embedding"
    initializer_range: float = 0.02
    tie_word_embeddings: bool = False

    @property
    def input_width(self) -> int:
        """Numbers that the first layer reads: row length times the width of one token's code."""
        return self.max_position_embeddings * (self.vocab_size if self.input_code == "one_hot" else self.hidden_size)


class FNNForCausalLM(PreTrainedModel):
    """Hidden layers on the concatenated codes of the whole row, then a linear head.

    A fully connected net answers once per row, so the logits are [batch, 1, vocabulary]: only `logits[:, -1]`, the
    answer behind the last token, has a meaning.
    """

    config_class = FNNConfig
    base_model_prefix = "model"

    def __init__(self, config: FNNConfig) -> None:
        super().__init__(config)
        self.embed_tokens = None
        if config.input_code == "embedding":
            self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        widths = [config.input_width] + [config.hidden_size] * config.num_hidden_layers
        self.layers = nn.ModuleList([nn.Linear(*pair) for pair in pairwise(widths)])
        self.activation = ACT2FN[config.hidden_act]
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size)
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> nn.Module | None:  # type: ignore[override]
        """The embedding table; None with one-hot codes, which have none."""
        return self.embed_tokens

    def encode(self, input_ids: Int[Tensor, "batch length"]) -> Float[Tensor, "batch input_width"]:
        """The row as one vector: token codes side by side."""
        if self.embed_tokens is not None:
            codes: Tensor = self.embed_tokens(input_ids)
        else:
            codes = functional.one_hot(input_ids.long(), self.config.vocab_size).to(self.lm_head.weight.dtype)
        return codes.flatten(1)

    def forward(
        self,
        input_ids: Int[Tensor, "batch length"],
        *,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> CausalLMOutput | tuple[Any, ...]:
        """Logits [batch, 1, vocabulary]; other keyword arguments are ignored."""
        refuse_labels(self, labels)
        check_length(input_ids, self.config.max_position_embeddings, exact=True)
        hidden = self.encode(input_ids)
        for layer in self.layers:
            hidden = self.activation(layer(hidden))
        return causal_output(self, self.lm_head(hidden)[:, None], return_dict=return_dict)


def build_fnn(
    vocabulary_size: int, max_length: int, *, layers: int, heads: int, width: int, input_code: str, activation: str
) -> FNNForCausalLM:
    """The fully connected net of the given depth and width, for rows of exactly `max_length` tokens.

    Raises:
        InputError: more than one head, an unknown input code or activation.
    """
    if heads != 1:
        raise InputError(f"heads: must be 1 for model fnn, which has no attention, got {heads}")
    check_known("input_code", input_code, INPUTS)
    check_known("activation", activation, ACTIVATIONS)
    config = FNNConfig(
        vocab_size=vocabulary_size,
        max_position_embeddings=max_length,
        hidden_size=width,
        num_hidden_layers=layers,
        hidden_act=activation,
        input_code=input_code,
    )
    return FNNForCausalLM(config)
