"""Function fitting: fully connected nets learn values, classes or gradients at points."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from anchorlab.errors import InputError
from anchorlab.models.mlp import MLP
from anchorlab.models.mlp_gradients import write_gradients
from anchorlab.models.mlp_initialization import Initialization

from .memory import sent
from .problem import Measurement, Parameters
from .rows import epoch_order

FunctionLoss = Literal["mse", "half_mse", "cross_entropy"]
"""Mean squared error, half of it (eq. 7.6), or cross entropy of the classes that the targets number."""


@dataclass(frozen=True)
class Points:
    """Points of a function: what is known of it there.

    `targets` are values, or the number of a class in a column of its own; `gradients` the derivatives of the values in
    the inputs, where they are learned too.
    """

    inputs: Float[Tensor, "n inputs"]
    targets: Float[Tensor, "n outputs"]
    gradients: Float[Tensor, "n outputs inputs"] | None = None

    def to(self, dtype: torch.dtype, device: torch.device | str = "cpu") -> "Points":
        """The same points in another precision and place."""
        slopes = None if self.gradients is None else self.gradients.to(device, dtype)
        return Points(self.inputs.to(device, dtype), self.targets.to(device, dtype), slopes)


@dataclass(frozen=True)
class FunctionMember:
    """What one member learns and how it starts.

    `splits` holds at least `train`; the loss on every split is measured. `seed` draws the weights, `order_seed` the
    order of mini-batches.
    """

    splits: Mapping[str, Points]
    initialization: Initialization
    seed: int
    order_seed: int = 0


class FunctionBatch(NamedTuple):
    """The points of one optimizer step."""

    inputs: Float[Tensor, "member n inputs"]
    targets: Float[Tensor, "member n outputs"]
    gradients: Float[Tensor, "member n outputs inputs"]


class FunctionProblem:
    """Members of one network shape that learn functions from points.

    `batch_size` None is the full batch. With `gradient_weight` w the loss is that of the values plus w times the mean
    squared error of the gradients (eq. 6.3). Raises InputError for points that do not fit the network or each other,
    for a target or input that is not finite, and for a batch of more points than there are.
    """

    def __init__(
        self,
        network: MLP,
        members: Sequence[FunctionMember],
        *,
        loss: FunctionLoss = "mse",
        gradient_weight: float = 0.0,
        batch_size: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ):
        for member in members:
            check_points(network, member.splits, loss, gradient_weight)
        sizes = {tuple((name, len(points.inputs)) for name, points in member.splits.items()) for member in members}
        if len(sizes) != 1:
            raise InputError("points: members of one population need splits of the same names and sizes")
        self.network = network
        self.members = len(members)
        self._members = members
        self._loss: FunctionLoss = loss
        self._gradient_weight = gradient_weight
        self._dtype = dtype
        self._device = torch.device(device)
        self._rows = len(members[0].splits["train"].inputs)
        self.batch_size = self._rows if batch_size is None else batch_size
        if not 1 <= self.batch_size <= self._rows:
            raise InputError(f"batch_size={batch_size}: must be between 1 and the {self._rows} training points")
        self.steps_per_epoch = self._rows // self.batch_size
        own = {id(m.splits): {name: p.to(dtype, self._device) for name, p in m.splits.items()} for m in members}
        self._splits = [own[id(member.splits)] for member in members]
        self._held: tuple[tuple[int, ...], dict[str, FunctionBatch]] = ((), {})
        self._orders: tuple[int, dict[int, Tensor]] = (-1, {})

    def initialize(self, member: int) -> dict[str, Tensor]:
        """Fresh parameters of one member."""
        chosen = self._members[member]
        return self.network.initialize(chosen.initialization, chosen.seed, dtype=self._dtype)

    def batch(self, members: Sequence[int], step: int) -> FunctionBatch:
        """All training points, or those of a mini-batch."""
        train = self._whole("train", members)
        if self.batch_size == self._rows:
            return train
        rows = self._chosen_rows(members, step)
        first = torch.arange(len(members), device=self._device)[:, None]
        return FunctionBatch(*(part[first, rows] for part in train))

    def _whole(self, split: str, members: Sequence[int]) -> FunctionBatch:
        if self._held[0] != tuple(members):
            self._held = (tuple(members), {})
        if split not in self._held[1]:
            self._held[1][split] = _stacked([self._splits[member][split] for member in members])
        return self._held[1][split]

    def _chosen_rows(self, members: Sequence[int], step: int) -> Tensor:
        epoch, place = divmod(step, self.steps_per_epoch)
        if self._orders[0] != epoch:
            seeds = {member.order_seed for member in self._members}
            self._orders = (epoch, {seed: sent(epoch_order(seed, epoch, self._rows), self._device) for seed in seeds})
        rows = slice(place * self.batch_size, (place + 1) * self.batch_size)
        return torch.stack([self._orders[1][self._members[member].order_seed][rows] for member in members])

    def loss(self, parameters: Parameters, batch: FunctionBatch) -> Float[Tensor, " member"]:
        """The training loss of every member."""
        if not self._gradient_weight:
            return _value_loss(self._loss, self.network(parameters, batch.inputs), batch.targets)
        axes = [(axis,) for axis in range(self.network.inputs)]
        found = self.network.derivatives(parameters, batch.inputs, [(), *axes])
        slopes = torch.stack([found[axis] for axis in axes], -1)
        error = (slopes - batch.gradients).square().flatten(1).mean(1)
        return _value_loss(self._loss, found[()], batch.targets) + self._gradient_weight * error

    def write_gradients(
        self, parameters: Parameters, batch: FunctionBatch, places: Mapping[str, Tensor]
    ) -> Float[Tensor, " member"] | None:
        """As `loss`, with its gradients written to `places`, faster than autograd; None where only that can do it."""
        if self._gradient_weight:
            return None

        def loss(outputs: Tensor) -> tuple[Tensor, Tensor]:
            return _value_loss_and_slope(self._loss, outputs, batch.targets)

        return write_gradients(self.network, parameters, batch.inputs, loss, places)

    def evaluate(self, parameters: Parameters, members: Sequence[int]) -> list[Measurement]:
        """The loss of the values on every split, and the accuracy where they are classes."""
        found = []
        for split in self._splits[0]:
            points = self._whole(split, members)
            outputs = self.network(parameters, points.inputs)
            measured = {"loss": _value_loss(self._loss, outputs, points.targets)}
            if self._loss == "cross_entropy":
                right = outputs.argmax(-1) == points.targets[..., 0].long()
                measured["accuracy"] = right.to(outputs.dtype).mean(1)
            found += [
                Measurement(member, split, "", metric, value)
                for metric, values in measured.items()
                for member, value in zip(members, values.tolist(), strict=True)
            ]
        return found

    def save(self, member: int, parameters: Parameters, folder: Path) -> None:
        """Write the member's net; `load_mlp` opens it."""
        self.network.save(parameters, folder)


