import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anchorlab.errors import InputError
from anchorlab.phenomena.spectra import (
    frequency_name,
    peaks,
    principal_direction,
    relative_error,
    sines,
    spectrum,
    spectrum_along,
    transform,
)


def uniform(count: int) -> torch.Tensor:
    return (torch.arange(count, dtype=torch.float64) / count * 2 - 1) * math.pi


@given(seed=st.integers(0, 1000), count=st.integers(2, 40))
def test_the_spectrum_of_uniform_points_is_numpys(seed: int, count: int) -> None:
    values = np.random.Generator(np.random.Philox(seed)).standard_normal((2, count))
    found = spectrum(torch.arange(count), torch.from_numpy(values))
    np.testing.assert_allclose(found.coefficients.numpy(), np.fft.rfft(values) / count, atol=1e-12)
    np.testing.assert_allclose(found.frequencies.numpy(), 2 * np.pi * np.fft.rfftfreq(count))


@given(seed=st.integers(0, 1000), count=st.integers(2, 40), start=st.floats(-5, 5), step=st.floats(0.1, 3))
def test_the_spectrum_is_the_transform_at_its_frequencies(seed: int, count: int, start: float, step: float) -> None:
    points = start + step * torch.arange(count, dtype=torch.float64)
    values = torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = spectrum(points, values)
    torch.testing.assert_close(found.coefficients, transform(points, values, found.frequencies), atol=1e-10, rtol=0)


def test_waves_have_half_their_amplitude_as_coefficient() -> None:
    points = uniform(50)
    found = transform(points, 3 * torch.sin(2 * points) + torch.cos(5 * points), torch.tensor([2.0, 5.0, 3.0]))
    torch.testing.assert_close(found, torch.tensor([-1.5j, 0.5, 0], dtype=torch.complex128), atol=1e-12, rtol=0)


def test_points_need_not_be_uniform() -> None:
    points, values = torch.tensor([0.3, -1.0, 2.5]), torch.tensor([1.0, 2.0, -1.0])
    wanted = sum(v * np.exp(-1j * 1.7 * x) for x, v in zip(points.tolist(), values.tolist(), strict=True)) / 3
    assert transform(points, values, torch.tensor([1.7])).item() == pytest.approx(wanted)


def test_the_transform_of_products_is_the_product_of_transforms() -> None:
    axis = uniform(12)
    points = torch.cartesian_prod(axis, axis)
    values = torch.sin(points[:, 0]) * torch.cos(2 * points[:, 1])
    frequencies = torch.tensor([[1.0, 2.0], [2.0, 1.0]])
    found = transform(points, values, frequencies)
    torch.testing.assert_close(found, torch.tensor([-0.25j, 0], dtype=torch.complex128), atol=1e-12, rtol=0)


def test_the_error_is_that_which_was_planted() -> None:
    points = uniform(40)
    targets = torch.sin(points) + 2 * torch.sin(3 * points)
    outputs = torch.stack([1.25 * torch.sin(points) + torch.sin(3 * points), targets, torch.zeros_like(points)])
    found = relative_error(points, outputs, targets, torch.tensor([1.0, 3.0]))
    torch.testing.assert_close(found, torch.tensor([[0.25, 0.5], [0, 0], [1, 1]], dtype=torch.float64))


def test_a_shifted_wave_is_an_error() -> None:
    points = uniform(40)
    error = relative_error(points, torch.cos(points), torch.sin(points), torch.tensor([1.0]))
    assert error.item() == pytest.approx(math.sqrt(2))


def test_peaks_are_local_maxima_of_some_height() -> None:
    amplitudes = torch.tensor([0.0, 3, 1, 1, 0.2, 0.4, 0, 2, 2, 0, 1])
    assert peaks(amplitudes, 0.2).tolist() == [1, 7, 10]
    assert peaks(amplitudes, 0.1).tolist() == [1, 5, 7, 10]
    assert peaks(torch.tensor([5.0, 1.0])).tolist() == [0]


def test_the_direction_is_that_of_the_largest_spread() -> None:
    along = torch.linspace(-3, 4, 30, dtype=torch.float64)
    noise = 0.01 * torch.randn(30, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = principal_direction(along[:, None] * torch.tensor([-0.6, -0.8], dtype=torch.float64) + noise + 5)
    torch.testing.assert_close(found, torch.tensor([0.6, 0.8], dtype=torch.float64), atol=0.01, rtol=0)


def test_along_a_direction_only_the_projection_counts() -> None:
    inputs = torch.randn(20, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    direction = torch.tensor([0.0, 2.0, 0.0], dtype=torch.float64)
    frequencies = torch.tensor([0.0, 0.7, 2.0])
    found = spectrum_along(inputs, inputs[:, 0], direction, frequencies)
    torch.testing.assert_close(found, transform(2 * inputs[:, 1], inputs[:, 0], frequencies))


def test_sines_have_equal_peaks() -> None:
    points = uniform(32)
    found = spectrum(points, sines(points[:, None], (1, 3, 5))[:, 0]).coefficients.abs()
    assert peaks(found).tolist() == [1, 3, 5]
    torch.testing.assert_close(found[[1, 3, 5]], torch.full((3,), 0.5, dtype=torch.float64))


def test_names_of_frequencies() -> None:
    assert frequency_name(torch.tensor(3.0)) == "k=3"
    assert frequency_name(torch.tensor([0.5, 2.0])) == "k=0.5,2"


POINTS = uniform(8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: transform(POINTS, POINTS[:5], POINTS), "values: are 5; must be 8, one for each point"),
        (lambda: transform(POINTS, POINTS, torch.ones(3, 2)), "frequencies: have 2 inputs; must have 1"),
        (lambda: transform(POINTS, POINTS / 0, POINTS), "values: one is not finite; all must be finite"),
        (lambda: transform(POINTS[:0], POINTS[:0], POINTS), "points: have shape [0]; must be [n] or [n, inputs]"),
        (lambda: spectrum(POINTS**2, POINTS), "points: must increase in equal steps"),
        (lambda: spectrum(POINTS.flip(0), POINTS), "points: must increase in equal steps"),
        (lambda: spectrum(POINTS[:1], POINTS[:1]), "values: are 1 at 1 points; must be one for each, at least two"),
        (
            lambda: relative_error(POINTS, POINTS, torch.sin(POINTS), torch.tensor([1.0, 2.0])),
            "frequencies: the targets have none at k=2; must be where their spectrum is not 0",
        ),
        (lambda: peaks(POINTS, 0), "share=0: must be above 0 and at most 1"),
        (lambda: principal_direction(torch.ones(4, 2)), "inputs: are all the same point"),
    ],
)
def test_wrong_values_are_named(call, message: str) -> None:
    with pytest.raises(InputError) as error:
        call()
    assert str(error.value).startswith(message)
    assert len(str(error.value).splitlines()) == 1
