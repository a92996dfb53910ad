"""What attention heads do: shift, broadcast, sink, induction and duplicate heads, found in stored attention.

Shift and broadcast are the two operations of section 12.7 of the book; sinks are those of Gu et al. (2025), "When
Attention Sink Emerges in Language Models"; induction and duplicate-token heads those of Olsson et al. (2022). Works on
the attention of any model, streamed: memory is bounded by one batch.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import zip_longest

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from anchorlab.errors import InputError

from .head_evidence import MeanAttention, weight_evidence
from .head_kinds import HeadScores, Measured, evidence_limit, find_sinks, join_scores, strongest_sink, summarise
from .head_scores import (
    ColumnSurvey,
    Pattern,
    Sight,
    after_same_token,
    best_column,
    by_token,
    column_means,
    column_pattern,
    coverage,
    same_token,
    shift,
    value_weighted,
)

__all__ = ["Batches", "HeadBatch", "HeadScores", "causal", "join_scores", "score_heads", "sliding"]

_FARTHEST = 32  # offsets that are looked at unless others are asked for
_TOLERANCE = 1e-3  # of the sum of a query's weights


@dataclass(frozen=True)
class HeadBatch:
    """Attention of some sequences of one length.

    - `weights`: after the softmax; entry [r, l, h, i, j] is how much position i reads from position j;
    - `tokens`: needed for the scores `duplicate` and `induction`;
    - `value_norms`: length |v_j| of each head's value vectors (of its group's, where heads share them);
    - `places`: position, from 0, of named tokens in every row: `key`, `anchor 1`, `last`, …
    """

    weights: Float[Tensor, "rows layers heads query source"]
    tokens: Int[Tensor, "rows length"] | None = None
    value_norms: Float[Tensor, "rows layers heads source"] | None = None
    places: Mapping[str, Int[Tensor, " rows"]] = field(default_factory=dict)


Batches = Callable[[], Iterable[HeadBatch]]
_Weights = Float[Tensor, "rows layers heads query source"]
_Places = Mapping[str, Int[Tensor, " rows"]]


def causal(length: int) -> Bool[Tensor, "1 query source"]:
    """Every position sees itself and all before it."""
    return torch.ones(1, length, length, dtype=torch.bool).tril()


def sliding(length: int, window: int) -> Bool[Tensor, "1 query source"]:
    """Every position sees itself and the `window` − 1 before it, as with `sliding_window` of transformers."""
    return causal(length).triu(1 - window)


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
    roles. `visible` tells which sources each query can see (`causal`, `sliding`, or all for a model without mask).
    `offsets` are those tried for shift, negative ones look ahead; by default all up to 32 that some query sees.
    `moved` gives the same rows in the same batches with the anchor moved, and their new `places`: the moving-anchor
    test. `least_readers` is how many other queries must see a column for it to be a broadcast. `first_layer` numbers
    the layers from there on, for a model that is scored a few layers at a time (see `join_scores`).

    Raises `InputError` for weights that are no attention or not within `visible`, shapes that do not fit, a role
    outside of its row, no sequences, batches that change from call to call, and a test in which nothing moved.
    """
    if least_readers < 1:
        raise InputError(f"least_readers={least_readers}: at least 1")
    sight = Sight.of(_checked_mask(visible))
    tried = _checked_offsets(offsets, sight)
    limit = evidence_limit(sight, tried)
    survey, moved_survey, attention = _survey(batches, moved, sight)
    column_evidence = attention.columns()
    sinks = find_sinks(survey, moved_survey, column_evidence, limit)
    sink_column = strongest_sink(survey, sinks)
    collector = _Collector(sight, tried, sinks, sink_column, least_readers)
    for batch, other in _pairs(batches, moved):
        collector.add(batch, other)
    if collector.measured.rows != survey.rows:
        raise InputError(
            f"batches: {survey.rows} rows in the first pass and {collector.measured.rows} in the second; "
            "must give the same batches whenever it is called"
        )
    by_place = {_shift_name(offset): found for offset, found in attention.shifts((0, *tried), sinks).items()}
    by_place["sink"] = column_evidence.gather(-1, sink_column.clamp(min=0)[..., None])[..., 0]
    return summarise(
        collector.measured, survey, sinks, by_place, limit, tested=moved is not None, first_layer=first_layer
    )


