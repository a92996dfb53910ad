"""Load a pretrained causal language model and its tokenizer, or say in one line why not."""

import re
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, TypedDict, cast

import torch
import transformers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from anchorlab.engine.memory import is_out_of_memory
from anchorlab.errors import InputError
from anchorlab.models.quiet import quietly
from anchorlab.validation import check_known

from .fitting import Precision, check_fits, count_weights, out_of_memory
from .locating import Located, first_line, locate
from .model_config import read_config
from .weight_files import StoredTensor, is_computed, stored_tensors, weight_files

DTYPES = ("auto", "float32", "bfloat16", "float16")
BITS = (8, 4)
_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "tekken.json", "vocab.json", "vocab.txt", "spiece.model")
_TOKENIZER_CONFIG = "tokenizer_config.json"


@dataclass(frozen=True)
class Pretrained:
    """A model in evaluation mode, its tokenizer if it has one, and a record of what was loaded.

    `source` can be written as JSON: name, kind (folder or hub), revision and commit, model_type, class, parameters,
    dtype, bits (8, 4 or None), quantization (of the checkpoint itself, or None), device_map, devices, tokenizer, and
    the versions of torch and transformers.
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase | None
    source: dict[str, Any]


class Loading(TypedDict, total=False):
    """The options of `load_pretrained`, for functions that hand them on."""

    dtype: str
    device: str | None
    device_map: str | None
    bits: int | None
    revision: str | None
    trust_remote_code: bool
    allow_pickle: bool
    tokenizer: str | None


def load_pretrained(
    name: str,
    *,
    dtype: str = "auto",
    device: str | None = None,
    device_map: str | None = None,
    bits: int | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    tokenizer: str | None = None,
) -> Pretrained:
    """Load a causal language model for inference: no dropout, no gradients, eager attention.

    Args:
        name: folder, or name on the Hugging Face Hub.
        dtype: one of `DTYPES`; "auto" is what the model's config says, else the type in which the weights are stored.
        device: cpu, cuda, cuda:N or mps; by default the GPU if there is one.
        device_map: "auto" shares the model among all GPUs and the CPU (needs accelerate).
        bits: 8 or 4 quantizes the linear layers (needs bitsandbytes).
        revision: branch, tag or commit on the Hub.
        trust_remote_code: run Python code that comes with the model.
        allow_pickle: read pickled weights where there are no safetensors.
        tokenizer: folder or Hub name of a tokenizer to use instead of the one beside the model.

    Raises:
        InputError: a wrong setting, or the model cannot be had, is no causal language model, is broken, or does not
            fit into memory.
    """
    settings = _settings(dtype, device, device_map, bits)
    located = locate(name, revision)
    config = read_config(located, trust_remote_code=trust_remote_code)
    quantization = _quantization(located, config, bits)
    words = _tokenizer(located if tokenizer is None else locate(tokenizer), config, trust_remote_code)
    if tokenizer is not None and words is None:
        raise InputError(f"tokenizer={tokenizer}: holds no tokenizer (tokenizer.json is missing)")

    files = weight_files(located, config, allow_pickle=allow_pickle)
    if files.total_size is not None and located.lacks(files.names):
        _check_memory(located, [StoredTensor((1, 1), files.total_size, _dtype_of(config))], config, settings)
    located.fetch(files.names)
    precision = _check_memory(located, stored_tensors(located, files.names).values(), config, settings)
    source: dict[str, Any] = {
        "name": name,
        "kind": located.kind,
        "revision": located.revision,
        "commit": located.commit,
        "model_type": config.model_type,
        "dtype": _shown(precision.dtype),
        "bits": bits,
        "quantization": quantization,
        "device_map": device_map,
        "devices": [str(settings.place)],
        "tokenizer": None if words is None else type(words).__name__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    try:
        with _silently():
            model = _model(located, precision, settings.place, trust_remote_code, allow_pickle)
    except InputError:
        raise
    except Exception as error:  # a file's values can break the library's code in any way
        if is_out_of_memory(error):
            raise out_of_memory(source, "the weights were loaded") from None
        raise InputError(f"model={name}: cannot be loaded ({first_line(error)})") from None
    source |= {"class": type(model).__name__, "parameters": model.num_parameters(), "devices": _devices(model)}
    return Pretrained(name, model, words, source)


@dataclass(frozen=True)
class _Settings:
    """What the user asked for, checked; with a device map `place` is the first of the devices that share the model."""

    dtype: str
    place: torch.device
    device_map: str | None
    bits: int | None


def _settings(dtype: str, device: str | None, device_map: str | None, bits: int | None) -> _Settings:
    check_known("dtype", dtype, DTYPES)
    if bits is not None and bits not in BITS:
        raise InputError(f"bits={bits}: must be 8 or 4, or left out")
    if device_map is not None:
        check_known("device_map", device_map, ("auto",))
        if device is not None:
            raise InputError(f"device={device}: leave it out with device_map={device_map}, which chooses the devices")
        _check_installed(f"device_map={device_map}", "accelerate")
    if bits is not None:
        _check_installed(f"bits={bits}", "bitsandbytes", "accelerate")
    return _Settings(dtype, _place(device), device_map, bits)


def _check_installed(setting: str, *packages: str) -> None:
    if absent := [package for package in packages if find_spec(package) is None]:
        raise InputError(f"{setting}: needs {' and '.join(absent)}; run `pip install {' '.join(absent)}`")


def _place(device: str | None) -> torch.device:
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", device):
        raise InputError(f"device={device}: must be cpu, cuda, cuda:N or mps")
    if device == "mps" and not torch.backends.mps.is_available():
        raise InputError("device=mps: this machine or this build of torch has no Metal; use cpu")
    if device.startswith("cuda"):
        number, count = int(device.partition(":")[2] or 0), torch.cuda.device_count()
        if number >= count:
            instead = f"cuda:0 to cuda:{count - 1}" if count else "cpu"
            raise InputError(f"device={device}: torch sees {count} CUDA devices on this machine; use {instead}")
        return torch.device("cuda", number)
    return torch.device(device)


def _quantization(located: Located, config: PreTrainedConfig, bits: int | None) -> str | None:
    """How the checkpoint itself is quantized, if it is."""
    found = getattr(config, "quantization_config", None)
    if found is None:
        return None
    if bits is not None:
        raise InputError(f"bits={bits}: {located.name} is quantized already; leave bits out")
    method = found.get("quant_method") if isinstance(found, Mapping) else getattr(found, "quant_method", None)
    return str(method or "unknown")


def _tokenizer(located: Located, config: PreTrainedConfig, trust_remote_code: bool) -> PreTrainedTokenizerBase | None:
    if all(located.lacks([file]) for file in (*_VOCABULARIES, _TOKENIZER_CONFIG)):
        return None
    if all(located.lacks([file]) for file in _VOCABULARIES):
        raise InputError(f"tokenizer={located.name}: {_TOKENIZER_CONFIG} comes without a vocabulary; {located.remedy}")
    try:
        with _silently():
            tokenizer = AutoTokenizer.from_pretrained(
                located.folder, local_files_only=True, trust_remote_code=trust_remote_code
            )
    except Exception as error:  # a file's values can break the library's code in any way
        code = "trust_remote_code" in str(error)
        remedy = "if you trust its code, --trust-remote-code runs it" if code else located.remedy
        raise InputError(f"tokenizer={located.name}: cannot be read ({first_line(error)}); {remedy}") from None
    tokens, rows = tokenizer.vocab_size, getattr(config, "vocab_size", tokenizer.vocab_size)
    if tokens > rows:
        raise InputError(f"tokenizer={located.name}: has {tokens} tokens and the model {rows}; give the model's own")
    return cast(PreTrainedTokenizerBase, tokenizer)


def _check_memory(
    located: Located, tensors: Collection[StoredTensor], config: PreTrainedConfig, settings: _Settings
) -> Precision:
    """How the tensors will be held; raises `InputError` if they do not fit into memory so."""
    fixed = getattr(config, "quantization_config", None) is not None
    own = _dtype_of(config) or next((tensor.dtype for tensor in tensors if tensor.dtype is not None), torch.float32)
    dtype = own if settings.dtype == "auto" else getattr(torch, settings.dtype)
    precision = Precision(dtype, settings.bits, settings.device_map, fixed)
    weights = count_weights(tensors, getattr(config, "vocab_size", 0), fixed=fixed)
    check_fits(located.name, weights, precision, settings.place)
    return precision


def _dtype_of(config: PreTrainedConfig) -> torch.dtype | None:
    return cast(torch.dtype | None, config.dtype)


def _shown(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@contextmanager
def _silently() -> Iterator[None]:
    with quietly(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _model(
    located: Located, precision: Precision, place: torch.device, trust_remote_code: bool, allow_pickle: bool
) -> PreTrainedModel:
    options: dict[str, Any] = {}
    if precision.bits is not None:
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_8bit=precision.bits == 8,
            load_in_4bit=precision.bits == 4,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=precision.dtype,
        )
    if precision.device_map is not None:
        options["device_map"] = precision.device_map
    elif precision.bits is not None or (place.type != "cpu" and find_spec("accelerate") is not None):
        options["device_map"] = {"": place}  # straight there, not by way of the CPU
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        located.folder,
        dtype=precision.dtype,
        attn_implementation="eager",
        local_files_only=True,
        trust_remote_code=trust_remote_code,
        use_safetensors=None if allow_pickle else True,
        ignore_mismatched_sizes=True,  # reported below
        output_loading_info=True,
        **options,
    )
    model, found = loaded
    _check_complete(located, found)
    if "device_map" not in options:
        model.to(place)
    return cast(PreTrainedModel, model.eval().requires_grad_(False))


def _check_complete(located: Located, found: Mapping[str, Collection[Any]]) -> None:
    """Raise `InputError` for weights that the library would only warn about: they would be random, or left out."""
    problems = []
    if found["missing_keys"]:
        problems.append(f"{min(found['missing_keys'])} is missing")
    for key, stored, expected in sorted(found["mismatched_keys"])[:1]:
        problems.append(f"{key} has shape {list(stored)} instead of {list(expected)}")
    if unknown := [key for key in found["unexpected_keys"] if not is_computed(key)]:
        problems.append(f"{min(unknown)} has no place in the model")
    if problems:
        raise InputError(
            f"model={located.name}: the weights do not fit config.json ({', '.join(problems)}); {located.remedy}"
        )


def _devices(model: PreTrainedModel) -> list[str]:
    """Every device that holds a part of the model; "disk" is one where accelerate keeps parts there."""
    placed = getattr(model, "hf_device_map", None) or {"": next(model.parameters()).device}
    return sorted({f"cuda:{place}" if isinstance(place, int) else str(place) for place in placed.values()})
