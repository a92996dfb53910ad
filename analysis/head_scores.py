"""Attention patterns of one batch of sequences, for all heads at once, and their sums over a stream of batches.

Every pattern is three numbers for each sequence and head, (mass, uniform, queries): the weight that the queries of the
pattern give its sources, what uniform attention over the visible sources would give them, and how many queries there
are. A query that sees fewer than two sources has no choice and takes part in no pattern.

The largest temporaries are two or three tensors of the batch's own size.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

SINK_WEIGHT = 0.3  # Gu et al. (2025)
SINK_READERS = 4  # of fewer, one reader alone exceeds SINK_WEIGHT: the last columns of every shift head


@dataclass(frozen=True)
class Sight:
    """What each query sees; the *readers* of a source are the other queries that see it (the later ones, if causal).

    `uniform` is the weight of uniform attention, 0 for queries with fewer than two sources, which `pairs` and `readers`
    leave out. `reader_uniform` is its mean over the readers of a source.
    """

    visible: Bool[Tensor, "#layers query source"]
    pairs: Bool[Tensor, "#layers query source"]
    uniform: Float[Tensor, "#layers query"]
    readers: Bool[Tensor, "#layers query source"]
    reader_counts: Float[Tensor, "#layers source"]
    reader_uniform: Float[Tensor, "#layers source"]

    @classmethod
    def of(cls, visible: Bool[Tensor, "#layers query source"]) -> "Sight":
        """Count sources and readers of the mask `visible`."""
        sources = visible.sum(-1)
        pairs = visible & (sources > 1)[..., None]
        uniform = torch.where(sources > 1, 1 / sources.clamp(min=1), 0.0)
        readers = pairs & ~torch.eye(visible.shape[-1], dtype=torch.bool, device=visible.device)
        counts = readers.sum(-2).float()
        mean = (readers * uniform[..., None]).sum(-2) / counts.clamp(min=1)
        return cls(visible, pairs, uniform, readers, counts, mean)

    def to(self, device: torch.device) -> "Sight":
        """The same on another device."""
        return Sight(*(getattr(self, field.name).to(device) for field in fields(self)))


class Pattern(NamedTuple):
    """Mass, uniform mass and number of queries of one pattern; whatever does not depend on the sequence has one row."""

    mass: Float[Tensor, "rows *heads"]
    uniform: Float[Tensor, "#rows *heads"]
    queries: Float[Tensor, "#rows *heads"]

    @classmethod
    def share(cls, hits: Bool[Tensor, "rows *heads"], among: Bool[Tensor, "rows *#heads"]) -> "Pattern":
        """Whether something is the case in a sequence, so that the mean over sequences is a share of them."""
        counted = (hits & among).float()
        return cls(counted, torch.zeros_like(counted), among.float().expand_as(counted))


class Totals:
    """A pattern's sums over sequences, in double precision; sequences without a query of the pattern are left out."""

    def __init__(self) -> None:
        self.mass = self.uniform = self.queries = torch.zeros((), dtype=torch.float64)
        self.sequences = self._weight = self._baseline = self._weight_squares = self._excess_squares = self.mass

    def add(self, pattern: Pattern) -> None:
        """Count the sequences of one batch."""
        mass, uniform, queries = torch.broadcast_tensors(*(part.cpu().double() for part in pattern))
        self.mass, self.uniform = self.mass + mass.sum(0), self.uniform + uniform.sum(0)
        self.queries = self.queries + queries.sum(0)
        found = queries > 0
        weight, baseline = (torch.where(found, part / queries, 0) for part in (mass, uniform))
        self.sequences = self.sequences + found.sum(0)
        self._weight, self._baseline = self._weight + weight.sum(0), self._baseline + baseline.sum(0)
        self._weight_squares = self._weight_squares + (weight**2).sum(0)
        self._excess_squares = self._excess_squares + ((weight - baseline) ** 2).sum(0)

    def weight(self) -> Float[Tensor, "*heads"]:
        """Mean weight over sequences; NaN without a sequence."""
        return self._weight / self.sequences

    def baseline(self) -> Float[Tensor, "*heads"]:
        """Mean uniform weight over sequences."""
        return self._baseline / self.sequences

    def excess(self) -> Float[Tensor, "*heads"]:
        """Mean over sequences of the weight above the uniform one."""
        return self.weight() - self.baseline()

    def weight_spread(self) -> Float[Tensor, "*heads"]:
        """Standard deviation of the weight over sequences; NaN for fewer than two."""
        return self._deviation(self._weight_squares, self.weight())

    def excess_spread(self) -> Float[Tensor, "*heads"]:
        """The same of the weight above the uniform one."""
        return self._deviation(self._excess_squares, self.excess())

    def _deviation(self, squares: Float[Tensor, "*heads"], mean: Float[Tensor, "*heads"]) -> Float[Tensor, "*heads"]:
        variance = (squares - self.sequences * mean**2) / (self.sequences - 1)
        return torch.where(self.sequences > 1, variance.clamp(min=0).sqrt(), torch.nan)


