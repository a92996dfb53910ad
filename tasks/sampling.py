"""Rows by number: blocks of a fixed size, each with its own stream, cut to the rows that were asked for."""

from __future__ import annotations

import operator
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int

from anchorlab.errors import InputError

from .base import Sample, Task
from .cells import Cells
from .randomness import Stream

BLOCK = 10_000  # rows; changing it changes every dataset, so it belongs to GENERATOR_VERSION


def draw(task: Task, split: str, n: int, seed: int, *, start: int, unique: bool) -> Sample:
    """Return rows start..start+n-1; see `Task.sample`."""
    cells = task.cells(split)
    n, seed, start = check_count("n", n, 1), check_count("seed", seed, 0), check_count("start", start, 0)
    if unique:
        _check_unique(task, split, cells, start + n)
    blocks = list(_blocks(task, split, cells, n=n, seed=seed, start=start, unique=unique))
    if len(blocks) == 1:
        return blocks[0]
    names = ("tokens", "label", "key", "key_position", "anchors", "group")
    return Sample(*(np.concatenate([getattr(block, name) for block in blocks]) for name in names))


def check_count(field: str, value: int, smallest: int) -> int:
    """Return an integer that is at least `smallest`, or raise `InputError`."""
    try:
        number = operator.index(value)
    except TypeError:
        number = smallest - 1
    if number < smallest or isinstance(value, bool):
        raise InputError(f"{field}: {value!r} is not allowed; allowed: integers from {smallest}")
    return number


def _check_unique(task: Task, split: str, cells: Cells, rows: int) -> None:
    if task.row_copies > 1:
        raise InputError(f"unique: this task repeats every row {task.row_copies} times; unique rows are not available")
    mix = task._mix(split)
    available = len(cells) if mix is None else _rows_until_exhausted(mix, cells)
    if rows > available:
        raise InputError(f"n: the {split} split has cells for {available} unique rows; {rows} are not available")


def _rows_until_exhausted(mix: Int[np.ndarray, " period"], cells: Cells) -> int:
    """Return how many rows of the repeated mix can be served before some variant runs out of cells."""
    limits = []
    for variant in np.unique(mix):
        places = np.nonzero(mix == variant)[0]
        periods, rest = divmod(int(cells.per_variant[variant]), len(places))
        limits.append(periods * len(mix) + int(places[rest]))
    return min(limits)


def _blocks(task: Task, split: str, cells: Cells, *, n: int, seed: int, start: int, unique: bool) -> Iterator[Sample]:
    stop = start + n
    order = _unique_order(task, split, cells, seed) if unique else None
    for index in range(start // BLOCK, (stop - 1) // BLOCK + 1):
        first = index * BLOCK
        stream = Stream(task.hash, split, seed, "unique" if unique else "rows", index)
        if order is None:
            chosen = _choose(task._mix(split), cells, stream, first // task.row_copies, BLOCK // task.row_copies)
        else:
            chosen = order[first : first + BLOCK]
        yield task._make(cells, chosen, stream)[max(start - first, 0) : stop - first]


def _choose(
    mix: Int[np.ndarray, " period"] | None, cells: Cells, stream: Stream, first: int, count: int
) -> Int[np.ndarray, " count"]:
    """Draw a cell for each row: among all, or among those of the variant that the mix gives to the row."""
    if mix is None:
        return stream.below(len(cells), count)
    variant = mix[np.arange(first, first + count) % len(mix)]
    chosen: Int[np.ndarray, " count"] = cells.first_of_variant[variant] + stream.below(
        cells.per_variant[variant], count
    )
    return chosen


def _unique_order(task: Task, split: str, cells: Cells, seed: int) -> Int[np.ndarray, " rows"]:
    """Return all cells in random order or, with a mix, for each row the next unused cell of its variant."""
    stream, mix = Stream(task.hash, split, seed, "order"), task._mix(split)
    if mix is None:
        return stream.permutation(len(cells))
    rows = _rows_until_exhausted(mix, cells)
    variants, order = np.resize(mix, rows), np.empty(rows, np.int64)
    for variant in np.unique(mix):
        places = np.nonzero(variants == variant)[0]
        own = stream.permutation(int(cells.per_variant[variant]))
        order[places] = cells.first_of_variant[variant] + own[: len(places)]
    return order
