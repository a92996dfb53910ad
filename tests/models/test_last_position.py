"""The last-position short-cut against the full forward pass of the Hugging Face modules."""

import pytest
import torch
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel

from anchorlab import models
from anchorlab.models import first_block, last_position, network

VOCABULARY, LENGTH, BATCH = 19, 7, 6
SHAPES = [
    {"layers": 1, "heads": 1, "width": 12},
    {"layers": 2, "heads": 1, "width": 12},
    {"layers": 3, "heads": 4, "width": 12, "feed_forward_width": 20},
    {"layers": 2, "heads": 2, "width": 12, "tie_embeddings": True},
]


@pytest.fixture(params=["no tables", "attention tables", "all tables"])
def tables(request, monkeypatch):
    """How much of the first block comes from tables, whatever the shape."""
    monkeypatch.setattr(last_position, "tables_pay", lambda *shape: request.param != "no tables")
    monkeypatch.setattr(first_block, "hidden_tables_pay", lambda *shape: request.param == "all tables")


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
    return tokens, torch.randint(0, VOCABULARY, (count, BATCH), generator=generator)


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["gpt2", "post_ln"])
def test_logits_and_gradients_are_those_of_the_full_forward(name, shape, dtype, tolerance, count):
    built = members(name, shape, count, dtype)
    stacked, (tokens, labels) = stack(built), batch(count)
    logits = models.last_position_logits(built[0].config)(stacked, tokens)
    functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum").div(BATCH).backward()
    assert logits.shape == (count, BATCH, VOCABULARY)
    for member, model in enumerate(built):
        full = model(tokens[member]).logits[:, -1]
        functional.cross_entropy(full, labels[member]).backward()
        assert torch.allclose(logits[member], full, atol=tolerance, rtol=tolerance)
        for key, parameter in model.named_parameters():
            assert torch.allclose(stacked[key].grad[member], parameter.grad, atol=tolerance, rtol=tolerance), key


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("name", ["gpt2", "post_ln"])
@pytest.mark.parametrize(("dtype", "steps", "tolerance"), [(torch.float64, 10, 1e-11), (torch.float32, 20, 1e-4)])
def test_training_follows_the_full_forward(name, dtype, steps, tolerance):
    (model,) = members(name, SHAPES[1], 1, dtype)
    stacked, (tokens, labels) = stack([model]), batch(1)
    forward = models.last_position_logits(model.config)
    optimizers = [torch.optim.AdamW(group, lr=1e-3) for group in (stacked.values(), model.parameters())]
    for _ in range(steps):
        losses = [
            functional.cross_entropy(logits, labels[0])
            for logits in (forward(stacked, tokens)[0], model(tokens[0]).logits[:, -1])
        ]
        for loss, optimizer in zip(losses, optimizers, strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert abs(losses[0] - losses[1]) < tolerance
    if dtype == torch.float64:
        for key, parameter in model.named_parameters():
            # Keys' biases have no gradient but rounding, and Adam divides that by its epsilon of 1e-8.
            limit = 1e-9 if key.endswith("c_attn.bias") else tolerance
            assert torch.allclose(stacked[key][0], parameter, atol=limit, rtol=0), key


@pytest.mark.usefixtures("tables")
def test_biases_of_keys_have_a_gradient_of_zero():
    built = members("gpt2", SHAPES[2], 2, torch.float64)
    stacked, (tokens, labels) = stack(built), batch(2)
    logits = models.last_position_logits(built[0].config)(stacked, tokens)
    functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
    for layer in range(3):
        query, key, value = stacked[f"transformer.h.{layer}.attn.c_attn.bias"].grad.chunk(3, dim=-1)
        assert key.abs().max() < 1e-15 < min(query.abs().max(), value.abs().max())


@pytest.mark.parametrize(
    ("width", "count", "expected"), [(400, 2048, (True, True)), (64, 512, (True, False)), (32, 16, (False, False))]
)
def test_tables_are_used_where_they_take_less_time(width, count, expected):
    model = models.build("gpt2", 115, 9, layers=2, heads=1, width=width)
    parts = network.gpt2_network(model.config, stack([model]))
    rows = torch.zeros(1, count, 9, dtype=torch.long)
    assert (first_block.tables_pay(parts, rows), first_block.hidden_tables_pay(parts, 9)) == expected


def test_tables_are_chosen_by_themselves(monkeypatch):
    (model,) = members("gpt2", {"layers": 2, "heads": 1, "width": 128, "feed_forward_width": 24}, 1, torch.float64)
    tokens = torch.randint(0, VOCABULARY, (1, 40, LENGTH), generator=torch.Generator().manual_seed(0))
    logits = models.last_position_logits(model.config)(stack([model]), tokens)
    monkeypatch.setattr(last_position, "tables_pay", lambda *shape: False)
    without = models.last_position_logits(model.config)(stack([model]), tokens)
    assert torch.allclose(logits, without, atol=1e-12)
    assert not torch.equal(logits, without)


@pytest.mark.usefixtures("tables")
def test_results_repeat_to_the_last_bit():
    built = members("gpt2", SHAPES[1], 1, torch.float32)
    tokens, labels = batch(1)
    runs = []
    for _ in range(2):
        stacked = stack(built)
        logits = models.last_position_logits(built[0].config)(stacked, tokens)
        functional.cross_entropy(logits[0], labels[0]).backward()
        runs.append([logits, *(parameter.grad for parameter in stacked.values())])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("name", ["gpt2", "post_ln"])
def test_head_width_activation_and_epsilon_are_followed(name):
    own = {"gpt2": {"activation": "relu"}, "post_ln": {"head_width": 5}}[name]
    built = members(name, {"layers": 2, "heads": 2, "width": 12, "layer_norm_epsilon": 0.1, **own}, 2, torch.float64)
    tokens, _ = batch(2)
    logits = models.last_position_logits(built[0].config)(stack(built), tokens)
    for member, model in enumerate(built):
        assert torch.allclose(logits[member], model(tokens[member]).logits[:, -1], atol=1e-12)


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("name", ["gpt2", "post_ln"])
def test_members_do_not_influence_each_other(name):
    built = members(name, SHAPES[1], 3, torch.float32)
    stacked, (tokens, labels) = stack(built), batch(3)
    logits = models.last_position_logits(built[0].config)(stacked, tokens)
    functional.cross_entropy(logits[1], labels[1]).backward()
    for gradient in (parameter.grad for parameter in stacked.values()):
        assert gradient[0].abs().max() == 0
        assert gradient[2].abs().max() == 0
    # A value that is not finite stays with its member, too.
    with torch.no_grad():
        for parameter in stacked.values():
            parameter[0].fill_(float("nan"))
    spoiled = models.last_position_logits(built[0].config)(stacked, tokens)
    assert torch.equal(spoiled[1:], logits[1:])


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", ["gpt2", "post_ln"])
def test_gradients_are_contiguous_as_fused_optimizers_need(name, count):
    built = members(name, SHAPES[2], count, torch.float32)
    stacked, (tokens, labels) = stack(built), batch(count)
    logits = models.last_position_logits(built[0].config)(stacked, tokens)
    functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
    assert all(parameter.grad.is_contiguous() for parameter in stacked.values())


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", ["gpt2", "post_ln"])
def test_bfloat16_autocast_stays_close_to_the_full_forward(name, count):
    built = members(name, SHAPES[1], count, torch.float32)
    stacked, (tokens, labels) = stack(built), batch(count)
    with torch.autocast("cpu", torch.bfloat16):
        logits = models.last_position_logits(built[0].config)(stacked, tokens)
        full = torch.stack([model(rows).logits[:, -1] for model, rows in zip(built, tokens, strict=True)])
    assert logits.dtype == full.dtype == torch.bfloat16
    exact = torch.stack([model(rows).logits[:, -1] for model, rows in zip(built, tokens, strict=True)])
    scale = exact.abs().max()
    assert (logits.float() - full.float()).abs().max() < 0.03 * scale
    # No worse than the full forward is under the same rounding.
    assert (logits.float() - exact).abs().mean() < 2 * (full.float() - exact).abs().mean()
    functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten()).backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in stacked.values())


