"""Attention patterns of one batch of sequences, for all heads at once, and their sums over a stream of batches.

Every pattern is three numbers for each sequence and head, (mass, uniform, queries): the weight that the queries of the
pattern give its sources, what uniform attention over the visible sources would give them, and how many queries there
are. A query that sees fewer than two sources has no choice and takes part in no pattern.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .attention_sums import AttentionSums, Values
from .sight import Sight

SINK_WEIGHT = 0.3  # Gu et al. (2025)
SINK_READERS = 4  # of fewer, one reader alone exceeds SINK_WEIGHT: the last columns of every shift head


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
    """The first pass: how strongly the readers of every column read it, and in how many sequences it is like a sink.

    Sequences may have different lengths, up to `length`.
    """

    def __init__(self, length: int):
        self.length, self.totals, self.rows = length, Totals(), 0
        self.above: Int[Tensor, "*heads"] = torch.zeros((), dtype=torch.long)
        self.columns: Bool[Tensor, "#layers 1 source"] = torch.zeros((), dtype=torch.bool)

    def add(self, sums: AttentionSums, rows: Bool[Tensor, " rows"] | None = None) -> None:
        """Count the sequences of one batch, or some of them."""
        means = column_means(sums) if rows is None else column_means(sums)[rows]
        counts, uniform = sums.sight.reader_counts[:, None], sums.sight.reader_uniform[:, None]
        able = counts >= SINK_READERS
        self.rows += len(means)
        self.columns = self.columns | self._padded(able)
        self.above = self.above + self._padded(((means > SINK_WEIGHT) & able).sum(0))
        counts = counts.expand_as(means)
        self.totals.add(Pattern(*map(self._padded, (means * counts, uniform * counts, counts))))

    def _padded(self, part: Tensor) -> Tensor:
        return padded(part, self.length).cpu()

    def usual(self) -> Bool[Tensor, "layers heads source"]:
        """Whether a column exceeds `SINK_WEIGHT` in more than half of the sequences."""
        return self.columns & (self.above > self.rows / 2)


def padded(part: Tensor, length: int) -> Tensor:
    """The same with zeros for the positions that a shorter sequence does not have."""
    return torch.nn.functional.pad(part, (0, length - part.shape[-1]))


def shift(sums: AttentionSums, sinks: Bool[Tensor, "layers heads source"], offset: int) -> Pattern:
    """Weight `offset` positions back (ahead if negative), over queries whose target is no sink; 0 is the own place."""
    usable = shift_queries(sums.sight, sinks, offset)
    mass = (sums.back[..., sums.offsets.index(offset), :] * usable).sum(-1)
    return Pattern(mass, (usable * sums.sight.uniform[:, None]).sum(-1)[None], usable.float().sum(-1)[None])


def value_shift(
    sums: AttentionSums, values: Values, sinks: Bool[Tensor, "layers heads source"], offset: int
) -> Pattern:
    """The same of the attention that is weighted by values."""
    usable = shift_queries(sums.sight, sinks, offset)
    norms = targets(values.norms, offset)
    mass = (sums.back[..., sums.offsets.index(offset), :] * norms / values.totals * usable).sum(-1)
    return Pattern(mass, (norms * values.even * usable).sum(-1), usable.float().sum(-1)[None])


def shift_queries(
    sight: Sight, sinks: Bool[Tensor, "layers heads source"], offset: int
) -> Bool[Tensor, "layers heads query"]:
    """The queries that see the position `offset` back and do not have a sink there."""
    return sight.reads_back(offset)[:, None] & ~targets(sinks, offset)


def targets(sources: Tensor, offset: int) -> Tensor:
    """What each query has `offset` positions back; meaningless where there is no such position."""
    return sources.roll(offset, -1)


def by_token(
    sums: AttentionSums, sinks: Bool[Tensor, "layers heads source"], number: int, values: Values | None
) -> Pattern:
    """Weight of the sources of a token pattern that are no sinks, over the queries that have such."""
    counts = token_counts(sums, sinks, number)
    queries = (counts > 0).float().sum(-1)
    if values is None:
        mass, uniform = sums.tokens, (counts * sums.sight.uniform[:, None]).sum(-1)
        return Pattern((mass[..., number, :] * ~sinks).sum(-1), uniform, queries)
    mass, even = ((part[..., number, :] * ~sinks).sum(-1) for part in (values.tokens, values.even_tokens))
    return Pattern(mass, even, queries)


def token_counts(
    sums: AttentionSums, sinks: Bool[Tensor, "layers heads source"], number: int
) -> Float[Tensor, "rows layers heads query"]:
    """How many sources of a token pattern, without the sinks of the head, each query has."""
    ids, sight = sums.token_ids, sums.sight
    assert ids is not None
    rows, layers, heads = sums.shape
    counts = sums.token_counts[:, :, None, number].expand(rows, layers, heads, -1).clone()
    positions = torch.arange(sight.length, device=ids.device)
    for column in sinks.any(0).any(0).nonzero()[:, 0].tolist():
        before = column - number  # an induction source follows the token
        if before < 0:
            continue
        seen = (sight.first <= column) & (column < positions) & (column <= sight.last) & sight.choosing
        hidden = ((ids == ids[:, [before]])[:, None] & seen)[:, :, None] & sinks[..., [column]]
        counts -= hidden.float()
    return counts


def entropy(sums: AttentionSums, values: Values | None) -> Pattern:
    """Entropy of every query with a choice, of the largest possible: 0 for one source, 1 for uniform attention."""
    found = sums.entropy if values is None else values.entropy
    choosing = sums.sight.choosing[:, None]
    share = torch.where(choosing, found / sums.sight.sources.log()[:, None], 0)
    return Pattern(share.sum(-1), torch.zeros_like(share[..., 0]), choosing.float().sum(-1)[None])


def column_means(sums: AttentionSums) -> Float[Tensor, "rows layers heads source"]:
    """Mean weight of every source over its readers; 0 for one that nobody reads."""
    return sums.columns / sums.sight.reader_counts[:, None].clamp(min=1)


def value_columns(
    sums: AttentionSums, values: Values
) -> tuple[Float[Tensor, "rows layers heads source"], Float[Tensor, "rows layers heads source"]]:
    """The same of the attention that is weighted by values, and what it would be for uniform attention."""
    even = sums.sight.over_readers(values.even).float() * values.norms
    counts = sums.sight.reader_counts[:, None].clamp(min=1)
    return values.columns / counts, even / counts


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
    """Weight that the readers of a column give it; no queries where the column is −1, or beyond the sequence."""
    inside = (column >= 0) & (column < sight.length)
    at = torch.where(inside, column, 0).expand(means.shape[:-1])[..., None]
    mean, baseline, counts = (
        part.expand_as(means).gather(-1, at)[..., 0] for part in (means, uniform, sight.reader_counts[:, None])
    )
    counts = counts * inside
    return Pattern(mean * counts, baseline * counts, counts)


def coverage(sums: AttentionSums, column: Int[Tensor, "rows layers heads"]) -> Pattern:
    """Number of the column's readers that give it more than half of their attention (which no tie can reach)."""
    at = column.clamp(min=0)[..., None]
    covered, counts = (
        part.expand(sums.columns.shape).gather(-1, at)[..., 0] * (column >= 0)
        for part in (sums.covered, sums.sight.reader_counts[:, None])
    )
    return Pattern(covered, torch.zeros_like(counts), counts)
