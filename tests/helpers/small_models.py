"""Tiny random models of every family that Hugging Face's attention interface serves, and of our own."""

from typing import Any

import torch
from transformers import (
    Gemma2Config,
    GemmaConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from anchorlab import models

VOCABULARY, LENGTH, LAYERS, HEADS = 40, 9, 2, 4
_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "max_position_embeddings": 32,
}
_GROUPED = _SHAPE | {"num_key_value_heads": 2, "head_dim": 8}
_FAMILIES = {
    "llama": lambda: LlamaConfig(**_GROUPED),
    "mistral": lambda: MistralConfig(**_GROUPED, sliding_window=3),
    "qwen2": lambda: Qwen2Config(**_GROUPED),
    "qwen3": lambda: Qwen3Config(**_GROUPED),
    "gemma": lambda: GemmaConfig(**_GROUPED),
    "gemma2": lambda: Gemma2Config(**_GROUPED, sliding_window=3, attn_logit_softcapping=2.0),
    "gpt_neox": lambda: GPTNeoXConfig(**_SHAPE),
}
OWN = ("gpt2", "post_ln", "simplified")
FAMILIES = (*OWN, *_FAMILIES)


def small_model(family: str, seed: int = 0) -> PreTrainedModel:
    """A model with weights large enough for attention that is far from even."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if family in OWN:
            shape = {} if family == "simplified" else {"layers": LAYERS, "heads": HEADS, "width": 32}
            model = models.build(family, VOCABULARY, LENGTH, **shape)
        else:
            model = AutoModelForCausalLM.from_config(_FAMILIES[family](), attn_implementation="eager")
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


def random_rows(rows: int, seed: int = 0) -> torch.Tensor:
    """Token ids [rows, LENGTH]."""
    return torch.randint(VOCABULARY, (rows, LENGTH), generator=torch.Generator().manual_seed(seed))