class ColumnSurvey:
    """The first pass: how strongly the readers of every column read it, and in how many sequences it is like a sink."""

    def __init__(self, sight: Sight):
        self.sight, self.totals, self.rows = sight, Totals(), 0
        self.above: Int[Tensor, "*heads"] = torch.zeros((), dtype=torch.long)

    def add(self, weights: Float[Tensor, "rows layers heads query source"]) -> None:
        """Count the sequences of one batch."""
        self.sight = self.sight.to(weights.device)
        means, counts = column_means(weights, self.sight), self.sight.reader_counts[None, :, None]
        self.rows += len(weights)
        self.above = self.above + (means > SINK_WEIGHT).sum(0).cpu()
        self.totals.add(Pattern(means * counts, self.sight.reader_uniform[:, None] * counts, counts))

    @property
    def columns(self) -> Bool[Tensor, "#layers 1 source"]:
        """Columns with enough readers to be a sink."""
        return (self.sight.reader_counts >= SINK_READERS).cpu()[:, None]

    def usual(self) -> Bool[Tensor, "layers heads source"]:
        """Whether a column exceeds `SINK_WEIGHT` in more than half of the sequences."""
        return self.columns & (self.above > self.rows / 2)


def shift(
    weights: Float[Tensor, "rows layers heads query source"],
    sight: Sight,
    sinks: Bool[Tensor, "layers heads source"],
    offset: int,
) -> Pattern:
    """Weight `offset` positions back (ahead if negative), over queries whose target is no sink; 0 is the own place."""
    usable, queries = shift_queries(sight, sinks, offset)
    mass = (weights.diagonal(-offset, -2, -1) * usable).sum(-1)
    return Pattern(mass, (usable * sight.uniform[:, None, queries]).sum(-1)[None], usable.float().sum(-1)[None])


def shift_queries(
    sight: Sight, sinks: Bool[Tensor, "layers heads source"], offset: int
) -> tuple[Bool[Tensor, "layers heads pair"], slice]:
    """The queries that have a position `offset` back, and which of them see it and do not have a sink there."""
    length = sight.pairs.shape[-1] - abs(offset)
    first_query, first_source = max(offset, 0), max(-offset, 0)
    target_is_sink = sinks[..., first_source : first_source + length]
    usable = sight.pairs.diagonal(-offset, -2, -1)[:, None] & ~target_is_sink
    return usable, slice(first_query, first_query + length)


def same_token(tokens: Int[Tensor, "rows length"]) -> Bool[Tensor, "rows query source"]:
    """Earlier positions with the query's token."""
    return (tokens[:, :, None] == tokens[:, None, :]).tril(-1)


def after_same_token(tokens: Int[Tensor, "rows length"]) -> Bool[Tensor, "rows query source"]:
    """Earlier positions that follow one with the query's token."""
    same = tokens[:, :, None] == tokens[:, None, :]
    return torch.nn.functional.pad(same[..., :-1], (1, 0)).tril(-1)


