from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from anchorlab import models
from anchorlab.analysis import NoAttentionError, attention_maps, embedding_pca, measure_condensation, query_weights
from anchorlab.analysis.condensation import cosine_matrix, group_neurons
from anchorlab.analysis.embedding import step_cosines
from anchorlab.analysis.predictions import answers, logits
from anchorlab.errors import InputError


class Echo(nn.Module):
    """Answers its first token; shows planted attention."""

    def __init__(self, attentions=None):
        super().__init__()
        self.attentions, self.batches = attentions, []

    def forward(self, input_ids, output_attentions=False):
        self.batches.append(len(input_ids))
        scores = nn.functional.one_hot(input_ids, 12).float().flip(1)
        return SimpleNamespace(logits=scores, attentions=self.attentions if output_attentions else None)


def test_answers_are_those_of_the_last_position_in_batches():
    model = Echo().train()
    tokens = np.arange(30, dtype=np.int16).reshape(10, 3) % 12
    assert (answers(model, tokens, batch=4) == tokens[:, 0]).all()
    assert model.batches == [4, 4, 2]
    assert model.training
    assert logits(model, tokens).shape == (10, 12)
    assert not logits(model, tokens).requires_grad


def test_no_rows_is_an_error():
    with pytest.raises(ValueError, match="no rows"):
        logits(Echo(), np.empty((0, 3), np.int16))


def test_logits_equal_one_whole_forward():
    model = models.build("gpt2", 30, 6, layers=2, heads=2, width=16)
    tokens = np.arange(30).reshape(5, 6)
    with torch.no_grad():
        whole = model(torch.from_numpy(tokens)).logits[:, -1]
    assert torch.allclose(logits(model, tokens, batch=2), whole, atol=1e-6)


def test_planted_attention_comes_back_by_layer_and_head():
    planted = torch.softmax(torch.arange(2 * 3 * 4 * 4.0).sin().reshape(2, 1, 3, 4, 4), dim=-1)
    found = attention_maps(Echo(tuple(planted)), np.array([1, 2, 3, 4]))
    assert found.shape == (2, 3, 4, 4)
    assert np.array_equal(found, planted[:, 0].numpy())


def test_empty_attention_is_an_error_and_not_an_empty_result():
    with pytest.raises(InputError, match="eager") as caught:
        attention_maps(Echo(()), np.array([1, 2]))
    assert not isinstance(caught.value, NoAttentionError)
    with pytest.raises(InputError, match="eager"):
        attention_maps(Echo((None, None)), np.array([1, 2]))


def test_sdpa_is_refused_by_a_real_gpt2():
    model = models.build("gpt2", 30, 6, layers=1, heads=1, width=8)
    model.set_attn_implementation("sdpa")
    with pytest.raises(InputError, match="eager"):
        attention_maps(model, np.arange(6))


@pytest.mark.parametrize("name", ["lstm", "fnn"])
def test_models_without_attention_say_so(name):
    model = models.build(name, 30, 6, layers=1, width=8)
    with pytest.raises(NoAttentionError, match="no attention"):
        attention_maps(model, np.arange(6))
    with pytest.raises(NoAttentionError, match="no query projection"):
        query_weights(model)


@pytest.mark.parametrize("name", ["gpt2", "post_ln"])
def test_query_rows_reproduce_the_projection(name):
    model = models.build(name, 30, 6, layers=2, heads=2, width=8)
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        if name == "gpt2":
            layer = model.transformer.h[0].attn.c_attn
            expected = layer(x)[:, :8] - layer.bias[:8]
        else:
            expected = next(module for key, module in model.named_modules() if key.endswith("q_proj"))(x)
    weights = query_weights(model)
    assert weights.shape == (8, 8)
    assert np.allclose(x.numpy() @ weights.T, expected.numpy(), atol=1e-6)


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


def lattice(values, columns, stretch):
    """Numbers in rows of `columns`, the two axes in unrelated directions of 40 dimensions."""
    directions = np.random.default_rng(2).normal(size=(2, 40))
    return np.stack([stretch * (values % columns), values // columns], axis=1) @ directions


@pytest.mark.parametrize("columns", [3, 4, 7])
def test_a_lattice_is_ordered_in_its_own_steps_though_not_by_size(columns):
    values = np.arange(20, 101)
    found = embedding_pca(lattice(values, columns, stretch=20), values)
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
    with pytest.raises(ValueError, match="at least 4"):
        embedding_pca(np.ones((3, 4)), np.arange(3))
    with pytest.raises(ValueError, match="consecutive"):
        embedding_pca(np.ones((5, 4)), np.arange(0, 10, 2))
