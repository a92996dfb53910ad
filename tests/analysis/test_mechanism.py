from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from anchorlab import models
from anchorlab.analysis import NoAttentionError, attention_maps, record_attention
from anchorlab.analysis.predictions import answers, logits


class Echo(nn.Module):
    """Answers its first token."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def forward(self, input_ids):
        self.batches.append(len(input_ids))
        return SimpleNamespace(logits=nn.functional.one_hot(input_ids, 12).float().flip(1))


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


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_maps_are_those_of_eager_attention_whatever_is_in_place(implementation):
    model = models.build("gpt2", 30, 6, layers=2, heads=2, width=8)
    with torch.no_grad():
        expected = model(input_ids=torch.arange(6)[None], output_attentions=True).attentions
    model.set_attn_implementation(implementation)
    found = attention_maps(model, np.arange(6))
    assert np.allclose(found, torch.cat(expected).numpy(), atol=1e-6)
    assert model.config._attn_implementation == implementation


def test_recorded_attention_does_not_depend_on_the_batch():
    model = models.build("post_ln", 30, 6, layers=2, heads=2, width=8)
    tokens = np.arange(30).reshape(5, 6)
    places = {"key": np.array([0, 1, 2, 3, 4])}
    (whole,) = record_attention(model, tokens, places=places)
    parts = list(record_attention(model, tokens, places=places, batch=2))
    assert [len(part.weights) for part in parts] == [2, 2, 1]
    assert torch.allclose(torch.cat([part.weights for part in parts]), whole.weights, atol=1e-6)
    assert torch.allclose(torch.cat([part.value_norms for part in parts]), whole.value_norms, atol=1e-6)
    assert torch.cat([part.places["key"] for part in parts]).tolist() == [0, 1, 2, 3, 4]
    value = model.layers[0].self_attn.v_proj(model.embed_tokens(torch.tensor(29)) + model.embed_positions.weight[5])
    assert whole.value_norms[4, 0, :, 5].tolist() == pytest.approx(value.view(2, 4).norm(dim=-1).tolist(), rel=1e-5)


@pytest.mark.parametrize("name", ["lstm", "fnn"])
def test_models_without_attention_say_so(name):
    model = models.build(name, 30, 6, layers=1, width=8)
    with pytest.raises(NoAttentionError, match="no attention"):
        attention_maps(model, np.arange(6))
