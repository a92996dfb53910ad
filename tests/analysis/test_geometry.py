import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group, spearmanr
from sklearn.manifold import trustworthiness

from anchorlab.analysis import embedding_pca
from anchorlab.analysis.embedding import curve_order, embedding_geometry, step_cosines, step_lattice
from anchorlab.analysis.projection import project
from anchorlab.errors import InputError

VALUES = np.arange(20, 101)


def gaussian(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def in_directions(coordinates: np.ndarray, width: int = 40) -> np.ndarray:
    """Plane coordinates in orthonormal directions of a wide space."""
    directions = np.linalg.qr(gaussian(width, coordinates.shape[1], seed=2))[0].T
    return coordinates @ directions


# projections


def test_principal_components_are_those_of_the_singular_value_decomposition():
    points = gaussian(30, 6) * np.arange(1, 7)
    found = project(points, components=3)
    left, sizes, _ = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    assert np.allclose(np.abs(found.coordinates), np.abs(left[:, :3] * sizes[:3]))
    assert found.explained_variance == pytest.approx(sizes[:3] ** 2 / (sizes**2).sum())
    assert (found.perplexity, found.seed) == (None, None)


@given(st.permutations(range(20)))
@settings(max_examples=20, deadline=None)
def test_principal_components_do_not_depend_on_the_order_of_points(order):
    points = gaussian(20, 5)
    assert np.allclose(project(points[order]).coordinates, project(points).coordinates[order])


def test_tsne_keeps_neighbourhoods_and_repeats():
    points = np.repeat(10 * gaussian(4, 30), 15, axis=0) + gaussian(60, 30)
    found = project(points, "tsne", perplexity=10, seed=3)
    assert found.coordinates.shape == (60, 2)
    assert found.coordinates.dtype == np.float64
    assert trustworthiness(points, found.coordinates, n_neighbors=5) > 0.9
    assert np.array_equal(found.coordinates, project(points, "tsne", perplexity=10, seed=3).coordinates)
    assert (found.perplexity, found.seed, found.explained_variance) == (10, 3, None)


def test_perplexity_follows_the_number_of_points():
    assert project(gaussian(10, 4), "tsne").perplexity == 3
    assert project(gaussian(120, 4), "tsne").perplexity == 30


@pytest.mark.parametrize(
    ("points", "settings", "message"),
    [
        (gaussian(9, 3), {"method": "umap"}, "method: unknown value 'umap'"),
        (gaussian(4, 3), {"method": "tsne"}, "at least 5 points needed, got 4"),
        (gaussian(1, 3), {}, "at least 2 points needed, got 1"),
        (gaussian(9, 3), {"method": "tsne", "perplexity": 9}, "perplexity=9: .* below the number of points, 9"),
        (gaussian(9, 3), {"method": "tsne", "perplexity": 0.5}, "perplexity=0.5: must be at least 1"),
        (gaussian(9, 3), {"components": 4}, "components=4: must be from 1 to 3"),
        (np.ones((9, 3)), {}, "all are equal"),
        (np.where(np.arange(9) == 6, np.nan, gaussian(3, 9)).T, {}, "must be finite, row 6 is not"),
        (gaussian(9), {}, "one point a row"),
    ],
)
def test_projections_that_mean_nothing_are_refused(points, settings, message):
    with pytest.raises(InputError, match=message):
        project(points, **settings)


# embeddings: principal components and steps


def test_ordered_embeddings_have_order_score_one():
    values = np.arange(20, 60)
    direction = np.random.default_rng(0).normal(size=16)
    found = embedding_pca(-np.outer(values**2, direction), values)
    assert found.order_score == pytest.approx(1)
    assert found.explained_variance[0] == pytest.approx(1)
    assert (np.diff(found.coordinates[:, 0]) > 0).all()


def test_order_along_the_second_component_counts():
    values = np.arange(20, 60)
    embeddings = np.stack([(values - 39.5) ** 2, values - 39.5, 0 * values], axis=1)
    found = embedding_pca(embeddings, values)
    assert found.order_scores[0] < 0.1
    assert found.order_score == found.order_scores[1] > 0.95


def test_shuffled_embeddings_have_no_order():
    random = np.random.default_rng(1)
    assert embedding_pca(random.normal(size=(81, 32)), np.arange(20, 101)).order_score < 0.35
    found = embedding_pca(random.normal(size=(81, 32)), np.arange(20, 101))
    assert found.step_score < 0.15
    assert found.step_chance == pytest.approx(found.step_score, abs=0.1)


def rows_of(values, columns, stretch):
    """Numbers in rows of `columns`, the two axes in unrelated directions of 40 dimensions."""
    directions = np.random.default_rng(2).normal(size=(2, 40))
    return np.stack([stretch * (values % columns), values // columns], axis=1) @ directions


@pytest.mark.parametrize("columns", [3, 4, 7])
def test_a_lattice_is_ordered_in_its_own_steps_though_not_by_size(columns):
    values = np.arange(20, 101)
    found = embedding_pca(rows_of(values, columns, stretch=20), values)
    assert found.order_scores[0] < 0.5  # the widest direction does not sort the numbers
    assert found.best_step == columns
    assert found.step_score == pytest.approx(1)
    assert found.step_chance < 0.3


def test_a_circle_is_ordered_in_small_steps():
    angles = 2 * np.pi * np.arange(81) / 27
    found = embedding_pca(np.stack([np.cos(angles), np.sin(angles)], axis=1), np.arange(20, 101))
    assert found.step_scores[1:] == pytest.approx(np.full(7, np.cos(2 * np.pi / 27)))
    assert found.step_scores[0] == pytest.approx(np.cos(4 * np.pi / 27))


def test_step_cosines_against_the_definition():
    embeddings = np.random.default_rng(5).normal(size=(9, 4))
    cosines = step_cosines(embeddings)
    assert cosines.shape == (9, 7)
    for step in range(1, 8):
        apart = 2 if step == 1 else 1
        for x in range(9):
            if x + step + apart >= 9:
                assert np.isnan(cosines[x, step - 1])
                continue
            one = embeddings[x + step] - embeddings[x]
            other = embeddings[x + apart + step] - embeddings[x + apart]
            cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
            assert cosines[x, step - 1] == pytest.approx(cosine)


def test_linear_order_is_order_in_every_step():
    values = np.arange(20, 60)
    found = embedding_pca(np.outer(values, np.arange(1.0, 5)), values)
    assert found.step_scores == pytest.approx(np.ones(8))


def test_equal_embeddings_have_order_score_zero():
    with np.errstate(invalid="ignore"):
        found = embedding_pca(np.ones((5, 4)), np.arange(5))
    assert found.order_score == found.step_score == found.step_chance == 0


def test_embeddings_that_have_no_order_to_measure_are_refused():
    with pytest.raises(InputError, match="at least 4"):
        embedding_pca(np.ones((3, 4)), np.arange(3))
    with pytest.raises(InputError, match="consecutive"):
        embedding_pca(np.ones((5, 4)), np.arange(0, 10, 2))
    with pytest.raises(InputError, match="one for each of 5"):
        embedding_pca(np.ones((5, 4)), np.arange(4))


# embeddings: order along a curve


def bent(values: np.ndarray) -> np.ndarray:
    """A spiral of one and a half turns, sorted by no straight line."""
    angles = np.linspace(np.pi, 4 * np.pi, len(values))
    return np.stack([angles * np.cos(angles), angles * np.sin(angles)], axis=1)


def test_a_bent_curve_is_sorted_though_no_component_sorts_it():
    points = in_directions(bent(VALUES)) + 0.01 * gaussian(81, 40)
    order = np.random.default_rng(1).permutation(81)
    found = curve_order(points[order], VALUES[order])
    assert embedding_pca(points, VALUES).order_score < 0.6
    assert found.score > 0.999
    assert found.position[order.argmin()] < found.position[order.argmax()]
    assert found.neighbours == 2


def test_score_is_the_rank_correlation_of_the_position():
    found = curve_order(gaussian(60, 5), np.arange(60))
    assert found.score == pytest.approx(spearmanr(found.position, np.arange(60)).statistic)


def test_chance_along_a_curve_is_the_known_quantile():
    found = curve_order(gaussian(81, 20), VALUES)
    assert found.chance == pytest.approx(1.96 / np.sqrt(80), rel=0.2)


def test_random_points_are_sorted_by_no_curve():
    found = [curve_order(gaussian(81, 20, seed=seed), VALUES) for seed in range(10)]
    assert sum(one.score > one.chance for one in found) <= 2


def test_a_closed_curve_has_no_ends():
    angles = 2 * np.pi * np.arange(80) / 80
    assert curve_order(np.stack([np.cos(angles), np.sin(angles)], axis=1), np.arange(80)).score < 0.95


def test_clusters_are_joined_before_they_are_sorted():
    points = np.repeat([[0.0], [10.0], [20.0]], 10, axis=0) + np.arange(30)[:, None] / 100
    found = curve_order(points, np.arange(30))
    assert found.neighbours == 10
    assert found.score > 0.9


@pytest.mark.parametrize(
    ("points", "count", "message"),
    [
        (gaussian(5, 2), 4, "values: one for every point needed, got 4 for 5"),
        (gaussian(3, 2), 3, "at least 4 points"),
        (np.ones((9, 2)), 9, "all are equal"),
        (np.full((9, 2), np.inf), 9, "finite"),
    ],
)
def test_a_curve_of_nothing_is_refused(points, count, message):
    with pytest.raises(InputError, match=message):
        curve_order(points, np.arange(count))


# embeddings: lattices of two steps


def sawtooth(rows: int, first: float = 1, second: float = 1, *, noise: float = 0) -> np.ndarray:
    """x = 3i + 4j on the lattice of first·i and second·j, folded: j < 3, or i < 4 for four rows."""
    i = (VALUES - 4 * (VALUES % 3)) // 3 if rows == 3 else -VALUES % 4
    j = (VALUES - 3 * i) // 4
    return in_directions(np.stack([first * i, second * j], axis=1)) + noise * gaussian(81, 40) / np.sqrt(40)


@pytest.mark.parametrize("rows", [3, 4])
@pytest.mark.parametrize("stretch", [(1, 1), (1, 3), (3, 1), (1, 5)])
def test_a_folded_lattice_of_3_and_4_is_found(rows, stretch):
    found = step_lattice(sawtooth(rows, *stretch))
    assert (found.kind, found.best_pair) == ("lattice", (3, 4))
    assert found.explained[found.best] == pytest.approx([1, 1])
    assert found.angles[found.best] == pytest.approx(90)
    assert found.lengths[found.best] == pytest.approx(stretch)
    assert found.chance < 0.3


@pytest.mark.parametrize("rows", [3, 4])
def test_a_lattice_is_found_in_noise_as_large_as_its_steps(rows):
    found = step_lattice(sawtooth(rows, noise=1))
    assert (found.kind, found.best_pair) == ("lattice", (3, 4))
    # A step of length 1 between two numbers with noise 1 each: a third is the step's. The other step folds.
    unfolded, folded = found.explained[found.best][:: 1 if rows == 3 else -1]
    assert unfolded == pytest.approx(1 / 3, abs=0.05)
    assert folded > unfolded
    assert found.angles[found.best] == pytest.approx(90, abs=20)


def test_a_lattice_that_turns_is_found():
    i, j = (VALUES - 4 * (VALUES % 3)) / 3, VALUES % 3
    found = step_lattice(np.stack([10 * np.cos(i / 10), 10 * np.sin(i / 10), j], axis=1))
    assert (found.kind, found.best_pair) == ("lattice", (3, 4))
    assert found.pair_explained[found.best] > 0.95
    assert found.angles[found.best] == pytest.approx(90, abs=5)


def test_a_lattice_is_named_by_its_shortest_steps():
    # 1 and 3 span the same lattice: v − u is a step of 1
    i, j = (VALUES - 4 * (VALUES % 3)) / 3, VALUES % 3
    u, v = np.array([1.0, 0.0]), np.array([1.0, 0.3])
    found = step_lattice(np.outer(i, u) + np.outer(j, v))
    assert found.best_pair == (1, 3)
    assert found.angles[found.best] == pytest.approx(90)


def test_a_line_is_one_direction():
    found = step_lattice(np.outer(VALUES, gaussian(40)))
    assert found.kind == "line"
    assert found.pair_explained == pytest.approx(np.ones(28))
    assert found.angles == pytest.approx(np.zeros(28), abs=1e-4)
    assert (found.best_pair, len(found.pairs)) == ((1, 2), 28)


def test_a_noisy_line_and_a_bent_one_are_no_lattice():
    noisy = np.outer(VALUES, np.eye(40)[0]) + gaussian(81, 40) / np.sqrt(40)
    assert step_lattice(noisy).kind == "line"
    bow = step_lattice(np.stack([np.cos(VALUES / 26), np.sin(VALUES / 26)], axis=1))
    assert bow.kind == "line"
    assert bow.angles.max() < 1


@pytest.mark.parametrize("width", [2, 40])
def test_random_embeddings_do_not_exceed_chance(width):
    found = [step_lattice(gaussian(60, width, seed=seed)) for seed in range(8)]
    assert sum(one.kind != "none" for one in found) <= 1
    assert np.mean([one.explained.mean() for one in found]) == pytest.approx(0, abs=0.03)


def test_a_shuffled_lattice_is_none():
    assert step_lattice(np.random.default_rng(0).permutation(sawtooth(3))).kind == "none"


def test_lattice_against_the_definition():
    points = gaussian(21, 3)
    found = step_lattice(points)
    assert found.pairs.tolist() == [[s, t] for s in range(1, 8) for t in range(s + 1, 8)]
    for number, (s, t) in enumerate(found.pairs):
        corners = [(points[x], points[x + s], points[x + t], points[x + s + t]) for x in range(21 - s - t)]
        sides = [(b - a, d - c) for a, b, c, d in corners], [(c - a, d - b) for a, b, c, d in corners]
        for side, opposite in enumerate(sides):
            squares = [(p @ p + q @ q) / 2 for p, q in opposite]
            shares = [p @ q / square for (p, q), square in zip(opposite, squares, strict=True)]
            assert found.explained[number, side] == pytest.approx(np.mean(shares))
            assert found.lengths[number, side] == pytest.approx(np.sqrt(np.median(squares)))


@given(st.integers(0, 10**6), st.floats(0.01, 100), st.floats(-100, 100))
@settings(max_examples=3, deadline=None)
def test_a_lattice_depends_on_distances_alone(seed, scale, shift):
    points = sawtooth(4, noise=0.5)[:40, :6]
    moved = scale * points @ ortho_group.rvs(6, random_state=np.random.RandomState(seed)) + shift
    one, other = step_lattice(points), step_lattice(moved)
    assert other.best_pair == one.best_pair
    assert np.allclose(other.explained, one.explained, atol=1e-6)
    assert np.allclose(other.lengths, scale * one.lengths, rtol=1e-6)


def test_repeating_embeddings_have_steps_of_no_length():
    found = step_lattice(np.tile(gaussian(3, 5), (10, 1)))
    assert found.explained[found.pairs == 3] == pytest.approx(0)
    assert np.isnan(found.angles[(found.pairs == 3).any(axis=1)]).all()
    assert found.kind == "none"


@pytest.mark.parametrize(
    ("points", "message"),
    [(gaussian(5, 3), "at least 6"), (np.ones((9, 3)), "all are equal"), (np.full((9, 3), np.nan), "finite")],
)
def test_a_lattice_of_nothing_is_refused(points, message):
    with pytest.raises(InputError, match=message):
        step_lattice(points)


def test_geometry_holds_what_its_parts_measure():
    points, values = sawtooth(3, second=2)[:40], VALUES[:40]
    found = embedding_geometry(points, values, perplexity=12, seed=5)
    assert np.array_equal(found.tsne.coordinates, project(points, "tsne", perplexity=12, seed=5).coordinates)
    assert (found.tsne.perplexity, found.tsne.seed) == (12, 5)
    assert found.lattice.best_pair == found.plane_lattice.best_pair == (3, 4)
    assert found.plane_lattice.explained == pytest.approx(found.lattice.explained)  # the points lie in a plane
    assert found.curve.score == curve_order(points, values).score


def test_numbers_on_a_bent_curve_are_ordered_along_the_tsne_curve():
    found = embedding_geometry(in_directions(bent(VALUES)), VALUES, perplexity=8)
    assert found.pca.order_score < 0.6
    assert found.tsne_curve.score > 0.95 > found.tsne_curve.chance


@pytest.mark.parametrize(
    ("points", "values", "message"),
    [
        (gaussian(9, 3), np.arange(8), "consecutive numbers, one for each of 9"),
        (gaussian(9, 3), np.arange(0, 18, 2), "consecutive"),
        (gaussian(5, 3), np.arange(5), "embeddings: at least 6"),
        (np.full((9, 3), np.nan), np.arange(9), "embeddings: must be finite"),
    ],
)
def test_geometry_of_no_numbers_is_refused(points, values, message):
    with pytest.raises(InputError, match=message):
        embedding_geometry(points, values)
