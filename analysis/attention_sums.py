"""What head scores need of attention, added up from blocks of queries, so that no whole pattern has to be held.

For every sequence and head: a few numbers for each query and each source, whatever the length.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .sight import Sight

TILTS = (1.0, 3.0, 9.0, 27.0, 81.0)
"""Each is the third power's exponent of the one before: exp(3t) = exp(t)³ costs less than an exponential."""

TOKEN_PATTERNS = ("duplicate", "induction")
MOST = 0.5  # of a query's attention; no tie can reach more

Read = Callable[[Int[Tensor, "layers heads column"]], Float[Tensor, "rows layers heads column query"]]
_PerSource = Float[Tensor, "rows layers heads source"]
_PerQuery = Float[Tensor, "rows layers heads query"]


@dataclass(frozen=True)
class Values:
    """The same sums for attention weighted by the lengths |v| of the values: p = w·|v|, made to sum to 1 for a query.

    - `norms`: |v| of every source; `totals`: Σ w·|v| of every query, by which is divided;
    - `even`: one over what it would be for uniform attention, the sum of |v| over the sources that the query sees;
    - `columns`, `tokens` and `entropy` as in `AttentionSums`, of p; `even_tokens`: `tokens` of uniform attention.
    """

    norms: _PerSource
    totals: _PerQuery
    even: _PerQuery
    columns: _PerSource
    entropy: _PerQuery
    tokens: Float[Tensor, "rows layers heads pattern source"]
    even_tokens: Float[Tensor, "rows layers heads pattern source"]

    def narrow(self, rows: slice) -> Values:
        """The part of some rows; adding to it adds to the whole."""
        return Values(**{name: part[rows] for name, part in vars(self).items()})


