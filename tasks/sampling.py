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


Order = Int[np.ndarray, " rows"]


def draw(task: Task, split: str, n: int, seed: int, *, start: int, unique: bool) -> Sample:
    """Return rows start..start+n-1; see `Task.sample`."""
    task.cells(split)
    n, seed, start = check_count("n", n, 1), check_count("seed", seed, 0), check_count("start", start, 0)
    if unique:
        check_unique(task, split, start + n, field="n")
    return draw_in_order(task, split, n, seed, start=start, order=unique_order(task, split, seed) if unique else None)


def draw_in_order(task: Task, split: str, n: int, seed: int, *, start: int, order: Order | None) -> Sample:
    """Return rows start..start+n-1, whose cells are those of the `order` of unique rows or, without one, random."""
    blocks = list(_blocks(task, split, n=n, seed=seed, start=start, order=order))
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


def check_unique(task: Task, split: str, rows: int, *, field: str) -> None:
    """Raise `InputError`, naming the field that says how many `rows`, if they cannot all have different cells."""
    if task.row_copies > 1:
        raise InputError(f"unique: this task repeats every row {task.row_copies} times; unique rows are not available")
    mix, cells = task._mix(split), task.cells(split)
    available = len(cells) if mix is None else _rows_until_exhausted(mix, cells)
    if rows > available:
        raise InputError(f"{field}: the {split} split has cells for {available} unique rows; {rows} are not available")


def _rows_until_exhausted(mix: Int[np.ndarray, " period"], cells: Cells) -> int:
    """Return how many rows of the repeated mix can be served before some variant runs out of cells."""
    limits = []
    for variant in np.unique(mix):
        places = np.nonzero(mix == variant)[0]
        periods, rest = divmod(int(cells.per_variant[variant]), len(places))
        limits.append(periods * len(mix) + int(places[rest]))
    return min(limits)


def _blocks(task: Task, split: str, *, n: int, seed: int, start: int, order: Order | None) -> Iterator[Sample]:
    stop, cells = start + n, task.cells(split)
    for index in range(start // BLOCK, (stop - 1) // BLOCK + 1):
        first = index * BLOCK
        stream = Stream(task.hash, split, seed, "rows" if order is None else "unique", index)
        if order is None:
            chosen = _choose(task, split, stream, first // task.row_copies, BLOCK // task.row_copies)
        else:
            chosen = order[first : first + BLOCK]
        yield task._make(cells, chosen, stream)[max(start - first, 0) : stop - first]


def _choose(task: Task, split: str, stream: Stream, first: int, count: int) -> Int[np.ndarray, " count"]:
    """Draw a cell for each row: among all, or among those of the variant that the task's mix gives to the row."""
    cells, mix, sums = task.cells(split), task._mix(split), task._weight_sums(split)
    if sums is not None:
        weighted: Int[np.ndarray, " count"] = np.searchsorted(sums, stream.units(count) * sums[-1], "right")
        return weighted
    if mix is None:
        return stream.below(len(cells), count)
    variant = mix[(first % len(mix) + np.arange(count)) % len(mix)]
    chosen: Int[np.ndarray, " count"] = cells.first_of_variant[variant] + stream.below(
        cells.per_variant[variant], count
    )
    return chosen


def unique_order(task: Task, split: str, seed: int) -> Order:
    """Return all cells in random order or, with a mix, for each row the next unused cell of its variant."""
    stream, mix, cells = Stream(task.hash, split, seed, "order"), task._mix(split), task.cells(split)
    if mix is None:
        return stream.permutation(len(cells))
    rows = _rows_until_exhausted(mix, cells)
    variants, order = np.resize(mix, rows), np.empty(rows, np.int64)
    for variant in np.unique(mix):
        places = np.nonzero(variants == variant)[0]
        own = stream.permutation(int(cells.per_variant[variant]))
        order[places] = cells.first_of_variant[variant] + own[: len(places)]
    return order
