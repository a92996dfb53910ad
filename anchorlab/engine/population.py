"""A population: networks of one shape trained together, their weights the rows of one matrix."""

import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from anchorlab.errors import InputError

from . import lbfgs
from .captured import CapturedStep
from .optimizers import OptimizerSettings, PopulationOptimizer
from .problem import Batch, Measurement, Problem, WriteGradients, WritesGradients

Precision = Literal["float32", "tf32", "bfloat16"]

_ALIGNMENT = 16  # elements; matrix kernels want every parameter to begin on a cache line


@dataclass(frozen=True)
class Divergence:
    """Why and in which optimizer step (from 1) a member stopped."""

    step: int
    reason: str


@dataclass(frozen=True)
class Advance:
    """What some optimizer steps did: every member's loss in the last of them, and the members that diverged so far."""

    losses: dict[int, float]
    diverged: dict[int, Divergence]


class Population:
    """The members of `problem` that are still training.

    Every member follows the trajectory it would follow alone: its loss, gradient norm and optimizer state are its own.
    A member whose loss or gradient is not finite is frozen: it keeps the parameters and the optimizer state from before
    that step. `bfloat16` means autocast of the forward pass; parameters, optimizer state and loss stay in float32.
    `compiled` translates the loss with torch.compile, which takes some seconds at the first step.

    Raises InputError for parameters in half precision (their rounding changes which solution is learned), for `tf32`
    without a GPU, and for `compiled` without a C++ compiler.
    """

    def __init__(
        self,
        problem: Problem,
        settings: Sequence[OptimizerSettings],
        *,
        precision: Precision = "float32",
        compiled: bool = False,
        device: torch.device | str = "cpu",
    ):
        self.problem = problem
        self.settings = list(settings)
        self.precision = precision
        self.device = torch.device(device)
        if precision == "tf32" and self.device.type != "cuda":
            raise InputError("precision='tf32': only a GPU has it; use 'float32' or 'bfloat16'")
        if compiled and self.device.type == "cpu" and not shutil.which(os.environ.get("CXX", "g++")):
            raise InputError("compile=True: needs a C++ compiler on a CPU; install g++, or name yours in CXX")
        # One compile thread: populations train in processes of their own, and more threads would be more processes.
        options: dict[str, Any] = {"compile_threads": 1}
        self._loss = torch.compile(problem.loss, dynamic=False, options=options) if compiled else problem.loss
        self._write_gradients: WriteGradients | None = None
        if precision != "bfloat16" and not compiled and isinstance(problem, WritesGradients):
            self._write_gradients = problem.write_gradients
        self.members = list(range(problem.members))
        self._stack([problem.initialize(member) for member in self.members])

    def _stack(self, members: Sequence[Mapping[str, Tensor]]) -> None:
        """Begin with these parameters, one mapping per current member."""
        shapes = {name: tensor.shape for name, tensor in members[0].items()}
        dtypes = {tensor.dtype for parameters in members for tensor in parameters.values()}
        if not dtypes <= {torch.float32, torch.float64} or len(dtypes) != 1:
            found = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))
            raise InputError(
                f"parameters: must all be float32 (or all float64), got {found}; precision='bfloat16' is autocast"
            )
        self._places, self._matrix_columns, total = _layout(shapes)
        weights = torch.zeros(len(members), total, dtype=dtypes.pop())
        for row, parameters in zip(weights, members, strict=True):
            for name, view in self._by_name(row[None]).items():
                view[0].copy_(parameters[name])
        self._adopt(weights.to(self.device))

    def _adopt(self, weights: Float[Tensor, "member parameter"]) -> None:
        self._weights, self._gradient = weights, torch.zeros_like(weights)
        self._gradients = self._by_name(self._gradient)
        self.parameters = {name: view.requires_grad_() for name, view in self._by_name(self._weights).items()}
        settings = [self.settings[member] for member in self.members]
        self.optimizer = PopulationOptimizer(settings, weights, self._matrix_columns)
        self._losses = weights.new_zeros(len(weights))
        self._active = torch.ones(len(weights), dtype=torch.bool, device=self.device)
        self._steps = torch.zeros(len(weights), dtype=torch.long, device=self.device)  # completed by each member
        if self.optimizer.rule == "lbfgs":
            self._run: Callable[[Batch, Tensor], None] = self._lbfgs_step  # how often it looks at the loss varies
        else:
            self._run = CapturedStep(self._step, self.device) if self.device.type == "cuda" else self._step
        self._ahead: tuple[Batch, lbfgs.Evaluation] | None = None

    def _by_name(self, matrix: Float[Tensor, "member parameter"]) -> dict[str, Tensor]:
        return {
            name: matrix[:, start : start + shape.numel()].view(len(matrix), *shape)
            for name, (start, shape) in self._places.items()
        }

    def member_parameters(self, member: int) -> dict[str, Tensor]:
        """Parameters of one member without the member axis; they share memory with the population."""
        index = self.members.index(member)
        return {name: stacked.detach()[index] for name, stacked in self.parameters.items()}

    def optimizer_state(self, member: int) -> dict[str, Tensor]:
        """The optimizer's tensors of one member, named `<parameter>/<entry>`."""
        index = self.members.index(member)
        return {
            f"{name}/{entry}": stacked[index]
            for entry, matrix in self.optimizer.state.items()
            for name, stacked in self._by_name(matrix).items()
        }

    def load(self, parameters: Sequence[Mapping[str, Tensor]], states: Sequence[Mapping[str, Tensor]]) -> None:
        """Continue from saved parameters and optimizer states, one of each per current member."""
        self._stack([{name: saved[name] for name in self.parameters} for saved in parameters])
        for member, state in zip(self.members, states, strict=True):
            for key, place in self.optimizer_state(member).items():
                place.copy_(state[key])

    def remove(self, members: Sequence[int]) -> None:
        """Stop training `members`; the others go on unchanged, those that diverged stay frozen."""
        kept = [index for index, member in enumerate(self.members) if member not in members]
        if len(kept) == len(self.members):
            return
        self.members = [self.members[index] for index in kept]
        if kept:
            rows = torch.tensor(kept, device=self.device)
            state = self.optimizer.state
            losses, active, steps = self._losses[rows], self._active[rows], self._steps[rows]
            self._adopt(self._weights[rows])
            self._losses, self._active, self._steps = losses, active, steps
            for entry, matrix in self.optimizer.state.items():
                matrix.copy_(state[entry][rows])

    def advance(self, first: int, steps: int) -> Advance:
        """Do `steps` optimizer steps, the first of them being step `first` (counted from 0).

        On a GPU nothing waits for the device before the last step.
        """
        span = range(first, first + steps)
        coefficients = self.optimizer.coefficients(span, self.problem.steps_per_epoch)
        self._steps.masked_fill_(self._active, first)
        with self._arithmetic():
            for step, factors in zip(span, coefficients, strict=True):
                self._run(self.problem.batch(self.members, step), factors)
        losses = dict(zip(self.members, self._losses.tolist(), strict=True))
        return Advance(losses, self._diverged(losses))

    def _diverged(self, losses: Mapping[int, float]) -> dict[int, Divergence]:
        found = zip(self.members, self._active.tolist(), self._steps.tolist(), strict=True)
        return {
            member: Divergence(
                done + 1,
                "gradient norm is not finite" if math.isfinite(losses[member]) else f"loss is {losses[member]}",
            )
            for member, active, done in found
            if not active
        }

    def _step(self, batch: Batch, factors: Float[Tensor, "coefficient member 1"]) -> None:
        losses = self._losses_and_gradients(batch)
        norm = self._note(losses, self._gradient)
        self.optimizer.update(self._gradient, norm, factors, self._active)

    def _lbfgs_step(self, batch: Batch, factors: Float[Tensor, "coefficient member 1"]) -> None:
        def evaluate() -> lbfgs.Evaluation:
            with torch.enable_grad():
                return lbfgs.Evaluation(self._losses_and_gradients(batch), self._gradient.clone())

        # The last line search ended here; with the same batch there is nothing to evaluate again.
        ahead = self._ahead
        here = ahead[1] if ahead is not None and ahead[0] is batch else evaluate()
        self._note(here.losses, here.gradient)
        with torch.no_grad():
            found = lbfgs.iterate(self._weights, self.optimizer.state, here, evaluate, factors[0], self._active)
        self._ahead = (batch, found)

    def _note(self, losses: Float[Tensor, " member"], gradient: Tensor) -> Float[Tensor, " member"]:
        """Keep the losses, freeze members with something that is not finite, count a step; the gradients' norms."""
        norm: Tensor = torch.linalg.vector_norm(gradient, dim=1)
        self._losses.copy_(torch.where(self._active, losses, self._losses))
        self._active &= self._losses.isfinite() & norm.isfinite()
        self._steps += self._active
        return norm

    def _losses_and_gradients(self, batch: Batch) -> Float[Tensor, " member"]:
        """Every member's loss; its gradients are written to their places."""
        if self._write_gradients is not None:
            losses = self._write_gradients(self.parameters, batch, self._gradients)
            if losses is not None:
                return losses
        losses = self._loss(self.parameters, batch)
        gradients = torch.autograd.grad(losses.sum(), list(self.parameters.values()))
        for place, gradient in zip(self._gradients.values(), gradients, strict=True):
            place.copy_(gradient)
        return losses.detach()

    def evaluate(self) -> list[Measurement]:
        """Measure every member on its evaluation data."""
        with torch.no_grad(), self._arithmetic():
            return self.problem.evaluate(self.parameters, self.members)

    @contextmanager
    def _arithmetic(self) -> Iterator[None]:
        # Casts of weights are not kept: a captured step would go on using those of the step that it was captured in.
        half = self.precision == "bfloat16"
        products = torch.backends.cuda.matmul
        before = products.fp32_precision
        if self.precision == "tf32":
            products.fp32_precision = "tf32"
        try:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=half, cache_enabled=False):
                yield
        finally:
            products.fp32_precision = before


def _layout(shapes: Mapping[str, torch.Size]) -> tuple[dict[str, tuple[int, torch.Size]], int, int]:
    """Where every parameter begins in a row of weights, matrices first; the columns of matrices; all columns."""
    places, matrix_columns, end = {}, 0, 0
    for matrices in (True, False):
        for name, shape in shapes.items():
            if (len(shape) >= 2) == matrices:
                places[name] = (end, shape)
                end += -(-shape.numel() // _ALIGNMENT) * _ALIGNMENT
        matrix_columns = end if matrices else matrix_columns
    return {name: places[name] for name in shapes}, matrix_columns, end
