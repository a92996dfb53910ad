"""Every analysis names the mechanism of two Transformers whose weights are set by hand."""

import numpy as np
import pytest
import torch
from hand_built import identity_gpt2, identity_simplified
from small_models import small_model

from anchorlab import models, tasks
from anchorlab.analysis import AttentionEdit, attention_maps, explain, find_places, lens, outputs, select_edges
from anchorlab.report import causal_figures, head_figures, readout_figures

IDENTITY = tasks.create("identity")
MECHANISM = ["heads", "attention", "path", "patching", "ablation", "readout"]


@pytest.fixture(scope="module")
def shifting(held_run):
    """Head 3 of layer 1 shifts, head 2 of layer 2 broadcasts; the others are idle."""
    model = identity_gpt2(IDENTITY, heads=3, working=(2, 1))
    return explain(held_run(model, IDENTITY), only=MECHANISM, samples=100)


@pytest.fixture(scope="module")
def simplified(held_run):
    return explain(held_run(identity_simplified(IDENTITY), IDENTITY), only=MECHANISM, samples=100)


def kinds(explanation):
    return explanation.heads.kinds.set_index(["layer", "head"])


def test_heads_are_named(shifting):
    found = kinds(shifting)
    assert found.loc[(1, 3), "kind"] == "shift 1"
    assert found.loc[(2, 2), "kind"] == "broadcast"
    assert found.loc[(2, 2), "role"] == "key"
    assert found.loc[(2, 2), "decided_by"] == "moving test"
    assert (found.drop([(1, 3), (2, 2)])["kind"] == "none").all()
    said = head_figures.about_heads(shifting.heads)
    assert "1 is a shift head (layer 1 head 3: offset 1, weight 1.00" in said
    assert "1 is a broadcast head (layer 2 head 2: the key" in said
    assert "4 show none of the patterns" in said


def test_idle_heads_do_not_matter_and_working_ones_do(shifting):
    said = causal_figures.about_ablation(shifting.ablation)
    assert "layer 1 head 3" in said
    assert "layer 2 head 2" in said
    assert said.count("head") == 3


def test_path_is_shift_then_broadcast(shifting):
    said = causal_figures.about_path(shifting.path)
    assert "in layer 1, key reads anchor (" in said
    assert "; in layer 2, last reads key (" in said


def test_patching_finds_the_key_and_then_the_last_position(shifting):
    said = causal_figures.about_patching(shifting.patching)
    assert "stands at key behind layer 1 (1.00), at last behind layer 2 (1.00)" in said
    assert "the attention output of layer 2 at last (1.00)" in said


def test_readout_holds_the_answer_from_the_key_on(shifting):
    assert readout_figures.about_readout(shifting.readout).startswith(
        "In the last layer the answer stands at key (100%), "
    )


def test_simplified_model_moves_the_key_to_the_anchor_and_from_there_to_all(simplified):
    found = kinds(simplified)
    assert found.loc[(2, 1), "kind"] == "broadcast"
    assert found.loc[(2, 1), "role"] == "anchor"
    assert found.loc[(1, 1), "role"] == "anchor"  # which all other positions read in layer 1
    roles = simplified.heads.role_attention.set_index(["layer", "reader", "source"])["weight"]
    assert roles[1, "anchor", "key"] == pytest.approx(1, abs=0.01)  # the shift
    said = causal_figures.about_path(simplified.path)
    assert "in layer 1, anchor reads key (" in said
    assert "in layer 2, last reads anchor (" in said
    assert "last reads key" not in said
    assert set(simplified.patching.table["component"]) == {"residual stream"}  # attention's output is all of it
    patched = causal_figures.about_patching(simplified.patching)
    assert "at anchor behind layer 1 (1.00), at last behind layer 2 (1.00)" in patched


@pytest.mark.parametrize("explanation", ["shifting", "simplified"])
def test_attention_of_the_example_is_the_models(explanation, request):
    found = request.getfixturevalue(explanation).attention
    model = identity_gpt2(IDENTITY, heads=3, working=(2, 1)) if explanation == "shifting" else None
    row = np.array([IDENTITY.vocabulary.token_id(token) for token in found.example.tokens])
    maps = attention_maps(model or identity_simplified(IDENTITY), row)
    assert np.allclose(found.trained, maps)
    assert found.masked == (explanation == "shifting")


@pytest.mark.parametrize("kind", ["gpt2", "post_ln"])
def test_edits_are_those_of_transformer_lens(kind):
    task = tasks.create("composite")
    model = models.build(kind, task.vocabulary.size, task.length, layers=2, heads=2, width=16)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(parameter.numel()))
    tokens = task.sample("test", 20, 0).tokens
    edges = select_edges(find_places(task, tokens), task.length, "from key")
    found, _ = outputs(model, tokens, AttentionEdit(edges, layers=(2,), heads=(1,)))
    assert torch.allclose(found, through_lens(model, tokens, edges), atol=1e-4)


def test_edits_are_those_of_transformer_lens_in_llama():
    model, tokens = small_model("llama"), np.arange(40, 0, -1)[:36].reshape(4, 9) % 40
    edges = np.zeros((4, 9, 9), bool)
    edges[[0, 1, 2, 3], [8, 7, 6, 5], [0, 1, 2, 3]] = True
    found, _ = outputs(model, tokens, AttentionEdit(edges, layers=(2,), heads=(1,)))
    assert torch.allclose(found, through_lens(model, tokens, edges), atol=1e-4)


def through_lens(model, tokens, edges):
    """Zero the edges in layer 2, head 1 by a hook on the attention pattern."""

    def zero(pattern, hook):
        edited = pattern.clone()
        edited[:, 0][torch.from_numpy(edges)] = 0
        return edited

    with torch.no_grad():
        rows = torch.from_numpy(tokens.astype(int))
        return lens(model).run_with_hooks(rows, fwd_hooks=[("blocks.1.attn.hook_pattern", zero)])[:, -1]
