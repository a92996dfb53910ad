"""Datasets on disk: sharded Parquet with a card, in constant memory, the same bytes for the same shard."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from anchorlab.errors import InputError
from anchorlab.files import replacing

from .base import Task
from .card import card_text
from .dataset import arrow_schema, arrow_table, check_sizes
from .progress import RowProgress
from .sampling import BLOCK, check_count, draw_in_order, unique_order

if TYPE_CHECKING:
    import pyarrow.parquet as pq

CARD = "README.md"
ROWS_AT_A_TIME = 10 * BLOCK
LARGEST_SHARDS = 99_999  # file names have five digits


def generate(
    task: Task,
    folder: str | Path,
    sizes: Mapping[str, int],
    seed: int = 0,
    *,
    shards: int = 1,
    shard: int | None = None,
    unique: bool = False,
) -> Path:
    """Write `sizes` rows per split to ``folder/data/{split}-{i}-of-{shards}.parquet`` and a card; return the folder.

    `datasets.load_dataset(folder)` opens it. The rows do not depend on the number of shards. With `shard` only that
    one (from 0) is written, so that several machines can fill one folder; the same shard has the same bytes wherever
    and whenever it is made (with the same pyarrow). Every file appears whole or not at all. With `unique` every cell
    occurs at most once in a split (the rows of ``Task.sample(..., unique=True)``).

    Raises `InputError`, before anything is written, for an unknown split, a size below 1 or, with `unique`, above the
    number of cells, a shard that does not exist, a folder that cannot be written to, and one that is not empty, unless
    it holds other shards of this very dataset.
    """
    sizes, folder = check_sizes(task, sizes, unique=unique), Path(folder)
    seed, shards = check_count("seed", seed, 0), check_count("shards", shards, 1)
    if shards > LARGEST_SHARDS:
        raise InputError(f"shards: {shards} is not allowed; allowed: 1..{LARGEST_SHARDS}")
    if shard is not None and check_count("shard", shard, 0) >= shards:
        raise InputError(f"shard: {shard} does not exist; allowed: 0..{shards - 1}")
    card = card_text(task, sizes, seed, shards, unique=unique)
    wanted = range(shards) if shard is None else [shard]
    with _refusing(folder):
        missing = _missing_files(folder, sizes, shards, wanted, card)
        _prepare(folder, card)
    orders = {split: unique_order(task, split, seed) if unique else None for split in sizes}
    with RowProgress(sum(stop - start for _, start, stop in missing.values())) as progress:
        for path, (split, start, stop) in missing.items():
            with replacing(path) as temporary, _writer(task, temporary) as writer:
                for first, end in _chunks(start, stop):
                    rows = draw_in_order(task, split, end - first, seed, start=first, order=orders[split])
                    writer.write_table(arrow_table(task, rows))
                    progress.advance(end - first)
    return folder


def _missing_files(
    folder: Path, sizes: Mapping[str, int], shards: int, wanted: range | list[int], card: str
) -> dict[Path, tuple[str, int, int]]:
    """Return the files to write with their split and rows; `InputError` if the folder holds anything else."""
    files = {
        (split, index): folder / "data" / f"{split}-{index:05d}-of-{shards:05d}.parquet"
        for split in sizes
        for index in range(shards)
    }
    found = _files_in(folder)
    strangers = found - set(files.values()) - {folder / CARD}
    if found and (strangers or not _same_card(folder, card)):
        raise InputError(
            f"out: {str(folder)!r} is not empty; "
            "allowed: a new or empty folder, or one with other shards of this dataset"
        )
    missing = {
        files[split, index]: (split, rows * index // shards, rows * (index + 1) // shards)
        for index in wanted
        for split, rows in sizes.items()
        if files[split, index] not in found
    }
    if not missing:
        raise InputError(f"out: {str(folder)!r} is not empty; it already holds everything that was asked for")
    return missing


def _files_in(folder: Path) -> set[Path]:
    """Return what the folder holds, without half-written files that a killed run left."""
    if not folder.exists():
        return set()
    if not folder.is_dir():
        raise InputError(f"out: {str(folder)!r} is a file; allowed: a folder")
    listed = {path for path in (*folder.iterdir(), *folder.glob("data/*")) if path != folder / "data"}
    return {path for path in listed if not (path.name.startswith(".") and path.name.endswith(".tmp"))}


def _same_card(folder: Path, card: str) -> bool:
    path = folder / CARD
    return path.is_file() and path.read_bytes() == card.encode()


@contextmanager
def _refusing(folder: Path) -> Iterator[None]:
    """Turn the system's refusal of a folder into an `InputError`; a full disk stays what it is."""
    try:
        yield
    except (OSError, ValueError) as error:
        if isinstance(error, InputError) or getattr(error, "errno", None) == errno.ENOSPC:
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"out: {str(folder)[:200]!r} cannot be written to ({reason}); allowed: a folder to write to"
        ) from None


def _prepare(folder: Path, card: str) -> None:
    (folder / "data").mkdir(parents=True, exist_ok=True)
    if not (folder / CARD).exists():
        with replacing(folder / CARD) as path:
            path.write_text(card, encoding="utf-8")


def _writer(task: Task, path: Path) -> pq.ParquetWriter:
    import pyarrow.parquet as pq

    return pq.ParquetWriter(path, arrow_schema(task), compression="zstd", compression_level=1)


def _chunks(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Cut rows start..stop-1 at multiples of the chunk size, where no block of rows has to be made twice."""
    while start < stop:
        end = min(stop, (start // ROWS_AT_A_TIME + 1) * ROWS_AT_A_TIME)
        yield start, end
        start = end
