"""Attention computed block by block: a model's forward pass that adds up what head scores need, and holds no pattern.

An attention function of our own takes the place of the model's. It computes the same from blocks of queries, so that
no more than a fixed number of weights live at a time, however long the sequence is, and adds up every block.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from anchorlab.analysis.attention_hooks import (
    attention_implementation,
    attention_modules,
    layer_of,
    refuse_selections,
    softmax,
)
from anchorlab.analysis.attention_sums import AttentionSums, Read
from anchorlab.errors import InputError

_NAME = "anchorlab_streamed"
_CPU_BLOCK, _GPU_BLOCK = 2**21, 2**26  # weights; a CPU's caches hold no more
_FEWEST = 16  # queries of a block: with fewer, long sequences take too many steps

_Sources = Float[Tensor, "rows groups source width"]


class Listener(Protocol):
    """What every layer's attention asks for before its blocks."""

    def sums(self, layer: int, value: _Sources, heads: int, read: Read) -> AttentionSums:
        """What the blocks of a layer (from 0) are added to; `read` gives weights of columns again."""


_listeners: WeakKeyDictionary[nn.Module, Listener] = WeakKeyDictionary()


@contextmanager
def streamed_attention(model: nn.Module, listener: Listener) -> Iterator[None]:
    """Let every forward pass of `model` inside the block compute attention block by block, for `listener`.

    Raises `NoAttentionError` for a model without attention.
    """
    modules = attention_modules(model)
    for module in modules:
        _listeners[module] = listener
    try:
        with attention_implementation(model, _NAME):
            yield
    finally:
        for module in modules:
            del _listeners[module]


def _attention(
    module: nn.Module,
    query: Float[Tensor, "rows heads query width"],
    key: _Sources,
    value: _Sources,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **others: Any,
) -> tuple[Float[Tensor, "rows query heads value_width"], None]:
    refuse_selections(module, others)
    if attention_mask is not None:
        raise InputError(f"model: {type(module).__name__} makes an attention mask of its own, which is not supported")
    blocks = _Blocks(query, key, scaling, softcap, s_aux)
    sums = _listeners[module].sums(layer_of(module), value, query.shape[1], blocks.read)
    return blocks.run(value, sums).transpose(1, 2).contiguous(), None


def _no_mask(*unused: Any, **others: Any) -> None:
    """Every block makes its own."""


class _Blocks:
    """One layer's attention. Heads that share keys and values are a group."""

    def __init__(
        self,
        query: Tensor,
        key: _Sources,
        scaling: float | None,
        softcap: float | None,
        sinks: Float[Tensor, " heads"] | None,
    ):
        self.query, self.key = query, key
        self.scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
        self.softcap, self.sinks = softcap, sinks
        self.logsumexp = query.new_zeros(query.shape[:-1], dtype=torch.float32)

    def run(self, value: _Sources, sums: AttentionSums) -> Float[Tensor, "rows heads query width"]:
        """What every head reads; every block is added to `sums`."""
        mixed = self.query.new_empty(*self.query.shape[:-1], value.shape[-1])
        sight = sums.sight
        for rows, queries in self._parts():
            first, last = int(sight.first[0, queries].min()), int(sight.last[0, queries].max())
            scores = self._scores(rows, queries, slice(first, last + 1))
            hidden = ~sight.mask(queries.start, queries.stop - queries.start)[0, :, first : last + 1]
            weights = softmax(scores.masked_fill_(hidden, -torch.inf), self.sinks)
            self.logsumexp[rows, :, queries] = scores.amax(-1) - weights.amax(-1).log()
            sums.narrow(rows).add(weights[:, None], queries.start, first)
            mixed[rows, :, queries] = self._mix(weights, value[rows, :, first : last + 1])
        return mixed

    def _parts(self) -> Iterator[tuple[slice, slice]]:
        """Rows and queries of every block: as many queries as fit, of as many rows as fit."""
        rows, heads, length, _ = self.query.shape
        most = _GPU_BLOCK if self.query.is_cuda else _CPU_BLOCK
        queries = min(length, max(_FEWEST, most // (heads * length)))
        together = max(1, most // (heads * length * queries))
        for row in range(0, rows, together):
            for start in range(0, length, queries):
                yield slice(row, min(row + together, rows)), slice(start, min(start + queries, length))

    def _scores(self, rows: slice, queries: slice, sources: slice) -> Float[Tensor, "rows heads block some"]:
        """Scores in single precision of one block, before the mask."""
        query, key = self.query[rows, :, queries], self.key[rows, :, sources]
        products = self._grouped(query) @ key.mT
        return self._scaled(products.reshape(*query.shape[:-1], -1))

    def _scaled(self, products: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        scores = products.float().mul_(self.scaling)
        return scores if self.softcap is None else torch.tanh(scores / self.softcap) * self.softcap

    def _grouped(self, queries: Float[Tensor, "rows heads block n"]) -> Float[Tensor, "rows groups group_block n"]:
        """The queries of a group's heads one below the other, so that its keys are not repeated."""
        return queries.reshape(len(queries), self.key.shape[1], -1, queries.shape[-1])

    def _mix(self, weights: Float[Tensor, "rows heads block some"], value: _Sources) -> Tensor:
        mixed = self._grouped(weights.to(value.dtype)) @ value
        return mixed.reshape(*weights.shape[:-1], -1)

    def read(self, columns: Int[Tensor, "1 heads column"]) -> Float[Tensor, "rows 1 heads column query"]:
        """Weights of some columns of every head, which its queries may not see."""
        heads, group = self.query.shape[1], self.query.shape[1] // self.key.shape[1]
        of_head = torch.arange(heads, device=columns.device)[:, None] // group
        keys = self.key[:, of_head, columns[0]]
        return (self._scaled(keys @ self.query.mT) - self.logsumexp[:, :, None]).exp()[:, None]


AttentionInterface.register(_NAME, _attention)
AttentionMaskInterface.register(_NAME, _no_mask)
