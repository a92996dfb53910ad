"""Logits of every position against the full forward pass of the Hugging Face modules."""

import pytest
import torch
from torch.nn import functional

from anchorlab import models

VOCABULARY, LENGTH, BATCH = 19, 7, 6
SHAPES = [
    {"layers": 1, "heads": 1, "width": 12},
    {"layers": 3, "heads": 4, "width": 12, "feed_forward_width": 20},
    {"layers": 2, "heads": 2, "width": 12, "tie_embeddings": True},
]


def members(name, shape, count, dtype):
    """Models with different weights, layer norms and biases."""
    built = []
    for seed in range(count):
        model = models.build(name, VOCABULARY, LENGTH + 2, **shape)
        generator = torch.Generator().manual_seed(seed)
        models.initialize(model, rule="arxiv-2405.05409", rate=0.4, generator=generator)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1:
                    parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
        built.append(model.to(dtype))
    return built


def stack(built):
    keys = [key for key, _ in built[0].named_parameters()]
    return {key: torch.stack([model.get_parameter(key).detach() for model in built]).requires_grad_() for key in keys}


def batch(count):
    generator = torch.Generator().manual_seed(9)
    tokens = torch.randint(0, VOCABULARY, (count, BATCH, LENGTH), generator=generator)
    return tokens, torch.randint(0, VOCABULARY, (count, BATCH, LENGTH), generator=generator)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["gpt2", "post_ln"])
def test_logits_and_gradients_are_those_of_the_full_forward(name, shape, dtype, tolerance, count):
    built = members(name, shape, count, dtype)
    stacked, (tokens, labels) = stack(built), batch(count)
    logits = models.all_position_logits(built[0].config)(stacked, tokens)
    functional.cross_entropy(logits.flatten(0, 2), labels.flatten(), reduction="sum").div(BATCH * LENGTH).backward()
    assert logits.shape == (count, BATCH, LENGTH, VOCABULARY)
    for member, model in enumerate(built):
        full = model(tokens[member]).logits
        functional.cross_entropy(full.flatten(0, 1), labels[member].flatten()).backward()
        assert torch.allclose(logits[member], full, atol=tolerance, rtol=tolerance)
        for key, parameter in model.named_parameters():
            assert torch.allclose(stacked[key].grad[member], parameter.grad, atol=tolerance, rtol=tolerance), key


@pytest.mark.parametrize("name", ["gpt2", "post_ln"])
def test_last_position_is_that_of_the_short_cut(name):
    built = members(name, SHAPES[1], 2, torch.float64)
    stacked, (tokens, _) = stack(built), batch(2)
    last = models.last_position_logits(built[0].config)(stacked, tokens)
    assert torch.allclose(models.all_position_logits(built[0].config)(stacked, tokens)[:, :, -1], last, atol=1e-12)


@pytest.mark.parametrize("name", ["gpt2", "post_ln"])
def test_bfloat16_autocast_stays_close_to_the_full_forward(name):
    built = members(name, SHAPES[1], 2, torch.float32)
    tokens, _ = batch(2)
    with torch.autocast("cpu", torch.bfloat16):
        logits = models.all_position_logits(built[0].config)(stack(built), tokens)
    exact = torch.stack([model(rows).logits for model, rows in zip(built, tokens, strict=True)])
    assert logits.dtype == torch.bfloat16
    assert (logits.float() - exact).abs().max() < 0.05 * exact.abs().max()


def test_rows_longer_than_the_positions_are_refused():
    (model,) = members("gpt2", SHAPES[0], 1, torch.float32)
    with pytest.raises(ValueError, match="rows must have at most 9 tokens, got 10"):
        models.all_position_logits(model.config)(stack([model]), torch.zeros(1, 2, 10, dtype=torch.long))


@pytest.mark.parametrize("name", ["llama", "simplified", "lstm", "fnn"])
def test_models_without_a_stacked_form_say_so(name):
    assert models.all_position_logits(models.build(name, 9, 3).config) is None
