import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anchorlab.corpora.concept_shapes import TRAINED, TUPLES, concepts_of, coverage, draw, recognize
from anchorlab.errors import InputError


def philox(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


@pytest.mark.parametrize("pixels", [16, 28])
def test_every_drawn_tuple_is_recognized_with_its_shape_and_size(pixels: int) -> None:
    drawings = draw(TUPLES * 25, pixels, philox(0))
    found = recognize(drawings.images)
    assert [str(shape) for shape in found.shapes] == [name[0] for name in TUPLES * 25]
    assert found.clear.all()
    assert abs(found.sizes - drawings.concepts[:, 2]).max() < 0.3


def test_shapes_are_recognized_under_noise() -> None:
    noisy = draw(TUPLES * 25, 16, philox(1)).images + 0.1 * philox(2).standard_normal((200, 3, 16, 16))
    found = recognize(noisy.astype(np.float32))
    assert (found.shapes == [int(name[0]) for name in TUPLES * 25]).mean() >= 0.99
    assert found.clear.mean() >= 0.95


def test_neither_nothing_nor_noise_nor_another_shape_is_clear() -> None:
    others = np.zeros((3, 3, 16, 16), dtype=np.float32)
    others[1, :, 7:9, :] = 0.4  # a bar
    others[2, :, ::4, ::4] = 0.4  # a lattice
    assert not recognize(others).clear.any()
    assert not recognize(philox(3).standard_normal((50, 3, 16, 16)).astype(np.float32)).clear.any()


def test_colour_does_not_change_what_is_recognized() -> None:
    images = draw(("010", "111", "100"), 16, philox(4)).images
    swapped = recognize(images[:, ::-1])
    assert swapped.shapes.tolist() == recognize(images).shapes.tolist() == [0, 1, 1]


@given(size=st.floats(1.0, 2.7), x=st.floats(-0.05, 0.05), y=st.floats(-0.05, 0.05))
@settings(max_examples=50, deadline=None)
def test_circle_and_triangle_of_one_size_cover_the_area_of_the_circle(size: float, x: float, y: float) -> None:
    centres = np.array([[0.5 + x, 0.5 + y]] * 2)
    covered = coverage(np.array([0, 1]), np.array([size, size]), centres, 64).sum(axis=(1, 2)) / 64**2
    np.testing.assert_allclose(covered, np.pi * (1.75 / 16 * size) ** 2, rtol=0.03)


def test_triangles_point_up_and_are_symmetric() -> None:
    (triangle,) = coverage(np.array([1]), np.array([2.6]), np.array([[0.5, 0.5]]), 32)
    np.testing.assert_allclose(triangle, triangle[:, ::-1], atol=1e-12)
    widths = triangle.sum(axis=1)
    inside = np.flatnonzero(widths)
    assert (np.diff(widths[inside[1:-1]]) > 0).all()
    assert inside[0] + inside[-1] == 31


def test_digits_mean_shape_size_and_colour() -> None:
    large_red_circle, small_red_circle, small_blue_triangle = concepts_of(("000", "010", "111"))
    np.testing.assert_allclose(large_red_circle, [1, 0, 2.6, 0.9, 0.1, 0.1])
    np.testing.assert_allclose(small_red_circle, [1, 0, 1.4, 0.9, 0.1, 0.1])
    np.testing.assert_allclose(small_blue_triangle, [0, 1, 1.4, 0.1, 0.1, 0.9])
    assert {name[0] for name in TRAINED if name[1] == "1"} == {"1"}  # small is seen in triangles only


def test_drawings_vary_around_the_tuple_and_say_how() -> None:
    drawings = draw(("001",) * 100, 16, philox(5))
    spread = np.ptp(drawings.concepts, axis=0)
    assert (spread[:2] == 0).all()
    assert (spread[2:] > 0.05).all()
    assert abs(drawings.concepts - concepts_of(("001",))).max() <= 0.1 + 1e-6
    drawn = drawings.images.max(axis=(2, 3))  # the full colour, where a pixel is covered entirely
    np.testing.assert_allclose(drawn, drawings.concepts[:, 3:], atol=1e-6)


def test_the_same_generator_state_draws_the_same_pictures() -> None:
    a, b = draw(TUPLES, 16, philox(6)), draw(TUPLES, 16, philox(6))
    assert (a.images == b.images).all()
    assert (a.concepts == b.concepts).all()


@pytest.mark.parametrize("name", ["00", "002", "0000", "abc"])
def test_unknown_tuple_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"tuple='{name}': must be three digits"):
        draw((name,), 16, philox(0))
