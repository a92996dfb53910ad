import subprocess
import sys

import numpy as np
import pytest
import torch
import transformers
from hand_built import identity_gpt2

from anchorlab import models, tasks
from anchorlab.analysis import attention_maps
from anchorlab.analysis.lens_bridge import lens
from anchorlab.errors import InputError

VOCABULARY, LENGTH = 30, 9
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "max_position_embeddings": LENGTH,
}
PRETRAINED = {"Llama": {}, "Mistral": {"sliding_window": 4}, "Qwen3": {"rms_norm_eps": 0.1}, "Gemma2": {}}
OWN = {
    "gpt2": {"heads": 2, "layer_norm_epsilon": 0.1},
    "post_ln": {"heads": 2, "head_width": 5, "layer_norm_epsilon": 0.1},
    "post_ln, tied": {"heads": 1, "tie_embeddings": True},
}


def make(name):
    if name in PRETRAINED:
        config = getattr(transformers, f"{name}Config")(**SHAPE, **PRETRAINED[name])
        model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    else:
        model = models.build(name.split(",")[0], VOCABULARY, LENGTH, layers=2, width=16, **OWN[name])
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4, generator=generator)
    return model


def rows(count=5):
    return torch.from_numpy(np.random.default_rng(2).integers(0, VOCABULARY, (count, LENGTH)))


@pytest.fixture(params=[*PRETRAINED, *OWN])
def model(request):
    return make(request.param)


@torch.no_grad()
def test_logits_and_attention_are_those_of_the_model(model):
    found, cache = lens(model).run_with_cache(rows())
    torch.testing.assert_close(found, model(rows()).logits, atol=1e-5, rtol=1e-5)
    model.set_attn_implementation("eager")
    for layer, expected in enumerate(model(rows(), output_attentions=True).attentions):
        torch.testing.assert_close(cache[f"blocks.{layer}.attn.hook_pattern"], expected, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_model_stays_as_it_was(model):
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modules, config, logits = dict(model.named_modules()), model.config.to_dict(), model(rows()).logits
    attention = model.config._attn_implementation
    opened = lens(model)
    for parameter in opened.parameters():
        parameter.zero_()
    assert dict(model.named_modules()) == modules
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert (model.config.to_dict(), model.config._attn_implementation) == (config, attention)
    assert model.training
    assert not opened.training
    assert torch.equal(model(rows()).logits, logits)


@torch.no_grad()
def test_edit_of_one_edge_reaches_its_query_and_later_positions(model):
    opened, query = lens(model), 5
    changed = opened.run_with_hooks(rows(), fwd_hooks=[zeroing(layer=0, head=0, query=query, key=3)])
    moved = (changed - opened(rows())).abs().amax(dim=(0, 2))
    assert (moved[:query] == 0).all()
    assert (moved[query:] > 1e-4).all()


def zeroing(*, layer, head, query, key):
    def edit(pattern, hook):
        edited = pattern.clone()
        edited[:, head, query, key] = 0
        return edited

    return f"blocks.{layer}.attn.hook_pattern", edit


def test_edit_without_effect_is_warned_of():
    shape = {"vocab_size": VOCABULARY, "hidden_size": 16, "word_embed_proj_dim": 16, "ffn_dim": 24}
    config = transformers.OPTConfig(**shape, num_hidden_layers=1, num_attention_heads=4, max_position_embeddings=LENGTH)
    opened = lens(transformers.OPTForCausalLM(config))
    with pytest.warns(UserWarning, match="edit is discarded"):
        opened.run_with_hooks(rows(), fwd_hooks=[zeroing(layer=0, head=0, query=5, key=3)])


@torch.no_grad()
def test_known_mechanism_breaks_when_its_edge_is_cut_and_only_then():
    task = tasks.create("identity")
    row = task.sample("test", 1, seed=4)
    key, last = int(row.key_position[0]), task.length - 1
    opened = lens(identity_gpt2(task, working=(1, 0)))
    tokens = torch.from_numpy(row.tokens.astype(np.int64))

    def answer(**edge):
        return opened.run_with_hooks(tokens, fwd_hooks=[zeroing(**edge)])[0, -1]

    whole = opened(tokens)[0, -1]
    assert whole.argmax() == row.label[0]
    cut = answer(layer=1, head=0, query=last, key=key)
    assert cut.max() - cut.min() < 1e-3
    unmarked = answer(layer=0, head=1, query=key, key=key - 1)
    assert unmarked[row.label[0]] < whole[row.label[0]] / 2
    for edge in (
        {"layer": 1, "head": 1, "query": last, "key": key},
        {"layer": 0, "head": 0, "query": key, "key": key - 1},
    ):
        torch.testing.assert_close(answer(**edge), whole, atol=1e-4, rtol=0)


@torch.no_grad()
def test_post_ln_hooks_hold_the_residual_stream():
    model = make("post_ln")
    states, block = model(rows(), output_hidden_states=True).hidden_states, model.layers[1]
    _, cache = lens(model).run_with_cache(rows())
    mask = torch.full((LENGTH, LENGTH), -torch.inf).triu(1)[None, None]
    middle = block.attention_norm(states[1] + block.self_attn(states[1], mask)[0])
    for name, expected in (("pre", states[1]), ("mid", middle), ("post", states[2])):
        torch.testing.assert_close(cache[f"blocks.1.hook_resid_{name}"], expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_post_ln_keeps_padding_out():
    model = make("post_ln")
    seen = torch.ones(5, LENGTH, dtype=torch.long)
    seen[:, :3] = 0
    padded = lens(model)(rows(), attention_mask=seen)
    torch.testing.assert_close(padded[:, 3:], model(rows(), attention_mask=seen).logits[:, 3:], atol=1e-5, rtol=0)
    assert (padded - model(rows()).logits)[:, 3:].abs().max() > 1e-3


def test_run_is_opened_by_its_model(held_run):
    model = make("gpt2")
    pattern = lens(held_run(model, None)).run_with_cache(rows(1))[1]["blocks.1.attn.hook_pattern"]
    expected = attention_maps(model, rows(1)[0].numpy())[1]
    assert pattern[0].detach().numpy() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["simplified", "lstm", "fnn"])
def test_architecture_without_adapter_is_bad_input(name):
    with pytest.raises(InputError, match=r"^model: transformer-lens cannot open \w+; allowed: .*post_ln"):
        lens(models.build(name, VOCABULARY, LENGTH))


def test_module_of_no_library_is_bad_input():
    with pytest.raises(InputError, match="cannot open Linear"):
        lens(torch.nn.Linear(2, 2))


def test_without_transformer_lens_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformer_lens", None)
    with pytest.raises(InputError, match=r"^lens: transformer-lens is not installed; pip install 'anchorlab\[lens\]'$"):
        lens(make("gpt2"))


@pytest.mark.slow
def test_first_use_leaves_the_process_as_it_was():
    program = """
import logging, sys, warnings
import torch
from transformers.utils.logging import get_verbosity
from anchorlab import models
from anchorlab.analysis.lens_bridge import lens
assert "transformer_lens" not in sys.modules
model = models.build("gpt2", 30, 9, layers=1, heads=1, width=8)
def state():
    logs = get_verbosity(), logging.root.level, logging.root.handlers
    arithmetic = torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()
    return logs, arithmetic, list(warnings.filters), torch.get_rng_state().tolist()
before = state()
lens(model)
assert state() == before
assert "transformer_lens" in sys.modules
"""
    subprocess.run([sys.executable, "-P", "-c", program], check=True)
