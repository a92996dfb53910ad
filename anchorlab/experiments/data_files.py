"""The user's own rows: Parquet or JSON-lines files with the columns `input_ids` and `label` or `labels`."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from datasets import load_dataset
from datasets.exceptions import DatasetGenerationError
from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from tokenizers import Tokenizer

from anchorlab.engine import NOT_COUNTED
from anchorlab.errors import InputError

Integers = npt.NDArray[np.integer[Any]]

_LARGEST_TOKEN = 1_000_000
_NO_GROUP = "none"  # the empty name stands for all rows of a split
_KINDS = {".parquet": "parquet", ".jsonl": "json", ".json": "json"}


class FileRows(NamedTuple):
    """The rows of one split. `labels` has one entry a row, or one a token and `NOT_COUNTED` where none counts.

    Rows of fewer tokens than the longest end in zeros that do not count.
    """

    tokens: Integers
    labels: Integers
    groups: list[str]


def read_splits(path: Path) -> tuple[dict[str, FileRows], tuple[str, ...]]:
    """Every split of a folder or file, and the names of all groups (none if no row has one).

    Raises InputError for files that are not what they should be.
    """
    found = _load(path)
    if "train" not in found:
        raise InputError(f"data={str(path)!r}: no split 'train' (found {', '.join(map(str, found))})")
    splits = {str(split): _rows(table, f"data={str(path)!r}: split {str(split)!r}") for split, table in found.items()}
    if len({rows.labels.ndim for rows in splits.values()}) != 1:
        raise InputError(f"data={str(path)!r}: some splits have 'label', others 'labels'; all must have the same")
    names = tuple(sorted({name for rows in splits.values() for name in rows.groups}))
    return splits, () if names == (_NO_GROUP,) else names


def vocabulary_size(path: Path, splits: Mapping[str, FileRows]) -> int:
    """How many token ids there are: those of the folder's `tokenizer.json`, or up to the largest in the rows.

    Raises InputError for a tokenizer that cannot be read or has fewer tokens than the rows.
    """
    used = max(int(max(rows.tokens.max(), rows.labels.max())) for rows in splits.values()) + 1
    file = path / "tokenizer.json"
    if not file.is_file():
        return used
    try:
        size = Tokenizer.from_file(str(file)).get_vocab_size()
    except Exception as error:  # the library raises no narrower class
        raise InputError(f"data={str(path)!r}: tokenizer.json cannot be read ({error})") from None
    if size < used:
        raise InputError(f"data={str(path)!r}: rows hold token {used - 1}, but tokenizer.json only {size} tokens")
    return int(size)


def _load(path: Path) -> Mapping[Any, Any]:
    if path.is_file() and path.suffix not in _KINDS:
        raise InputError(f"data={str(path)!r}: must be a folder or a file ending in {', '.join(_KINDS)}")
    with _without_progress_bars():
        try:
            if path.is_file():
                return {"train": _load_file(path)}
            for suffix in (".parquet", ".jsonl"):  # the library itself would leave out splits of unusual names
                if (path / f"train{suffix}").is_file():
                    # Each by itself: not all splits need the same columns.
                    return {file.stem: _load_file(file) for file in sorted(path.glob(f"*{suffix}"))}
            return dict(load_dataset(str(path)))
        except (DatasetGenerationError, OSError, ValueError, TypeError, StopIteration) as error:
            lines = str(error.__cause__ or error).strip().splitlines() or ["it is empty"]
            reason = " … ".join(dict.fromkeys([lines[0], lines[-1]]))
            raise InputError(f"data={str(path)!r}: cannot be read ({reason})") from None


def _load_file(file: Path) -> Any:
    return load_dataset(_KINDS[file.suffix], data_files=str(file), split="train")


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    disabled = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not disabled:
            enable_progress_bars()


def _rows(table: Any, where: str) -> FileRows:
    columns = table.column_names
    if "input_ids" not in columns:
        raise InputError(f"{where}: no column 'input_ids' (found {', '.join(columns)})")
    given = [name for name in ("label", "labels") if name in columns]
    if len(given) != 1:
        problem = (
            "both columns 'label' and 'labels'"
            if given
            else f"no column 'label' or 'labels' (found {', '.join(columns)})"
        )
        raise InputError(
            f"{where}: {problem}; give 'label' (the token behind the row) or 'labels' (its tokens that count)"
        )
    if not len(table):
        raise InputError(f"{where}: has no rows")
    data = table.with_format("arrow")[:]
    names = table["group"] if "group" in columns else [None] * len(table)
    groups = [_NO_GROUP if name in (None, "") else str(name) for name in names]
    if given == ["label"]:
        return FileRows(*_one_label(data, where), groups)
    return FileRows(*_many_labels(data, where), groups)


def _one_label(data: Any, where: str) -> tuple[Integers, Integers]:
    tokens, lengths = _lists(data, "input_ids", where)
    if len(set(lengths.tolist())) != 1:
        raise InputError(f"{where}: every row of 'input_ids' must be a list of the same number of tokens")
    if pa.types.is_list(data["label"].type):
        raise InputError(f"{where}: every 'label' must be one token id")
    labels = _integers(data["label"], "label", where)
    _check_tokens(tokens, "input_ids", where)
    _check_tokens(labels, "label", where)
    return tokens.reshape(len(lengths), -1), labels


def _many_labels(data: Any, where: str) -> tuple[Integers, Integers]:
    tokens, lengths = _lists(data, "input_ids", where)
    labels, label_lengths = _lists(data, "labels", where)
    _check_tokens(tokens, "input_ids", where)
    if (row := _first(lengths != label_lengths)) is not None:
        raise InputError(
            f"{where}: row {row} has {lengths[row]} 'input_ids' and {label_lengths[row]} 'labels'; they must be as many"
        )
    padded, counting = _padded(tokens, lengths, 0), _padded(labels, lengths, NOT_COUNTED)
    counted = counting != NOT_COUNTED
    if (row := _first((counted & (counting != padded)).any(1))) is not None:
        raise InputError(
            f"{where}: row {row} has a label that is not the token at its place; give that token (nothing is shifted), "
            f"or {NOT_COUNTED} where none counts"
        )
    if (row := _first(~counted[:, 1:].any(1))) is not None:
        raise InputError(
            f"{where}: row {row} has no label that counts; at least one behind its first must not be {NOT_COUNTED}"
        )
    return padded, counting


def _lists(data: Any, name: str, where: str) -> tuple[Integers, Integers]:
    """All values of a column of lists, and the length of every list."""
    column, kinds = data[name], (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if not any(is_kind(column.type) for is_kind in kinds) or column.null_count:
        raise InputError(f"{where}: every row of {name!r} must be a list of token ids")
    return _integers(pc.list_flatten(column), name, where), pc.list_value_length(column).to_numpy().astype(np.int64)


def _integers(values: Any, name: str, where: str) -> Integers:
    if not pa.types.is_integer(values.type) or values.null_count:
        raise _wrong_tokens(name, where)
    found: Integers = values.to_numpy()
    return found


def _check_tokens(values: Integers, name: str, where: str) -> None:
    if not len(values) or values.min() < 0 or values.max() >= _LARGEST_TOKEN:
        raise _wrong_tokens(name, where)


def _wrong_tokens(name: str, where: str) -> InputError:
    return InputError(f"{where}: column {name!r} must hold integers from 0 to {_LARGEST_TOKEN - 1}")


def _first(wrong: npt.NDArray[np.bool_]) -> int | None:
    return int(wrong.argmax()) if wrong.any() else None


def _padded(values: Integers, lengths: Integers, filler: int) -> Integers:
    """Rows of those lengths, filled up on the right."""
    rows = np.full((len(lengths), lengths.max()), filler, np.int64)
    rows[np.arange(rows.shape[1]) < lengths[:, None]] = values
    return rows
