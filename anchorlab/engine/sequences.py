"""Sequence problems: rows of tokens, one label each, read at the last position."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import functional_call
from transformers import PreTrainedModel

from anchorlab.errors import InputError
from anchorlab.models import last_position_logits, save

from .problem import Measurement, Parameters

_EVALUATION_BATCH = 4096


@dataclass(frozen=True)
class Rows:
    """One split: token ids and labels of its rows; `groups` are indices into `group_names`, unused if that is empty."""

    tokens: Int[Tensor, "n length"]
    labels: Int[Tensor, " n"]
    groups: Int[Tensor, " n"]
    group_names: tuple[str, ...]

    def head(self, n: int | None) -> "Rows":
        """The first `n` rows."""
        return replace(self, tokens=self.tokens[:n], labels=self.labels[:n], groups=self.groups[:n])

    def to(self, device: torch.device) -> "Rows":
        """The same rows on `device`."""
        return replace(
            self, tokens=self.tokens.to(device), labels=self.labels.to(device), groups=self.groups.to(device)
        )


@dataclass(frozen=True)
class SequenceMember:
    """What one member trains on and how it starts.

    `splits` holds at least `train`; every split is evaluated, of `train` the first `evaluation_rows`. Members may
    share one `splits` object. `initialize` draws the weights of the module it is given, in place.
    """

    splits: Mapping[str, Rows]
    initialize: Callable[[PreTrainedModel], None]
    order_seed: int


@dataclass(frozen=True)
class _Batch:
    tokens: Int[Tensor, "member batch length"]
    labels: Int[Tensor, "member batch"]


class SequenceProblem:
    """Cross entropy of the label at the last position (section 12.8.2), for members of one architecture.

    Epochs are permutations of the training rows cut into whole batches; the rows of an incomplete last batch are left
    out of that epoch. The order depends only on (order seed, epoch).
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
        sizes = {len(member.splits["train"].labels) for member in members}
        if len(sizes) != 1:
            raise InputError(f"members of one population need equally many training rows, got {sorted(sizes)}")
        (rows,) = sizes
        self.batch_size = rows if batch_size is None else batch_size
        if not 1 <= self.batch_size <= rows:
            raise InputError(f"batch_size={batch_size}: must be between 1 and the {rows} training rows")
        self.members = len(members)
        self.steps_per_epoch = rows // self.batch_size
        self._model = model
        self._members = members
        self._forward = last_position_logits(model.config) or self._full_forward
        device = torch.device(device)
        moved = {id(m.splits): {name: part.to(device) for name, part in m.splits.items()} for m in members}
        self._splits = [moved[id(member.splits)] for member in members]
        self._evaluation_rows = evaluation_rows
        self._orders: dict[int, tuple[int, Tensor]] = {}

    def initialize(self, member: int) -> dict[str, Tensor]:
        """Fresh parameters of one member, in the layout of the module."""
        self._members[member].initialize(self._model)
        return {name: parameter.detach().clone() for name, parameter in self._model.named_parameters()}

    def batch(self, members: Sequence[int], step: int) -> _Batch:
        """Rows of optimizer step `step` for every member."""
        tokens, labels = [], []
        chosen: Tensor | slice
        for member in members:
            train = self._splits[member]["train"]
            if self.batch_size == len(train.labels):
                chosen = slice(None)
            else:
                start = step % self.steps_per_epoch * self.batch_size
                chosen = self._order(member, step // self.steps_per_epoch)[start : start + self.batch_size]
            tokens.append(train.tokens[chosen])
            labels.append(train.labels[chosen])
        return _Batch(torch.stack(tokens), torch.stack(labels))

    def _order(self, member: int, epoch: int) -> Int[Tensor, " n"]:
        known = self._orders.get(member)
        if known is None or known[0] != epoch:
            labels = self._splits[member]["train"].labels
            key = sha256(f"order/{self._members[member].order_seed}/{epoch}".encode()).digest()[:16]
            random = np.random.Generator(np.random.Philox(key=int.from_bytes(key)))
            known = (epoch, torch.from_numpy(random.permutation(len(labels))).to(labels.device))
            self._orders[member] = known
        return known[1]

    def loss(self, parameters: Parameters, batch: _Batch) -> Float[Tensor, " member"]:
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
        """Loss and accuracy on every split, over all rows (group "") and by group."""
        return [
            measurement
            for index, member in enumerate(members)
            for split, rows in self._splits[member].items()
            for measurement in self._evaluate_split(
                {name: stacked[index : index + 1] for name, stacked in parameters.items()},
                member,
                split,
                rows.head(self._evaluation_rows) if split == "train" else rows,
            )
        ]

    def _evaluate_split(self, parameters: Parameters, member: int, split: str, rows: Rows) -> list[Measurement]:
        losses, correct = [], []
        for tokens, labels in zip(
            rows.tokens.split(_EVALUATION_BATCH), rows.labels.split(_EVALUATION_BATCH), strict=True
        ):
            logits = self._forward(parameters, tokens[None])
            losses.append(_cross_entropy(logits, labels[None])[0])
            correct.append(logits[0].argmax(-1) == labels)
        loss, hit = torch.cat(losses).double(), torch.cat(correct).double()
        results = [
            Measurement(member, split, "", "loss", loss.mean().item()),
            Measurement(member, split, "", "accuracy", hit.mean().item()),
        ]
        for metric, values in (("loss", loss), ("accuracy", hit)):
            results += [
                Measurement(member, split, name, metric, mean)
                for name, mean in zip(rows.group_names, _group_means(values, rows), strict=True)
                if not math.isnan(mean)
            ]
        return results

    def save(self, member: int, parameters: Parameters, folder: Path) -> None:
        """Write the member's model as Hugging Face does."""
        with torch.no_grad():
            for name, parameter in self._model.named_parameters():
                parameter.copy_(parameters[name])
        save(self._model, folder)


def _group_means(values: Float[Tensor, " n"], rows: Rows) -> list[float]:
    groups = len(rows.group_names)
    totals = torch.zeros(groups, dtype=values.dtype, device=values.device)
    counts = totals.clone()
    if groups:
        totals.index_add_(0, rows.groups, values)
        counts.index_add_(0, rows.groups, torch.ones_like(values))
    means: list[float] = (totals / counts).tolist()
    return means


def _cross_entropy(
    logits: Float[Tensor, "member batch vocabulary"], labels: Int[Tensor, "member batch"]
) -> Float[Tensor, "member batch"]:
    flat = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="none")
    return flat.view(labels.shape)
