"""Anchor pairs: those of a task, the names of those in sample rows, and the same rows with the anchors exchanged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from anchorlab.tasks import Task


@dataclass(frozen=True)
class TaskPairs:
    """All ordered anchor pairs of a task, named `first,second`: those of its training split and all others."""

    seen: frozenset[str]
    unseen: frozenset[str] = frozenset()

    @property
    def exchangeable(self) -> bool:
        """Whether every pair's exchange is a pair too (not so if first and second anchors differ in kind)."""
        pairs = self.seen | self.unseen
        return {swapped_name(pair) for pair in pairs} == pairs


def task_pairs(task: Task) -> TaskPairs | None:
    """The pairs of a task, from its cells (sampled rows may miss some); None if its rows do not hold two anchors."""
    by_split = {split: _pairs_of(task, split) for split in task.splits}
    if any(pairs is None for pairs in by_split.values()):
        return None
    seen = by_split["train"] or frozenset()
    return TaskPairs(seen, frozenset().union(*(pairs or () for pairs in by_split.values())) - seen)


def _pairs_of(task: Task, split: str) -> frozenset[str] | None:
    cells = task.cells(split)
    if cells.anchors.shape[1] != 2:
        return None
    one_of_each = cells.first_of_variant[cells.per_variant > 0]
    return frozenset(pair_names(cells.anchors[one_of_each], task.vocabulary.anchors))


def swap_anchors(
    tokens: Int[np.ndarray, "n length"], anchor_positions: Int[np.ndarray, "n 2"]
) -> Int[np.ndarray, "n length"]:
    """A copy of `tokens` with the two anchors of every row exchanged; key and noise stay where they are."""
    swapped = tokens.copy()
    rows = np.arange(len(tokens))
    first, second = anchor_positions.T
    swapped[rows, first], swapped[rows, second] = tokens[rows, second], tokens[rows, first]
    return swapped


def pair_names(anchors: Int[np.ndarray, "n 2"], anchor_ids: Mapping[str, int]) -> list[str]:
    """The ordered pair of every row as `first,second`, in the anchors' own names."""
    names = {token: name for name, token in anchor_ids.items()}
    return [f"{names[first]},{names[second]}" for first, second in anchors.tolist()]


def swapped_name(pair: str) -> str:
    """`second,first` of the pair `first,second`."""
    first, second = pair.split(",")
    return f"{second},{first}"


def unordered_name(pair: str) -> str:
    """The same name for `a,b` and `b,a`: the two anchors in alphabetical order."""
    return ",".join(sorted(pair.split(",")))
