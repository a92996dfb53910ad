import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import silhouette_score

from anchorlab.analysis.output_space import pair_clusters, single_anchor_similarity
from anchorlab.analysis.pairs import unordered_name
from anchorlab.analysis.projection import project
from anchorlab.errors import InputError

PAIRS = [f"{first},{second}" for first in "abcd" for second in "abcd"]
OFFSETS = {"a": 5, "b": 1, "c": -2, "d": -8}


def gaussian(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def by_pair(*, merged: bool, rows: int = 12, spread: float = 0.1) -> tuple[np.ndarray, list[str]]:
    """Rows around one centre a pair, or one for both orders of a pair."""
    pairs = [pair for pair in PAIRS for _ in range(rows)]
    cluster = [unordered_name(pair) if merged else pair for pair in pairs]
    centres = dict(zip(PAIRS, gaussian(16, 30, seed=1), strict=True))
    return np.array([centres[name] for name in cluster]) + spread * gaussian(len(pairs), 30), pairs


def test_merged_orders_are_one_cluster():
    found = pair_clusters(*by_pair(merged=True))
    assert found.symmetric_merging == pytest.approx(1, abs=0.02)
    assert sorted(found.merging) == ["a,b", "a,c", "a,d", "b,c", "b,d", "c,d"]
    assert found.unordered_separation > 0.8 > found.separation
    assert found.reason == ""


def test_orders_apart_are_as_far_as_other_pairs():
    found = pair_clusters(*by_pair(merged=False))
    assert found.symmetric_merging == pytest.approx(0, abs=0.1)
    assert found.separation > 0.8 > found.unordered_separation


def test_half_way_is_half_merged():
    outputs, pairs = by_pair(merged=False, spread=0)
    exchanged = np.array([unordered_name(pair) != pair for pair in pairs])
    centres = {pair: outputs[pairs.index(pair)] for pair in PAIRS}
    towards = np.array([centres[unordered_name(pair)] for pair in pairs])
    found = pair_clusters(np.where(exchanged[:, None], (outputs + towards) / 2, outputs), pairs)
    assert found.symmetric_merging == pytest.approx(0.5, abs=0.1)


def test_pairs_that_are_not_apart_have_nothing_to_merge():
    found = pair_clusters(gaussian(192, 30), [pair for pair in PAIRS for _ in range(12)])
    assert np.isnan(found.symmetric_merging)
    assert "not further apart than by chance" in found.reason
    assert found.separation == pytest.approx(0, abs=0.1)


def test_separation_is_the_silhouette_of_the_rows():
    outputs, pairs = by_pair(merged=False, rows=4, spread=1)
    found = pair_clusters(outputs, pairs, method="tsne", perplexity=9, seed=4)
    assert found.separation == pytest.approx(silhouette_score(outputs, pairs))
    assert np.array_equal(found.projection.coordinates, project(outputs, "tsne", perplexity=9, seed=4).coordinates)
    assert [found.names[member] for member in found.members] == pairs


def test_merging_against_the_definition():
    outputs, pairs = by_pair(merged=False, rows=3, spread=0.5)
    rows = {pair: outputs[np.array(pairs) == pair] for pair in PAIRS}

    def mean_distance(one, other):
        distances = [np.linalg.norm(x - y) for x in rows[one] for y in rows[other]]
        return sum(distances) / (len(distances) - (len(rows[one]) if one == other else 0))

    def excess(one, other):
        return mean_distance(one, other) - (mean_distance(one, one) + mean_distance(other, other)) / 2

    typical = [excess(one, other) for one in ("c,d", "d,c") for other in PAIRS if other not in ("c,d", "d,c")]
    merging = pair_clusters(outputs, pairs).merging["c,d"]
    assert merging == pytest.approx(1 - excess("c,d", "d,c") / np.median(typical))


@given(st.permutations(range(96)))
@settings(max_examples=5, deadline=None)
def test_clusters_do_not_depend_on_the_order_of_rows(order):
    outputs, pairs = by_pair(merged=False, rows=6)
    found, mixed = pair_clusters(outputs, pairs), pair_clusters(outputs[order], [pairs[row] for row in order])
    assert mixed.separation == pytest.approx(found.separation)
    assert mixed.merging == pytest.approx(found.merging)
    assert np.allclose(mixed.projection.coordinates, found.projection.coordinates[order])


def test_without_exchanged_pairs_there_is_a_reason():
    found = pair_clusters(gaussian(9, 4), ["a,b"] * 3 + ["a,c"] * 3 + ["a,a"] * 3)
    assert (found.merging, found.reason) == ({}, "no pair is there in both orders")
    assert np.isnan(found.symmetric_merging)


def test_two_orders_alone_cannot_be_compared():
    found = pair_clusters(gaussian(6, 4), ["a,b"] * 3 + ["b,a"] * 3)
    assert "no other pair" in found.reason
    assert np.isnan(found.unordered_separation)


@pytest.mark.parametrize(
    ("outputs", "pairs", "message"),
    [
        (gaussian(6, 4), ["a,b"] * 6, "pairs: at least two different ones needed, got 1"),
        (gaussian(6, 4), ["a,b"] * 5, "pairs: one for every row of outputs needed, got 5 for 6"),
        (gaussian(6, 4), ["a,b"] * 5 + ["b,a"], "'b,a': at least two rows"),
        (gaussian(6, 4), ["a,b"] * 3 + ["ba"] * 3, "'ba': must be named first,second"),
        (np.full((6, 4), np.nan), ["a,b"] * 3 + ["b,a"] * 3, "outputs: must be finite"),
        (np.ones((6, 4)), ["a,b"] * 3 + ["b,a"] * 3, "outputs: all are equal"),
    ],
)
def test_clusters_of_nothing_are_refused(outputs, pairs, message):
    with pytest.raises(InputError, match=message):
        pair_clusters(outputs, pairs)


def single_anchor_rows(copies: int = 1, highest: int = 50) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """g(x; a1), key and anchor of rows with every key and every anchor."""
    keys = np.tile(np.repeat(np.arange(20, highest), 4), copies)
    anchors = list("abcd") * (len(keys) // 4)
    return keys + np.array([OFFSETS[anchor] for anchor in anchors]), keys, anchors


def test_a_network_that_computes_g_has_blocks_of_ones():
    groups, keys, anchors = single_anchor_rows()
    found = single_anchor_similarity(np.eye(60)[groups] * (1 + keys[:, None] % 3), groups, keys, anchors)
    assert (found.within, found.between, found.difference) == pytest.approx((1, 0, 1))
    assert found.chance < 0.1
    assert np.allclose(found.cosine, found.groups[:, None] == found.groups)


def test_a_network_that_remembers_every_input_does_not_exceed_chance():
    groups, keys, anchors = single_anchor_rows()
    found = single_anchor_similarity(gaussian(len(keys), 30), groups, keys, anchors)
    assert abs(found.difference) < 0.05
    assert found.difference <= found.chance


def test_similarity_against_the_definition():
    groups, keys, anchors = single_anchor_rows(copies=3, highest=34)
    outputs = gaussian(len(keys), 5) + 0.5
    found = single_anchor_similarity(outputs, groups, keys, anchors, most=8)
    unit = outputs / np.linalg.norm(outputs, axis=1, keepdims=True)
    inputs = sorted({(g, x, a) for g, x, a in zip(groups, keys, anchors, strict=True) if (groups == g).sum() > 3})
    rows = [[i for i, one in enumerate(zip(groups, keys, anchors, strict=True)) if one == wanted] for wanted in inputs]
    cosine = {(p, q): np.mean(unit[rows[p]] @ unit[rows[q]].T) for p in range(len(rows)) for q in range(p)}
    equal = {pair: inputs[pair[0]][0] == inputs[pair[1]][0] for pair in cosine}
    assert found.inputs == len(inputs)
    assert found.within == pytest.approx(np.mean([cosine[pair] for pair in cosine if equal[pair]]))
    assert found.between == pytest.approx(np.mean([cosine[pair] for pair in cosine if not equal[pair]]))


def test_the_matrix_holds_successive_values_with_all_their_inputs():
    groups, keys, anchors = single_anchor_rows()
    found = single_anchor_similarity(gaussian(len(keys), 30), groups, keys, anchors, most=13)
    assert found.groups.tolist() == [25] * 4 + [26] * 4 + [27] * 4  # the first that all four anchors reach
    assert found.keys.tolist()[:4] == [20, 24, 27, 33]
    assert found.anchors[:4] == ("a", "b", "c", "d")
    assert (np.diag(found.cosine) == 1).all()


def test_values_of_one_input_do_not_count():
    groups, keys, anchors = np.array([1, 1, 2, 2, 3]), np.array([0, 1, 0, 1, 2]), list("abbaa")
    outputs = np.vstack([np.eye(5)[groups[:4]], [[9.0, 9, 9, 9, 9]]])
    found = single_anchor_similarity(outputs, groups, keys, anchors)
    assert (found.inputs, found.within, found.between) == (4, 1, 0)
    assert found.groups.tolist() == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outputs": np.full((6, 3), np.nan)}, "outputs: must be finite"),
        ({"groups": np.arange(5)}, "groups: one for every row of outputs needed, got 5 for 6"),
        ({"keys": np.arange(7)}, "keys: one for every row"),
        ({"anchors": ["a"]}, "anchors: one for every row"),
        ({"groups": np.zeros(6, int)}, "groups: at least two values"),
        ({"keys": np.zeros(6, int), "anchors": ["a"] * 6}, "groups: key 0 and anchor a have more than one value"),
        ({"most": 2}, "most=2: must be at least 3"),
    ],
)
def test_similarity_of_nothing_is_refused(change, message):
    settings = {
        "outputs": gaussian(6, 3),
        "groups": np.repeat([1, 2], 3),
        "keys": np.arange(6),
        "anchors": list("abcabc"),
    }
    with pytest.raises(InputError, match=message):
        single_anchor_similarity(**(settings | change))
