"""A model's blocks one after the other: every block sees all sequences before the next one is begun.

So what is measured of a block can be summed up and forgotten, and weights that are moved between devices, or from
disk, are moved once, whatever the number of sequences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from anchorlab.analysis.attention_hooks import attention_modules
from anchorlab.analysis.parts import first, replaced, with_first
from anchorlab.analysis.predictions import entry_device
from anchorlab.errors import InputError


@dataclass
class Sequences:
    """Sequences of one length on their way through a model: what goes into the next block, and its other arguments."""

    stream: Float[Tensor, "rows length width"]
    arguments: list[tuple[tuple[Any, ...], dict[str, Any]]]


def blocks_of(model: nn.Module) -> tuple[nn.Module, ...]:
    """The blocks of a model: the modules that hold one layer's attention each.

    Raises `NoAttentionError` for a model without attention, and InputError for one whose layers are not a list.
    """
    names = {module: name for name, module in model.named_modules()}
    blocks = []
    for layer, module in enumerate(attention_modules(model)):
        before, number, _ = f".{names[module]}.".rpartition(f".{layer}.")
        if not number:
            raise InputError(f"model: the layers of {type(model).__name__} are no list in which each has attention")
        blocks.append(model.get_submodule(f"{before}.{layer}"[1:]))
    return tuple(blocks)


def block_outputs(model: PreTrainedModel) -> list[Any]:
    """What every block gives for one token: `entering` has to know whether that is a tensor or a tuple."""
    outputs: list[Any] = []
    blocks = blocks_of(model)
    with replaced([block.register_forward_hook(lambda *called: outputs.append(called[-1])) for block in blocks]):
        model.base_model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=entry_device(model)), use_cache=False)
    return outputs


def entering(model: PreTrainedModel, rows: Int[Tensor, "rows length"], outputs: Sequence[Any]) -> Sequences:
    """Sequences before the first block of `model`; `outputs` are any that `block_outputs` gave."""
    # The model runs with blocks that keep what they are given, and pass their input on in the place of an output.
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def passing(output: Any) -> Any:
        def forward(*arguments: Any, **named: Any) -> Any:
            calls.append((arguments, named))
            return with_first(output, _stream(arguments, named))

        return forward

    with _forwards(blocks_of(model), [passing(output) for output in outputs]):
        model.base_model(input_ids=rows, use_cache=False)
    return Sequences(_stream(*calls[0]), [_without_stream(*call) for call in calls])


def _without_stream(arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The other arguments of a block, which takes the stream first or by name."""
    return arguments[1:], {name: value for name, value in named.items() if name != "hidden_states"}


def _stream(arguments: tuple[Any, ...], named: dict[str, Any]) -> Tensor:
    stream: Tensor = arguments[0] if arguments else named["hidden_states"]
    return stream


@contextmanager
def _forwards(blocks: Sequence[nn.Module], forwards: Sequence[Any]) -> Iterator[None]:
    before = [vars(block).get("forward") for block in blocks]
    for block, forward in zip(blocks, forwards, strict=True):
        vars(block)["forward"] = forward
    try:
        yield
    finally:
        for block, own in zip(blocks, before, strict=True):
            if own is None:
                del vars(block)["forward"]
            else:
                vars(block)["forward"] = own


def advance(block: nn.Module, layer: int, sequences: Sequences) -> None:
    """Send the sequences through the block of one layer (from 0)."""
    arguments, named = sequences.arguments[layer]
    with torch.no_grad():
        sequences.stream = first(block(sequences.stream, *arguments, **named))
