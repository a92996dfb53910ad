"""What each position of a sequence can read from."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from anchorlab.errors import InputError


@dataclass(frozen=True)
class Sight:
    """The sources that each query sees: an unbroken range, from position `first` to position `last`.

    A query that sees fewer than two sources has no choice and takes part in no score. The *readers* of a source are
    the other queries that see it and have a choice (the later ones, if attention is causal).
    """

    first: Int[Tensor, "#layers query"]
    last: Int[Tensor, "#layers query"]

    @classmethod
    def causal(cls, length: int, window: int | None = None) -> Sight:
        """Every position sees itself and all before it, or the `window` − 1 before it."""
        last = torch.arange(length)[None]
        return cls((last + 1 - (window or length)).clamp(min=0), last)

    @classmethod
    def everything(cls, length: int) -> Sight:
        """Every position sees all."""
        return cls(torch.zeros(1, length, dtype=torch.long), torch.full((1, length), length - 1))

    @classmethod
    def of(cls, visible: Bool[Tensor, "#layers query source"]) -> Sight:
        """The same from a mask; raises InputError for one in which a query does not see one unbroken range."""
        shape = tuple(visible.shape)
        if visible.dtype != torch.bool or len(shape) != 3 or shape[1] != shape[2] or 0 in shape:
            raise InputError(
                f"visible={visible.dtype} of shape {shape}: must be boolean, (layers or 1, length, length)"
            )
        numbers = visible.to(torch.int8)
        sight = cls(numbers.argmax(-1), shape[2] - 1 - numbers.flip(-1).argmax(-1))
        if not torch.equal(sight.mask(), visible):
            raise InputError("visible: every query must see one unbroken range of sources")
        return sight

    def to(self, device: torch.device) -> Sight:
        """The same on another device."""
        return self if self.first.device == device else Sight(self.first.to(device), self.last.to(device))

    def layer(self, number: int) -> Sight:
        """What one layer, numbered from 0, sees."""
        return Sight(*(getattr(self, part.name)[[number % len(self.first)]] for part in fields(self)))

    @property
    def length(self) -> int:
        """Positions of the sequence."""
        return self.first.shape[-1]

    def mask(self, first_query: int = 0, queries: int | None = None) -> Bool[Tensor, "#layers query source"]:
        """Which sources some queries in a row see, by default all queries."""
        rows = slice(first_query, None if queries is None else first_query + queries)
        positions = torch.arange(self.length, device=self.first.device)
        return (self.first[:, rows, None] <= positions) & (positions <= self.last[:, rows, None])

    @cached_property
    def choosing(self) -> Bool[Tensor, "#layers query"]:
        """Queries that see two sources or more."""
        return self.last > self.first

    @cached_property
    def sources(self) -> Float[Tensor, "#layers query"]:
        """How many sources each query sees."""
        return (self.last - self.first + 1).float()

    @cached_property
    def uniform(self) -> Float[Tensor, "#layers query"]:
        """The weight of uniform attention; 0 for queries without a choice."""
        return torch.where(self.choosing, 1 / self.sources, 0.0)

    @cached_property
    def reader_counts(self) -> Float[Tensor, "#layers source"]:
        """How many readers each source has."""
        return self.over_readers(torch.ones_like(self.uniform)[:, None])[:, 0].float()

    @cached_property
    def reader_uniform(self) -> Float[Tensor, "#layers source"]:
        """Mean weight that uniform attention gives a source, over its readers."""
        return self.over_readers(self.uniform[:, None])[:, 0].float() / self.reader_counts.clamp(min=1)

    def reads_back(self, offset: int) -> Bool[Tensor, "#layers query"]:
        """Queries with a choice that see the source `offset` positions back (ahead if negative)."""
        target = torch.arange(self.length, device=self.first.device) - offset
        return (self.first <= target) & (target <= self.last) & self.choosing

    def over_sources(self, values: Float[Tensor, "*rows layers heads source"]) -> Float[Tensor, "*rows layers heads q"]:
        """Sums of `values` over the sources that each query sees, in double precision."""
        before = torch.nn.functional.pad(values.double().cumsum(-1), (1, 0))
        first, end = (at[:, None].expand(values.shape) for at in (self.first, self.last + 1))
        return before.gather(-1, end) - before.gather(-1, first)

    def over_readers(self, values: Float[Tensor, "*rows layers heads query"]) -> Float[Tensor, "*rows layers heads s"]:
        """Sums of `values` over the readers of each source, in double precision."""
        counted = torch.where(self.choosing[:, None], values.double(), 0)
        changes = torch.nn.functional.pad(torch.zeros_like(counted), (0, 1))
        first, end = (at[:, None].expand(counted.shape) for at in (self.first, self.last + 1))
        changes.scatter_add_(-1, first, counted)
        changes.scatter_add_(-1, end, -counted)
        own = torch.where(self.reads_back(0)[:, None], counted, 0)
        return changes.cumsum(-1)[..., :-1] - own