def test_layer_norm_is_in_float32_under_bfloat16_rows():
    from anchorlab.models.stacked import layer_norm

    rows, ones, zeros = torch.randn(2, 3, 8).bfloat16(), torch.ones(2, 8), torch.zeros(2, 8)
    assert layer_norm(rows, ones, zeros, 1e-5).dtype == torch.float32
    assert layer_norm(rows.double(), ones.double(), zeros.double(), 1e-5).dtype == torch.float64


@pytest.mark.usefixtures("tables")
def test_short_rows_use_the_first_positions():
    (model,) = members("post_ln", SHAPES[1], 1, torch.float64)
    for tokens in (torch.tensor([[[3, 1, 4]]]), torch.tensor([[[3], [1]]])):
        logits = models.last_position_logits(model.config)(stack([model]), tokens)
        assert torch.allclose(logits[0], model(tokens[0]).logits[:, -1], atol=1e-12)


def test_rows_longer_than_the_positions_are_refused():
    (model,) = members("gpt2", SHAPES[1], 1, torch.float32)
    with pytest.raises(ValueError, match="rows must have at most 9 tokens, got 10"):
        models.last_position_logits(model.config)(stack([model]), torch.zeros(1, 2, 10, dtype=torch.long))


@pytest.mark.usefixtures("tables")
def test_token_ids_of_any_integer_width_are_taken():
    built = members("gpt2", SHAPES[1], 3, torch.float32)
    tokens, _ = batch(3)
    forward, stacked = models.last_position_logits(built[0].config), stack(built)
    narrow = forward(stacked, tokens.int())
    assert torch.equal(narrow, forward(stacked, tokens))
    narrow.sum().backward()


