"""Samples as Arrow tables and as `datasets.DatasetDict`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from anchorlab.errors import InputError

from .base import Sample, Task
from .sampling import check_count, check_unique

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import DatasetDict

COLUMNS = {
    "input_ids": "token ids of the row",
    "label": "token id that belongs after the row",
    "key_position": "position of the key, from 0",
    "key": "token id of the key",
    "anchors": "token ids of the anchors that decide the label",
    "group": "what accuracy is reported by",
}


def check_sizes(task: Task, sizes: Mapping[str, int], *, unique: bool = False) -> dict[str, int]:
    """Return the sizes in the order of the task's splits.

    Raises `InputError` for an unknown split, less than one row and, with `unique`, more rows than cells.
    """
    if not sizes:
        raise InputError(f"sizes: no split is given; allowed: {', '.join(task.splits)}")
    for split, rows in sizes.items():
        task.cells(split)
        check_count(split, rows, 1)
        if unique:
            check_unique(task, split, int(rows), field=split)
    return {split: int(sizes[split]) for split in task.splits if split in sizes}


def arrow_schema(task: Task) -> pa.Schema:
    """Return the Arrow schema of the exported columns."""
    import pyarrow as pa

    links = task.cells("train").anchors.shape[1]
    return pa.schema(
        {
            "input_ids": pa.list_(pa.int16(), task.length),
            "label": pa.int16(),
            "key_position": pa.int16(),
            "key": pa.int16(),
            "anchors": pa.list_(pa.int16(), links),
            "group": pa.string(),
        }
    )


def arrow_table(task: Task, sample: Sample) -> pa.Table:
    """Return the sample as an Arrow table with the exported columns."""
    import pyarrow as pa

    def rows(values: np.ndarray) -> Any:
        flat = pa.array(np.ascontiguousarray(values, np.int16).reshape(-1))
        return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])

    columns = [
        rows(sample.tokens),
        pa.array(sample.label),
        pa.array(sample.key_position),
        pa.array(sample.key),
        rows(sample.anchors),
        pa.array(task.group_names, pa.string()).take(pa.array(sample.group)),
    ]
    return pa.Table.from_arrays(columns, schema=arrow_schema(task))


def to_dataset(task: Task, sizes: Mapping[str, int], seed: int = 0, *, unique: bool = False) -> DatasetDict:
    """Return the splits in memory; see `Task.to_dataset`. Raises `InputError` like `check_sizes`."""
    from datasets import Dataset, DatasetDict

    tables = {
        split: arrow_table(task, task.sample(split, rows, seed, unique=unique))
        for split, rows in check_sizes(task, sizes, unique=unique).items()
    }
    return DatasetDict({split: Dataset(table) for split, table in tables.items()})