@dataclass(frozen=True)
class AttentionSums:
    """Sums over the attention w of some sequences of one length; all blocks of queries have to be added.

    - `columns`: Σ w over the readers of every source; `covered`: how many of them give it more than half;
    - `offsets`: those in `tried`, and first 0; `back`: w of the source so far back of every query;
    - `tokens`: Σ w over queries for which the source is an earlier position with the query's token (duplicate), or one
      right after such (induction); `token_counts`: how many such sources each query has;
    - `entropy` of every query's w, in nats; `growth`: Σ (exp(t·w) − 1) over its sources, for every t of `TILTS`;
    - `reads`: w of the queries at the named places;
    - `read`: gives w of some columns again.
    """

    sight: Sight
    offsets: tuple[int, ...]
    read: Read
    token_ids: Int[Tensor, "rows length"] | None
    places: Mapping[str, Int[Tensor, " rows"]]
    columns: _PerSource
    covered: _PerSource
    back: Float[Tensor, "rows layers heads offset query"]
    entropy: _PerQuery
    growth: Float[Tensor, "rows layers heads tilt query"]
    tokens: Float[Tensor, "rows layers heads pattern source"]
    token_counts: Float[Tensor, "rows #layers pattern query"]  # noqa: UP037 - a shape, not a name
    reads: Mapping[str, _PerSource]
    values: Values | None

    @classmethod
    def empty(
        cls,
        shape: tuple[int, int, int],
        sight: Sight,
        offsets: tuple[int, ...],
        read: Read,
        *,
        token_ids: Int[Tensor, "rows length"] | None = None,
        value_norms: _PerSource | None = None,
        places: Mapping[str, Int[Tensor, " rows"]],
    ) -> AttentionSums:
        """Sums over nothing yet, of so many rows, layers and heads, on the device of `sight`."""
        device = sight.first.device

        def zeros(*size: int) -> Tensor:
            return torch.zeros(*size, sight.length, device=device)

        patterns = 0 if token_ids is None else len(TOKEN_PATTERNS)
        values = None
        if value_norms is not None:
            norms = value_norms.float()
            even = sight.over_sources(norms).clamp(min=torch.finfo(torch.float32).tiny).reciprocal().float()
            parts = (zeros(*shape, patterns) for _ in range(2))
            values = Values(norms, zeros(*shape), even, zeros(*shape), zeros(*shape), *parts)
        return cls(
            sight=sight,
            offsets=(0, *offsets),
            read=read,
            token_ids=token_ids,
            places=places,
            columns=zeros(*shape),
            covered=zeros(*shape),
            back=zeros(*shape, 1 + len(offsets)),
            entropy=zeros(*shape),
            growth=zeros(*shape, len(TILTS)),
            tokens=zeros(*shape, patterns),
            token_counts=zeros(shape[0], len(sight.first), patterns),
            reads={role: zeros(*shape) for role in places},
            values=values,
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, layers and heads."""
        rows, layers, heads, _ = self.columns.shape
        return rows, layers, heads

    def narrow(self, rows: slice) -> AttentionSums:
        """The part of some rows; adding to it adds to the whole."""
        return replace(
            self,
            **{name: getattr(self, name)[rows] for name in _SUMS},
            token_ids=None if self.token_ids is None else self.token_ids[rows],
            places={role: place[rows] for role, place in self.places.items()},
            reads={role: part[rows] for role, part in self.reads.items()},
            values=None if self.values is None else self.values.narrow(rows),
        )

    def add(self, weights: Float[Tensor, "rows layers heads block some"], first_query: int, first_source: int) -> None:
        """Add the queries from `first_query` on, with their weights for the sources from `first_source` on.

        Sources that are left out have no weight.
        """
        block = _Block(self, weights, first_query, first_source)
        block.add_offsets()
        block.add_columns()
        block.add_growth()
        block.add_reads()
        if self.token_ids is not None:
            block.add_tokens(self.token_ids)


_SUMS = ("columns", "covered", "back", "entropy", "growth", "tokens", "token_counts")


class _Block:
    """Some queries in a row and what they read."""

    def __init__(self, sums: AttentionSums, weights: Tensor, first_query: int, first_source: int):
        self.sums, self.weights, self.first_query, self.first_source = sums, weights, first_query, first_source
        self.queries = slice(first_query, first_query + weights.shape[-2])
        self.sources = slice(first_source, first_source + weights.shape[-1])
        self.choosing = sums.sight.choosing[:, None, self.queries].to(weights.dtype)

    def add_offsets(self) -> None:
        device = self.weights.device
        query = torch.arange(self.queries.start, self.queries.stop, device=device)[:, None]
        at = query - torch.tensor(self.sums.offsets, device=device) - self.first_source
        inside = (at >= 0) & (at < self.weights.shape[-1])
        at = at.clamp(0, self.weights.shape[-1] - 1).expand(*self.weights.shape[:-1], -1)
        found = self.weights.gather(-1, at) * inside
        self.sums.back[..., self.queries] = found.mT

    def add_columns(self) -> None:
        """Sums over readers are sums over all queries without the source's own."""
        own = self.sums.back[..., 0, self.queries] * self.choosing
        entropy = torch.special.entr(self.weights)
        coefficients = self.choosing.expand_as(own)[..., None, :]
        if (values := self.sums.values) is None:
            self.sums.entropy[..., self.queries] = entropy.sum(-1)
        else:
            coefficients = self._add_values(values, own, entropy, coefficients)
        read = coefficients @ self.weights
        self.sums.columns[..., self.sources] += read[..., 0, :]
        self.sums.columns[..., self.queries] -= own
        if values is not None:
            values.columns[..., self.sources] += read[..., 1, :] * values.norms[..., self.sources]
        most = self.weights > MOST
        self.sums.covered[..., self.sources] += (self.choosing[..., None, :] @ most.to(self.weights.dtype))[..., 0, :]
        self.sums.covered[..., self.queries] -= (own > MOST).to(own.dtype)

    def _add_values(self, values: Values, own: Tensor, entropy: Tensor, coefficients: Tensor) -> Tensor:
        """Adds what one needs to know for each query, and returns the coefficients of the queries in columns."""
        norms = values.norms[..., self.sources]
        of_weights = self.weights @ torch.stack([norms, torch.special.entr(norms)], -1)
        of_entropy = entropy @ torch.stack([torch.ones_like(norms), norms], -1)
        total = of_weights[..., 0].clamp(min=torch.finfo(norms.dtype).tiny)
        self.sums.entropy[..., self.queries] = of_entropy[..., 0]
        values.totals[..., self.queries] = total
        values.entropy[..., self.queries] = (of_entropy[..., 1] + of_weights[..., 1]) / total + total.log()
        values.columns[..., self.queries] -= own * values.norms[..., self.queries] / total
        return torch.cat([coefficients, coefficients / total[..., None, :]], dim=-2)

    def add_growth(self) -> None:
        power, sources = self.weights.exp(), self.weights.shape[-1]
        for number in range(len(TILTS)):
            if number:
                power.pow_(3)
            self.sums.growth[..., number, self.queries] = power.sum(-1) - sources

    def add_reads(self) -> None:
        for role, place in self.sums.places.items():
            rows = ((place >= self.queries.start) & (place < self.queries.stop)).nonzero()[:, 0]
            if len(rows):
                at, rows_here = place[rows] - self.first_query, rows.to(self.weights.device)
                self.sums.reads[role][rows_here, ..., self.sources] = self.weights[rows_here, :, :, at.to(rows_here)]

    def add_tokens(self, token_ids: Int[Tensor, "rows length"]) -> None:
        sight = self.sums.sight.mask(self.queries.start, self.weights.shape[-2])
        earlier = torch.arange(self.sums.sight.length, device=sight.device) < torch.arange(
            self.queries.start, self.queries.stop, device=sight.device
        ).unsqueeze(-1)
        sight = sight & earlier & self.choosing[:, 0, :, None].bool()
        same = token_ids[:, self.queries, None] == token_ids[:, None, :]
        after = torch.nn.functional.pad(same[..., :-1], (1, 0))
        for number, pattern in enumerate((same, after)):
            self.sums.token_counts[:, :, number, self.queries] = (pattern[:, None] & sight).sum(-1).float()
            self._add_pattern(number, pattern & sight.any(0), sight[..., self.sources])

    def _add_pattern(
        self, number: int, pairs: Bool[Tensor, "rows block source"], sight: Bool[Tensor, "#layers block some"]
    ) -> None:
        """Few pairs of positions have the same token: only these are looked at."""
        row, query, some = pairs[..., self.sources].nonzero(as_tuple=True)
        found, seen = self.weights[row, :, :, query, some], sight[:, query, some].mT[..., None]
        source = some + self.first_source

        def add(sums: Tensor, added: Float[Tensor, "pair layers heads"]) -> None:
            by_source = sums[..., number, :].permute(0, 3, 1, 2)
            by_source.index_put_((row, source), added.to(sums.dtype), accumulate=True)

        add(self.sums.tokens, found)
        if (values := self.sums.values) is not None:
            query = query + self.first_query
            norms, even = values.norms[row, :, :, source], values.even[row, :, :, query]
            add(values.tokens, found * norms / values.totals[row, :, :, query])
            add(values.even_tokens, norms * even * seen)
