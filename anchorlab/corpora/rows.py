"""Rows of tokens with the labels that count, and their files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int

from anchorlab.errors import InputError
from anchorlab.files import replacing

NOT_COUNTED = -100

Tokens = Sequence[Sequence[int]] | Int[np.ndarray, "n length"]


@dataclass(frozen=True)
class TokenRows:
    """One split: rows of token ids, of one length or of different ones.

    `labels` has the form of `input_ids`: the token where it is to be predicted, `NOT_COUNTED` where it is not (prompt).
    `label` instead is one token a row, the one behind it; rows are then of one length. Neither: all tokens but the
    first count. `groups` names the group of each row, if there are any.
    """

    input_ids: Tokens
    labels: Tokens | None = None
    groups: Sequence[str] | None = None
    label: Sequence[int] | Int[np.ndarray, " n"] | None = None


def answered(
    prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], groups: Sequence[str] | None = None
) -> TokenRows:
    """Rows of a prompt and its answer, of which the answer counts."""
    pairs = list(zip(prompts, answers, strict=True))
    return TokenRows(
        input_ids=[[*prompt, *answer] for prompt, answer in pairs],
        labels=[[*[NOT_COUNTED] * len(prompt), *answer] for prompt, answer in pairs],
        groups=groups,
    )


def write(folder: Path | str, splits: Mapping[str, TokenRows], *, tokenizer: str | None = None) -> Path:
    """Write every split to `folder/SPLIT.parquet` with columns input_ids, labels (or label) and, with groups, group.

    `tokenizer` is the content of `tokenizer.json` beside them. Returns the folder, which `Experiment(data=…)` reads;
    one of the splits must then be `train`. Raises InputError for a split without rows, for labels or groups that are
    not as many as the rows, and for a folder with other splits or a tokenizer that would be read with these.
    """
    folder = Path(folder)
    tables = {split: _table(split, rows) for split, rows in splits.items()}
    own = {f"{split}.parquet" for split in splits} | ({"tokenizer.json"} if tokenizer is not None else set())
    if others := {path.name for path in (*folder.glob("*.parquet"), *folder.glob("tokenizer.json"))} - own:
        raise InputError(
            f"folder={str(folder)!r}: holds {min(others)} of other rows; remove it, or choose another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for split, table in tables.items():
        with replacing(folder / f"{split}.parquet") as temporary:
            pq.write_table(table, temporary)
    if tokenizer is not None:
        with replacing(folder / "tokenizer.json") as temporary:
            temporary.write_text(tokenizer, encoding="utf-8")
    return folder


def _table(split: str, rows: TokenRows) -> Any:
    count = len(rows.input_ids)
    if not count:
        raise InputError(f"{split}: has no rows")
    labels = rows.input_ids if rows.labels is None else rows.labels
    columns: dict[str, Any] = {"input_ids": rows.input_ids}
    columns |= {"labels": labels} if rows.label is None else {"label": rows.label}
    if rows.groups is not None:
        columns["group"] = rows.groups
    for name, values in columns.items():
        if len(values) != count:
            raise InputError(f"{split}: {count:,} rows of input_ids, but {len(values):,} of {name}")
    flat = ("label", "group")
    return pa.table({name: pa.array(values) if name in flat else _lists(values) for name, values in columns.items()})


def _lists(rows: Tokens) -> Any:
    lengths = np.fromiter((len(row) for row in rows), np.int64, len(rows))
    flat = rows.ravel() if isinstance(rows, np.ndarray) else np.concatenate([np.asarray(row, np.int64) for row in rows])
    offsets = np.concatenate([[0], lengths.cumsum()])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(flat.astype(np.int32)))
