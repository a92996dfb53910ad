"""The way from key and anchors to the answer as a small graph: which edges between places does the answer need?"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from .attention_hooks import attention_modules
from .edits import AttentionEdit, NeverFired, outputs
from .interventions import Counterparts
from .places import is_role, ordered_names
from .run_table import row_dicts


@dataclass(frozen=True)
class PathGraph:
    """How key and anchors reach the answer.

    `edges` has the columns layer, source, target (names of places) and effect: the share of the logit difference that
    is lost when all edges from source to target are cut in this layer alone, the rest renormalised. `on_path` marks the
    edges of at least `least` on a way that begins at the key or an anchor and ends at the last position.
    """

    edges: pd.DataFrame
    places: tuple[str, ...]
    layers: int
    least: float
    pairs: int
    drawn: int

    @property
    def path(self) -> pd.DataFrame:
        """The edges on a way from key or anchors to the answer."""
        return self.edges[self.edges["on_path"]]


def path_graph(model: nn.Module, pairs: Counterparts, *, least: float = 0.1) -> PathGraph:
    """Cut the attention from every place to every other, one layer at a time, and follow what matters to the answer.

    A network may hold the same information in several places; then no single cut matters, and the graph says so by its
    small effects. Raises `NoAttentionError` for a model without attention.
    """
    layers, length = len(attention_modules(model)), pairs.tokens.shape[1]
    intact = pairs.difference(outputs(model, pairs.tokens)[0])
    places = ordered_names(pairs.names)
    rows = []
    for layer in range(1, layers + 1):
        for source in places:
            for target in places:
                edges = (pairs.names == target)[:, :, None] & (pairs.names == source)[:, None, :]
                edges &= ~np.eye(length, dtype=bool)
                try:
                    logits, _ = outputs(model, pairs.tokens, AttentionEdit(edges, (layer,), renormalise=True))
                except NeverFired:
                    continue
                rows.append((layer, source, target, pairs.lost(intact, logits)[0]))
    table = pd.DataFrame(rows, columns=["layer", "source", "target", "effect"])
    ends = set(pairs.names[:, -1])
    return PathGraph(
        table.assign(on_path=_on_path(table, least, ends)), tuple(places), layers, least, len(pairs.tokens), pairs.drawn
    )


def _on_path(table: pd.DataFrame, least: float, ends: Collection[str]) -> list[bool]:
    """Which edges of enough effect can be reached from key or anchors and lead on to an end."""
    strong = [row | {"index": index} for index, row in enumerate(row_dicts(table)) if row["effect"] >= least]
    reached: list[dict[str, Any]] = []
    for edge in sorted(strong, key=lambda row: int(row["layer"])):
        earlier = (one for one in reached if one["layer"] < edge["layer"])
        if is_role(edge["source"]) or any(one["target"] == edge["source"] for one in earlier):
            reached.append(edge)
    useful: list[dict[str, Any]] = []
    for edge in reversed(reached):
        later = (one for one in useful if one["layer"] > edge["layer"])
        if edge["target"] in ends or any(one["source"] == edge["target"] for one in later):
            useful.append(edge)
    chosen = {edge["index"] for edge in useful}
    return [index in chosen for index in range(len(table))]