def _value_loss(
    loss: FunctionLoss, outputs: Float[Tensor, "member n outputs"], targets: Float[Tensor, "member n outputs"]
) -> Float[Tensor, " member"]:
    if loss == "cross_entropy":
        classes = targets[..., 0].long()
        each = functional.cross_entropy(outputs.flatten(0, 1), classes.flatten(), reduction="none")
        return each.view(classes.shape).mean(1)
    error = (outputs - targets).square().flatten(1).mean(1)
    return 0.5 * error if loss == "half_mse" else error


def _value_loss_and_slope(
    loss: FunctionLoss, outputs: Float[Tensor, "member n outputs"], targets: Float[Tensor, "member n outputs"]
) -> tuple[Float[Tensor, " member"], Float[Tensor, "member n outputs"]]:
    """The value loss of every member and its gradient in the outputs."""
    _, points, numbers = outputs.shape
    if loss == "cross_entropy":
        shares = outputs.log_softmax(-1)
        classes = targets.long()
        slope = shares.exp().scatter_add_(-1, classes, torch.full_like(targets, -1.0)).div_(points)
        return -shares.gather(-1, classes).flatten(1).mean(1), slope
    error = outputs - targets
    factor = 0.5 if loss == "half_mse" else 1.0
    return factor * error.square().flatten(1).mean(1), error.mul_(2 * factor / (points * numbers))


def _stacked(parts: Sequence[Points]) -> FunctionBatch:
    """The members' points along a first axis; those that all share are not copied."""
    first = parts[0]
    if all(one is first for one in parts):
        columns = (first.inputs, first.targets, _slopes(first))
        return FunctionBatch(*(column.expand(len(parts), *column.shape) for column in columns))
    return FunctionBatch(
        torch.stack([one.inputs for one in parts]),
        torch.stack([one.targets for one in parts]),
        torch.stack([_slopes(one) for one in parts]),
    )


def _slopes(points: Points) -> Tensor:
    return points.inputs.new_zeros(len(points.inputs), 0, 0) if points.gradients is None else points.gradients


def check_points(network: MLP, splits: Mapping[str, Points], loss: FunctionLoss, gradient_weight: float) -> None:
    """Raise InputError unless the network can learn these points: their shapes, numbers and classes."""
    if "train" not in splits:
        raise InputError("splits: there must be one named 'train'")
    for name, points in splits.items():
        count = len(points.inputs)
        wanted = (count, network.inputs), (count, 1 if loss == "cross_entropy" else network.outputs)
        if count == 0:
            raise InputError(f"split {name!r}: has no points")
        if (points.inputs.shape, points.targets.shape) != wanted:
            raise InputError(
                f"split {name!r}: inputs {list(points.inputs.shape)} and targets {list(points.targets.shape)} must be "
                f"[n, {network.inputs}] and [n, {wanted[1][1]}]"
            )
        if not (points.inputs.isfinite().all() and points.targets.isfinite().all()):
            raise InputError(f"split {name!r}: an input or target is not finite")
        if loss == "cross_entropy":
            classes = points.targets
            if ((classes < 0) | (classes >= network.outputs) | (classes != classes.round())).any():
                raise InputError(f"split {name!r}: classes must be whole numbers from 0 to {network.outputs - 1}")
    train = splits["train"]
    if gradient_weight and (
        train.gradients is None or train.gradients.shape != (*train.targets.shape, train.inputs.shape[1])
    ):
        raise InputError("gradient_weight: the training points need gradients [n, outputs, inputs]")
