"""A population: networks of one shape trained together, their parameters stacked along a leading member axis."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .optimizers import MemberOptimizer, OptimizerSettings
from .problem import Measurement, Problem

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step did: the loss of every trained member, and which members had to stop."""

    losses: dict[int, float]
    diverged: dict[int, str]


class Population:
    """The members of `problem` that are still training.

    Every member follows the trajectory it would follow alone: its loss, gradient norm and optimizer state are its own.
    `bfloat16` means autocast of the forward pass; parameters, optimizer state and loss stay in float32.
    """

    def __init__(
        self,
        problem: Problem,
        settings: Sequence[OptimizerSettings],
        *,
        precision: Precision = "float32",
        device: torch.device | str = "cpu",
    ):
        self.problem = problem
        self.settings = list(settings)
        self.precision = precision
        self.device = torch.device(device)
        self.members = list(range(problem.members))
        self._stack([problem.initialize(member) for member in self.members])

    def _stack(self, members: Sequence[Mapping[str, Tensor]], states: Sequence[Mapping[str, Tensor]] = ()) -> None:
        self.parameters = {
            name: torch.stack([parameters[name] for parameters in members]).to(self.device).requires_grad_()
            for name in members[0]
        }
        self.optimizers = [
            MemberOptimizer(self.settings[member], self._views(index)) for index, member in enumerate(self.members)
        ]
        for optimizer, state in zip(self.optimizers, states, strict=False):
            optimizer.load_state(state)

    def _views(self, index: int) -> dict[str, Tensor]:
        return {name: stacked.detach()[index] for name, stacked in self.parameters.items()}

    def member_parameters(self, member: int) -> dict[str, Tensor]:
        """Parameters of one member without the member axis; they share memory with the population."""
        return self._views(self.members.index(member))

    def optimizer_state(self, member: int) -> dict[str, Tensor]:
        """The optimizer tensors of one member."""
        return self.optimizers[self.members.index(member)].state()

    def load(self, parameters: Sequence[Mapping[str, Tensor]], states: Sequence[Mapping[str, Tensor]]) -> None:
        """Continue from saved parameters and optimizer states, one of each per current member."""
        # The order of the parameters is that of the sums over them (the gradient norm), hence of the last bits.
        self._stack([{name: saved[name] for name in self.parameters} for saved in parameters], states)

    def remove(self, members: Sequence[int]) -> None:
        """Stop training `members`; the others go on unchanged."""
        if not members:
            return
        kept = [index for index, member in enumerate(self.members) if member not in members]
        parameters = [self._views(index) for index in kept]
        states = [self.optimizers[index].state() for index in kept]
        self.members = [self.members[index] for index in kept]
        if self.members:
            self._stack(parameters, states)

    def step(self, step: int) -> StepResult:
        """One optimizer step of every member; a member whose loss or gradient is not finite keeps its parameters."""
        batch = self.problem.batch(self.members, step)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            losses = self.problem.loss(self.parameters, batch)
        gradients = torch.autograd.grad(losses.sum(), list(self.parameters.values()))
        # The fused optimizers ignore strides, so slices must be contiguous.
        by_name = {name: g.contiguous() for name, g in zip(self.parameters, gradients, strict=True)}
        values = losses.tolist()
        diverged = {}
        for index, (member, optimizer) in enumerate(zip(self.members, self.optimizers, strict=True)):
            rate = optimizer.settings.schedule.rate(step, self.problem.steps_per_epoch)
            if not math.isfinite(values[index]):
                diverged[member] = f"loss is {values[index]}"
            elif not optimizer.step({name: gradient[index] for name, gradient in by_name.items()}, rate):
                diverged[member] = "gradient norm is not finite"
        return StepResult(dict(zip(self.members, values, strict=True)), diverged)

    def evaluate(self) -> list[Measurement]:
        """Measure every member on its evaluation data."""
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            return self.problem.evaluate(self.parameters, self.members)
