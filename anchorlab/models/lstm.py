"""The LSTM baseline of section 12.8: embedding, stacked LSTM, linear head."""

from typing import Any

from jaxtyping import Int
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from anchorlab.errors import InputError

from .options import Option
from .outputs import causal_output, check_length

OPTIONS = {
    "layers": Option(4, "stacked LSTM layers"),
    "heads": Option(1, "always 1: there is no attention"),
    "width": Option(400, "width of the embedding and of the hidden state"),
}


class LSTMConfig(PreTrainedConfig):
    """Shape of the LSTM; `hidden_size` is the width of both the embedding and the state."""

    model_type = "anchorlab_lstm"

    vocab_size: int = 201
    max_position_embeddings: int = 20
    hidden_size: int = 400
    num_hidden_layers: int = 4
    initializer_range: float = 0.02
    tie_word_embeddings: bool = False


class LSTMForCausalLM(PreTrainedModel):
    """Logits [batch, length, vocabulary] of a stacked LSTM read after every token; it keeps the order of the row."""

    config_class = LSTMConfig
    base_model_prefix = "model"

    def __init__(self, config: LSTMConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.lstm = nn.LSTM(config.hidden_size, config.hidden_size, config.num_hidden_layers, batch_first=True)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self,
        input_ids: Int[Tensor, "batch length"],
        *,
        labels: Int[Tensor, "batch length"] | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> CausalLMOutput | tuple[Any, ...]:
        """`labels` are shifted by one position, as in every Hugging Face model; other keyword arguments are ignored."""
        check_length(input_ids, self.config.max_position_embeddings)
        hidden, _ = self.lstm(self.embed_tokens(input_ids))
        return causal_output(self, self.lm_head(hidden), labels=labels, return_dict=return_dict)


def build_lstm(vocabulary_size: int, max_length: int, *, layers: int, heads: int, width: int) -> LSTMForCausalLM:
    """The LSTM of the given depth and width.

    Raises:
        InputError: more than one head.
    """
    if heads != 1:
        raise InputError(f"heads: must be 1 for model lstm, which has no attention, got {heads}")
    config = LSTMConfig(
        vocab_size=vocabulary_size, max_position_embeddings=max_length, hidden_size=width, num_hidden_layers=layers
    )
    return LSTMForCausalLM(config)