@pytest.mark.parametrize("name", ["llama", "simplified", "lstm", "fnn"])
def test_models_without_a_short_cut_say_so(name):
    assert models.last_position_logits(models.build(name, 9, 3).config) is None


GPT2_VARIANTS = [
    {"scale_attn_weights": False},
    {"scale_attn_by_inverse_layer_idx": True},
    {"scale_attn_by_inverse_layer_idx": True, "scale_attn_weights": False},
    {"reorder_and_upcast_attn": True},
    {"add_cross_attention": True},
    {"activation_function": "gelu_new"},
    {"activation_function": "silu"},
    {"n_inner": 7},
    {"layer_norm_epsilon": 0.1},
    {"tie_word_embeddings": True},
    {"resid_pdrop": 0.3, "embd_pdrop": 0.3, "attn_pdrop": 0.3},
    {"pad_token_id": 3},
    {"is_decoder": True},
    {"is_causal": False},
    {"use_cache": True},
]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("variant", GPT2_VARIANTS, ids=",".join)
def test_every_variant_of_gpt2_is_followed_exactly_or_refused(variant, attention):
    shape = {"vocab_size": VOCABULARY, "n_positions": LENGTH, "n_embd": 12, "n_layer": 3, "n_head": 2}
    config = GPT2Config(**shape, **{"tie_word_embeddings": False, "bos_token_id": None, "eos_token_id": None} | variant)
    config._attn_implementation = attention
    forward = models.last_position_logits(config)
    if forward is None:
        assert set(variant) <= {
            *("scale_attn_weights", "scale_attn_by_inverse_layer_idx"),
            *("reorder_and_upcast_attn", "add_cross_attention", "is_causal"),
        }
        return
    model = GPT2LMHeadModel(config).double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # large enough that attention is far from uniform
        for parameter in model.parameters():
            parameter.normal_(0, 1, generator=generator)
    tokens, _ = batch(1)
    assert torch.allclose(forward(stack([model]), tokens)[0], model(tokens[0]).logits[:, -1], atol=1e-10)


@pytest.mark.parametrize("variant", [{"output_attentions": True}, {"initializer_range": 0.5}, {"is_causal": False}])
def test_every_variant_of_post_ln_is_followed_exactly_or_refused(variant):
    shape = {"vocab_size": VOCABULARY, "max_position_embeddings": LENGTH, "hidden_size": 12, "head_dim": 5}
    config = models.PostLNConfig(**shape, intermediate_size=9, num_hidden_layers=3, num_attention_heads=2, **variant)
    model = models.PostLNForCausalLM(config).double().eval()
    tokens, _ = batch(1)
    forward = models.last_position_logits(config)
    if forward is None:
        assert set(variant) == {"is_causal"}
        return
    assert torch.allclose(forward(stack([model]), tokens)[0], model(tokens[0]).logits[:, -1], atol=1e-10)
