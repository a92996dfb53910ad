"""Pairs of a source and a target sentence as rows: the source, a separator, the target, an end token."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from datasets import load_dataset
from datasets.exceptions import DatasetGenerationError

from anchorlab.errors import InputError
from anchorlab.tasks.randomness import Stream

from .rows import TokenRows, answered

SEPARATOR, END = "<sep>", "<end>"


class Pair(NamedTuple):
    """A sentence, what it is to be translated into (words with spaces between them), and a group to report by."""

    source: str
    target: str
    group: str = ""


class Vocabulary:
    """Token ids of all words of some pairs: the separator 0, the end 1, then the words in alphabetical order.

    A word of the source and an equal one of the target are the same token.
    """

    def __init__(self, pairs: Iterable[Pair]):
        words = {word for pair in pairs for text in (pair.source, pair.target) for word in text.split()}
        self.names = (SEPARATOR, END, *sorted(words))
        self._ids = {name: index for index, name in enumerate(self.names)}

    def encode(self, text: str) -> list[int]:
        """The ids of the words; raises InputError for a word that no pair has."""
        try:
            return [self._ids[word] for word in text.split()]
        except KeyError as error:
            raise InputError(f"text={text!r}: {error.args[0]!r} is not in the vocabulary") from None

    def decode(self, tokens: Iterable[int]) -> str:
        """The words with these ids."""
        return " ".join(self.names[token] for token in tokens)

    def rows(self, pairs: Sequence[Pair]) -> TokenRows:
        """Rows `source <sep> target <end>` of which the target and the end count; groups if any pair has one."""
        prompts = [[*self.encode(pair.source), 0] for pair in pairs]
        answers = [[*self.encode(pair.target), 1] for pair in pairs]
        groups = [pair.group for pair in pairs]
        return answered(prompts, answers, groups if any(groups) else None)


def token_rows(splits: Mapping[str, Sequence[Pair]]) -> dict[str, TokenRows]:
    """The rows of all splits under one vocabulary."""
    vocabulary = Vocabulary(pair for pairs in splits.values() for pair in pairs)
    return {split: vocabulary.rows(pairs) for split, pairs in splits.items()}


def subset(pairs: Sequence[Pair], count: int, *name: str | int) -> list[Pair]:
    """`count` of the pairs in an order that `name` (such as a purpose and a seed) determines.

    Raises InputError if there are fewer.
    """
    if not 1 <= count <= len(pairs):
        raise InputError(f"count={count}: must be between 1 and the {len(pairs):,} pairs there are")
    return [pairs[index] for index in Stream("subset", *name).permutation(len(pairs))[:count]]


def read_lines(path: Path | str, parse: Callable[[str], Pair | None]) -> list[Pair]:
    """The pair of every line of a text file, empty lines left out.

    Raises InputError for a file that cannot be read and, with its number, for a line of which `parse` makes None.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"path={str(path)!r}: cannot be read ({error})") from None
    pairs = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        pair = parse(line)
        if pair is None:
            raise InputError(f"path={str(path)!r}: line {number} has another form: {line[:80]!r}")
        pairs.append(pair)
    return pairs


def read_hub(
    name: str, columns: Sequence[str], configuration: str | None = None, **options: Any
) -> dict[str, list[Pair]]:
    """The splits of a data set of the Hugging Face hub, or of a folder, whose `columns` are source, target(, group).

    `options` go to `datasets.load_dataset`. Raises InputError if it cannot be loaded, has other columns, or a row
    without a value.
    """
    try:
        found = load_dataset(name, configuration, **options)
    except (DatasetGenerationError, OSError, ValueError, RuntimeError) as error:
        first = (str(error.__cause__ or error).splitlines() or ["it is empty"])[0]
        raise InputError(f"name={name!r}: cannot be loaded ({first})") from None
    for split, table in found.items():
        if missing := set(columns) - set(table.column_names):
            raise InputError(f"name={name!r}: split {split!r} has no column {min(missing)!r}")
        for column in columns:
            if None in (values := table[column][:]):
                raise InputError(f"name={name!r}: split {split!r}, row {values.index(None)} has no {column!r}")
    return {
        str(split): [Pair(*map(str, values)) for values in zip(*(table[column] for column in columns), strict=True)]
        for split, table in found.items()
    }