def _shift_name(offset: int) -> str:
    return f"shift {offset}" if offset else "self"


def _pairs(batches: Batches, moved: Batches | None) -> Iterator[tuple[HeadBatch, HeadBatch | None]]:
    if moved is None:
        yield from ((batch, None) for batch in batches())
        return
    for batch, other in zip_longest(batches(), moved()):
        if batch is None or other is None or len(batch.weights) != len(other.weights):
            raise InputError("moved: must give as many batches as `batches`, each with the same number of rows")
        yield batch, other


def _survey(
    batches: Batches, moved: Batches | None, sight: Sight
) -> tuple[ColumnSurvey, ColumnSurvey | None, MeanAttention]:
    """Columns of all rows, those of the moved rows in which a role has another place than before, and the mean map."""
    survey, moved_survey, attention, form = ColumnSurvey(sight), ColumnSurvey(sight), MeanAttention(sight), None
    for batch, other in _pairs(batches, moved):
        form = _checked_form(batch, sight, form, "batches")
        survey.add(_floats(batch))
        attention.add(_floats(batch))
        if other is not None:
            _checked_form(other, sight, form, "moved")
            moved_survey.add(_floats(other)[_moved_rows(batch, other)])
    if survey.rows == 0:
        raise InputError("batches: no sequences; at least one is needed")
    if moved is None:
        return survey, None, attention
    if moved_survey.rows == 0:
        raise InputError("moved: no role in `places` has another position than before; move the anchor")
    return survey, moved_survey, attention


def _moved_rows(batch: HeadBatch, other: HeadBatch) -> Bool[Tensor, " rows"]:
    moved = torch.zeros(len(batch.weights), dtype=torch.bool, device=other.weights.device)
    for role, place in batch.places.items():
        moved |= (place.cpu() != other.places[role].cpu()).to(moved.device)
    return moved


