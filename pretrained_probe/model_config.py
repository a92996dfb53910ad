"""The configuration of a model, checked to be that of a causal language model that can be loaded here."""

import json
from typing import Any, cast

import transformers
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoConfig,
    PreTrainedConfig,
)
from transformers.utils import CONFIG_NAME

from anchorlab.errors import InputError
from anchorlab.models.quiet import quietly

from .locating import Located, first_line

_ADAPTER_CONFIG = "adapter_config.json"


def read_config(located: Located, *, trust_remote_code: bool) -> PreTrainedConfig:
    """What `config.json` says.

    Raises:
        InputError: the file is missing or broken, the architecture is unknown or no causal language model, or it needs
            Python code of its own without `trust_remote_code`.
    """
    if (located.folder / _ADAPTER_CONFIG).is_file():
        raise _refused(located, "is an adapter for another model; merge it into that model, save the result, give that")
    model_type = _model_type(located, trust_remote_code)
    try:
        with quietly():
            config = AutoConfig.from_pretrained(
                located.folder, local_files_only=True, trust_remote_code=trust_remote_code
            )
    except Exception as error:  # a file's values can break the library's code in any way
        raise _refused(located, f"{CONFIG_NAME} cannot be used ({first_line(error)})") from None
    _check_causal(located, config, model_type)
    return cast(PreTrainedConfig, config)


def _model_type(located: Located, trust_remote_code: bool) -> str:
    """The name of the architecture; no code of the model has run when this returns."""
    path = located.folder / CONFIG_NAME
    if not path.is_file():
        raise _refused(
            located, f"{CONFIG_NAME} is missing; give a folder written by `save_pretrained` or `hf download`"
        )
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _refused(located, f"{CONFIG_NAME} is no JSON ({first_line(error)}); {located.remedy}") from None
    model_type = content.get("model_type") if isinstance(content, dict) else None
    if not isinstance(model_type, str):
        inside = located.folder / "model" / CONFIG_NAME
        hint = f"; did you mean {inside.parent}?" if inside.is_file() else ""
        raise _refused(located, f"{CONFIG_NAME} names no model_type{hint}")
    own_code = content.get("auto_map") or {}
    known = model_type in CONFIG_MAPPING and CONFIG_MAPPING[model_type] in MODEL_FOR_CAUSAL_LM_MAPPING
    if own_code and not known and not trust_remote_code:
        raise _refused(
            located,
            f"model_type {model_type} is Python code that comes with the model; if you have read it and trust it, "
            "--trust-remote-code runs it",
        )
    if model_type not in CONFIG_MAPPING and not own_code:
        raise _refused(
            located,
            f"model_type {model_type} is not known to transformers {transformers.__version__}; a newer one may know it",
        )
    return model_type


def _check_causal(located: Located, config: PreTrainedConfig, model_type: str) -> None:
    """Raise `InputError` unless every position of the model's text sees itself and earlier positions alone."""
    kind = f"model_type {model_type}"
    if config.is_encoder_decoder:
        raise _refused(located, f"{kind} is an encoder-decoder; give a causal (decoder-only) language model")
    if type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False):
        raise _refused(located, f"{kind} is an encoder that sees later tokens too; give a causal language model")
    if "text_config" in config.sub_configs:
        raise _refused(located, f"{kind} takes more than text; give a model of text alone")
    own_code = getattr(config, "auto_map", None) or {}
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING and "AutoModelForCausalLM" not in own_code:
        raise _refused(located, f"{kind} is no causal language model")


def _refused(located: Located, problem: str) -> InputError:
    return InputError(f"model={located.name}: {problem}")
