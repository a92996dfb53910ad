"""Attention edits (section 13.4, fig. 13.7): remove edges between positions from chosen layers and heads.

An edge leads from a source position to the position that reads it. Edges are named by what stands there: `from key`,
`from second anchor`, `to last`, `from key to anchor 2`. A position's edge to itself always stays: its own token reaches
it through the residual stream anyway.

Both edits of the literature exist, and they differ. Zeroing a weight after the softmax, as in fig. 13.7, takes away
what was read but leaves the other weights as they were, and these still tell, through the softmax, how large the
removed one was. Renormalising the rest is the same as masking before the softmax: only then does nothing of the source
get through.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from anchorlab.errors import InputError

from .attention_hooks import AttentionHook, attention_modules, heads_of, hooked_attention
from .places import Places
from .predictions import batches, evaluating

_WORDS = re.compile(r"(?:from (?P<source>.+?))?(?:(?:^| )to (?P<target>.+))?")
_ORDINALS = {"first": 1, "second": 2, "third": 3, "fourth": 4}


class NeverFired(InputError):
    """An edit met no attention weight on any of its edges."""


@dataclass(frozen=True)
class AttentionEdit:
    """Edges to remove from the layers and heads given (numbered from 1; None: from all).

    With `renormalise` the remaining weights of a row are scaled back to a sum of 1; otherwise the row loses mass.
    """

    edges: Bool[np.ndarray, "#n query source"]
    layers: tuple[int, ...] | None = None
    heads: tuple[int, ...] | None = None
    renormalise: bool = False


@dataclass
class EditRecord:
    """What edits did: for every layer and head (from 1) how many edges they removed, and the mass these had had.

    An edge without weight (a later position, or one outside a sliding window) does not count as removed.
    """

    removed: dict[tuple[int, int], tuple[int, float]] = field(default_factory=dict)

    def add(self, layer: int, head: int, edges: int, mass: float) -> None:
        """Count edges removed from one head."""
        before = self.removed.get((layer, head), (0, 0.0))
        self.removed[layer, head] = before[0] + edges, before[1] + mass

    @property
    def fired(self) -> int:
        """Number of removed edges over all rows, layers and heads."""
        return sum(edges for edges, _ in self.removed.values())

    @property
    def mass(self) -> float:
        """Sum of the weights that they had had."""
        return sum(mass for _, mass in self.removed.values())

    def table(self) -> pd.DataFrame:
        """One row per edited layer and head: layer, head, edges, mass."""
        rows = [(layer, head, edges, mass) for (layer, head), (edges, mass) in sorted(self.removed.items())]
        return pd.DataFrame(rows, columns=["layer", "head", "edges", "mass"])


def select_edges(places: Places, length: int, words: str) -> Bool[np.ndarray, "n query source"]:
    """The edges that `words` name, in every row: `from ROLE`, `to ROLE` or `from ROLE to ROLE`.

    Roles are those of `places`, such as `key`, `anchor 2` (also `second anchor`) and `last`. Raises `InputError` for
    other words and for a role that the rows do not have.
    """
    match = _WORDS.fullmatch(words.strip())
    if not words.strip() or match is None:
        raise InputError(f"edges={words!r}: must read `from ROLE`, `to ROLE` or `from ROLE to ROLE`")
    everywhere = np.arange(length)
    source, target = (
        np.ones((1, length), bool) if role is None else everywhere == _find(places, role, words)[:, None]
        for role in (match["source"], match["target"])
    )
    edges: Bool[np.ndarray, "n query source"] = target[:, :, None] & source[:, None, :] & ~np.eye(length, dtype=bool)
    return edges


def _find(places: Places, role: str, words: str) -> Int[np.ndarray, " n"]:
    ordinal, _, kind = role.partition(" ")
    name = f"{kind} {_ORDINALS[ordinal]}" if ordinal in _ORDINALS else role
    if name not in places:
        raise InputError(f"edges={words!r}: the rows have no {role!r}; known: {', '.join(places)}")
    return places[name]


@contextmanager
def edited_attention(model: nn.Module, *edits: AttentionEdit) -> Iterator[EditRecord]:
    """Apply edits to every forward pass inside the block; an edit's edges have one row, or as many as the input.

    Raises:
        NoAttentionError: the model has no attention.
        InputError: a layer or head that the model does not have.
        NeverFired: at the end, if an edit removed no weight at all.
    """
    with _cutting(model, edits) as cuts:
        yield cuts.record


def outputs(
    model: nn.Module,
    tokens: Int[np.ndarray, "n length"],
    *edits: AttentionEdit,
    hidden: bool = False,
    batch: int = 512,
) -> tuple[Float[Tensor, "n width"], EditRecord]:
    """Logits (or, with `hidden`, last hidden states) at the last position under edits, and what the edits did.

    Raises as `edited_attention` does; `ValueError` if there are no rows.
    """
    for edit in edits:
        if len(edit.edges) not in (1, len(tokens)):
            raise InputError(f"edges: {len(edit.edges)} rows given for {len(tokens)} rows of tokens; one, or as many")
    parts = []
    with evaluating(model), _cutting(model, edits) as cuts:
        for start, rows in batches(model, tokens, batch):
            cuts.select(slice(start, start + len(rows)))
            found = model(input_ids=rows, output_hidden_states=hidden)
            parts.append((found.hidden_states[-1] if hidden else found.logits)[:, -1].float().cpu())
    return torch.cat(parts), cuts.record


@dataclass(frozen=True)
class _Cuts:
    each: tuple[_Cut, ...]
    record: EditRecord

    def select(self, rows: slice) -> None:
        for cut in self.each:
            cut.rows = rows


@contextmanager
def _cutting(model: nn.Module, edits: Sequence[AttentionEdit]) -> Iterator[_Cuts]:
    layers = len(attention_modules(model)) if edits else 0
    for edit in edits:
        _check_numbers("layers", edit.layers, layers)
        _check_numbers("heads", edit.heads, heads_of(model))
    total = EditRecord()
    cuts = _Cuts(tuple(_Cut(edit, total) for edit in edits), total)
    with hooked_attention(model, *cuts.each) if edits else nullcontext():
        yield cuts
    for cut in cuts.each:
        if cut.record.fired == 0:
            raise NeverFired(
                f"edges: none of them carries weight in layers {cut.edit.layers or 'all'}, heads "
                f"{cut.edit.heads or 'all'}; an edge leads from an earlier (source) to a later position"
            )


def _check_numbers(name: str, given: Sequence[int] | None, count: int) -> None:
    if given is None:
        return
    for number in given:
        if not 1 <= number <= count:
            raise InputError(f"{name}={tuple(given)}: {number} is not allowed; the model has 1 to {count}")
    if not given or len(set(given)) < len(given):
        raise InputError(f"{name}={tuple(given)}: must name at least one, and none twice; None means all")


class _Cut(AttentionHook):
    def __init__(self, edit: AttentionEdit, total: EditRecord):
        self.edit, self.total, self.record = edit, total, EditRecord()
        self.edges = torch.from_numpy(edit.edges)
        self.rows = slice(None)

    def weights(self, layer: int, value: Tensor, weights: Tensor) -> Tensor:
        if self.edit.layers is not None and layer + 1 not in self.edit.layers:
            return weights
        heads = range(weights.shape[1]) if self.edit.heads is None else [head - 1 for head in self.edit.heads]
        cut = torch.zeros_like(weights, dtype=torch.bool)
        cut[:, heads] = self._edges(weights)[:, None]
        mass = torch.where(cut, weights, 0).float()
        for head in heads:
            for record in (self.record, self.total):
                record.add(layer + 1, head + 1, int((mass[:, head] > 0).sum()), float(mass[:, head].sum()))
        left = weights.masked_fill(cut, 0)
        if not self.edit.renormalise:
            return left
        total = left.sum(dim=-1, keepdim=True)
        return torch.where(cut.any(dim=-1, keepdim=True) & (total > 0), left / total, left)

    def _edges(self, weights: Tensor) -> Tensor:
        edges = self.edges if len(self.edges) == 1 else self.edges[self.rows]
        if len(edges) not in (1, len(weights)) or edges.shape[1:] != weights.shape[2:]:
            raise InputError(
                f"edges: shape {tuple(edges.shape)} does not fit attention weights of shape {tuple(weights.shape)}"
            )
        return edges.to(weights.device)
