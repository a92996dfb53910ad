"""A trained model opened in transformer-lens, whose hooks reach every step of the computation."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import logging

from anchorlab.errors import InputError
from anchorlab.models.post_ln import PostLNForCausalLM

from .subject import TrainedRun

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def lens(source: TrainedRun | nn.Module) -> TransformerBridge:
    """The model of a run, or a model, as transformer-lens's `TransformerBridge`: a copy, in evaluation mode.

    The copy computes the same logits. `run_with_cache` and `run_with_hooks` take token ids [batch, length]; the
    attention pattern of layer l is at `blocks.{l}.attn.hook_pattern`, [batch, heads, query, source], after the softmax.
    What a hook returns there is what the layer mixes its values with. Only in the few architectures whose attention
    transformer-lens leaves to Hugging Face (OPT is one) an edit has no effect, of which transformer-lens warns.

    Raises:
        InputError: transformer-lens is not installed, or cannot open this architecture. It opens `gpt2`, `post_ln`, and
            what it has adapters for among Hugging Face's models (Llama, Mistral, Qwen, Gemma, …).
    """
    with _process_as_it_was():
        try:
            import transformer_lens  # noqa: F401, PLC0415 - an extra
        except ImportError:
            raise InputError("lens: transformer-lens is not installed; pip install 'anchorlab[lens]'") from None
        from transformer_lens.factories.architecture_adapter_factory import (  # noqa: PLC0415
            SUPPORTED_ARCHITECTURES,
            ArchitectureAdapterFactory,
        )
        from transformer_lens.model_bridge.sources import build_bridge_from_module  # noqa: PLC0415

        from .post_ln_adapter import PostLNAdapter  # noqa: PLC0415

        model = source if isinstance(source, nn.Module) else source.model()
        architecture = type(model).__name__
        known = {PostLNForCausalLM.__name__, *SUPPORTED_ARCHITECTURES}
        if not isinstance(model, PreTrainedModel) or architecture not in known:
            raise InputError(
                f"model: transformer-lens cannot open {architecture}; allowed: the models gpt2 and post_ln, and "
                "Hugging Face models that it has an adapter for, such as LlamaForCausalLM"
            )
        ArchitectureAdapterFactory.register_adapter(PostLNForCausalLM.__name__, PostLNAdapter)
        opened = deepcopy(model)
        opened.set_attn_implementation("eager")
        return build_bridge_from_module(opened, architecture, hf_config=opened.config).eval()


@contextmanager
def _process_as_it_was() -> Iterator[None]:
    """Undo what importing transformer-lens and building a bridge do to the whole process.

    The import silences a warning and transformers' log; the bridge draws initial weights that it then replaces.
    """
    verbosity = logging.get_verbosity()
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        logging.set_verbosity(verbosity)
