"""Problems whose data are rows of tokens: splits, the order of batches, and means over rows and groups.

What the loss reads, the label behind a row (`sequences`) or tokens inside it (`language`), is not decided here.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.func import functional_call
from transformers import PreTrainedModel

from anchorlab.errors import InputError

from .memory import sent
from .problem import Measurement, Parameters
from .store import save_member

Found = tuple[str, str, float]
"""A group, a metric and its value."""


@dataclass(frozen=True)
class Rows:
    """One split: token ids and labels of its rows; `groups` are indices into `group_names`, unused if that is empty.

    `labels` holds one token a row, which follows it, or one entry a position (see `LanguageProblem`).
    `exchanged`, if given, holds the same rows with the two anchors in each other's place; the fraction of rows that
    are answered alike in both forms is then recorded as `commutativity` (section 13.3).
    """

    tokens: Int[Tensor, "n length"]
    labels: Int[Tensor, "n *length"]
    groups: Int[Tensor, " n"]
    group_names: tuple[str, ...]
    exchanged: Int[Tensor, "n length"] | None = None

    def head(self, n: int | None) -> "Rows":
        """The first `n` rows."""
        exchanged = None if self.exchanged is None else self.exchanged[:n]
        return Rows(self.tokens[:n], self.labels[:n], self.groups[:n], self.group_names, exchanged)


@dataclass(frozen=True)
class SequenceMember:
    """What one member trains on and how it starts.

    `splits` holds at least `train`; every split is evaluated, of `train` the first `evaluation_rows`. Members may
    share one `splits` object, which is then kept once. `initialize` draws the weights of the module it is given.
    """

    splits: Mapping[str, Rows]
    initialize: Callable[[PreTrainedModel], None]
    order_seed: int


class SequenceBatch(NamedTuple):
    """The rows of one optimizer step."""

    tokens: Int[Tensor, "member batch length"]
    labels: Int[Tensor, "member batch *length"]


class RowProblem(ABC):
    """Batches, weights and measurements of members of one architecture that train on rows of tokens.

    Epochs are permutations of the training rows cut into whole batches; the rows of an incomplete last batch are left
    out of that epoch. The order depends only on (order seed, epoch). Raises InputError for members whose splits differ
    in name, size or names of groups, and for a batch of more rows than there are.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        members: Sequence[SequenceMember],
        *,
        batch_size: int | None,
        evaluation_rows: int | None = None,
        device: torch.device | str = "cpu",
    ):
        rows = _common_sizes(members)["train"]
        self.batch_size = rows if batch_size is None else batch_size
        if not 1 <= self.batch_size <= rows:
            raise InputError(f"batch_size={batch_size}: must be between 1 and the {rows} training rows")
        self.members = len(members)
        self.steps_per_epoch = rows // self.batch_size
        self._rows = rows
        self._model = model
        self._members = members
        self._device = torch.device(device)
        distinct = {id(member.splits): member.splits for member in members}
        places = {key: index for index, key in enumerate(distinct)}
        self._data_of = [places[id(member.splits)] for member in members]
        self._splits = {
            name: DataSets(
                [splits[name].head(evaluation_rows if name == "train" else None) for splits in distinct.values()],
                self._device,
            )
            for name in members[0].splits
        }
        train = [splits["train"] for splits in distinct.values()]
        self._tokens = compact([rows.tokens for rows in train], self._device)
        self._labels = compact([rows.labels for rows in train], self._device)
        self._seeds = sorted({member.order_seed for member in members})
        self._epoch = -1
        self._chosen: tuple[int, ...] = ()

    def initialize(self, member: int) -> dict[str, Tensor]:
        """Fresh parameters of one member, in the layout of the module."""
        self._members[member].initialize(self._model)
        return {name: parameter.detach().clone() for name, parameter in self._model.named_parameters()}

    def batch(self, members: Sequence[int], step: int) -> SequenceBatch:
        """Rows of optimizer step `step` for every member."""
        self._choose(members)
        if self.batch_size == self._rows:
            return SequenceBatch(self._tokens[self._data].long(), self._labels[self._data].long())
        self._draw_orders(step // self.steps_per_epoch)
        start = step % self.steps_per_epoch * self.batch_size
        rows = self._orders[self._order, start : start + self.batch_size]
        data = self._data[:, None]
        return SequenceBatch(self._tokens[data, rows].long(), self._labels[data, rows].long())

    def _choose(self, members: Sequence[int]) -> None:
        """Which data set and which order each member has, as tensors on the device."""
        if self._chosen != tuple(members):
            self._chosen = tuple(members)
            self._data = torch.tensor([self._data_of[member] for member in members], device=self._device)
            orders = [self._seeds.index(self._members[member].order_seed) for member in members]
            self._order = torch.tensor(orders, device=self._device)

    def _draw_orders(self, epoch: int) -> None:
        """The order of the rows in `epoch`, one line for every order seed."""
        if epoch == self._epoch:
            return
        orders = torch.stack([epoch_order(seed, epoch, self._rows) for seed in self._seeds])
        self._orders: Int[Tensor, "seed n"] = sent(orders, self._device)
        self._epoch = epoch

    def evaluate(self, parameters: Parameters, members: Sequence[int]) -> list[Measurement]:
        """Every metric of every split, over all rows (group "") and by group."""
        self._choose(members)
        data = self._data
        return [
            Measurement(member, split, *found)
            for split, sets in self._splits.items()
            for member, measured in zip(members, self._evaluate_split(parameters, sets, data), strict=True)
            for found in measured
        ]

    @abstractmethod
    def _evaluate_split(
        self, parameters: Parameters, sets: "DataSets", data: Int[Tensor, " member"]
    ) -> list[list[Found]]:
        """What `evaluate` reports of one split, member by member; `data` says which data set each member has."""

    def _full_logits(
        self, parameters: Parameters, tokens: Int[Tensor, "member batch length"], positions: int | slice
    ) -> Float[Tensor, "member batch *length vocabulary"]:
        # Any module works, one member after another; the tied and stacked cases need no special form.
        return torch.stack(
            [
                functional_call(self._model, {n: p[index] for n, p in parameters.items()}, (rows,)).logits[:, positions]
                for index, rows in enumerate(tokens)
            ]
        )

    def save(self, member: int, parameters: Parameters, folder: Path) -> None:
        """Write the member's model as Hugging Face does."""
        save_member(self._model, parameters, folder)


def epoch_order(seed: int, epoch: int, rows: int) -> Int[Tensor, " n"]:
    """The order in which an epoch reads `rows` training rows: a permutation that depends on (seed, epoch) alone."""
    key = sha256(f"order/{seed}/{epoch}".encode()).digest()[:16]
    random = np.random.Generator(np.random.Philox(key=int.from_bytes(key)))
    return torch.from_numpy(random.permutation(rows))


class DataSets:
    """One evaluated split of all distinct data sets."""

    def __init__(self, sets: Sequence[Rows], device: torch.device):
        self.rows = len(sets[0].labels)
        self.tokens = compact([rows.tokens for rows in sets], device)
        self.labels = compact([rows.labels for rows in sets], device)
        self.group_names = sets[0].group_names
        exchangeable = [rows.exchanged is not None for rows in sets]
        self.exchangeable = torch.tensor(exchangeable, device=device)
        either = [rows.tokens if rows.exchanged is None else rows.exchanged for rows in sets]
        self.exchanged = compact(either, device) if any(exchangeable) else None
        groups = torch.stack([rows.groups for rows in sets]) if self.group_names else torch.zeros(len(sets), self.rows)
        self._groups = groups.long().to(device)

    def means(
        self,
        totals: Float[Tensor, "member n"] | Bool[Tensor, "member n"] | Int[Tensor, "member n"],
        data: Int[Tensor, " member"],
        counts: Int[Tensor, "member n"] | None = None,
    ) -> Float[Tensor, "member columns"]:
        """The mean over all rows and over those of each group; NaN for a group without rows.

        `totals` are sums over so many `counts` in every row, by default over one.
        """
        weights = torch.ones_like(totals) if counts is None else counts
        return self._sums(totals.double(), data) / self._sums(weights.double(), data)

    def named(self, means: Mapping[str, Float[Tensor, "member _"]]) -> list[list[Found]]:
        """Columns of `means` (all rows, then the groups) as each member's findings; NaN is left out."""
        groups = ("", *self.group_names)
        names = [(group, metric) for metric, columns in means.items() for group in groups[: columns.shape[1]]]
        table: list[list[float]] = torch.cat(list(means.values()), 1).tolist()
        return [
            [(*name, value) for name, value in zip(names, row, strict=True) if not math.isnan(value)] for row in table
        ]

    def _sums(self, values: Float[Tensor, "member n"], data: Int[Tensor, " member"]) -> Float[Tensor, "member columns"]:
        groups = values.new_zeros(len(values), len(self.group_names))
        if self.group_names:
            groups.scatter_add_(1, self._groups[data], values)
        return torch.cat([values.sum(1, keepdim=True), groups], 1)


def _common_sizes(members: Sequence[SequenceMember]) -> dict[str, int]:
    found = {tuple((name, len(rows.labels)) for name, rows in member.splits.items()) for member in members}
    if len(found) != 1:
        shown = "; ".join(sorted(", ".join(f"{name} {size}" for name, size in sizes) for sizes in found))
        raise InputError(f"rows: members of one population need splits of the same sizes, got {shown}")
    groups = {(name, rows.group_names) for member in members for name, rows in member.splits.items()}
    if len(groups) != len(members[0].splits):
        raise InputError("rows: members of one population need the same names of groups in a split")
    return dict(found.pop())


def compact(parts: Sequence[Tensor], device: torch.device) -> Tensor:
    """The parts stacked, in the smallest of two integer types: every member's data stays on the device."""
    stacked = torch.stack(list(parts))
    small = torch.int16 if stacked.max() <= torch.iinfo(torch.int16).max else torch.int32
    return stacked.to(small).to(device)