def by_token(
    weights: Float[Tensor, "rows layers heads query source"],
    sight: Sight,
    sinks: Bool[Tensor, "layers heads source"],
    sources: Bool[Tensor, "rows query source"],
) -> Pattern:
    """Weight of the given sources that are no sinks, over the queries that have such."""
    layers = weights.shape[1]
    mask = (sources[:, None] & sight.pairs).to(weights.dtype).expand(-1, layers, -1, -1)
    counts = torch.einsum("rlqs,lhs->rlhq", mask, (~sinks).to(weights.dtype))
    mass = torch.einsum("rlhqs,rlqs->rlh", weights.masked_fill(sinks[:, :, None], 0), mask)
    return Pattern(mass, (counts * sight.uniform[:, None]).sum(-1), (counts > 0).float().sum(-1))


def column_means(
    weights: Float[Tensor, "rows layers heads query source"], sight: Sight
) -> Float[Tensor, "rows layers heads source"]:
    """Mean weight of every source over its readers; 0 for one that nobody reads."""
    return (weights * sight.readers[:, None]).sum(-2) / sight.reader_counts[:, None].clamp(min=1)


def best_column(
    means: Float[Tensor, "rows layers heads source"],
    uniform: Float[Tensor, "#layers 1 source"] | Float[Tensor, "rows layers heads source"],
    allowed: Bool[Tensor, "#layers #heads source"],
) -> Int[Tensor, "rows layers heads"]:
    """The allowed source whose mean weight is most above the uniform one; −1 where none is allowed."""
    best, column = (means - uniform).masked_fill(~allowed, -torch.inf).max(-1)
    return column.masked_fill(best.isinf(), -1)


def column_pattern(
    means: Float[Tensor, "rows layers heads source"],
    uniform: Float[Tensor, "#layers 1 source"] | Float[Tensor, "rows layers heads source"],
    sight: Sight,
    column: Int[Tensor, "#rows layers heads"],
) -> Pattern:
    """Weight that the readers of a column give it; no queries where the column is −1."""
    at = column.expand(means.shape[:-1]).clamp(min=0)[..., None]
    mean, baseline, counts = (
        part.expand_as(means).gather(-1, at)[..., 0] for part in (means, uniform, sight.reader_counts[:, None])
    )
    counts = counts * (column >= 0)
    return Pattern(mean * counts, baseline * counts, counts)


def coverage(
    weights: Float[Tensor, "rows layers heads query source"], sight: Sight, column: Int[Tensor, "rows layers heads"]
) -> Pattern:
    """Number of the column's readers that give it more than half of their attention (which no tie can reach)."""
    at = column.clamp(min=0)
    given = weights.gather(-1, at[..., None, None].expand(*weights.shape[:-1], 1))[..., 0]
    layer = torch.arange(weights.shape[1], device=weights.device)[:, None].expand(at.shape)
    readers = sight.readers.mT.expand(weights.shape[1], -1, -1)[layer, at] & (column >= 0)[..., None]
    counts = readers.float().sum(-1)
    return Pattern(((given > 0.5) & readers).float().sum(-1), torch.zeros_like(counts), counts)


def value_weighted(
    weights: Float[Tensor, "rows layers heads query source"],
    norms: Float[Tensor, "rows layers heads source"],
    sight: Sight,
) -> tuple[Float[Tensor, "rows layers heads source"], Float[Tensor, "rows layers heads source"]]:
    """`column_means` of weight·|v|, made to sum to 1 for each query, and what they would be for uniform attention."""
    norms = norms.to(weights.dtype)
    products = weights * norms[..., None, :]
    products.div_(products.sum(-1, keepdim=True).clamp(min=torch.finfo(products.dtype).tiny))
    layers = weights.shape[1]
    pairs, readers = (mask.to(norms.dtype).expand(layers, -1, -1) for mask in (sight.pairs, sight.readers))
    totals = torch.einsum("rlhs,lqs->rlhq", norms, pairs)
    inverse = torch.where(totals > 0, 1 / totals, 0)
    uniform = norms * torch.einsum("rlhq,lqs->rlhs", inverse, readers) / sight.reader_counts[:, None].clamp(min=1)
    return column_means(products, sight), uniform
