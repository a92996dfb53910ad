"""What every task has: parameters, a vocabulary, cells, samples, and an oracle that reads labels off the tokens."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from anchorlab.errors import InputError
from anchorlab.validation import unknown_name

from .cells import Cells, Variant, build_cells
from .leaks import LeakReport
from .operations import Operation
from .randomness import Stream
from .splits import HeldOutPairs, ModRemainder, Split
from .vocabulary import LARGEST_SIZE, Vocabulary, check_anchors, check_labels, vocabulary_size

if TYPE_CHECKING:
    from datasets import DatasetDict

STRICT = ConfigDict(extra="forbid")
GENERATOR_VERSION = 2  # part of every hash: raise it whenever the rows of some task change
LARGEST_LENGTH = 2048  # tokens a row; a block of rows then takes about 0.2 GB
Range = tuple[int, int]
DEFAULT_RANGE: Range = (20, 100)


@plain_dataclass(frozen=True)
class Sample:
    """Rows with their labels and what decided them. All arrays are int16."""

    tokens: Int[np.ndarray, "n length"]
    label: Int[np.ndarray, " n"]
    key: Int[np.ndarray, " n"]
    key_position: Int[np.ndarray, " n"]
    anchors: Int[np.ndarray, "n links"]
    group: Int[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, rows: slice) -> Sample:
        return Sample(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))


@plain_dataclass(frozen=True)
class Located:
    """What the oracle finds in the tokens alone."""

    key: Int[np.ndarray, " n"]
    key_position: Int[np.ndarray, " n"]
    anchors: Int[np.ndarray, "n links"]
    anchor_positions: Int[np.ndarray, "n links"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Task(ABC):
    """An anchor function with its vocabulary, row layout and splits.

    Ranges include both ends; positions count from 0.
    """

    numbers: Range = Field(default=DEFAULT_RANGE, description="range of the numbers that can be keys")
    noise: Range = Field(
        default=DEFAULT_RANGE,
        description="range of the numbers on irrelevant positions (sources: 20..99 or 20..100)",
    )
    vocabulary_size: int | None = Field(
        default=None, ge=2, le=LARGEST_SIZE, description="number of token ids; none: as many as are used"
    )
    modulus: int | None = Field(
        default=None,
        ge=1,
        le=LARGEST_SIZE,
        description="modulus of the mod-remainder split; none: the row length, as in section 12.5.1 (sources: 7, 8, 9)",
    )
    position_base: Literal[0, 1] = Field(
        default=0,
        description="number of the first position in the mod-remainder split: 0, or 1 as in x_1..x_n of section 12.5.1",
    )

    name: ClassVar[str]
    source: ClassVar[str]
    preset_fields: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def __post_init__(self) -> None:
        for field in ("numbers", "noise"):
            low, high = getattr(self, field)
            if not 1 <= low < high < LARGEST_SIZE:
                raise InputError(f"{field}: ({low}, {high}) is not allowed; allowed: 1 <= low < high < {LARGEST_SIZE}")
        if not self._uses_noise and self.noise != DEFAULT_RANGE:
            raise InputError(f"noise: {self.noise} has no effect in this task; its numbers all come from `numbers`")
        self._check()
        check_labels(self._operation_field, self._label_values)
        if not self._labels_are_anchors:
            check_anchors(
                self._anchor_field,
                self._anchors,
                numbers=self.numbers,
                noise=self._irrelevant,
                labels=self._label_values,
            )
        self.vocabulary  # noqa: B018  a given size that is too small is found here
        self._cells  # noqa: B018  an empty split is found here, before any work

    # -- what a kind of task defines --------------------------------------------------------------------------------

    @property
    @abstractmethod
    def length(self) -> int:
        """Number of tokens in a row."""

    _labels_are_anchors: ClassVar[bool] = False
    _uses_noise: ClassVar[bool] = True
    _operation_field: ClassVar[str] = "operations"  # what labels come from
    _anchor_field: ClassVar[str] = "anchor_ids"  # where the ids of the anchors come from
    _grid_fields: ClassVar[tuple[str, str, str]] = ("operations", "length", "numbers")  # what makes cells many

    def _check(self) -> None:  # noqa: B027  most kinds have something to check, some do not
        """Raise `InputError` for values that do not fit together."""

    @cached_property
    @abstractmethod
    def _anchors(self) -> Mapping[str, int]:
        """Ids of all anchors by name."""

    @cached_property
    @abstractmethod
    def _label_values(self) -> Int[np.ndarray, " values"]:
        """All labels that can occur."""

    @cached_property
    @abstractmethod
    def _variants(self) -> Sequence[Variant]:
        """The kinds of rows."""

    @cached_property
    @abstractmethod
    def _key_positions(self) -> Sequence[int]:
        """Where the key can be."""

    @property
    @abstractmethod
    def group_names(self) -> tuple[str, ...]:
        """Names of the groups that accuracy is reported by; `Sample.group` indexes them."""

    @abstractmethod
    def _fill(
        self, cells: Cells, chosen: Int[np.ndarray, " n"], stream: Stream
    ) -> tuple[Int[np.ndarray, "n length"], Int[np.ndarray, " n"]]:
        """Return tokens and labels of rows whose cells are `chosen`, the rest of each row being noise."""

    @abstractmethod
    def locate(self, tokens: Int[np.ndarray, "n length"]) -> Located:
        """Find key and anchors in the tokens alone. Raises `InputError` naming the first malformed row."""

    @abstractmethod
    def solve(self, tokens: Int[np.ndarray, "n length"]) -> Int[np.ndarray, " n"]:
        """Recompute the labels from the tokens alone, in plain arithmetic. Raises `InputError` like `locate`."""

    @property
    def _test_split(self) -> Split:
        return ModRemainder(self.modulus or self.length, self.position_base)

    @property
    def _held_out(self) -> HeldOutPairs | None:
        return None

    @property
    def _ood_keys(self) -> Literal["all", "test"]:
        return "all"

    @property
    def _possible(self) -> Bool[np.ndarray, "variants positions keys"] | None:
        return None

    def _mix(self, split: str) -> Int[np.ndarray, " period"] | None:
        """Return the variants of consecutive rows, repeated for ever, or None if all cells can be any row's."""
        return None

    def _weight_sums(self, split: str) -> Float[np.ndarray, " cells"] | None:
        """Return the cumulative weights that cells are drawn by, or None if they are drawn uniformly."""
        return None

    @property
    def row_copies(self) -> int:
        """Number of consecutive rows that share their tokens (1 except in a `statistical` construction)."""
        return 1

    def _make(self, cells: Cells, chosen: Int[np.ndarray, " n"], stream: Stream) -> Sample:
        """Return the rows whose cells are `chosen` (`row_copies` rows for each)."""
        tokens, label = self._fill(cells, chosen, stream)
        return Sample(
            tokens=tokens,
            label=label.astype(np.int16, copy=False),
            key=cells.key[chosen],
            key_position=cells.key_position[chosen],
            anchors=cells.anchors[chosen],
            group=cells.group[chosen],
        )

    @property
    def _completions(self) -> int | None:
        """Number of equally likely rows per cell, or None if they are not equally likely."""
        return None

    @property
    def single_anchors(self) -> Mapping[int, Operation]:
        """g(·; a) of eq. 13.2 by the id of the anchor a; empty unless every anchor acts on one number."""
        return {}

    @property
    def acts_left_to_right(self) -> bool:
        """Whether the first of several anchors acts first: g(g(x; a1); a2)."""
        return True

    # -- what follows from it ---------------------------------------------------------------------------------------

    @cached_property
    def _irrelevant(self) -> Range:
        """The range of the numbers on irrelevant positions."""
        return self.noise if self._uses_noise else self.numbers

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The meaning of every token id."""
        labels = int(self._label_values.min()), int(self._label_values.max())
        low, high = min(self.numbers[0], self._irrelevant[0]), max(self.numbers[1], self._irrelevant[1])
        largest = max(high, labels[1], *self._anchors.values())
        size = vocabulary_size(self.vocabulary_size, largest)
        return Vocabulary(size=size, anchors=dict(self._anchors), low=low, high=high, labels=labels)

    @cached_property
    def _cells(self) -> Mapping[str, Cells]:
        return build_cells(
            self._variants,
            self._key_positions,
            self.numbers,
            test=self._test_split,
            held_out=self._held_out,
            ood_keys=self._ood_keys,
            possible=self._possible,
            fields=self._grid_fields,
        )

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits: train, test and, if anchors are held out, ood."""
        return tuple(self._cells)

    def cells(self, split: str) -> Cells:
        """Return the cells that rows of `split` are drawn from; ``len`` counts them, the arrays list them."""
        if split not in self._cells:
            raise unknown_name("split", split, self._cells)
        return self._cells[split]

    def config(self) -> dict[str, Any]:
        """Return ``{"name", "fields"}`` in JSON types, enough for `from_config` to rebuild the task."""
        fields = {field.name: as_json(getattr(self, field.name)) for field in dataclasses.fields(self)}
        return {"name": self.name, "fields": fields}

    @property
    def resolved(self) -> dict[str, int]:
        """What `vocabulary_size` and `modulus` stand for where they are None."""
        values = {"vocabulary_size": self.vocabulary.size}
        if isinstance(self._test_split, ModRemainder):
            values["modulus"] = self._test_split.modulus
        return {name: value for name, value in values.items() if getattr(self, name) is None}

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the name, the fields and the generator's version: equal hashes make equal rows."""
        text = json.dumps({**self.config(), "generator": GENERATOR_VERSION}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def sample(self, split: str, n: int, seed: int = 0, *, start: int = 0, unique: bool = False) -> Sample:
        """Return rows start..start+n-1 of the endless sequence that (task, split, seed) defines.

        Row r depends on nothing else, so any n and start give the same rows. With `unique` every cell occurs at most
        once (a sequence of its own). Raises `InputError` for an unknown split, n < 1, a negative seed or start, and,
        with `unique`, more rows than cells.
        """
        from .sampling import draw

        return draw(self, split, n, seed, start=start, unique=unique)

    def leak_report(self) -> LeakReport:
        """Return what the splits share: cells (counted) and whole rows (by argument)."""
        return LeakReport.of(self._cells, self._completions, self.row_copies)

    def to_dataset(self, sizes: Mapping[str, int], seed: int = 0, *, unique: bool = False) -> DatasetDict:
        """Return a `datasets.DatasetDict` in memory with `sizes` rows per split; columns and rows as in `generate`."""
        from .dataset import to_dataset

        return to_dataset(self, sizes, seed, unique=unique)

    def generate(
        self,
        folder: str | Path,
        sizes: Mapping[str, int],
        seed: int = 0,
        *,
        shards: int = 1,
        shard: int | None = None,
        unique: bool = False,
    ) -> Path:
        """Write sharded Parquet with a dataset card; see `anchorlab.tasks.generate`."""
        from .generate import generate

        return generate(self, folder, sizes, seed, shards=shards, shard=shard, unique=unique)


def as_json(value: object) -> Any:
    """Return a field's value with lists for tuples, at every depth."""
    if isinstance(value, Mapping):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [as_json(item) for item in value]
    return value


def check_tokens(task: Task, tokens: Int[np.ndarray, "n length"]) -> Int[np.ndarray, "n length"]:
    """Return the tokens as an integer array; `InputError` if they are not rows of the task's length."""
    tokens = np.asarray(tokens)
    if tokens.ndim != 2 or tokens.shape[1] != task.length or not np.issubdtype(tokens.dtype, np.integer):
        raise InputError(f"tokens: an array of shape {tokens.shape} is not allowed; rows of {task.length} integers are")
    return tokens


def check_rows(correct: Bool[np.ndarray, " n"], problem: str) -> None:
    """Raise `InputError` naming the first row that is not `correct`."""
    if not correct.all():
        raise InputError(f"tokens: row {int(np.argmin(correct))} {problem}")


def is_number(task: Task, values: Int[np.ndarray, "*shape"]) -> Bool[np.ndarray, "*shape"]:
    """Return which values lie in the task's range of numbers."""
    low, high = task.numbers
    return (values >= low) & (values <= high)


def find_anchors(
    tokens: Int[np.ndarray, "n length"], ids: Sequence[int], count: int
) -> tuple[Int[np.ndarray, "n count"], Int[np.ndarray, "n count"]]:
    """Return ids and positions of the anchors of each row; `InputError` if a row does not have `count` of them."""
    found = np.isin(tokens, np.array(ids))
    check_rows(found.sum(axis=1) == count, f"does not have exactly {count} anchor(s) among the ids {sorted(ids)}")
    positions = np.nonzero(found)[1].reshape(len(tokens), count)
    return np.take_along_axis(tokens, positions, axis=1), positions
