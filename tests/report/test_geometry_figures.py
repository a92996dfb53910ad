import base64
import io

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from anchorlab.analysis import embedding_pca
from anchorlab.analysis.embedding import embedding_geometry
from anchorlab.analysis.output_space import pair_clusters, single_anchor_similarity
from anchorlab.report import downloads, geometry_figures
from anchorlab.report.style import BLUE, GREEN

VALUES = np.arange(20, 60)
PAIRS = ["a,a", "b,b", "a,b", "b,a", "a,c", "c,a"]


def gaussian(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def folded_lattice():
    """x = 3i + 4j with j < 3."""
    j = VALUES % 3
    return np.stack([(VALUES - 4 * j) / 3, 2 * j], axis=1) @ gaussian(2, 20)


@pytest.fixture(scope="module")
def lattice():
    return embedding_geometry(folded_lattice(), VALUES)


@pytest.fixture(scope="module")
def random():
    return embedding_geometry(gaussian(40, 20), VALUES)


@pytest.fixture(scope="module")
def line():
    return embedding_geometry(np.outer(VALUES, gaussian(20)), VALUES)


@pytest.fixture(scope="module")
def clusters():
    centres = 10 * gaussian(6, 8)
    centres[5] = centres[4]  # (c,a) is where (a,c) is
    return pair_clusters(np.repeat(centres, 5, axis=0) + gaussian(30, 8, seed=1), np.repeat(PAIRS, 5).tolist())


@pytest.fixture(scope="module")
def similarity():
    keys, anchors = np.repeat(np.arange(6), 2), ["p", "q"] * 6
    groups = keys + np.array([{"p": 1, "q": 2}[anchor] for anchor in anchors])
    return single_anchor_similarity(np.eye(9)[groups] + 0.1 * gaussian(12, 9), groups, keys, anchors, most=6)


def test_every_number_is_named_in_both_planes(lattice):
    plane, tsne, *_ = geometry_figures.geometry_plot(lattice).axes
    for axes in (plane, tsne):
        assert [text.get_text() for text in axes.texts] == [str(value) for value in VALUES]
    assert np.array_equal(plane.collections[-1].get_offsets(), lattice.pca.coordinates)
    assert np.array_equal(tsne.collections[-1].get_offsets(), lattice.tsne.coordinates)


def test_step_scores_are_drawn_below_the_planes(lattice):
    below = geometry_figures.geometry_plot(lattice).axes[2]
    assert [bar.get_height() for bar in below.patches] == pytest.approx(lattice.pca.step_scores.tolist())
    assert [label.get_text() for label in below.get_xticklabels()][:2] == ["+1", "+2"]


def test_the_steps_of_the_lattice_join_its_numbers(lattice):
    plane = geometry_figures.geometry_plot(lattice).axes[0]
    for arrows, step, colour in zip(plane.collections[:2], lattice.lattice.best_pair, (GREEN, BLUE), strict=True):
        places = lattice.pca.coordinates
        ends = {tuple(place.round(6)) for place in places}
        starts = np.stack([arrows.X, arrows.Y], axis=1)
        assert {tuple(place) for place in (starts + np.stack([arrows.U, arrows.V], axis=1)).round(6)} <= ends
        assert mpl.colors.same_color(arrows.get_facecolor()[0, :3], colour)
        assert len(starts) > len(VALUES) / 2
        assert arrows.get_label() == f"x → x + {step}"
    assert [text.get_text() for text in plane.get_legend().get_texts()] == ["x → x + 3", "x → x + 4"]


def test_folds_are_not_drawn(lattice):
    of_four = geometry_figures.geometry_plot(lattice).axes[0].collections[1]
    assert len(of_four.X) == sum(value % 3 < 2 for value in VALUES[:-4])


@pytest.mark.parametrize("name", ["random", "line"])
def test_without_a_lattice_nothing_joins_the_numbers(name, request):
    plane = geometry_figures.geometry_plot(request.getfixturevalue(name)).axes[0]
    assert len(plane.collections) == 1
    assert plane.get_legend() is None


def test_a_lattice_is_told_with_its_numbers(lattice):
    text = geometry_figures.about_geometry(lattice)
    assert "The steps 3 and 4 span a lattice: one vector explains 100% and 100% of neighbouring steps" in text
    assert f"({lattice.lattice.chance:.0%} by chance)" in text
    assert "In the plane of the figure one explains 100% and 100%" in text
    assert f"{lattice.curve.score:.2f} in the whole space and {lattice.tsne_curve.score:.2f} by t-SNE" in text


def test_a_line_and_no_order_are_told_as_such(line, random):
    assert "lead along one line, such as 1 and 2: one vector explains 100%" in geometry_figures.about_geometry(line)
    text = geometry_figures.about_geometry(random)
    assert "No two steps span a lattice" in text
    assert "show no order in steps" in text


def test_a_lattice_is_not_told_to_be_without_order():
    values = np.arange(20, 101)
    pca = embedding_pca(np.stack([5 * (values % 4), values // 4], axis=1) @ gaussian(2, 32), values)
    assert pca.order_scores.max() < 1
    assert "are ordered in steps: the best step score is 1.00, for x → x + 4" in geometry_figures.about_embedding(pca)


def test_tables_of_embeddings_hold_what_is_drawn(lattice):
    table = geometry_figures.geometry_table(lattice)
    assert table["value"].tolist() == VALUES.tolist()
    assert np.array_equal(table[["component_1", "component_2"]], lattice.pca.coordinates)
    assert np.array_equal(table[["tsne_1", "tsne_2"]], lattice.tsne.coordinates)
    assert np.array_equal(table["tsne_curve"], lattice.tsne_curve.position)
    assert table["step_3"].mean() == pytest.approx(lattice.pca.step_scores[2])
    pairs = geometry_figures.lattice_table(lattice.lattice).set_index(["step_1", "step_2"])
    assert len(pairs) == 28
    assert pairs.loc[(3, 4), ["explained_1", "explained_2"]].tolist() == pytest.approx([1, 1])
    assert pairs.loc[(3, 4), "angle"] == lattice.lattice.angles[lattice.lattice.best]


def test_pair_clusters_are_drawn_and_named(clusters):
    axes = geometry_figures.clusters_plot(clusters).axes[0]
    assert sorted(text.get_text() for text in axes.texts) == sorted(f"({pair})" for pair in PAIRS)
    for number, drawn in enumerate(axes.collections):
        assert np.array_equal(drawn.get_offsets(), clusters.projection.coordinates[clusters.members == number])
    label = axes.texts[clusters.names.index("b,b")]
    places = clusters.projection.coordinates[clusters.members == clusters.names.index("b,b")]
    assert label.xy == pytest.approx(np.median(places, axis=0))


def test_the_two_orders_differ_in_shade_and_marker_not_in_hue(clusters):
    drawn = dict(zip(clusters.names, geometry_figures.clusters_plot(clusters).axes[0].collections, strict=True))
    hue = {name: mpl.colors.rgb_to_hsv(mpl.colors.to_rgb(one.get_facecolor()[0][:3])) for name, one in drawn.items()}
    assert hue["a,c"][0] == pytest.approx(hue["c,a"][0], abs=0.02)
    assert hue["a,c"][1] > hue["c,a"][1] + 0.2
    assert len(drawn["a,c"].get_paths()[0].vertices) != len(drawn["c,a"].get_paths()[0].vertices)
    assert not np.allclose(hue["a,b"], hue["a,c"])


def test_every_pair_of_sixteen_is_marked_differently():
    names = [f"{first},{second}" for first in "abcd" for second in "abcd"]
    found = pair_clusters(gaussian(32, 4), np.repeat(names, 2).tolist())
    marks = {
        (one.get_facecolor().tobytes(), one.get_paths()[0].vertices.tobytes())
        for one in geometry_figures.clusters_plot(found).axes[0].collections
    }
    assert len(marks) == 16


def test_axes_of_clusters_tell_the_method(clusters):
    shares = clusters.projection.explained_variance
    axes = geometry_figures.clusters_plot(clusters).axes[0]
    assert axes.get_ylabel() == f"component 2 ({shares[1]:.0%} of variance)"
    by_tsne = pair_clusters(gaussian(30, 4), np.repeat(PAIRS, 5).tolist(), method="tsne", perplexity=7)
    assert geometry_figures.clusters_plot(by_tsne).axes[0].get_xlabel() == "t-SNE (perplexity 7)"


def test_merging_is_told_or_why_not(clusters):
    text = geometry_figures.about_clusters(clusters)
    assert f"silhouette of {clusters.separation:.2f} ({clusters.unordered_separation:.2f} with the two orders" in text
    assert f"{clusters.symmetric_merging:.2f} on average" in text
    assert f"(a,c) {clusters.merging['a,c']:.2f}" in text
    apart = pair_clusters(gaussian(6, 4), np.repeat(["a,b", "a,c", "a,d"], 2).tolist())
    assert "not measured, since no pair is there in both orders" in geometry_figures.about_clusters(apart)


def test_table_of_clusters_has_a_row_an_output(clusters):
    table = geometry_figures.clusters_table(clusters)
    assert table["pair"].tolist() == np.repeat(PAIRS, 5).tolist()
    assert np.array_equal(table[["component_1", "component_2"]], clusters.projection.coordinates)
    assert table.groupby("pair")["merging"].first()["c,a"] == clusters.merging["a,c"]
    assert table[table["pair"] == "a,a"]["merging"].isna().all()


def test_similarity_is_drawn_in_blocks_of_equal_g(similarity):
    axes = geometry_figures.similarity_plot(similarity).axes[0]
    assert np.array_equal(np.asarray(axes.images[0].get_array()), similarity.cosine)
    edges = [line.get_ydata()[0] for line in axes.lines if line.get_ydata()[0] == line.get_ydata()[1]]
    assert edges == [1.5, 3.5]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2", "3", "4"]
    assert [label.get_text() for label in axes.get_yticklabels()][:2] == ["0, q", "1, p"]


def test_similarity_is_told_beside_chance(similarity):
    text = geometry_figures.about_similarity(similarity)
    assert "are more similar than others" in text
    assert f"difference {similarity.difference:.2f}, up to {similarity.chance:.2f} by chance; 10 inputs" in text
    keys, anchors = np.repeat(np.arange(6), 2), ["p", "q"] * 6
    groups = keys + np.array([1, 2] * 6)
    remembered = single_anchor_similarity(np.eye(12), groups, keys, anchors)
    assert "are not clearly more similar" in geometry_figures.about_similarity(remembered)


def test_table_of_similarity_is_the_matrix(similarity):
    table = geometry_figures.similarity_table(similarity)
    assert np.allclose(table.drop(columns=["g", "key", "anchor"]), similarity.cosine, atol=5e-4)
    assert (table["g"].tolist(), table["anchor"].tolist()[:2]) == (similarity.groups.tolist(), ["q", "p"])


def test_tables_survive_the_way_into_a_page(lattice, clusters, similarity):
    for table in (
        geometry_figures.geometry_table(lattice),
        geometry_figures.clusters_table(clusters),
        geometry_figures.similarity_table(similarity),
    ):
        content = base64.b64decode(downloads.csv_uri(table).partition("base64,")[2])
        assert len(pd.read_csv(io.BytesIO(content))) == len(table)
