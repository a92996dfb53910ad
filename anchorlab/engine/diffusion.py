"""Diffusion problems: a denoiser learns to tell noise from image, and makes images from noise."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import functional_call

from anchorlab.errors import InputError
from anchorlab.models.denoiser import Denoiser

from .memory import sent
from .problem import Measurement, Parameters
from .store import save_member

_EVALUATION_ROWS = 256

Target = Literal["noise", "image"]
"""What a denoiser predicts; either follows from the other. The image is learned in far fewer steps."""

Predictor = Callable[[Tensor, Tensor, Tensor], Tensor]
"""The target for noisy images, given (images, times, concepts); times run from 0 to 1."""


class NoiseSchedule:
    """How images turn into noise in `steps` steps (Ho et al. 2020, arXiv 2006.11239).

    x_t = sqrt(1 - β_t) x_(t-1) + sqrt(β_t) ε with β from `first` in step 1 to `last` in the last step, linearly. Raises
    InputError unless there are two steps at least and 0 < first <= last < 1.
    """

    def __init__(self, steps: int, first: float, last: float):
        if steps < 2:
            raise InputError(f"noise_steps={steps}: must be at least 2")
        if not 0 < first <= last < 1:
            raise InputError(f"noise={first:g}..{last:g}: must rise between 0 and 1")
        self.steps = steps
        self.betas = torch.linspace(first, last, steps, dtype=torch.float64)
        self.kept = (1 - self.betas).cumprod(0)
        """The share of the image's variance in x_t; index t - 1."""

    def noised(
        self,
        images: Float[Tensor, "batch channel pixels pixels"],
        noise: Float[Tensor, "batch channel pixels pixels"],
        steps: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch channel pixels pixels"]:
        """x_t of every image at its own step t (from 1), when the noises of all steps together are `noise`."""
        kept = self.kept[steps - 1].to(images.dtype)[:, None, None, None]
        return kept.sqrt() * images + (1 - kept).sqrt() * noise

    def sample(
        self,
        predict: Predictor,
        target: Target,
        concepts: Float[Tensor, "batch concept"],
        shape: tuple[int, int, int],
        generator: torch.Generator,
    ) -> Float[Tensor, "batch channel pixels pixels"]:
        """An image of `shape` for every row of concepts: ancestral sampling from pure noise with variances β_t."""
        images = torch.randn(len(concepts), *shape, generator=generator)
        for step in range(self.steps, 0, -1):
            beta, kept = self.betas[step - 1].item(), self.kept[step - 1].item()
            found = predict(images, torch.full((len(concepts),), step / self.steps), concepts)
            noise = found if target == "noise" else (images - kept**0.5 * found) / (1 - kept) ** 0.5
            images = (images - beta / (1 - kept) ** 0.5 * noise) / (1 - beta) ** 0.5
            if step > 1:
                images = images + beta**0.5 * torch.randn(images.shape, generator=generator)
        return images


@dataclass(frozen=True)
class Pictures:
    """Images and the concepts that describe them."""

    images: Float[Tensor, "n channel pixels pixels"]
    concepts: Float[Tensor, "n concept"]


@dataclass(frozen=True)
class DiffusionMember:
    """What one member trains on and how it starts.

    `splits` holds at least `train`; the loss on every split is measured. `initialize` draws the weights of the
    denoiser it is given. `noise_seed` decides which pictures a step reads, at which times and with which noise.
    """

    splits: Mapping[str, Pictures]
    initialize: Callable[[Denoiser], None]
    noise_seed: int


class DiffusionBatch(NamedTuple):
    """What one optimizer step reads: noisy images, their times and concepts, and the noise or image to be found."""

    images: Float[Tensor, "member batch channel pixels pixels"]
    times: Float[Tensor, "member batch"]
    concepts: Float[Tensor, "member batch concept"]
    wanted: Float[Tensor, "member batch channel pixels pixels"]


class DiffusionProblem:
    """The mean squared error of what the denoiser predicts, for members of one shape.

    Each row of a batch is a training picture drawn with replacement, at a time drawn uniformly. All draws are a
    function of (noise seed, step). Raises InputError for a batch without rows, and for a split without pictures.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        members: Sequence[DiffusionMember],
        *,
        schedule: NoiseSchedule,
        target: Target,
        batch_size: int,
        device: torch.device | str = "cpu",
    ):
        if batch_size < 1:
            raise InputError(f"batch_size={batch_size}: must be at least 1")
        for member in members:
            for split, pictures in member.splits.items():
                if not len(pictures.images):
                    raise InputError(f"splits: there is no picture in {split!r}")
        self.members = len(members)
        self.batch_size = batch_size
        self.schedule = schedule
        self.target = target
        self.steps_per_epoch = max(1, len(members[0].splits["train"].images) // batch_size)
        self._device = torch.device(device)
        self._denoiser = denoiser
        self._members = members

    def initialize(self, member: int) -> dict[str, Tensor]:
        """Fresh parameters of one member, in the layout of the module."""
        self._members[member].initialize(self._denoiser)
        return {name: parameter.detach().clone() for name, parameter in self._denoiser.named_parameters()}

    def batch(self, members: Sequence[int], step: int) -> DiffusionBatch:
        """Noisy training pictures of optimizer step `step` for every member."""
        parts = [self._draw(self._members[member], step) for member in members]
        return DiffusionBatch(*(sent(torch.stack(column), self._device) for column in zip(*parts, strict=True)))

    def _draw(self, member: DiffusionMember, step: int) -> DiffusionBatch:
        pictures, random = member.splits["train"], _generator(f"noise/{member.noise_seed}/{step}")
        return self._noised(pictures, torch.randint(len(pictures.images), (self.batch_size,), generator=random), random)

    def _noised(self, pictures: Pictures, rows: Int[Tensor, " batch"], random: torch.Generator) -> DiffusionBatch:
        images = pictures.images[rows]
        steps = torch.randint(1, self.schedule.steps + 1, rows.shape, generator=random)
        noise = torch.randn(images.shape, generator=random)
        times = steps.to(images.dtype) / self.schedule.steps
        wanted = noise if self.target == "noise" else images
        return DiffusionBatch(self.schedule.noised(images, noise, steps), times, pictures.concepts[rows], wanted)

    def loss(self, parameters: Parameters, batch: DiffusionBatch) -> Float[Tensor, " member"]:
        """Mean squared error of every member, in float32 under autocast too."""
        # One member after another: convolutions of stacked weights take longer on a CPU.
        return torch.stack([self._error(one, *rows) for one, *rows in zip(_members(parameters), *batch, strict=True)])

    def _error(
        self, parameters: Parameters, images: Tensor, times: Tensor, concepts: Tensor, wanted: Tensor
    ) -> Float[Tensor, ""]:
        found: Tensor = functional_call(self._denoiser, dict(parameters), (images, times, concepts))
        return (found.float() - wanted).square().mean()

    def evaluate(self, parameters: Parameters, members: Sequence[int]) -> list[Measurement]:
        """The loss on the pictures of every split (at most 256), always at the same times and with the same noise."""
        return [
            Measurement(member, split, "", "loss", self._error(one, *self._fixed(split, pictures)).item())
            for member, one in zip(members, _members(parameters), strict=True)
            for split, pictures in self._members[member].splits.items()
        ]

    def _fixed(self, split: str, pictures: Pictures) -> DiffusionBatch:
        rows = torch.arange(min(len(pictures.images), _EVALUATION_ROWS))
        fixed = self._noised(pictures, rows, _generator(f"evaluation/{split}"))
        return DiffusionBatch(*(part.to(self._device) for part in fixed))

    def save(self, member: int, parameters: Parameters, folder: Path) -> None:
        """Write the member's denoiser; `load_denoiser` opens it."""
        save_member(self._denoiser, parameters, folder)


def _members(parameters: Parameters) -> Iterator[dict[str, Tensor]]:
    for values in zip(*(stacked.unbind(0) for stacked in parameters.values()), strict=True):
        yield dict(zip(parameters, values, strict=True))


def _generator(name: str) -> torch.Generator:
    seed = int.from_bytes(sha256(name.encode()).digest()[:8]) >> 1
    return torch.Generator().manual_seed(seed)
