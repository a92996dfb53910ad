"""Attention with known patterns, and its scores."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from anchorlab.analysis.heads import HeadBatch, HeadScores, causal, score_heads, sliding

LENGTH = 9
EVERYTHING = torch.ones(1, LENGTH, LENGTH, dtype=torch.bool)
MASKS = {"causal": causal(LENGTH), "sliding": sliding(LENGTH, 7), "everything": EVERYTHING}


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_attention(shape: Sequence[int], visible: torch.Tensor, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    logits = scale * torch.randn(*shape, generator=generator(seed))
    return logits.masked_fill(~visible, -torch.inf).softmax(-1)


def uniform(visible: torch.Tensor) -> torch.Tensor:
    return visible / visible.sum(-1, keepdim=True)


def reads(targets: torch.Tensor, length: int = LENGTH) -> torch.Tensor:
    """Attention [rows, 1, 1, query, source] of a head that reads one source; a query without one reads all evenly."""
    chosen = torch.eye(length)[targets.clamp(min=0)]
    return torch.where((targets >= 0)[..., None], chosen, uniform(causal(length)))[:, None, None]


def shifted(rows: int, offset: int, length: int = LENGTH) -> torch.Tensor:
    targets = torch.arange(length) - offset
    return reads(torch.where(targets < length, targets, -1).expand(rows, length), length)


def broadcast_from(positions: torch.Tensor, length: int = LENGTH) -> torch.Tensor:
    at = positions[:, None].expand(-1, length)
    return reads(torch.where(torch.arange(length) >= at, at, -1), length)


def scored(weights: torch.Tensor, visible: torch.Tensor | None = None, **fields: Any) -> HeadScores:
    options = {name: fields.pop(name) for name in ("offsets", "moved", "first_layer") if name in fields}
    mask = causal(weights.shape[-1]) if visible is None else visible
    return score_heads(lambda: [HeadBatch(weights, **fields)], visible=mask, **options)


def score(scores: HeadScores, name: str, *, layer: int = 1, head: int = 1) -> Any:
    table = scores.scores
    return table[(table["layer"] == layer) & (table["head"] == head) & (table["score"] == name)].iloc[0]


def kinds(scores: HeadScores) -> list[str]:
    return scores.kinds["kind"].tolist()


def tokens_of(rows: int, length: int = LENGTH, values: int = 4, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, values, (rows, length), generator=generator(seed))


def keys(rows: int, seed: int = 2) -> torch.Tensor:
    return torch.randint(0, 5, (rows,), generator=generator(seed))


def batched(batch: HeadBatch, sizes: Sequence[int]) -> list[HeadBatch]:
    edges = np.cumsum([0, *sizes])
    parts = []
    for start, stop in itertools.pairwise(edges):
        part = {name: getattr(batch, name)[start:stop] for name in ("weights", "tokens", "value_norms")}
        parts.append(HeadBatch(**part, places={role: place[start:stop] for role, place in batch.places.items()}))
    return parts
