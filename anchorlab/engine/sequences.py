"""Sequence problems: rows of tokens, one label each, read at the last position."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.func import functional_call
from transformers import PreTrainedModel

from anchorlab.errors import InputError
from anchorlab.models import last_position_logits, save

from .memory import sent
from .problem import Measurement, Parameters

_EVALUATION_ROWS = 4096  # of all members together, unless a training batch has more


@dataclass(frozen=True)
class Rows:
    """One split: token ids and labels of its rows; `groups` are indices into `group_names`, unused if that is empty.

    `exchanged`, if given, holds the same rows with the two anchors in each other's place; the fraction of rows that
    are answered alike in both forms is then recorded as `commutativity` (section 13.3).
    """

    tokens: Int[Tensor, "n length"]
    labels: Int[Tensor, " n"]
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
    labels: Int[Tensor, "member batch"]


class SequenceProblem:
    """Cross entropy of the label at the last position (section 12.8.2), for members of one architecture.

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
        self._forward = last_position_logits(model.config) or self._full_forward
        self._device = torch.device(device)
        distinct = {id(member.splits): member.splits for member in members}
        places = {key: index for index, key in enumerate(distinct)}
        self._data_of = [places[id(member.splits)] for member in members]
        self._splits = {
            name: _DataSets(
                [splits[name].head(evaluation_rows if name == "train" else None) for splits in distinct.values()],
                self._device,
            )
            for name in members[0].splits
        }
        train = [splits["train"] for splits in distinct.values()]
        self._tokens = _compact([rows.tokens for rows in train], self._device)
        self._labels = _compact([rows.labels for rows in train], self._device)
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
        orders = []
        for seed in self._seeds:
            key = sha256(f"order/{seed}/{epoch}".encode()).digest()[:16]
            random = np.random.Generator(np.random.Philox(key=int.from_bytes(key)))
            orders.append(torch.from_numpy(random.permutation(self._rows)))
        self._orders: Int[Tensor, "seed n"] = sent(torch.stack(orders), self._device)
        self._epoch = epoch

    def loss(self, parameters: Parameters, batch: SequenceBatch) -> Float[Tensor, " member"]:
        """Mean cross entropy of every member, in float32 under autocast too."""
        logits = self._forward(parameters, batch.tokens)
        return _cross_entropy(logits, batch.labels).mean(dim=1)

    def _full_forward(
        self, parameters: Parameters, tokens: Int[Tensor, "member batch length"]
    ) -> Float[Tensor, "member batch vocabulary"]:
        # Any module works, one member after another; the tied and stacked cases need no special form.
        return torch.stack(
            [
                functional_call(self._model, {n: p[index] for n, p in parameters.items()}, (rows,)).logits[:, -1]
                for index, rows in enumerate(tokens)
            ]
        )

    def evaluate(self, parameters: Parameters, members: Sequence[int]) -> list[Measurement]:
        """Loss and accuracy on every split, over all rows (group "") and by group; commutativity where it exists."""
        self._choose(members)
        data = self._data
        return [
            Measurement(member, split, *found)
            for split, sets in self._splits.items()
            for member, measured in zip(members, self._evaluate_split(parameters, sets, data), strict=True)
            for found in measured
        ]

    def _evaluate_split(
        self, parameters: Parameters, sets: "_DataSets", data: Int[Tensor, " member"]
    ) -> list[list[tuple[str, str, float]]]:
        size = max(self.batch_size, _EVALUATION_ROWS // len(data))
        losses, hits, alike = [], [], []
        for start in range(0, sets.rows, size):
            part = slice(start, start + size)
            logits = self._forward(parameters, sets.tokens[data, part].long())
            labels, answers = sets.labels[data, part].long(), logits.argmax(-1)
            losses.append(_cross_entropy(logits, labels))
            hits.append(answers == labels)
            if sets.exchanged is not None:
                alike.append(self._forward(parameters, sets.exchanged[data, part].long()).argmax(-1) == answers)
        loss, hit = torch.cat(losses, 1).double(), torch.cat(hits, 1)
        names = [(metric, group) for metric in ("loss", "accuracy") for group in ("", *sets.group_names)]
        columns = [sets.means(loss, data), sets.means(hit, data)]
        if alike:
            names.append(("commutativity", ""))
            shares = torch.cat(alike, 1).double().mean(1)
            columns.append(torch.where(sets.exchangeable[data], shares, math.nan)[:, None])
        table: list[list[float]] = torch.cat(columns, 1).tolist()
        return [
            [(group, metric, value) for (metric, group), value in zip(names, row, strict=True) if not math.isnan(value)]
            for row in table
        ]

    def save(self, member: int, parameters: Parameters, folder: Path) -> None:
        """Write the member's model as Hugging Face does."""
        with torch.no_grad():
            for name, parameter in self._model.named_parameters():
                parameter.copy_(parameters[name])
        save(self._model, folder)


class _DataSets:
    """One evaluated split of all distinct data sets."""

    def __init__(self, sets: Sequence[Rows], device: torch.device):
        self.rows = len(sets[0].labels)
        self.tokens = _compact([rows.tokens for rows in sets], device)
        self.labels = _compact([rows.labels for rows in sets], device)
        self.group_names = sets[0].group_names
        exchangeable = [rows.exchanged is not None for rows in sets]
        self.exchangeable = torch.tensor(exchangeable, device=device)
        either = [rows.tokens if rows.exchanged is None else rows.exchanged for rows in sets]
        self.exchanged = _compact(either, device) if any(exchangeable) else None
        groups = torch.stack([rows.groups for rows in sets]) if self.group_names else torch.zeros(len(sets), self.rows)
        self._groups = groups.long().to(device)
        ones = torch.ones(self._groups.shape, dtype=torch.float64, device=device)
        self._counts = self._sums(ones, torch.arange(len(sets), device=device))

    def means(
        self, values: Float[Tensor, "member n"] | Bool[Tensor, "member n"], data: Int[Tensor, " member"]
    ) -> Float[Tensor, "member columns"]:
        """The mean over all rows and over those of each group; NaN for a group without rows."""
        wide = values.double()
        parts = [wide.mean(1, keepdim=True)]
        if self.group_names:
            parts.append(self._sums(wide, data) / self._counts[data])
        return torch.cat(parts, 1)

    def _sums(self, values: Float[Tensor, "member n"], data: Int[Tensor, " member"]) -> Float[Tensor, "member group"]:
        totals = values.new_zeros(len(values), max(1, len(self.group_names)))
        return totals.scatter_add_(1, self._groups[data], values)


def _common_sizes(members: Sequence[SequenceMember]) -> dict[str, int]:
    found = {tuple((name, len(rows.labels)) for name, rows in member.splits.items()) for member in members}
    if len(found) != 1:
        shown = "; ".join(sorted(", ".join(f"{name} {size}" for name, size in sizes) for sizes in found))
        raise InputError(f"rows: members of one population need splits of the same sizes, got {shown}")
    groups = {(name, rows.group_names) for member in members for name, rows in member.splits.items()}
    if len(groups) != len(members[0].splits):
        raise InputError("rows: members of one population need the same names of groups in a split")
    return dict(found.pop())


def _compact(parts: Sequence[Tensor], device: torch.device) -> Tensor:
    """The parts stacked, in the smallest of two integer types: every member's data stays on the device."""
    stacked = torch.stack(list(parts))
    small = torch.int16 if stacked.max() <= torch.iinfo(torch.int16).max else torch.int32
    return stacked.to(small).to(device)


def _cross_entropy(
    logits: Float[Tensor, "member batch vocabulary"], labels: Int[Tensor, "member batch"]
) -> Float[Tensor, "member batch"]:
    flat = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="none")
    return flat.view(labels.shape)
