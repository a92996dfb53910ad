"""What attention heads do: shift, broadcast, sink, induction and duplicate heads, found in attention.

Shift and broadcast are the two operations of section 12.7 of the book; sinks are those of Gu et al. (2025), "When
Attention Sink Emerges in Language Models"; induction and duplicate-token heads those of Olsson et al. (2022). Works on
the attention of any model, streamed: memory is bounded by one batch.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import zip_longest

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from anchorlab.errors import InputError

from .attention_sums import TOKEN_PATTERNS, AttentionSums
from .head_batch import HeadBatch, summed
from .head_evidence import ColumnEvidence, ShiftEvidence, weight_evidence
from .head_kinds import HeadScores, Measured, evidence_limit, find_sinks, join_scores, strongest_sink, summarise
from .head_scores import (
    ColumnSurvey,
    Pattern,
    best_column,
    by_token,
    column_means,
    column_pattern,
    coverage,
    entropy,
    shift,
    value_columns,
    value_shift,
)
from .sight import Sight

__all__ = ["Batches", "HeadBatch", "HeadScores", "causal", "join_scores", "score_heads", "score_sums", "sliding"]

_FARTHEST = 32  # offsets that are looked at unless others are asked for


Batches = Callable[[], Iterable[HeadBatch]]
Sums = Callable[[], Iterable[AttentionSums]]


def causal(length: int) -> Bool[Tensor, "1 query source"]:
    """Every position sees itself and all before it."""
    return Sight.causal(length).mask()


def sliding(length: int, window: int) -> Bool[Tensor, "1 query source"]:
    """Every position sees itself and the `window` − 1 before it, as with `sliding_window` of transformers."""
    return Sight.causal(length, window).mask()


def score_heads(
    batches: Batches,
    *,
    visible: Bool[Tensor, "#layers query source"],
    offsets: Sequence[int] | None = None,
    moved: Batches | None = None,
    least_readers: int = 3,
    first_layer: int = 1,
) -> HeadScores:
    """Score every head for shift, self, duplicate, induction, sink and broadcast; `HeadScores` says how.

    `batches` is called twice and must give the same each time: batches of one length, with the same layers, heads and
    roles. `visible` tells which sources each query can see (`causal`, `sliding`, or all for a model without mask): an
    unbroken range. `offsets` are those tried for shift, negative ones look ahead; by default all up to 32 that some
    query sees. `moved` gives the same rows in the same batches with the anchor moved, and their new `places`: the
    moving-anchor test. `least_readers` is how many other queries must see a column for it to be a broadcast.
    `first_layer` numbers the layers from there on, for a model that is scored a few layers at a time (see
    `join_scores`).

    Raises `InputError` for weights that are no attention or not within `visible`, shapes that do not fit, a role
    outside of its row, no sequences, batches that change from call to call, and a test in which nothing moved.
    """
    sight = Sight.of(visible)
    tried = _checked_offsets(offsets, sight)
    return score_sums(
        lambda: (summed(batch, sight, tried, "batches") for batch in batches()),
        length=sight.length,
        moved=None if moved is None else lambda: (summed(batch, sight, tried, "moved") for batch in moved()),
        least_readers=least_readers,
        first_layer=first_layer,
    )


def score_sums(
    batches: Sums, *, length: int, moved: Sums | None = None, least_readers: int = 3, first_layer: int = 1
) -> HeadScores:
    """`score_heads` of attention that has been summed up already; rows have up to `length` tokens.

    Different batches may have rows of different lengths. Raises `InputError` for sums that do not fit together, no
    sequences, batches that change from call to call, and a test in which nothing moved.
    """
    if least_readers < 1:
        raise InputError(f"least_readers={least_readers}: at least 1")
    survey, moved_survey, evidence, limit = _survey(batches, moved, length)
    column_evidence = evidence.found()
    sinks = find_sinks(survey, moved_survey, column_evidence, limit)
    sink_column = strongest_sink(survey, sinks)
    collector = _Collector(length, sinks, sink_column, least_readers)
    for batch, other in _pairs(batches, moved):
        collector.add(batch, other)
    if collector.measured.rows != survey.rows:
        raise InputError(
            f"batches: {survey.rows} rows in the first pass and {collector.measured.rows} in the second; "
            "must give the same batches whenever it is called"
        )
    by_place = {_shift_name(offset): found for offset, found in collector.evidence.found().items()}
    by_place["sink"] = column_evidence.gather(-1, sink_column.clamp(min=0)[..., None])[..., 0]
    return summarise(
        collector.measured, survey, sinks, by_place, limit, tested=moved is not None, first_layer=first_layer
    )


def _shift_name(offset: int) -> str:
    return f"shift {offset}" if offset else "self"


def _pairs(batches: Sums, moved: Sums | None) -> Iterator[tuple[AttentionSums, AttentionSums | None]]:
    if moved is None:
        yield from ((batch, None) for batch in batches())
        return
    for batch, other in zip_longest(batches(), moved()):
        if batch is None or other is None or len(batch.columns) != len(other.columns):
            raise InputError("moved: must give as many batches as `batches`, each with the same number of rows")
        yield batch, other


def _survey(
    batches: Sums, moved: Sums | None, length: int
) -> tuple[ColumnSurvey, ColumnSurvey | None, ColumnEvidence, float]:
    """Columns of all rows, those of the moved rows in which a role has another place than before, and the evidence."""
    survey, moved_survey, evidence = ColumnSurvey(length), ColumnSurvey(length), ColumnEvidence(length)
    form, limit = None, 0.0
    for batch, other in _pairs(batches, moved):
        form = _checked_form(batch, form, "batches")
        limit = max(limit, evidence_limit(batch.sight, batch.offsets[1:]))
        survey.add(batch)
        evidence.add(batch)
        if other is not None:
            _checked_form(other, form, "moved")
            moved_survey.add(other, _moved_rows(batch, other))
    if survey.rows == 0:
        raise InputError("batches: no sequences; at least one is needed")
    if moved is None:
        return survey, None, evidence, limit
    if moved_survey.rows == 0:
        raise InputError("moved: no role in `places` has another position than before; move the anchor")
    return survey, moved_survey, evidence, limit


def _moved_rows(batch: AttentionSums, other: AttentionSums) -> Bool[Tensor, " rows"]:
    moved = torch.zeros(len(batch.columns), dtype=torch.bool)
    for role, place in batch.places.items():
        moved |= place != other.places[role]
    return moved.to(other.columns.device)


@dataclass(frozen=True)
class _Columns:
    """Mean weights of all columns; the best column of every row and head without the sinks, and of all."""

    means: Float[Tensor, "rows layers heads source"]
    broadcast: Int[Tensor, "rows layers heads"]
    strongest: Int[Tensor, "rows layers heads"]


class _Collector:
    """The second pass: adds every batch to `measured`."""

    def __init__(
        self,
        length: int,
        sinks: Bool[Tensor, "layers heads source"],
        sink_column: Int[Tensor, "layers heads"],
        least_readers: int,
    ):
        self.length, self.sinks, self.sink_column, self.least_readers = length, sinks, sink_column, least_readers
        self.measured = Measured()
        self.evidence = ShiftEvidence(sinks)

    def add(self, batch: AttentionSums, other: AttentionSums | None) -> None:
        device = batch.columns.device
        sinks = self.sinks[..., : batch.sight.length].to(device)
        self.measured.rows += len(batch.columns)
        self.evidence.add(batch, sinks)
        self._add_relative(batch, sinks)
        columns = self._columns(batch, sinks)
        self._add_columns(batch, columns, sinks)
        places = {role: place.to(device) for role, place in batch.places.items()}
        self._add_places(batch, columns, places)
        self._add_role_attention(batch, places)
        if other is not None:
            self._add_test(batch, columns, places, other)

    def _add_relative(self, batch: AttentionSums, sinks: Bool[Tensor, "layers heads source"]) -> None:
        scores = self.measured.scores
        for offset in batch.offsets:
            scores[_shift_name(offset)].add(shift(batch, sinks, offset))
            if batch.values is not None:
                scores[f"value-weighted {_shift_name(offset)}"].add(value_shift(batch, batch.values, sinks, offset))
        scores["entropy"].add(entropy(batch, None))
        if batch.values is not None:
            scores["value-weighted entropy"].add(entropy(batch, batch.values))
        for number, name in enumerate(TOKEN_PATTERNS if batch.token_ids is not None else ()):
            scores[name].add(by_token(batch, sinks, number, None))
            if batch.values is not None:
                scores[f"value-weighted {name}"].add(by_token(batch, sinks, number, batch.values))

    def _readable(self, sight: Sight) -> Bool[Tensor, "#layers 1 source"]:
        """Columns that enough queries see to be a broadcast."""
        return (sight.reader_counts >= self.least_readers)[:, None]

    def _columns(self, batch: AttentionSums, sinks: Bool[Tensor, "layers heads source"]) -> _Columns:
        means, uniform = column_means(batch), batch.sight.reader_uniform[:, None]
        readable = self._readable(batch.sight)
        return _Columns(means, best_column(means, uniform, readable & ~sinks), best_column(means, uniform, readable))

    def _add_columns(self, batch: AttentionSums, columns: _Columns, sinks: Bool[Tensor, "layers heads source"]) -> None:
        measured, sight, sink_column = self.measured, batch.sight, self.sink_column[None].to(sinks.device)
        uniform, readable = sight.reader_uniform[:, None], self._readable(sight) & ~sinks
        measured.scores["sink"].add(column_pattern(columns.means, uniform, sight, sink_column))
        broadcast = column_pattern(columns.means, uniform, sight, columns.broadcast)
        measured.scores["broadcast"].add(broadcast)
        measured.scores["coverage"].add(coverage(batch, columns.broadcast))
        evidence = weight_evidence(
            broadcast.mass / broadcast.queries, broadcast.uniform / broadcast.queries, broadcast.queries
        )
        found, choices = columns.broadcast >= 0, readable.sum(-1).clamp(min=1).double()
        measured.picks.add(Pattern(evidence - choices.log(), torch.zeros_like(evidence), found.float()))
        positions = torch.arange(self.length, device=sinks.device)
        measured.columns.add(Pattern.share(columns.broadcast[..., None] == positions, found[..., None]))
        if batch.values is not None:
            means, even = value_columns(batch, batch.values)
            column = best_column(means, even, readable)
            measured.scores["value-weighted sink"].add(column_pattern(means, even, sight, sink_column))
            measured.scores["value-weighted broadcast"].add(column_pattern(means, even, sight, column))

    def _add_places(self, batch: AttentionSums, columns: _Columns, places: Mapping[str, Int[Tensor, " rows"]]) -> None:
        positions = torch.arange(self.length, device=columns.means.device)
        for role, place in places.items():
            at, readable = place[:, None, None], self._readable_at(batch, place)
            self.measured.at_role[role].add(Pattern.share(columns.broadcast == at, readable))
            self.measured.role_places[role].add(Pattern.share(at == positions, readable))

    def _readable_at(self, batch: AttentionSums, place: Int[Tensor, " rows"]) -> Bool[Tensor, "rows #layers 1"]:
        return self._readable(batch.sight)[..., place].permute(2, 0, 1)

    def _add_role_attention(self, batch: AttentionSums, places: Mapping[str, Int[Tensor, " rows"]]) -> None:
        rows, sight = torch.arange(len(batch.columns), device=batch.columns.device), batch.sight
        for reader, query in places.items():
            uniform = sight.uniform[:, query].mT[..., None]
            for source, column in places.items():
                first, last = sight.first[:, query], sight.last[:, query]
                seen = ((first <= column) & (column <= last) & sight.choosing[:, query]).mT[..., None]
                read = batch.reads[reader][rows, :, :, column] * seen
                self.measured.role_attention[reader, source].add(Pattern(read, uniform * seen, seen.float()))

    def _add_test(
        self,
        batch: AttentionSums,
        columns: _Columns,
        places: Mapping[str, Int[Tensor, " rows"]],
        other: AttentionSums,
    ) -> None:
        device = columns.means.device
        after = self._columns(other, self.sinks[..., : other.sight.length].to(device))
        for role, place in places.items():
            new = other.places[role].to(device)
            old_at, new_at = place[:, None, None], new[:, None, None]
            moved = (old_at != new_at) & self._readable_at(batch, place) & self._readable_at(other, new)
            followed = (columns.broadcast == old_at) & (after.broadcast == new_at)
            stayed = (columns.strongest == old_at) & (after.strongest == old_at)
            self.measured.followed[role].add(Pattern.share(followed, moved))
            self.measured.stayed[role].add(Pattern.share(stayed, moved))


def _checked_offsets(offsets: Sequence[int] | None, sight: Sight) -> tuple[int, ...]:
    """The offsets to try, the nearest first."""
    farthest = sight.length - 1
    if offsets is None:
        near = range(1, min(_FARTHEST, farthest) + 1)
        both = [offset for distance in near for offset in (distance, -distance)]
        return tuple(offset for offset in both if sight.reads_back(offset).any())
    if any(offset == 0 or abs(offset) > farthest for offset in offsets) or len(set(offsets)) < len(offsets):
        raise InputError(f"offsets={list(offsets)}: different whole numbers from 1 to {farthest} or their negatives")
    return tuple(sorted(offsets, key=lambda offset: (abs(offset), offset < 0)))


@dataclass(frozen=True)
class _Form:
    """What all batches have in common."""

    layers: int
    heads: int
    tokens: bool
    value_norms: bool
    places: tuple[str, ...]


def _checked_form(batch: AttentionSums, expected: _Form | None, name: str) -> _Form:
    """The form of `batch`; raises InputError unless that is the expected one."""
    _, layers, heads = batch.shape
    form = _Form(layers, heads, batch.token_ids is not None, batch.values is not None, tuple(sorted(batch.places)))
    if expected is not None and form != expected:
        names = [one.name for one in fields(_Form) if getattr(form, one.name) != getattr(expected, one.name)]
        raise InputError(f"{name}: a batch differs from the first one in {' and '.join(names)}")
    return form
