"""The files that hold a model's weights: which they are, whether they are whole, and what is in them."""

import json
import math
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_INDEX_NAME, WEIGHTS_NAME

from anchorlab.errors import InputError

from .locating import Located, first_line

_SAFE = (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME)
_PICKLED = (WEIGHTS_NAME, WEIGHTS_INDEX_NAME)
_INDEX_ENDING = ".index.json"
_COMPUTED = re.compile(r"(^|\.)(rotary_emb\.inv_freq|(attn|attention)\.(bias|masked_bias)|position_ids)$")
_FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True)
class WeightFiles:
    """Names of the files with the weights, and the bytes of all tensors in them if an index tells."""

    names: tuple[str, ...]
    total_size: int | None = None


@dataclass(frozen=True)
class StoredTensor:
    """Shape and bytes of a tensor in a file, and its type if that is a floating-point type one can choose."""

    shape: tuple[int, ...]
    size: int
    dtype: torch.dtype | None


def weight_files(located: Located, config: PreTrainedConfig, *, allow_pickle: bool) -> WeightFiles:
    """The files that `transformers` will read; shards of a repository may still have to be fetched.

    Raises:
        InputError: no weights, pickled weights without `allow_pickle`, or an index that cannot be read.
    """
    chosen: str | None = getattr(config, "transformers_weights", None)
    known = (chosen,) if chosen else (*_SAFE, *_PICKLED)
    allowed = [name for name in known if allow_pickle or not _is_pickled(name)]
    for name in allowed:
        if (located.folder / name).is_file():
            return _shards(located, name, allow_pickle) if name.endswith(_INDEX_ENDING) else WeightFiles((name,))
    # A repository's indices came with its small files, so only a whole file can be missing here.
    for name in allowed:
        located.fetch([name])
        if (located.folder / name).is_file():
            return WeightFiles((name,))
    if any((located.folder / name).is_file() for name in known):
        raise _only_pickled(located)
    pickled = "" if located.kind == "folder" else "; if there is only pytorch_model.bin, --allow-pickle reads it"
    raise InputError(
        f"model={located.name}: holds no weights (model.safetensors is missing); {located.remedy}{pickled}"
    )


def _is_pickled(name: str) -> bool:
    return not name.removesuffix(_INDEX_ENDING).endswith(".safetensors")


def _only_pickled(located: Located) -> InputError:
    return InputError(
        f"model={located.name}: has its weights as pickle, which can hold programs, and not as safetensors; if you "
        "trust it, --allow-pickle reads them"
    )


def _shards(located: Located, name: str, allow_pickle: bool) -> WeightFiles:
    try:
        index = json.loads((located.folder / name).read_text(encoding="utf-8"))
        shards = sorted(set(index["weight_map"].values()))
        pickled = any(map(_is_pickled, shards))
        total_size = index["metadata"].get("total_size")
        total_size = None if total_size is None else int(total_size)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise InputError(f"model={located.name}: {name} is no index of weights; {located.remedy}") from None
    if pickled and not allow_pickle:
        raise _only_pickled(located)
    return WeightFiles(tuple(shards), total_size)


def stored_tensors(located: Located, files: Sequence[str]) -> dict[str, StoredTensor]:
    """The weights in the files by name, read from the headers alone.

    Raises:
        InputError: a file is missing, cut off, or not what its name says.
    """
    found: dict[str, StoredTensor] = {}
    for name in files:
        path = located.folder / name
        if not path.is_file():
            raise InputError(f"model={located.name}: {name} is missing; {located.remedy}")
        try:
            found |= _pickled_tensors(path) if _is_pickled(name) else _safe_tensors(path)
        except UnpicklingError:
            raise InputError(
                f"model={located.name}: {name} holds more than tensors, or is broken; nothing of it was run; "
                f"{located.remedy}"
            ) from None
        except (SafetensorError, OSError, ValueError, RuntimeError, EOFError, AttributeError) as error:
            raise InputError(
                f"model={located.name}: {name} is broken, perhaps cut off ({first_line(error)}); {located.remedy}"
            ) from None
    return {name: tensor for name, tensor in found.items() if not is_computed(name)}


def is_computed(name: str) -> bool:
    """Whether a tensor is one of the constants that older checkpoints hold although the library computes them."""
    return _COMPUTED.search(name) is not None


def _safe_tensors(path: Path) -> dict[str, StoredTensor]:
    found = {}
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - the file is no mapping
            entry = file.get_slice(name)
            kind, shape = entry.get_dtype(), tuple(entry.get_shape())
            # Types are named by their bits (I64, F8_E4M3); a BOOL is one byte.
            bits = int(re.sub(r"\D*(\d+).*", r"\1", kind)) if kind != "BOOL" else 8
            found[name] = StoredTensor(shape, math.prod(shape) * bits // 8, _FLOATS.get(kind))
    return found


def _pickled_tensors(path: Path) -> dict[str, StoredTensor]:
    values: Mapping[str, Tensor] = torch.load(
        path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
    )
    floats = _FLOATS.values()
    return {
        name: StoredTensor(tuple(value.shape), value.nbytes, value.dtype if value.dtype in floats else None)
        for name, value in values.items()
    }
