"""Optimizers of a population: one update rule for all members, every hyperparameter one value per member."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from anchorlab.errors import InputError

from . import lbfgs
from .memory import sent
from .schedules import Schedule

OptimizerName = Literal["adamw", "adam", "sgd", "gd", "lbfgs"]
DecayScope = Literal["all", "matrices"]

_EPSILON = 1e-8
_ENTRIES = {
    "adamw": ("exp_avg", "exp_avg_sq"),
    "adam": ("exp_avg", "exp_avg_sq"),
    "sgd": ("momentum_buffer",),
    "lbfgs": lbfgs.ENTRIES,
}
_CHUNK_BYTES = 2**18  # of one matrix: what an update touches then stays in a core's cache


@dataclass(frozen=True)
class OptimizerSettings:
    """How one member is optimized.

    `adamw` decouples weight decay, `adam` adds it to the gradient (L2), `sgd` and `gd` are torch's SGD (`gd` is used
    with the whole data set as its batch). `lbfgs` is L-BFGS (see `lbfgs.iterate`): every batch must be the whole data
    set, and there is no decay and no clipping. `decay_scope` says which parameters decay: `all` as in the papers, or
    `matrices` (two or more dimensions: no biases, no LayerNorm). `decay_window` is when they decay: from its first unit
    of the schedule (step or epoch) up to its second, both rounded to whole steps; None: always. `clip_norm` bounds this
    member's global gradient norm.
    """

    name: OptimizerName
    schedule: Schedule
    weight_decay: float = 0.0
    decay_scope: DecayScope = "all"
    decay_window: tuple[float, float] | None = None
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.0
    clip_norm: float | None = None

    @property
    def rule(self) -> str:
        """The update rule; `gd` is `sgd` on one large batch."""
        return "sgd" if self.name == "gd" else self.name

    @property
    def steady(self) -> bool:
        """Whether learning rate and weight decay are the same at every step."""
        return self.schedule.steady and self.decay_window is None

    def decay(self, step: int, steps_per_epoch: int) -> float:
        """Weight decay of optimizer step `step` (counted from 0)."""
        on = self.decay_window is None or step in self.decay_steps(self.decay_window, steps_per_epoch)
        return self.weight_decay if on else 0.0

    def decay_steps(self, window: tuple[float, float], steps_per_epoch: int) -> range:
        """The steps in a window of units; InputError if it has none."""
        unit = 1 if self.schedule.unit == "step" else steps_per_epoch
        start, end = (round(edge * unit) for edge in window)
        if start >= end:
            raise InputError(
                f"weight_decay_window: {window} {self.schedule.unit}s have no step; must have at least one"
            )
        return range(start, end)


class PopulationOptimizer:
    """Updates the weights [member, parameter] of all members at once, as torch's optimizers update those of one.

    The first `matrix_columns` parameters belong to matrices. Raises InputError if the members have different rules.
    """

    def __init__(
        self,
        settings: Sequence[OptimizerSettings],
        weights: Float[Tensor, "member parameter"],
        matrix_columns: int,
    ):
        rules = sorted({one.rule for one in settings})
        if len(rules) != 1:
            raise InputError(f"optimizer: members of one population need the same one, got {', '.join(rules)}")
        (self.rule,) = rules
        if self.rule == "lbfgs" and any(one.weight_decay or one.clip_norm for one in settings):
            raise InputError("optimizer='lbfgs': must have neither weight_decay nor clip_norm")
        self.settings = list(settings)
        self.weights = weights
        self.state = {entry: torch.zeros_like(weights) for entry in _ENTRIES[self.rule]}
        self._matrix_columns = matrix_columns
        self._steady = self.rule in ("sgd", "lbfgs") and all(one.steady for one in settings)
        # Gradient descent of small networks is little but reading and writing weights: without needless passes.
        bare = all(not (one.momentum or one.weight_decay or one.clip_norm) for one in settings)
        self._plain_descent = self.rule == "sgd" and bare and weights.device.type == "cpu"
        self._clip = self._column([one.clip_norm or float("inf") for one in settings])

    def _column(self, values: Sequence[float]) -> Float[Tensor, "member 1"]:
        return torch.tensor(values, dtype=self.weights.dtype, device=self.weights.device)[:, None]

    def coefficients(self, steps: range, steps_per_epoch: int) -> Float[Tensor, "step coefficient member 1"]:
        """What the update of every step in `steps` multiplies with: learning rates, decays, averages of each member."""
        different = steps[:1] if self._steady else steps
        table = [[self._row(one, step, steps_per_epoch) for one in self.settings] for step in different]
        values = torch.tensor(table, dtype=self.weights.dtype).transpose(1, 2)[..., None].contiguous()
        return sent(values, self.weights.device).expand(len(steps), -1, -1, -1)

    def _row(self, settings: OptimizerSettings, step: int, steps_per_epoch: int) -> list[float]:
        rate = settings.schedule.rate(step, steps_per_epoch)
        matrices = settings.decay(step, steps_per_epoch)
        vectors = matrices if settings.decay_scope == "all" else 0.0
        if self.rule == "sgd":
            return [matrices, vectors, rate, settings.momentum]
        if self.rule == "lbfgs":
            return [rate]
        first, second = settings.betas
        size, root = rate / (1 - first ** (step + 1)), (1 - second ** (step + 1)) ** 0.5
        if self.rule == "adamw":
            matrices, vectors = rate * matrices, rate * vectors
        return [matrices, vectors, size, root, 1 - first, 1 - second]

    def update(
        self,
        gradient: Float[Tensor, "member parameter"],
        norm: Float[Tensor, " member"],
        coefficients: Float[Tensor, "coefficient member 1"],
        active: Bool[Tensor, " member"],
    ) -> None:
        """One step of the active members, whose gradients have the given norms; the others keep weights and state."""
        if self._plain_descent and bool(active.all()):
            for columns, _ in self._chunks(coefficients[0], coefficients[1]):
                self.weights[:, columns].addcmul_(gradient[:, columns], -coefficients[2])
            return
        scale = (self._clip / (norm[:, None] + 1e-6)).clamp(max=1.0)
        chosen = active[:, None]
        factors = [torch.where(chosen, factor, 0.0) for factor in coefficients]
        for columns, decay in self._chunks(*factors[:2]):
            # A gradient that is not finite must not reach the frozen member's state: 0 * nan is nan.
            part = torch.where(chosen, gradient[:, columns] * scale, 0.0)
            self._update(columns, part, decay, chosen, *factors[2:])

    def _chunks(self, matrices: Tensor, vectors: Tensor) -> Iterator[tuple[slice, Tensor]]:
        members, total = self.weights.shape
        size = max(1, _CHUNK_BYTES // (members * self.weights.element_size()))
        if self.weights.device.type != "cpu":
            size = total
        for start, stop, decay in ((0, self._matrix_columns, matrices), (self._matrix_columns, total, vectors)):
            for column in range(start, stop, size):
                yield slice(column, min(column + size, stop)), decay

    def _update(self, columns: slice, part: Tensor, decay: Tensor, chosen: Tensor, *factors: Tensor) -> None:
        weights = self.weights[:, columns]
        state = [entry[:, columns] for entry in self.state.values()]
        if self.rule == "adamw":
            weights.mul_(1 - decay)
        else:
            part = torch.where(chosen, part.addcmul_(weights, decay), 0.0)  # frozen weights may be infinite
        if self.rule == "sgd":
            rate, momentum = factors
            (buffer,) = state
            buffer.mul_(torch.where(chosen, momentum, 1.0)).add_(part)
            weights.addcmul_(buffer, -rate)
            return
        size, root, new_first, new_second = factors
        first, second = state
        first.lerp_(part, new_first)
        second.mul_(1 - new_second).add_(part.square_().mul_(new_second))
        spread = torch.where(chosen, root, 1.0)
        weights.addcmul_(first / (second.sqrt().div_(spread).add_(_EPSILON)), -size)
