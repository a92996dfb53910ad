"""Whether a model's weights fit into memory, and the settings with which they would."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from anchorlab.engine.memory import available_memory
from anchorlab.errors import InputError

from .weight_files import StoredTensor

_LAST_RESORT = "a smaller model or a larger device"


@dataclass(frozen=True)
class Precision:
    """How weights are held: their type, the bits of quantized matrices, and whether devices share them.

    `fixed` marks a checkpoint that is quantized itself, which no setting makes smaller.
    """

    dtype: torch.dtype
    bits: int | None = None
    device_map: str | None = None
    fixed: bool = False


@dataclass(frozen=True)
class WeightCount:
    """Numbers of weights that `bits` quantizes, of those held in the chosen type, and bytes that stay as stored."""

    matrices: int
    others: int
    stored_bytes: int

    def size(self, precision: Precision) -> int:
        """Bytes of memory."""
        bits = 8 * precision.dtype.itemsize
        return self.stored_bytes + (self.matrices * (precision.bits or bits) + self.others * bits) // 8


def count_weights(tensors: Iterable[StoredTensor], vocabulary_size: int, *, fixed: bool) -> WeightCount:
    """Add up the tensors of a checkpoint; with `fixed` all stay as they are stored.

    What bitsandbytes quantizes are the matrices of linear layers, not embedding and head, which have a row per token.
    """
    matrices = others = stored_bytes = 0
    for tensor in tensors:
        if fixed or tensor.dtype is None:
            stored_bytes += tensor.size
        elif len(tensor.shape) == 2 and tensor.shape[0] != vocabulary_size:
            matrices += tensor.size // tensor.dtype.itemsize
        else:
            others += tensor.size // tensor.dtype.itemsize
    return WeightCount(matrices, others, stored_bytes)


def check_fits(name: str, weights: WeightCount, precision: Precision, device: torch.device) -> None:
    """Raise `InputError` unless the weights fit into memory, with the numbers and the settings that would fit."""
    needed, room = weights.size(precision), _room(device, precision.device_map)
    if needed <= room:
        return
    fitting = [
        f"{option} ({_shown(weights.size(lighter))})"
        for option, lighter in _lighter(precision)
        if weights.size(lighter) <= _room(device, lighter.device_map)
    ]
    where = "all devices together have" if precision.device_map else f"{device} has"
    raise InputError(
        f"model={name}: the weights take {_shown(needed)} in {_kind(precision)} and {where} {_shown(room)} left; "
        f"use {_listed(fitting or [_LAST_RESORT])}"
    )


def out_of_memory(source: Mapping[str, Any], doing: str, *remedies: str) -> InputError:
    """The error for devices that had too little memory while `doing` something, with what helps: `remedies`, settings.

    `source` is that of a `Pretrained`.
    """
    fixed = source["quantization"] is not None
    precision = Precision(getattr(torch, source["dtype"]), source["bits"], source["device_map"], fixed)
    options = [*remedies, *(option for option, _ in _lighter(precision))]
    return InputError(
        f"model={source['name']}: {_listed(source['devices'], 'and')} ran out of memory while {doing}; "
        f"use {_listed(options or [_LAST_RESORT])}"
    )


def _lighter(precision: Precision) -> Iterator[tuple[str, Precision]]:
    if not precision.fixed:
        if precision.dtype.itemsize > 2:
            yield "--dtype bfloat16", replace(precision, dtype=torch.bfloat16)
        for bits in (8, 4):
            if bits < (precision.bits or 16):
                yield f"--bits {bits}", replace(precision, bits=bits)
    if precision.device_map is None and torch.cuda.is_available():
        yield "--device-map auto", replace(precision, device_map="auto")


def _room(device: torch.device, device_map: str | None) -> int:
    """Bytes left on the device, or on all GPUs and the CPU together if they share the model."""
    if device_map is None:
        return available_memory(device)
    gpus = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    return sum(available_memory(each) for each in (*gpus, torch.device("cpu")))


def _kind(precision: Precision) -> str:
    if precision.fixed:
        return "the precision that they are stored in"
    return f"{precision.bits} bits" if precision.bits else str(precision.dtype).removeprefix("torch.")


def _shown(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def _listed(options: Sequence[str], word: str = "or") -> str:
    *others, last = options
    return f"{', '.join(others)} {word} {last}" if others else last
