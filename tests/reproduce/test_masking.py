"""Figures 13.8 and 13.9: planted outputs are told apart, and the figures draw what the tables say."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from anchorlab.analysis import SingleAnchorSimilarity, pair_clusters, single_anchor_similarity
from anchorlab.analysis.pairs import unordered_name
from anchorlab.reproduce import Value, decide
from anchorlab.reproduce.chapter13.composite_runs import experiment
from anchorlab.reproduce.chapter13.masking import (
    COMMUTING,
    REPRODUCTIONS,
    cluster_values,
    cosine_table,
    orders_told_apart,
    point_table,
    similarity_rises,
    similarity_values,
    where_it_is,
)

CLUSTERS, SIMILARITY = REPRODUCTIONS
PAIRS = [f"{first},{second}" for first in "abc" for second in "abc" for _ in range(10)]


def outputs(kind: str, seed: int) -> np.ndarray[Any, Any]:
    """Outputs in which pairs are `mixed`, `apart` in both orders, or `merged` by their unordered name."""
    random = np.random.Generator(np.random.Philox(key=seed))
    noise = 0.3 * random.normal(size=(len(PAIRS), 8))
    named = {"mixed": ["" for _ in PAIRS], "apart": PAIRS, "merged": [unordered_name(pair) for pair in PAIRS]}[kind]
    centres = {name: random.normal(size=8) for name in dict.fromkeys(named)}
    return noise + np.stack([centres[name] for name in named])


def inputs(shared: float, seed: int) -> SingleAnchorSimilarity:
    """Outputs of which a part `shared` follows from g = key + anchor, and all have something in common."""
    random = np.random.Generator(np.random.Philox(key=seed))
    keys, anchors = (part.ravel() for part in np.meshgrid(np.arange(20, 40), np.arange(1, 4)))
    by_g, own = random.normal(size=(50, 64)), random.normal(size=(len(keys), 64))
    points = 1.0 + np.sqrt(shared) * by_g[keys + anchors - 20] + np.sqrt(1 - shared) * own
    return single_anchor_similarity(points, keys + anchors, keys, [" abc"[anchor] for anchor in anchors])


def of_kind(name: str, kind: str, seed: int) -> list[Value]:
    found = outputs(kind, seed)
    return cluster_values(name, seed, pair_clusters(found, PAIRS), orders_told_apart(found, PAIRS))


def key_masked(*kinds: str) -> list[Value]:
    names = ("phase 1", "phase 2", "good commutativity")
    return [
        value
        for name, kind in zip(names, kinds, strict=True)
        for seed in range(3)
        for value in of_kind(name, kind, seed)
    ]


@pytest.mark.parametrize(
    ("kinds", "failing"),
    [
        (("mixed", "apart", "merged"), set()),
        (("apart", "apart", "merged"), {"separation, phase 1"}),
        (("mixed", "merged", "merged"), {"orders told apart, phase 2"}),
        (("mixed", "apart", "apart"), {"orders told apart, good commutativity"}),
    ],
)
def test_planted_clusters_decide_the_claim(kinds: tuple[str, str, str], failing: set[str]) -> None:
    found = decide(CLUSTERS.claim, key_masked(*kinds))
    assert {one.condition.quantity for one in found.conditions if one.verdict == "fails"} == failing
    assert found.verdict == ("fails" if failing else "holds")


def test_mixed_clusters_are_not_apart_and_nothing_in_them_merges() -> None:
    found = {one.quantity: one.value for one in of_kind("phase 2", "mixed", 0)}
    assert found["separation, phase 2"] < 0
    assert np.isnan(found["merging, phase 2"])


@pytest.mark.parametrize(("kind", "part"), [("apart", 1.0), ("merged", 0.5), ("mixed", 0.5)])
def test_orders_that_are_one_cluster_are_told_apart_by_chance_alone(kind: str, part: float) -> None:
    found = np.mean([orders_told_apart(outputs(kind, seed), PAIRS) for seed in range(20)])
    assert found == pytest.approx(part, abs=0.05)


def test_pairs_without_another_order_do_not_count() -> None:
    found = np.array([[0.0], [0.1], [9.0], [9.1], [0.0], [0.1], [9.1]])
    assert orders_told_apart(found, ["a,b", "a,b", "b,a", "b,a", "a,a", "a,a", "b,c"]) == 1.0


@pytest.mark.parametrize("shared", [0.0, 0.3, 1.0])
def test_similarity_is_the_share_that_follows_from_g_whatever_all_outputs_have_in_common(shared: float) -> None:
    found = {one.quantity: one.value for one in similarity_values("phase 3", 0, inputs(shared, 0))}
    assert found["similarity, phase 3"] == pytest.approx(shared, abs=0.06)
    assert found["cosine at different g, phase 3"] == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize(("shared", "verdict"), [((0.0, 0.4), "holds"), ((0.0, 0.0), "fails"), ((0.9, 0.9), "fails")])
def test_planted_similarities_decide_the_claim(shared: tuple[float, float], verdict: str) -> None:
    values = [
        value
        for name, part in zip(("phase 2", "phase 3"), shared, strict=True)
        for seed in range(3)
        for value in similarity_values(name, seed, inputs(part, seed))
    ]
    assert decide(SIMILARITY.claim, [*values, *similarity_rises(values)]).verdict == verdict


@pytest.mark.parametrize(
    ("name", "commutativity", "phase", "kept"),
    [
        ("phase 2", 0.9, 2, True),
        ("phase 2", 0.1, 3, False),
        (COMMUTING, 0.9, 3, True),
        (COMMUTING, 0.6, 2, False),
    ],
)
def test_a_network_in_another_phase_than_its_name_says_is_no_value(
    name: str, commutativity: float, phase: int, kept: bool
) -> None:
    found = {"id_accuracy": 1.0, "commutativity": commutativity, "phase": phase}
    (value,) = where_it_is(name, found, [Value(0, f"separation, {name}", 0.5)])
    assert (value.value == 0.5) is kept
    assert np.isnan(value.value) is not kept


def networks(*names: str) -> pd.DataFrame:
    row = {"initialization_rate": 0.6, "weight_decay": 0.01, "seed": 0, "id_accuracy": 1.0, "ood_accuracy": 0.5}
    return pd.DataFrame([{"network": name, **row} for name in names])


def test_figures_have_a_panel_for_every_network_with_all_its_points() -> None:
    names = ("phase 1", "phase 2")
    points = pd.concat([point_table(name, pair_clusters(outputs("apart", 0), PAIRS)) for name in names])
    figure = CLUSTERS.figure({"networks": networks(*names), "points": points})
    assert [axes.get_title().split(" (")[0] for axes in figure.axes] == list(names)
    drawn = np.concatenate([group.get_offsets() for group in figure.axes[1].collections])
    assert sorted(drawn.tolist()) == sorted(points[["component_1", "component_2"]][len(PAIRS) :].to_numpy().tolist())
    assert len(figure.legends[0].get_texts()) == 9


def test_the_matrix_of_cosines_is_drawn_in_blocks_of_equal_g() -> None:
    found = inputs(1.0, 0)
    figure = SIMILARITY.figure({"networks": networks("phase 3"), "cosines": cosine_table("phase 3", found)})
    axes = figure.axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), found.cosine, atol=6e-4)
    assert [label.get_text() for label in axes.get_xticklabels()] == [str(g) for g in np.unique(found.groups)]
    assert axes.get_yticklabels()[0].get_text() == f"{found.keys[0]}, {found.anchors[0]}"


@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
@pytest.mark.parametrize("one", REPRODUCTIONS, ids=lambda one: str(one.id))
def test_settings_of_every_scale_are_those_of_a_training(one: Any, scale: str) -> None:
    settings = one.settings(scale)
    assert [experiment(settings["training"], tuple(place), 0).record() for place in settings["networks"].values()]
