"""The shape annotations hold: every annotated function runs under a type checker that reads them."""

import pytest
import torch
from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped

from anchorlab import models
from anchorlab.models import (
    blocks,
    first_block,
    fnn,
    last_position,
    lstm,
    network,
    post_ln,
    short_rows,
    simplified,
    stacked,
)

ANNOTATED_METHODS = [
    (post_ln.SelfAttention, "forward"),
    (post_ln.FeedForward, "forward"),
    (post_ln.PostLNBlock, "forward"),
    (post_ln.PostLNForCausalLM, "forward"),
    (simplified.SimplifiedLayer, "forward"),
    (simplified.SimplifiedForCausalLM, "forward"),
    (lstm.LSTMForCausalLM, "forward"),
    (fnn.FNNForCausalLM, "forward"),
    (fnn.FNNForCausalLM, "encode"),
]


def checked(function):
    return jaxtyped(typechecker=beartype)(function)


FUNCTIONS = [
    (stacked, ("linear", "normalize", "affine", "layer_norm", "lowered", "embedding", "attend")),
    (short_rows, ("softmax", "split_heads", "causal_attention", "products", "mixtures", "add_mixtures")),
    (short_rows, ("inverse_deviation", "gather")),
    (blocks, ("whole_block", "feed_forward", "last_block", "_absorbed_query", "_values", "_chain", "_norm")),
    (first_block, ("first_block", "_first_position", "_feed_forward_end", "_weights", "_entries", "_tables")),
    (first_block, ("_projections", "_hidden_rows", "_heads_aside", "_spread", "_centred")),
    (last_position, ("_logits",)),
]


@pytest.fixture
def shape_checks(monkeypatch):
    modules = [stacked, short_rows, blocks, network, first_block, last_position]
    for owner, names in FUNCTIONS:
        for name in names:
            original, function = getattr(owner, name), checked(getattr(owner, name))
            for module in modules:
                if getattr(module, name, None) is original:
                    monkeypatch.setattr(module, name, function)
    monkeypatch.setattr(post_ln, "eager_attention", checked(post_ln.eager_attention))
    for owner, name in ANNOTATED_METHODS:
        monkeypatch.setattr(owner, name, checked(getattr(owner, name)))


@pytest.mark.usefixtures("shape_checks")
@pytest.mark.parametrize("name", models.names())
def test_forward_pass_has_the_annotated_shapes(name):
    model = models.build(name, 11, 5)
    assert model(torch.zeros(3, 5, dtype=torch.long)).logits.shape[::2] == (3, 11)
    if name not in ("gpt2", "llama"):  # Hugging Face's own classes, without annotations of ours
        with pytest.raises(TypeCheckError):
            model(torch.zeros(3, 5, 1, dtype=torch.long))


@pytest.mark.usefixtures("shape_checks")
@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("tables", [True, False])
@pytest.mark.parametrize("name", ["gpt2", "post_ln"])
def test_short_cut_has_the_annotated_shapes(name, tables, members, monkeypatch):
    monkeypatch.setattr(last_position, "tables_pay", lambda *shape: tables)
    monkeypatch.setattr(first_block, "hidden_tables_pay", lambda *shape: tables)
    model = models.build(name, 11, 5, layers=3, heads=2, width=8)
    stacked_parameters = {
        key: parameter.detach().expand(members, *parameter.shape).clone() for key, parameter in model.named_parameters()
    }
    forward = checked(models.last_position_logits(model.config))
    assert forward(stacked_parameters, torch.zeros(members, 3, 5, dtype=torch.long)).shape == (members, 3, 11)
    with pytest.raises(TypeCheckError):
        forward(stacked_parameters, torch.zeros(3, 5, dtype=torch.long))
