"""Fourier coefficients of samples, on uniform and other points, and how well an output has them (section 4.1)."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Complex128, Float, Int
from torch import Tensor

from anchorlab.errors import InputError

_UNIFORM = 1e-4  # by which share of their mean the distances of uniform points may differ: enough for float32
_VANISHING = 1e-10  # of the largest value: what rounding leaves of a coefficient that is none


class Spectrum(NamedTuple):
    """Coefficients at the frequencies 2πj / (n Δx), j = 0 … n // 2, of n uniform samples."""

    frequencies: Float[Tensor, " k"]
    coefficients: Complex128[Tensor, "*series k"]


def transform(
    points: Float[Tensor, "n *inputs"], values: Float[Tensor, "*series n"], frequencies: Float[Tensor, "k *inputs"]
) -> Complex128[Tensor, "*series k"]:
    """The discrete Fourier transform ĝ(k) = 1/n Σⱼ g(xⱼ) exp(-i k·xⱼ) at any points and (angular) frequencies.

    With k = 2πξ it is the sum of eq. 4.4, and that of eq. 4.1 over the samples. Computed in float64. Raises InputError
    for shapes that do not fit together and for numbers that are not finite.
    """
    places, waves = (_columns(name, one) for name, one in (("points", points), ("frequencies", frequencies)))
    if places.shape[1] != waves.shape[1]:
        raise InputError(f"frequencies: have {waves.shape[1]} inputs; must have {places.shape[1]}, as the points")
    samples = _finite("values", values)
    if samples.shape[-1] != len(places):
        raise InputError(f"values: are {samples.shape[-1]}; must be {len(places)}, one for each point")
    phases = places @ waves.T
    return (samples + 0j) @ torch.polar(torch.ones_like(phases), -phases) / len(places)


def spectrum(points: Float[Tensor, " n"], values: Float[Tensor, "*series n"]) -> Spectrum:
    """All coefficients of samples at uniform points: `transform` at the frequencies of their period, by FFT.

    The period is n Δx: points should not hold both of its ends. Raises InputError for points that are not uniform.
    """
    places = _columns("points", points)[:, 0]
    samples = _finite("values", values)
    if len(places) < 2 or samples.shape[-1] != len(places):
        raise InputError(f"values: are {samples.shape[-1]} at {len(places)} points; must be one for each, at least two")
    step = (places[-1] - places[0]) / (len(places) - 1)
    if step <= 0 or ((places.diff() - step).abs() > _UNIFORM * step).any():
        raise InputError("points: must increase in equal steps; use transform for other points")
    frequencies = torch.arange(len(places) // 2 + 1, dtype=torch.float64) * (2 * math.pi / (len(places) * step))
    shift = torch.polar(torch.ones_like(frequencies), -frequencies * places[0])
    return Spectrum(frequencies, torch.fft.rfft(samples, norm="forward") * shift)


def relative_error(
    points: Float[Tensor, "n *inputs"],
    outputs: Float[Tensor, "*series n"],
    targets: Float[Tensor, " n"],
    frequencies: Float[Tensor, "k *inputs"],
) -> Float[Tensor, "*series k"]:
    """Δ_F(k) = |ĥ(k) - f̂(k)| / |f̂(k)| of outputs h and targets f (section 4.1.3).

    Raises InputError for a frequency that the targets do not have.
    """
    wanted = transform(points, targets, frequencies)
    absent = wanted.abs() <= _VANISHING * targets.abs().max()
    if absent.any():
        name = frequency_name(frequencies[absent][0])
        raise InputError(f"frequencies: the targets have none at {name}; must be where their spectrum is not 0")
    return (transform(points, outputs, frequencies) - wanted).abs() / wanted.abs()


def peaks(amplitudes: Float[Tensor, " k"], share: float = 0.1) -> Int[Tensor, " peak"]:
    """Places of the local maxima that are at least `share` of the largest amplitude; the ends can be such."""
    if not 0 < share <= 1:
        raise InputError(f"share={share}: must be above 0 and at most 1")
    edge = amplitudes.new_tensor([-math.inf])
    around = torch.cat([edge, amplitudes, edge])
    local = (amplitudes > around[:-2]) & (amplitudes >= around[2:])
    return (local & (amplitudes >= share * amplitudes.max())).nonzero()[:, 0]


def principal_direction(inputs: Float[Tensor, "n inputs"]) -> Float[Tensor, " inputs"]:
    """The first principal component, of length 1; its largest entry is positive.

    Raises InputError for points that are all the same.
    """
    places = _columns("inputs", inputs)
    centred = places - places.mean(0)
    if not centred.any():
        raise InputError("inputs: are all the same point; a direction needs at least two")
    direction = torch.linalg.svd(centred, full_matrices=False).Vh[0]
    return direction * direction[direction.abs().argmax()].sign()  # type: ignore[no-any-return]


def spectrum_along(
    inputs: Float[Tensor, "n inputs"],
    values: Float[Tensor, "*series n"],
    direction: Float[Tensor, " inputs"],
    frequencies: Float[Tensor, " k"],
) -> Complex128[Tensor, "*series k"]:
    """`transform` at multiples of one direction, which need not be a unit vector (section 4.2.3)."""
    return transform(inputs, values, frequencies.double()[:, None] * _finite("direction", direction))


def sines(points: Float[Tensor, "n 1"], frequencies: tuple[float, ...]) -> Float[Tensor, "n 1"]:
    """Σ sin(kx): peaks of equal height (section 4.1.3)."""
    return sum((torch.sin(k * points) for k in frequencies), torch.zeros_like(points))


def frequency_name(frequency: Float[Tensor, "*inputs"]) -> str:
    """`k=3`, or `k=3,1` with several inputs: the group of rows in a run's metrics."""
    return "k=" + ",".join(f"{one:g}" for one in frequency.flatten().tolist())


def _columns(name: str, numbers: Tensor) -> Float[Tensor, "n inputs"]:
    found = _finite(name, numbers)
    if found.ndim not in (1, 2) or not found.numel():
        raise InputError(f"{name}: have shape {list(found.shape)}; must be [n] or [n, inputs], not empty")
    return found[:, None] if found.ndim == 1 else found


def _finite(name: str, numbers: Tensor) -> Tensor:
    found = numbers.detach().cpu().double()
    if not found.isfinite().all():
        raise InputError(f"{name}: one is not finite; all must be finite numbers")
    return found
