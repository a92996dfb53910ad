import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anchorlab import models
from anchorlab.analysis import measure_condensation
from anchorlab.analysis.condensation import (
    condensation_along_training,
    condensation_table,
    cosine_matrix,
    group_neurons,
    survey_condensation,
)
from anchorlab.analysis.neurons import NeuronWeights, neuron_weights
from anchorlab.errors import InputError

SHAPES = st.tuples(st.integers(2, 12), st.integers(1, 12), st.integers(0, 10**6))


def gaussian(neurons: int, inputs: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(neurons, inputs))


@pytest.mark.parametrize("directions", [1, 2, 5])
def test_planted_directions_are_found(directions):
    random = np.random.default_rng(directions)
    basis = np.linalg.qr(random.normal(size=(40, 40)))[0][:directions]
    planted = np.repeat(np.arange(directions), 6)
    random.shuffle(planted)
    weights = basis[planted] * random.uniform(0.1, 3, size=(len(planted), 1)) + 0.003 * random.normal(
        size=(len(planted), 40)
    )
    found = measure_condensation(weights)
    assert found.group_sizes.tolist() == [6] * directions
    assert all(len(set(planted[found.groups == group])) == 1 for group in range(directions))
    assert found.directions == pytest.approx(directions, rel=0.05)
    assert 1 <= found.stable_rank <= directions + 0.05
    # the display keeps every group together
    assert sum(np.diff(found.groups[found.order]) != 0) == directions - 1


def test_independent_neurons_do_not_condense():
    weights = np.random.default_rng(0).normal(size=(50, 400))
    found = measure_condensation(weights)
    assert len(found.group_sizes) == 50
    assert found.mean_absolute_cosine == pytest.approx(found.random_absolute_cosine, rel=0.1)
    assert found.directions == pytest.approx(found.random_directions, rel=0.02)
    assert sorted(found.order) == list(range(50))


@pytest.mark.parametrize("shape", [(64, 64), (200, 400), (64, 8), (2, 3)])
def test_random_directions_are_what_gaussian_weights_give(shape):
    random = np.random.default_rng(3)
    drawn = [measure_condensation(random.normal(size=shape)) for _ in range(30)]
    mean = shape[0] ** 2 / np.mean([(found.cosine**2).sum() for found in drawn])
    assert drawn[0].random_directions == pytest.approx(mean, rel=0.05)


def test_opposite_neurons_are_two_groups_of_one_direction():
    direction = np.array([3.0, 4.0])
    found = measure_condensation(np.array([direction, -2 * direction, 5 * direction, -direction]))
    assert found.directions == pytest.approx(1)
    assert found.stable_rank == pytest.approx(1)
    assert sorted(found.group_sizes) == [2, 2]
    assert found.groups[0] == found.groups[2] != found.groups[1] == found.groups[3]


def test_cosine_is_the_formula_and_survives_a_dead_neuron():
    weights = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    half = 1 / np.sqrt(2)
    assert np.allclose(cosine_matrix(weights), [[1, half, 0], [half, 1, 0], [0, 0, 1]])
    assert np.isfinite(measure_condensation(np.zeros((3, 2))).directions)


def test_group_members_are_near_their_centre():
    # a chain: 0-1 and 1-2 are near, 0-2 are not; 1 is the centre and takes both
    cosine = np.array([[1, 0.8, 0.2], [0.8, 1, 0.8], [0.2, 0.8, 1]])
    assert group_neurons(cosine, 0.7).tolist() == [0, 0, 0]
    assert len(set(group_neurons(cosine, 0.9).tolist())) == 3


@pytest.mark.parametrize("weights", [np.ones((1, 4)), np.full((3, 4), np.nan)])
def test_condensation_refuses_what_it_cannot_measure(weights):
    with pytest.raises(ValueError, match="neurons"):
        measure_condensation(weights)


@given(SHAPES, st.sampled_from([1.0, 1e-30, 1e30]))
@settings(max_examples=60, deadline=None)
def test_stable_rank_is_that_of_the_singular_values(shape, scale):
    weights = gaussian(*shape)
    singular = np.linalg.svd(weights, compute_uv=False)
    found = measure_condensation(weights * scale)
    assert found.stable_rank == pytest.approx((singular**2).sum() / singular[0] ** 2, rel=1e-6)


@given(SHAPES)
@settings(max_examples=40, deadline=None)
def test_directions_depend_neither_on_lengths_nor_on_axes(shape):
    weights = gaussian(*shape)
    random = np.random.default_rng(shape[2])
    rotation = np.linalg.qr(random.normal(size=(shape[1], shape[1])))[0]
    moved = random.uniform(0.1, 9, size=(shape[0], 1)) * weights @ rotation
    assert measure_condensation(moved).directions == pytest.approx(measure_condensation(weights).directions)


@given(SHAPES, st.sampled_from([0.2, 0.5, 0.7]))
@settings(max_examples=60, deadline=None)
def test_groups_are_those_of_the_definition(shape, threshold):
    cosine = cosine_matrix(gaussian(*shape))
    free, expected = set(range(len(cosine))), np.empty(len(cosine), int)
    for number in range(len(cosine)):
        near = {i: {j for j in free if cosine[i, j] > threshold} for i in sorted(free)}
        taken = near[max(near, key=lambda i: len(near[i]))] if near else set()
        expected[sorted(taken)] = number
        free -= taken
    assert group_neurons(cosine, threshold).tolist() == expected.tolist()


