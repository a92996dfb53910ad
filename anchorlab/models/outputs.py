"""What the models of this package share in their `forward`: length check, output object, refused labels."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput


def check_length(input_ids: Tensor, max_length: int, *, exact: bool = False) -> None:
    """Raise `ValueError` for rows longer than the model's positions (`exact`: of any other length)."""
    length = input_ids.shape[-1]
    if length > max_length or (exact and length != max_length):
        allowed = f"exactly {max_length}" if exact else f"at most {max_length}"
        raise ValueError(f"input_ids: rows must have {allowed} tokens, got {length}")


def refuse_labels(model: PreTrainedModel, labels: Tensor | None) -> None:
    """Raise `ValueError` for labels given to a model that has no answer per position."""
    if labels is not None:
        raise ValueError(f"labels: {type(model).__name__} has no per-position loss; use its logits[:, -1]")


def causal_output(
    model: PreTrainedModel,
    logits: Tensor,
    *,
    labels: Tensor | None = None,
    hidden_states: Sequence[Tensor] | None = None,
    attentions: Sequence[Tensor | None] | None = None,
    return_dict: bool | None = None,
) -> CausalLMOutput | tuple[Any, ...]:
    """The output object, or a tuple when `return_dict` is False (Hugging Face's convention).

    Raises:
        ValueError: attention maps are asked for but the attention function in place returned none.
    """
    if attentions is not None and any(attention is None for attention in attentions):
        raise ValueError(
            f"output_attentions: the attention implementation {model.config._attn_implementation!r} returns no maps; "
            "call model.set_attn_implementation('eager') first"
        )
    output = CausalLMOutput(
        loss=None if labels is None else model.loss_function(logits, labels, vocab_size=logits.shape[-1]),
        logits=logits,
        hidden_states=None if hidden_states is None else tuple(hidden_states),
        attentions=None if attentions is None else tuple(a for a in attentions if a is not None),
    )
    wants_object = model.config.return_dict if return_dict is None else return_dict
    return output if wants_object else output.to_tuple()
