"""The models by name: build one for a task, load one from a folder."""

import errno
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from anchorlab.errors import InputError
from anchorlab.validation import check_known

from . import factory, fnn, gpt2, llama, lstm, post_ln, pretrained, simplified
from .options import Option, resolve
from .quiet import quietly, without_progress_bars
from .seeding import global_seed
from .validation import check_positive_integer


@dataclass(frozen=True)
class Architecture:
    """One kind of model: what it is, its options, and the function that makes it."""

    summary: str
    options: dict[str, Option]
    make: Callable[..., PreTrainedModel]


ARCHITECTURES = {
    "gpt2": Architecture("GPT-2 of Hugging Face, pre-LN, GELU, no dropout", gpt2.OPTIONS, gpt2.build_gpt2),
    "llama": Architecture(
        "Llama of Hugging Face: RMS norms, rotary positions, SwiGLU, shared key and value heads",
        llama.OPTIONS,
        llama.build_llama,
    ),
    "post_ln": Architecture(
        "post-LN Transformer of eqs. 13.3-13.6 (arXiv 2405.05409)", post_ln.OPTIONS, post_ln.build_post_ln
    ),
    "simplified": Architecture(
        "two attention layers and nothing else (section 12.7.2)", simplified.OPTIONS, simplified.build_simplified
    ),
    "lstm": Architecture("stacked LSTM (section 12.8)", lstm.OPTIONS, lstm.build_lstm),
    "fnn": Architecture("fully connected net on the whole row (section 12.8)", fnn.OPTIONS, fnn.build_fnn),
}

FACTORY = "factory"
"""The kind of model that a function of the user makes (see `factory`)."""

PRETRAINED = "pretrained"
"""The kind of model that goes on from a saved one (see `pretrained`)."""


def _build_pretrained(vocabulary_size: int, max_length: int, *, folder: str, source: str | None) -> PreTrainedModel:
    return pretrained.fitted(load(folder), vocabulary_size, max_length, source)


_KINDS = ARCHITECTURES | {
    FACTORY: Architecture("a network of your own", factory.OPTIONS, factory.build_factory),
    PRETRAINED: Architecture("a saved model to go on from", pretrained.OPTIONS, _build_pretrained),
}
_SETTLED = {FACTORY: factory.settled_options, PRETRAINED: pretrained.settled_options}

_OWN_CLASSES = (
    (post_ln.PostLNConfig, post_ln.PostLNForCausalLM),
    (simplified.SimplifiedConfig, simplified.SimplifiedForCausalLM),
    (lstm.LSTMConfig, lstm.LSTMForCausalLM),
    (fnn.FNNConfig, fnn.FNNForCausalLM),
)


def register() -> None:
    """Make `AutoConfig` and `AutoModelForCausalLM` know this package's classes (done on import)."""
    for config_class, model_class in _OWN_CLASSES:
        AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
        AutoModelForCausalLM.register(config_class, model_class, exist_ok=True)


def names() -> tuple[str, ...]:
    """Names of the networks of this package."""
    return tuple(ARCHITECTURES)


def kinds() -> tuple[str, ...]:
    """What `build` accepts: `names()`, `factory` for a network of the user's own, `pretrained` for a saved one."""
    return tuple(_KINDS)


def options(name: str) -> dict[str, Option]:
    """The options of a model by name, with defaults and meanings; raises `InputError` for an unknown model."""
    check_known("model", name, _KINDS)
    return _KINDS[name].options


def check_options(name: str, given: Iterable[str]) -> None:
    """Raise `InputError` for an unknown model, or for the name of an option that the model does not have."""
    resolve(name, options(name), dict.fromkeys(given, True))


def settled_options(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The given options in a form that means the same in every folder and process, to be kept with a run.

    Raises:
        InputError: a factory or a saved model that is not named, or that there is not.
    """
    return _SETTLED.get(name, dict)(given)


def build(
    name: str,
    vocabulary_size: int,
    max_length: int,
    *,
    layers: int | None = None,
    heads: int | None = None,
    width: int | None = None,
    head_width: int | None = None,
    feed_forward_width: int | None = None,
    tie_embeddings: bool = False,
    **extra: Any,
) -> PreTrainedModel:
    """A new model in evaluation mode, float32, without dropout; its answer is `model(input_ids).logits[:, -1]`.

    Options left at None take the model's default (`options(name)` is the table). The weights follow from the shape
    alone (the library's default law from a fixed seed; the global random generators are left as they were): call
    `initialize` for the weights that training starts from.

    Args:
        name: one of `kinds()`.
        vocabulary_size: number of token ids.
        max_length: tokens in the longest row.
        layers: number of blocks.
        heads: attention heads per block (1 for models without attention).
        width: width of the residual stream or hidden state.
        head_width: columns of one head.
        feed_forward_width: hidden units of the feed-forward net.
        tie_embeddings: let the head share the token embedding.
        extra: options that only some models have, such as `activation`.

    Raises:
        InputError: unknown model or option, or values that do not fit together.
    """
    given = {
        "layers": layers,
        "heads": heads,
        "width": width,
        "head_width": head_width,
        "feed_forward_width": feed_forward_width,
        "tie_embeddings": tie_embeddings or None,
        **extra,
    }
    values = resolve(name, options(name), given)
    for field in ("layers", "heads", "width", "head_width", "feed_forward_width"):
        if values.get(field) is not None:
            check_positive_integer(field, values[field])
    if not isinstance(tie_embeddings, bool):
        raise InputError(f"tie_embeddings: must be true or false, got {tie_embeddings!r}")
    check_positive_integer("vocabulary_size", vocabulary_size)
    check_positive_integer("max_length", max_length)
    with global_seed(0):
        model = _KINDS[name].make(vocabulary_size, max_length, **values)
    return cast(PreTrainedModel, model.eval())


def load(folder: str | Path) -> PreTrainedModel:
    """The model saved in a folder by `save_pretrained`, in evaluation mode, with attention maps available.

    Raises:
        InputError: the folder holds no `config.json`, or what it holds is no whole model; a factory's file is gone.
    """
    if not (Path(folder) / "config.json").is_file():
        raise InputError(f"folder: {folder} holds no saved model (config.json is missing)")
    try:
        if json.loads((Path(folder) / "config.json").read_text()).get("model_type") == factory.MODEL_TYPE:
            return factory.FactoryForCausalLM.from_pretrained(folder)
        with quietly():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder, local_files_only=True, attn_implementation="eager", output_loading_info=True
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        first_line = str(error).partition("\n")[0]
        raise InputError(f"folder: the model in {folder} cannot be read ({first_line})") from None
    model, found = loaded
    for kind, names in found.items():
        if names:
            raise InputError(f"folder: the model in {folder} does not fit its config.json ({kind}: {min(names)})")
    return cast(PreTrainedModel, model)


def save(model: PreTrainedModel, folder: str | Path) -> None:
    """Write the model so that `load`, or `from_pretrained` of its class, opens it again.

    Raises:
        OSError: it cannot be written, on a full disk too.
    """
    try:
        with without_progress_bars():
            model.save_pretrained(folder)
    except SafetensorError as error:
        if "os error 28" not in str(error):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from None


register()