def _floats(batch: HeadBatch) -> _Weights:
    """The weights in at least single precision, in which sums over queries are exact enough."""
    return batch.weights.to(torch.promote_types(batch.weights.dtype, torch.float32))


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
        sight: Sight,
        offsets: Sequence[int],
        sinks: Bool[Tensor, "layers heads source"],
        sink_column: Int[Tensor, "layers heads"],
        least_readers: int,
    ):
        self.sight, self.offsets, self.sinks, self.sink_column = sight, offsets, sinks, sink_column
        self.least_readers = least_readers
        self.measured = Measured(choices=(self._readable.cpu() & ~sinks).sum(-1).double())

    def add(self, batch: HeadBatch, other: HeadBatch | None) -> None:
        weights = _floats(batch)
        device = weights.device
        self.sight, self.sinks = self.sight.to(device), self.sinks.to(device)
        self.sink_column = self.sink_column.to(device)
        self.measured.rows += len(weights)
        self._add_relative(weights, None if batch.tokens is None else batch.tokens.to(device))
        columns = self._columns(weights)
        self._add_columns(weights, columns)
        if batch.value_norms is not None:
            self._add_value_weighted(weights, batch.value_norms.to(device))
        places = {role: place.to(device).long() for role, place in batch.places.items()}
        self._add_places(columns, places)
        self._add_role_attention(weights, places)
        if other is not None:
            self._add_test(columns, places, other)

    def _add_relative(self, weights: _Weights, tokens: Int[Tensor, "rows length"] | None) -> None:
        scores = self.measured.scores
        for offset in (*self.offsets, 0):
            scores[_shift_name(offset)].add(shift(weights, self.sight, self.sinks, offset))
        if tokens is not None:
            scores["duplicate"].add(by_token(weights, self.sight, self.sinks, same_token(tokens)))
            scores["induction"].add(by_token(weights, self.sight, self.sinks, after_same_token(tokens)))

    @property
    def _readable(self) -> Bool[Tensor, "#layers 1 source"]:
        """Columns that enough queries see to be a broadcast."""
        return (self.sight.reader_counts >= self.least_readers)[:, None]

    def _columns(self, weights: _Weights) -> _Columns:
        means, uniform = column_means(weights, self.sight), self.sight.reader_uniform[:, None]
        without_sinks = best_column(means, uniform, self._readable & ~self.sinks)
        return _Columns(means, without_sinks, best_column(means, uniform, self._readable))

    def _add_columns(self, weights: _Weights, columns: _Columns) -> None:
        measured, uniform = self.measured, self.sight.reader_uniform[:, None]
        measured.scores["sink"].add(column_pattern(columns.means, uniform, self.sight, self.sink_column[None]))
        broadcast = column_pattern(columns.means, uniform, self.sight, columns.broadcast)
        measured.scores["broadcast"].add(broadcast)
        measured.scores["coverage"].add(coverage(weights, self.sight, columns.broadcast))
        evidence = weight_evidence(
            broadcast.mass / broadcast.queries, broadcast.uniform / broadcast.queries, broadcast.queries
        )
        found = columns.broadcast >= 0
        measured.picks.add(Pattern(evidence, torch.zeros_like(evidence), found.float()))
        positions = torch.arange(weights.shape[-1], device=weights.device)
        measured.columns.add(Pattern.share(columns.broadcast[..., None] == positions, found[..., None]))

    def _add_value_weighted(self, weights: _Weights, norms: Float[Tensor, "rows layers heads source"]) -> None:
        scores = self.measured.scores
        means, uniform = value_weighted(weights, norms, self.sight)
        column = best_column(means, uniform, self._readable & ~self.sinks)
        scores["value-weighted sink"].add(column_pattern(means, uniform, self.sight, self.sink_column[None]))
        scores["value-weighted broadcast"].add(column_pattern(means, uniform, self.sight, column))

    def _add_places(self, columns: _Columns, places: _Places) -> None:
        positions = torch.arange(columns.means.shape[-1], device=columns.means.device)
        for role, place in places.items():
            at, readable = place[:, None, None], self._readable_at(place)
            self.measured.at_role[role].add(Pattern.share(columns.broadcast == at, readable))
            self.measured.role_places[role].add(Pattern.share(at == positions, readable))

    def _readable_at(self, place: Int[Tensor, " rows"]) -> Bool[Tensor, "rows #layers 1"]:
        return self._readable[..., place].permute(2, 0, 1)

    def _add_role_attention(self, weights: _Weights, places: _Places) -> None:
        rows = torch.arange(len(weights), device=weights.device)
        for reader, query in places.items():
            uniform = self.sight.uniform[:, query].mT[..., None]
            for source, column in places.items():
                seen = self.sight.pairs[:, query, column].mT[..., None]
                read = weights[rows, :, :, query, column] * seen
                self.measured.role_attention[reader, source].add(Pattern(read, uniform * seen, seen.float()))

    def _add_test(self, columns: _Columns, places: _Places, other: HeadBatch) -> None:
        after = self._columns(_floats(other).to(columns.means.device))
        for role, place in places.items():
            new = other.places[role].to(place.device).long()
            old_at, new_at = place[:, None, None], new[:, None, None]
            moved = (old_at != new_at) & self._readable_at(place) & self._readable_at(new)
            followed = (columns.broadcast == old_at) & (after.broadcast == new_at)
            stayed = (columns.strongest == old_at) & (after.strongest == old_at)
            self.measured.followed[role].add(Pattern.share(followed, moved))
            self.measured.stayed[role].add(Pattern.share(stayed, moved))


def _checked_mask(visible: Bool[Tensor, "#layers query source"]) -> Bool[Tensor, "#layers query source"]:
    shape = tuple(visible.shape)
    if visible.dtype != torch.bool or len(shape) != 3 or shape[1] != shape[2] or 0 in shape:
        raise InputError(f"visible={visible.dtype} of shape {shape}: must be boolean, (layers or 1, length, length)")
    return visible


