"""Domains: points are inside, normals point outward, distances vanish on the boundary."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anchorlab import pde
from anchorlab.errors import InputError
from anchorlab.pde.domains import Domain

SQUARE = pde.Box({"x": (-1.0, 1.0), "y": (0.0, 3.0)})
HOLES = pde.Difference(SQUARE, (pde.Disk((0.0, 1.5), 0.4), pde.Box({"x": (0.5, 2.0), "y": (2.0, 4.0)})))
ROUND = pde.Difference(SQUARE, (pde.Disk((0.0, 1.5), 0.4), pde.Disk((0.8, 0.5), 0.1)))
DOMAINS = [pde.Interval(-2, 1), SQUARE, pde.Disk((1.0, 2.0), 0.5), HOLES, ROUND]


def stream(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


@settings(max_examples=20, deadline=None)
@given(place=st.integers(0, len(DOMAINS) - 1), count=st.integers(2, 60), seed=st.integers(0, 99))
def test_points_are_where_they_belong(place: int, count: int, seed: int) -> None:
    domain = DOMAINS[place]
    inside = domain.interior(count, stream(seed))
    assert inside.shape == (count, domain.dimensions)
    assert domain.contains(inside).all()
    edge = domain.boundary(count, stream(seed))
    np.testing.assert_allclose(np.linalg.norm(edge.normals, axis=1), 1, atol=1e-12)
    if domain is not HOLES:
        np.testing.assert_allclose(domain.distance(edge.points), 0, atol=1e-9)
        distances = domain.distance(inside)
        assert (distances >= 0).all()
        assert (distances <= 1).all()  # a net is multiplied with it
    step = 1e-6 * edge.normals
    assert not domain.contains(edge.points + step).any()
    corner = domain.contains(edge.points - step)
    assert corner.mean() > 0.9  # a point next to a corner may miss


@pytest.mark.parametrize("domain", DOMAINS)
def test_grids_weigh_what_the_domain_measures(domain: Domain) -> None:
    points, weights = domain.grid(3000)
    assert domain.contains(points).all()
    assert weights.sum() == pytest.approx(domain.volume)
    known = {0: 3.0, 1: 6.0, 2: math.pi / 4, 3: 6 - math.pi * 0.16 - 0.5, 4: 6 - math.pi * 0.17}
    assert domain.volume == pytest.approx(known[DOMAINS.index(domain)], rel=5e-3)


def test_sides_have_names_and_shares_by_their_lengths() -> None:
    edge = SQUARE.boundary(80, stream())
    assert (edge.points[:, 1] == 0).sum() == 80 * 2 / 10  # of sides 2, 2, 3 and 3 long
    assert (edge.points[:, 0] == 1).sum() == 80 * 3 / 10
    (points, normals) = SQUARE.boundary(5, stream(), "y=3")
    assert (points[:, 1] == 3).all()
    assert (normals == [0, 1]).all()
    with pytest.raises(InputError, match="on='y=2': must be 'boundary' or one of its sides x=-1, x=1, y=0, y=3"):
        SQUARE.boundary(5, stream(), "y=2")


def test_time_has_no_boundary_but_a_first_moment() -> None:
    tube = pde.Box({"x": (0, 1), "t": (2.0, 5.0)}, time="t")
    edge = tube.boundary(50, stream())
    assert set(edge.points[:, 0]) == {0.0, 1.0}
    assert (tube.initial(7, stream())[:, 1] == 2).all()
    assert tube.space == (0,)
    with pytest.raises(InputError, match="has no time; name its axis"):
        SQUARE.initial(3, stream())


def test_parts_of_a_difference() -> None:
    holes = HOLES.boundary(50, stream(), "holes").points
    assert not np.isclose(np.abs(holes[:, 0]), 1).any()
    outer = HOLES.boundary(50, stream(), "outer").points
    np.testing.assert_allclose(SQUARE.distance(outer), 0, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pde.Interval(1, 1), r"domain: x=\(1, 1\) is empty"),
        (lambda: pde.Box({}), "axes: a box needs at least one"),
        (lambda: pde.Disk((0, 0), -1.0), "domain: radius=-1.0 leaves it empty"),
        (lambda: pde.Difference(pde.Disk(), (pde.Disk((0.0, 0.0), 2.0),)), "is empty: its holes cover it"),
        (lambda: pde.Box({"x": (0, 1)}, time="t"), "time='t': must be one of the axes x"),
        (lambda: pde.Difference(pde.Disk(), (pde.Interval(0, 1),)), "holes: must have the coordinates"),
    ],
)
def test_empty_and_wrong_domains_are_refused(make: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()  # type: ignore[operator]


def test_distances_work_on_tensors() -> None:
    points = torch.rand(6, 2, dtype=torch.float64)
    np.testing.assert_allclose(ROUND.distance(points).numpy(), ROUND.distance(points.numpy()))  # type: ignore[arg-type, attr-defined]
    with pytest.raises(InputError, match="must be a Disk; use hard=False"):
        HOLES.distance(points.numpy())


def test_no_part_of_a_boundary_goes_without_points() -> None:
    long = pde.Box({"x": (0.0, 1.0), "y": (0.0, 200.0)})
    points = long.boundary(100, stream()).points
    assert {tuple(side) for side in (points[:, 1, None] == [0.0, 200.0]).tolist()} == {
        (False, False),
        (True, False),
        (False, True),
    }
    specks = pde.Difference(SQUARE, (pde.Disk((0.0, 1.0), 0.005), pde.Disk((0.0, 2.0), 0.005)))
    edge = specks.boundary(100, stream()).points
    for y in (1.0, 2.0):
        assert (np.hypot(edge[:, 0], edge[:, 1] - y) < 0.006).any()
    few = np.concatenate([SQUARE.boundary(2, stream(seed)).points for seed in range(20)])
    assert all((few[:, axis] == end).any() for axis, end in ((0, -1.0), (0, 1.0), (1, 0.0), (1, 3.0)))


def test_a_short_axis_keeps_some_points_of_a_grid() -> None:
    points, _ = pde.Box({"x": (0.0, 1.0), "t": (0.0, 2000.0)}).grid(1024)
    assert len(np.unique(points[:, 0])) == 8
    assert len(np.unique(points[:, 1])) == 128


def test_a_rounded_name_finds_its_side() -> None:
    circle = pde.Box({"x": (-math.pi, math.pi)})
    for end in (0, 1):
        assert circle.sides(circle.side_name(0, end)) == [(0, end)]


def test_points_on_the_boundary_of_a_domain_with_holes_are_as_dense_everywhere() -> None:
    domain = pde.Difference(SQUARE, (pde.Disk((0.0, 1.5), 0.4),))
    points, normals = domain.boundary(4000, stream())
    length = 10 + 0.8 * np.pi
    # Gauss: the integral of (x - c)·n is twice the area, and that of n is 0, for points as dense on every part.
    flux = ((points - SQUARE.bounds.mean(1)) * normals).sum(1).mean() * length
    assert flux == pytest.approx(2 * domain.volume, rel=0.01)
    np.testing.assert_allclose(normals.mean(0), 0, atol=0.02)
    for axis, end in ((0, -1.0), (0, 1.0), (1, 0.0), (1, 3.0)):
        own = np.isclose(points[:, axis], end).mean()
        assert own == pytest.approx((3 if axis == 0 else 2) / length, rel=0.02)
