"""Prompts from the user's own text: a text file, a table, or a dataset."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
from transformers import PreTrainedTokenizerBase

from anchorlab.errors import InputError
from anchorlab.tasks.randomness import Stream
from anchorlab.tasks.sampling import check_count
from anchorlab.validation import unknown_name

from .prompts import Prompt, PromptSet, encode, needed_tokenizer, prompt_from_ids

MOST_ROWS = 10_000  # of a source; a dataset on the Hub can be larger than any disk
COLUMNS = ("text", "input_ids")
FEWEST_TOKENS = 2  # the attention of a single token says nothing
_KINDS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
_HUB_NAME = re.compile(r"(?P<name>[\w-][\w.-]*(/[\w-][\w.-]*)?)(:(?P<configuration>.+))?")
_LARGEST_ID = 2**31 - 1
_LONGEST_REASON = 300


def text_prompts(
    source: str | Path,
    tokenizer: PreTrainedTokenizerBase | None,
    *,
    column: str | None = None,
    n: int | None = None,
    length: int | None = None,
    seed: int = 0,
) -> PromptSet:
    """Prompts from `source`, in its order.

    `source` is a `.txt` file in UTF-8, whose prompts are its paragraphs (blank lines separate them); a `.jsonl`,
    `.json`, `.csv` or `.parquet` file; a folder with a dataset; or the name of a dataset on the Hugging Face Hub,
    `owner/name` or `owner/name:configuration`. Tables have one prompt a row, in `column`: texts, or lists of token
    ids, which need no tokenizer and are taken as they are. By default it is `text` or else `input_ids`. Of several
    splits the first is read; of every source, the first 10,000 rows.

    Prompts are cut behind `length` tokens. Rows that are empty or have fewer than 2 tokens are left out. `n` of the
    others are drawn with `seed`, or all taken if there are no more or `n` is None. There are no answers, and the only
    place is `last`.

    Raises `InputError`, one line, for a source that is not there, cannot be read or has no prompt, a column that is
    not there or holds something else, and text without a tokenizer.
    """
    seed = check_count("seed", seed, 0)
    wanted = MOST_ROWS if n is None else check_count("n", n, 1)
    length = None if length is None else check_count("length", length, FEWEST_TOKENS)
    rows = _paragraphs(Path(source)) if Path(source).suffix == ".txt" else _column(str(source), column)
    largest = _LARGEST_ID if tokenizer is None else max(tokenizer.get_vocab().values())
    prompts: dict[int, Prompt] = {}
    for number in Stream("text prompts", seed).permutation(len(rows)).tolist():
        if len(prompts) == wanted:
            break
        ids = _ids(f"source={str(source)!r}: row {number + 1}", rows[number], tokenizer, largest)[:length]
        if len(ids) >= FEWEST_TOKENS:
            prompts[number] = prompt_from_ids(ids, tokenizer)
    if not prompts:
        raise InputError(f"source={str(source)!r}: it has no prompt of {FEWEST_TOKENS} tokens or more")
    cut = "" if length is None else f", cut behind {length} tokens"
    description = f"{len(prompts)} of {len(rows)} texts from {str(source)!r}{cut} (seed {seed})"
    return PromptSet("text", description, tuple(prompts[number] for number in sorted(prompts)))


def _ids(where: str, value: object, tokenizer: PreTrainedTokenizerBase | None, largest: int) -> list[int]:
    """The ids of a text, which are none if it is blank, or a list of ids itself."""
    if value is None:
        return []
    if isinstance(value, str):
        return encode(needed_tokenizer(tokenizer), value) if value.strip() else []
    if isinstance(value, list) and all(type(token) is int and 0 <= token <= largest for token in value):
        return value
    shown = f"a list with other values than ids from 0 to {largest}" if isinstance(value, list) else repr(value)
    raise InputError(f"{where} holds {shown}; a text or a list of token ids is needed")


def _paragraphs(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"source={str(path)!r}: not UTF-8 (byte {error.start}); save it in UTF-8") from None
    except OSError as error:
        raise InputError(f"source={str(path)!r}: cannot be read ({error.strerror})") from None
    return [paragraph.strip() for paragraph in re.split(r"\n\s*\n", text) if paragraph.strip()][:MOST_ROWS]


def _column(source: str, column: str | None) -> list[object]:
    """The values of one column of a table."""
    rows = _table(source)
    if not rows:
        raise InputError(f"source={source!r}: it has no rows")
    known = list(rows[0])
    if column is None:
        column = next((name for name in COLUMNS if name in known), None)
        if column is None:
            raise InputError(f"source={source!r}: no column {' or '.join(COLUMNS)}; choose from {', '.join(known)}")
    if column not in known:
        raise unknown_name("column", column, known)
    return [row[column] for row in rows]


def _table(source: str) -> list[Mapping[str, Any]]:
    """The first rows. Read as a stream: nothing is copied to a cache, and no more is loaded than is used."""
    path = Path(source)
    with _silently():
        try:
            return list(islice(_stream(source, path), MOST_ROWS))
        except InputError:
            raise
        except ConnectionError:
            raise InputError(
                f"source={source!r}: no such file or folder, and the Hugging Face Hub cannot be reached"
            ) from None
        except Exception as error:  # those of many readers, which have no class of their own
            words = " ".join(str(error.__cause__ or error).split()) or "it is empty"
            raise InputError(f"source={source!r}: cannot be read ({words[:_LONGEST_REASON]})") from None


def _stream(source: str, path: Path) -> Iterable[Mapping[str, Any]]:
    if path.suffix in _KINDS:
        if not path.is_file():
            raise InputError(f"source={source!r}: no such file")
        found = datasets.load_dataset(_KINDS[path.suffix], data_files=source, streaming=True)
    elif path.is_dir() and (path / "state.json").is_file():
        return datasets.load_from_disk(source).with_format(None)  # type: ignore[no-any-return]
    elif path.is_dir() and (path / "dataset_dict.json").is_file():
        found = datasets.load_from_disk(source).with_format(None)
    elif path.is_dir():
        found = datasets.load_dataset(source, streaming=True)
    elif not path.exists() and (hub := _HUB_NAME.fullmatch(source)):
        found = datasets.load_dataset(hub["name"], hub["configuration"], streaming=True)
    elif path.exists():
        raise InputError(f"source={source!r}: must be a folder or a file ending in .txt, {', '.join(_KINDS)}")
    else:
        raise InputError(f"source={source!r}: no such file or folder")
    return next(iter(found.values()))


@contextmanager
def _silently() -> Iterator[None]:
    """Without the library's progress bars and its own words on errors."""
    verbosity, bars = datasets.logging.get_verbosity(), datasets.utils.are_progress_bars_disabled()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    datasets.utils.disable_progress_bars()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(verbosity)
        if not bars:
            datasets.utils.enable_progress_bars()
