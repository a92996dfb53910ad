"""The rows that an experiment trains on: drawn from an anchor task, or read from the user's files."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from datasets import load_dataset
from datasets.exceptions import DatasetGenerationError
from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from anchorlab import tasks
from anchorlab.analysis.pairs import swap_anchors, swapped_name, task_pairs
from anchorlab.engine import Rows
from anchorlab.errors import InputError

from .experiment import Experiment

Integers = npt.NDArray[np.integer[Any]]


_LARGEST_TOKEN = 1_000_000
_NO_GROUP = "none"  # the empty name stands for all rows of a split


class ExperimentData(NamedTuple):
    """The splits of one experiment, and the sizes that the network must have."""

    splits: Mapping[str, Rows]
    vocabulary_size: int
    length: int

    def digest(self) -> str:
        """A hash of all tokens and labels: whether two trainings saw the same rows."""
        content = sha256()
        for name, rows in sorted(self.splits.items()):
            content.update(name.encode())
            for values in (rows.tokens, rows.labels):
                content.update(values.numpy().tobytes())
        return content.hexdigest()[:16]


def load_data(experiment: Experiment) -> ExperimentData:
    """The rows of `experiment`; raises InputError for files that are not what they should be."""
    return _read(experiment) if experiment.data else _draw(experiment)


def _draw(experiment: Experiment) -> ExperimentData:
    task = tasks.create(experiment.task, experiment.preset, **experiment.task_fields)
    sizes = {"train": experiment.train_rows, "test": experiment.test_rows, "ood": experiment.ood_rows}
    splits = {}
    for split in task.splits:
        sample = task.sample(split, sizes[split], experiment.data_seed)
        exchanged = _exchanged(task, sample.tokens) if split == "ood" else None
        rows = _tensor(sample.tokens), _tensor(sample.label), _tensor(sample.group)
        splits[split] = Rows(*rows, task.group_names, exchanged)
    return ExperimentData(splits, task.vocabulary.size, task.length)


def _exchanged(task: tasks.Task, tokens: Integers) -> torch.Tensor | None:
    """The rows with their two anchors exchanged, if that gives pairs of the task and never the same row again."""
    pairs = task_pairs(task)
    if pairs is None or not pairs.exchangeable or any(pair == swapped_name(pair) for pair in pairs.unseen):
        return None
    return _tensor(swap_anchors(tokens, task.locate(tokens).anchor_positions))


def _read(experiment: Experiment) -> ExperimentData:
    assert experiment.data is not None
    path = Path(experiment.data)
    found = _load(path)
    if "train" not in found:
        raise InputError(f"data={str(path)!r}: no split 'train' (found {', '.join(map(str, found))})")
    columns = {str(split): _columns(table, path) for split, table in found.items()}
    names = tuple(sorted({name for _, _, groups in columns.values() for name in groups}))
    splits = {split: _rows(tokens, labels, groups, names) for split, (tokens, labels, groups) in columns.items()}
    if "test" not in splits:
        splits |= _hold_out(splits["train"], experiment)
    lengths = {rows.tokens.shape[1] for rows in splits.values()}
    if len(lengths) != 1:
        raise InputError(f"data={str(path)!r}: rows of all splits need one length, found {sorted(lengths)}")
    size = max(int(max(rows.tokens.max(), rows.labels.max())) for rows in splits.values()) + 1
    return ExperimentData(splits, size, lengths.pop())


def _load(path: Path) -> Mapping[Any, Any]:
    kinds = {".parquet": "parquet", ".jsonl": "json", ".json": "json"}
    if path.is_file() and path.suffix not in kinds:
        raise InputError(f"data={str(path)!r}: must be a folder or a file ending in {', '.join(kinds)}")
    with _without_progress_bars():
        try:
            if path.is_dir():
                return dict(load_dataset(str(path)))
            return dict(load_dataset(kinds[path.suffix], data_files=str(path)))
        except (DatasetGenerationError, OSError, ValueError, TypeError, StopIteration) as error:
            lines = str(error.__cause__ or error).strip().splitlines() or ["it is empty"]
            raise InputError(f"data={str(path)!r}: cannot be read ({lines[0]})") from None


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    disabled = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not disabled:
            enable_progress_bars()


def _columns(table: Any, path: Path) -> tuple[Integers, Integers, list[str]]:
    where = f"data={str(path)!r}"
    for column in ("input_ids", "label"):
        if column not in table.column_names:
            raise InputError(f"{where}: no column {column!r} (found {', '.join(table.column_names)})")
    if not len(table):
        raise InputError(f"{where}: a split has no rows")
    columns = table.with_format("numpy")
    tokens, labels = _array(columns["input_ids"]), _array(columns["label"])
    if tokens.ndim != 2 or tokens.dtype == object:
        raise InputError(f"{where}: every row of 'input_ids' must be a list of the same number of tokens")
    if labels.ndim != 1:
        raise InputError(f"{where}: every 'label' must be one token id")
    for name, values in (("input_ids", tokens), ("label", labels)):
        if values.dtype.kind not in "iu" or values.min() < 0 or values.max() >= _LARGEST_TOKEN:
            raise InputError(f"{where}: column {name!r} must hold integers from 0 to {_LARGEST_TOKEN - 1}")
    groups = table["group"] if "group" in table.column_names else [None] * len(labels)
    return tokens, labels, [_NO_GROUP if group in (None, "") else str(group) for group in groups]


def _array(column: Any) -> npt.NDArray[Any]:
    try:
        return np.asarray(column[:])
    except ValueError:
        return np.asarray(None)  # rows of different lengths: no array


def _rows(tokens: Integers, labels: Integers, groups: list[str], names: tuple[str, ...]) -> Rows:
    index = {name: number for number, name in enumerate(names)}
    numbers = np.array([index[group] for group in groups])
    return Rows(_tensor(tokens), _tensor(labels), _tensor(numbers), () if names == (_NO_GROUP,) else names)


def _tensor(values: Integers) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.int64))


def _hold_out(train: Rows, experiment: Experiment) -> dict[str, Rows]:
    count = min(experiment.test_rows, len(train.labels) // 10)
    if count == 0:
        raise InputError(f"data={experiment.data!r}: fewer than 10 rows and no split 'test'; give one of the two")
    key = int.from_bytes(sha256(f"hold out/{experiment.data_seed}".encode()).digest()[:16])
    order = torch.from_numpy(np.random.Generator(np.random.Philox(key=key)).permutation(len(train.labels)))

    def part(chosen: torch.Tensor) -> Rows:
        return Rows(train.tokens[chosen], train.labels[chosen], train.groups[chosen], train.group_names)

    return {"train": part(order[count:]), "test": part(order[:count])}
