"""The rows that an experiment trains on: drawn from an anchor task, or read from the user's files."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from anchorlab import tasks
from anchorlab.analysis.pairs import swap_anchors, swapped_name, task_pairs
from anchorlab.engine import Rows
from anchorlab.errors import InputError

from .data_files import FileRows, Integers, read_splits, vocabulary_size
from .experiment import Experiment


class ExperimentData(NamedTuple):
    """The splits of one experiment, and the sizes that the network must have."""

    splits: Mapping[str, Rows]
    vocabulary_size: int
    length: int

    @property
    def has_labels_inside(self) -> bool:
        """Whether labels are tokens of the rows (column `labels`), not one token behind each."""
        return self.splits["train"].labels.ndim == 2

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
    found, names = read_splits(path)
    splits = {split: _rows(rows, names) for split, rows in found.items()}
    if "test" not in splits:
        splits |= _hold_out(splits["train"], experiment)
    lengths = {rows.tokens.shape[1] for rows in splits.values()}
    data = ExperimentData(splits, vocabulary_size(path, found), max(lengths))
    if len(lengths) != 1 and not data.has_labels_inside:
        raise InputError(f"data={str(path)!r}: rows of all splits need one length, found {sorted(lengths)}")
    return data


def _rows(rows: FileRows, names: tuple[str, ...]) -> Rows:
    index = {name: number for number, name in enumerate(names)}
    numbers = np.array([index.get(group, 0) for group in rows.groups])
    return Rows(_tensor(rows.tokens), _tensor(rows.labels), _tensor(numbers), names)


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