def test_order_by_the_leading_eigenvector():
    weights = gaussian(30, 10) + 2 * np.outer(np.linspace(-1, 1, 30), gaussian(1, 10, seed=1))
    found = measure_condensation(weights)
    leading = np.linalg.eigh(found.cosine).eigenvectors[:, -1]
    assert found.eigenvector_order.tolist() in (np.argsort(leading).tolist(), np.argsort(-leading).tolist())
    groups = found.groups[found.order]
    assert sum(np.diff(groups) != 0) == len(found.group_sizes) - 1
    assert sorted(found.order) == sorted(found.eigenvector_order) == list(range(30))


@pytest.mark.parametrize("threshold", [0, 1, -0.5, float("nan")])
def test_a_threshold_that_is_no_cosine_is_refused(threshold):
    with pytest.raises(InputError, match=r"threshold=.*between 0 and 1"):
        measure_condensation(gaussian(3, 3), threshold=threshold)


def test_table_holds_every_matrix_with_its_own_measures():
    weights = neuron_weights(models.build("gpt2", 30, 6, layers=2, heads=2, width=16))
    table = condensation_table(weights, threshold=0.4)
    assert table["weight"].tolist() == list(weights)
    assert table["layer"].tolist()[:-1] == [1] * 6 + [2] * 6
    assert table["layer"].isna().tolist() == [False] * 12 + [True]
    assert table["matrix"].tolist()[:6] == ["W_Q", "W_K", "W_V", "W_O", "W_1", "W_2"]
    row, found = table.iloc[10], measure_condensation(weights["layer 2 W_1"], threshold=0.4)
    assert (row["neurons"], row["inputs"]) == (64, 16)
    assert row["groups"] == len(found.group_sizes)
    assert row["largest_group"] == found.group_sizes[0] / 64
    for name in ("directions", "random_directions", "stable_rank", "mean_absolute_cosine", "random_absolute_cosine"):
        assert row[name] == getattr(found, name)


def test_planted_condensation_of_one_matrix_shows_in_its_row_alone():
    parameters = {name: p.data for name, p in models.build("post_ln", 30, 6, layers=2, width=32).named_parameters()}
    parameters["layers.1.self_attn.k_proj.weight"] = torch.outer(torch.arange(1.0, 33), torch.ones(32))
    table = condensation_table(neuron_weights(parameters)).set_index("weight")
    assert table.index[table["directions"] < 2].tolist() == ["layer 2 W_K"]
    assert table.loc["layer 2 W_K", "largest_group"] == 1


def test_a_matrix_that_cannot_be_measured_is_named():
    with pytest.raises(InputError, match=r"layer 1 W_Q: .*finite"):
        condensation_table({"layer 1 W_Q": np.full((3, 4), np.inf)})
    with pytest.raises(InputError, match="no weight matrix"):
        condensation_table({})
    with pytest.raises(InputError, match="no weight matrix"):
        survey_condensation({})


def test_checkpoints_are_measured_one_at_a_time():
    alive: list[weakref.ref[NeuronWeights]] = []

    def loaded():
        for step in (0, 100, 250):
            assert all(reference() is None for reference in alive)
            weights = neuron_weights({"lm_head.weight": torch.eye(4) + step / 100, "layers.0.weight": torch.eye(3)})
            alive.append(weakref.ref(weights))
            yield step, weights
            del weights

    table = condensation_along_training(loaded())
    assert len(alive) == 3
    assert table["step"].tolist() == [0, 0, 100, 100, 250, 250]
    heads = table[table["matrix"] == "head"]["directions"].tolist()
    assert heads[0] == pytest.approx(4)
    assert heads[0] > heads[1] > heads[2]
    assert table[table["matrix"] == "W"]["directions"].tolist() == pytest.approx([3, 3, 3])


def test_no_checkpoint_is_an_error():
    with pytest.raises(InputError, match="keep_checkpoints"):
        condensation_along_training([])


def test_small_pictures_are_the_ordered_cosines():
    weights = {"head": gaussian(20, 8), "layer 1 W": gaussian(30, 8)}
    survey = survey_condensation(weights)
    found = measure_condensation(weights["head"])
    assert survey.pictures["head"] == pytest.approx(found.cosine[np.ix_(found.order, found.order)], abs=1e-6)
    assert survey.table.equals(condensation_table(weights))


def test_large_pictures_are_means_over_blocks():
    directions = np.linalg.qr(gaussian(8, 8))[0][:4]
    weights = directions[np.repeat([0, 1, 2, 3], 48)]  # three neurons a pixel
    picture = survey_condensation({"head": weights}).pictures["head"]
    assert picture.shape == (64, 64)
    assert picture == pytest.approx(np.kron(np.eye(4), np.ones((16, 16))), abs=1e-5)
    uneven = survey_condensation({"head": gaussian(131, 40)}).pictures["head"]
    assert uneven.shape == (64, 64)
    assert (np.diag(uneven) > 0.2).all()
