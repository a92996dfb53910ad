"""The conditional denoiser of the concept-graph experiment (section 13.6, figure 13.13)."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from anchorlab.errors import InputError

from .quiet import quietly
from .validation import check_positive_integer

_EPSILON = 1e-5


class _Norm(nn.Module):
    """All features of an image divided by their root mean square, then a gain and a shift for every channel.

    The mean is not subtracted: it tells how bright the image is, which a denoiser has to correct.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels, 1, 1))
        self.shift = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, features: Float[Tensor, "batch channel row column"]) -> Float[Tensor, "batch channel row column"]:
        """The normalized features."""
        scale = torch.rsqrt(features.square().mean((1, 2, 3), keepdim=True) + _EPSILON)
        return torch.addcmul(self.shift, features, self.gain * scale)


class DenoiserConfig(PreTrainedConfig):
    """Shape of the denoiser: square images, features at full resolution, layers in a block, widths of the concepts."""

    model_type = "anchorlab_denoiser"

    image_channels: int = 3
    pixels: int = 16
    channels: int = 16
    depth: int = 1
    concept_widths: tuple[int, ...] = (2, 1, 3)


class Denoiser(PreTrainedModel):
    """A U-Net of three resolutions that tells noise from image, given its time and its concept variables.

    A small form of the network of Okawa et al. (2024, arXiv 2310.09336): the way down sees the image alone; on the way
    up, at the two coarser resolutions, the features are multiplied by the sum of the embeddings of the concept
    variables, one small net each, and the embedding of time is added. Norms over the features of one image take the
    place of batch norms, so that what is computed for it does not depend on the others.
    """

    config_class = DenoiserConfig
    base_model_prefix = "denoiser"
    main_input_name = "images"

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__(config)
        width, wide, depth = config.channels, 2 * config.channels, config.depth
        self.first = _block(config.image_channels, width, depth)
        self.down_fine = _block(width, width, depth)
        self.down_coarse = _block(width, wide, depth)
        self.pool = nn.MaxPool2d(2)
        bottom = config.pixels // 4
        self.summary = nn.Sequential(nn.AvgPool2d(bottom), nn.GELU())
        self.spread = nn.Sequential(nn.ConvTranspose2d(wide, wide, bottom, bottom), _Norm(wide), nn.ReLU())
        self.up_coarse = nn.Sequential(nn.ConvTranspose2d(2 * wide, width, 2, 2), _block(width, width, depth))
        self.up_fine = nn.Sequential(nn.ConvTranspose2d(wide, width, 2, 2), _block(width, width, depth))
        self.last = nn.Sequential(
            nn.Conv2d(wide, width, 3, padding=1),
            _Norm(width),
            nn.ReLU(),
            nn.Conv2d(width, config.image_channels, 3, padding=1),
        )
        self.time_coarse, self.time_fine = _embedding(1, wide), _embedding(1, width)
        self.concepts_coarse = nn.ModuleList([_embedding(inputs, wide) for inputs in config.concept_widths])
        self.concepts_fine = nn.ModuleList([_embedding(inputs, width) for inputs in config.concept_widths])
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self,
        images: Float[Tensor, "batch channel pixels pixels"],
        times: Float[Tensor, " batch"],
        concepts: Float[Tensor, "batch concept"],
        **kwargs: Any,
    ) -> Float[Tensor, "batch channel pixels pixels"]:
        """The noise in `images`, or the image behind it, whichever it is trained to predict.

        `times` run from 0 (no noise) to 1 (nothing else); other arguments are ignored.
        """
        variables = concepts.split(list(self.config.concept_widths), dim=1)
        features = self.first(images)
        fine = self.pool(self.down_fine(features))
        coarse = self.pool(self.down_coarse(fine))
        up = self.spread(self.summary(coarse))
        up = up * _sum_of(self.concepts_coarse, variables) + _as_map(self.time_coarse(times[:, None]))
        up = self.up_coarse(torch.cat((up, coarse), dim=1))
        up = up * _sum_of(self.concepts_fine, variables) + _as_map(self.time_fine(times[:, None]))
        up = self.up_fine(torch.cat((up, fine), dim=1))
        predicted: Tensor = self.last(torch.cat((up, features), dim=1))
        return predicted


def build_denoiser(pixels: int, channels: int, depth: int, concept_widths: tuple[int, ...]) -> Denoiser:
    """A denoiser of RGB images: `channels` features at full resolution, `depth` convolutions in a block.

    Its weights follow from the shape alone; `draw_uniform` draws those that training starts from. Raises InputError
    unless `pixels` is a multiple of 4 and `channels` and `depth` are at least 1.
    """
    if pixels < 4 or pixels % 4:
        raise InputError(f"pixels={pixels}: must be a positive multiple of 4, the image is halved twice")
    check_positive_integer("channels", channels)
    check_positive_integer("depth", depth)
    config = DenoiserConfig(pixels=pixels, channels=channels, depth=depth, concept_widths=concept_widths)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return Denoiser(config)


def load_denoiser(folder: Path) -> Denoiser:
    """The denoiser that `save_pretrained` wrote to `folder`; raises InputError if there is none."""
    if not (folder / "config.json").is_file():
        raise InputError(f"folder: {folder} holds no saved denoiser (config.json is missing)")
    with quietly():
        denoiser: Denoiser = Denoiser.from_pretrained(folder, local_files_only=True)
    return denoiser


@torch.no_grad()
def draw_uniform(denoiser: Denoiser, rate: float, generator: torch.Generator) -> None:
    """Draw every weight and bias of a layer from U(-d_in^-γ, d_in^-γ), in place; norms become (1, 0).

    γ = `rate` = 0.5 is PyTorch's default for linear and convolutional layers (section 13.6). d_in is what PyTorch
    counts as a layer's fan-in: the numbers that one output reads, for a transposed convolution those that one input
    is spread to.
    """
    for module in denoiser.modules():
        if isinstance(module, _Norm):
            module.gain.fill_(1.0)
            module.shift.fill_(0.0)
        elif isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            bound = float(module.weight[0].numel()) ** -rate
            for parameter in module.parameters(recurse=False):
                parameter.uniform_(-bound, bound, generator=generator)


def _block(inputs: int, outputs: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (inputs, *[outputs] * (depth - 1)):
        layers += [nn.Conv2d(width, outputs, 3, padding=1), _Norm(outputs), nn.GELU()]
    return nn.Sequential(*layers)


def _embedding(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.GELU(), nn.Linear(outputs, outputs))


def _sum_of(embeddings: nn.ModuleList, variables: tuple[Tensor, ...]) -> Float[Tensor, "batch channel 1 1"]:
    parts = [embed(variable) for embed, variable in zip(embeddings, variables, strict=True)]
    return _as_map(torch.stack(parts).sum(0))


def _as_map(rows: Float[Tensor, "batch channel"]) -> Float[Tensor, "batch channel 1 1"]:
    return rows[:, :, None, None]