def _checked_offsets(offsets: Sequence[int] | None, sight: Sight) -> list[int]:
    """The offsets to try, the nearest first."""
    farthest = sight.pairs.shape[-1] - 1
    if offsets is None:
        near = range(1, min(_FARTHEST, farthest) + 1)
        both = [offset for distance in near for offset in (distance, -distance)]
        return [offset for offset in both if sight.pairs.diagonal(-offset, -2, -1).any()]
    if any(offset == 0 or abs(offset) > farthest for offset in offsets) or len(set(offsets)) < len(offsets):
        raise InputError(f"offsets={list(offsets)}: different whole numbers from 1 to {farthest} or their negatives")
    return sorted(offsets, key=lambda offset: (abs(offset), offset < 0))


@dataclass(frozen=True)
class _Form:
    """What all batches have in common."""

    layers: int
    heads: int
    tokens: bool
    value_norms: bool
    places: tuple[str, ...]


def _checked_form(batch: HeadBatch, sight: Sight, expected: _Form | None, name: str) -> _Form:
    """The form of `batch`; raises InputError unless that is the expected one and the batch attention within `sight`."""
    _check_shapes(batch, sight, name)
    _, layers, heads, length, _ = batch.weights.shape
    form = _Form(layers, heads, batch.tokens is not None, batch.value_norms is not None, tuple(sorted(batch.places)))
    if expected is not None and form != expected:
        raise InputError(f"{name}: a batch differs from the first one in {_differences(form, expected)}")
    for role, place in batch.places.items():
        if len(place) and not 0 <= int(place.min()) <= int(place.max()) < length:
            raise InputError(f"{name}: places[{role!r}] must be positions from 0 to {length - 1}")
    if len(batch.weights):
        if batch.value_norms is not None and not bool(batch.value_norms.min() >= 0):
            raise InputError(f"{name}: value_norms must be lengths, neither negative nor NaN")
        _check_weights(_floats(batch), sight.to(batch.weights.device), name, torch.finfo(batch.weights.dtype).eps)
    return form


def _differences(form: _Form, expected: _Form) -> str:
    names = [one.name for one in fields(_Form) if getattr(form, one.name) != getattr(expected, one.name)]
    return " and ".join(names)


def _check_shapes(batch: HeadBatch, sight: Sight, name: str) -> None:
    shape, length = tuple(batch.weights.shape), sight.visible.shape[-1]
    fits = len(shape) == 5 and shape[3:] == (length, length) and len(sight.visible) in (1, shape[1])
    if not (fits and shape[1] and shape[2] and batch.weights.is_floating_point()):
        raise InputError(
            f"{name}: weights of shape {shape} do not fit `visible` of shape {tuple(sight.visible.shape)}; "
            "must be floating point, (rows, layers, heads, length, length)"
        )
    allowed = {"tokens": (batch.tokens, (shape[0], length)), "value_norms": (batch.value_norms, (*shape[:3], length))}
    allowed |= {f"places[{role!r}]": (place, shape[:1]) for role, place in batch.places.items()}
    for what, (tensor, expected) in allowed.items():
        if tensor is not None and tuple(tensor.shape) != expected:
            raise InputError(f"{name}: {what} of shape {tuple(tensor.shape)}; must have {expected} like the weights")


def _check_weights(weights: _Weights, sight: Sight, name: str, precision: float) -> None:
    # Comparisons are false for NaN.
    if not bool(weights.min() >= 0):
        raise InputError(f"{name}: weights must be attention after the softmax, neither negative nor NaN")
    tolerance = max(_TOLERANCE, precision)
    sums, seen = weights.sum(-1), (weights * sight.visible[:, None]).sum(-1)
    if not bool(sums.max() <= 1 + tolerance):
        raise InputError(f"{name}: weights of a query sum to {float(sums.max()):.4g}; must be at most 1")
    if not bool((sums - seen).max() <= tolerance):
        raise InputError(f"{name}: weights of a query are {float((sums - seen).max()):.2g} on sources not in `visible`")
