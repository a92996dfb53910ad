"""Drawn weights against the published rules, restated here in plain numbers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2LMHeadModel, LlamaForCausalLM

from anchorlab import models
from anchorlab.errors import InputError

VOCABULARY, LENGTH = 60, 9
SHAPES = {
    "gpt2": {"layers": 2, "heads": 2, "width": 48, "feed_forward_width": 80},
    "llama": {
        **{"layers": 2, "heads": 2, "key_value_heads": 1, "width": 48, "head_width": 20},
        **{"feed_forward_width": 80},
    },
    "post_ln": {"layers": 2, "heads": 2, "width": 48, "head_width": 20, "feed_forward_width": 80},
    "simplified": {},
    "lstm": {"layers": 2, "width": 48},
    "fnn": {"layers": 2, "width": 48},
}


def build(name, **options):
    return models.build(name, VOCABULARY, LENGTH, **{**SHAPES[name], **options})


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(model, row):
    weights = model.get_parameter(row.parameter).detach()
    return weights if row.columns is None else weights[:, slice(*row.columns)]


def expected_fan_in(parameter, part):
    """d_in of the published rule, from the meaning of the names."""
    if "c_attn" in parameter:
        assert part in ("q", "k", "v")
    known = {
        "mlp.c_proj.weight": 80,
        "mlp.down_proj.weight": 80,
        "self_attn.o_proj.weight": 40,
    }
    return next((fan_in for ending, fan_in in known.items() if parameter.endswith(ending)), 48)


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
@pytest.mark.parametrize("rule", models.rules())
@pytest.mark.parametrize("name", models.names())
def test_measured_deviation_is_the_one_of_the_table(name, rule, distribution):
    model = build(name)
    settings_ = {"rule": rule, "rate": 0.6, "distribution": distribution}
    models.initialize(model, **settings_, generator=generator())
    for row in models.initialization_table(model, **settings_):
        weights = drawn(model, row)
        assert weights.shape == row.shape
        count = weights.numel()
        assert weights.std().item() == pytest.approx(row.std, rel=4.5 / math.sqrt(2 * count))
        assert abs(weights.mean().item()) < 4.5 * row.std / math.sqrt(count)
        if row.distribution == "uniform":
            assert weights.abs().max() <= row.std * math.sqrt(3) * (1 + 1e-6)


@pytest.mark.parametrize("name", models.names())
def test_every_matrix_is_drawn_exactly_once(name):
    model = build(name)
    covered = {parameter: torch.zeros(p.shape) for parameter, p in model.named_parameters() if p.ndim > 1}
    for row in models.initialization_table(model, rule="arxiv-2405.05409", rate=0.5):
        columns = slice(None) if row.columns is None else slice(*row.columns)
        covered[row.parameter][:, columns] += 1
    assert all((times == 1).all() for times in covered.values())


@pytest.mark.parametrize("name", ["gpt2", "llama", "post_ln"])
def test_fan_in_rule(name):
    for row in models.initialization_table(build(name), rule="arxiv-2405.05409", rate=0.7):
        assert row.fan_in == expected_fan_in(row.parameter, row.part)
        assert row.std == pytest.approx(row.fan_in**-0.7)


@pytest.mark.parametrize("name", ["gpt2", "llama", "post_ln"])
def test_model_width_rule_divides_what_writes_to_the_residual_stream(name):
    writers = ("attn.c_proj.weight", "mlp.c_proj.weight", "o_proj.weight", "down_proj.weight")
    found = 0
    for row in models.initialization_table(build(name), rule="arxiv-2501.08537", rate=0.7):
        writes = row.parameter.endswith(writers)
        found += writes
        assert row.std == pytest.approx(48**-0.7 / (math.sqrt(2 * 2) if writes else 1))
    assert found == 4


def test_uniform_bound_takes_the_place_of_the_deviation():
    (row, *_) = models.initialization_table(build("gpt2"), rule="arxiv-2405.05409", rate=0.5, distribution="uniform")
    assert row.std * math.sqrt(3) == pytest.approx(48**-0.5)


@pytest.mark.parametrize("name", ["gpt2", "llama", "post_ln"])
def test_component_rates_reach_their_component_only(name):
    rates = {"embedding": 0.1, "qk": 0.2, "vo": 0.3, "mlp": 0.4, "head": 0.5}
    rows = models.initialization_table(build(name), rule="arxiv-2405.05409", rate=9.0, component_rates=rates)
    assert {row.component for row in rows} == set(rates)
    for row in rows:
        assert row.rate == rates[row.component]
        assert row.std == pytest.approx(row.fan_in ** -rates[row.component])


def test_fused_query_key_value_columns_have_their_own_rates():
    model = build("gpt2")
    rates = {"qk": 0.0, "vo": 1.0}
    models.initialize(model, rule="arxiv-2405.05409", rate=0.5, component_rates=rates, generator=generator())
    query, key, value = model.transformer.h[0].attn.c_attn.weight.split(48, dim=1)
    assert query.std().item() == pytest.approx(1, rel=0.1)
    assert key.std().item() == pytest.approx(1, rel=0.1)
    assert value.std().item() == pytest.approx(1 / 48, rel=0.1)
    # Hugging Face splits the same columns into query, key and value.
    hidden = torch.randn(1, 3, 48, generator=generator(3))
    fused = model.transformer.h[0].attn.c_attn(hidden)
    assert torch.allclose(fused.split(48, dim=2)[2], hidden @ value, atol=1e-5)


@pytest.mark.parametrize("name", models.names())
@pytest.mark.parametrize("rule", models.rules())
def test_same_generator_same_weights_whatever_was_there_before(name, rule):
    torch.manual_seed(11)
    first, second = build(name), build(name)
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.fill_(7.0)
    state = torch.get_rng_state()
    for model in (first, second):
        models.initialize(model, rule=rule, rate=0.5, generator=generator(4))
    assert torch.equal(torch.get_rng_state(), state)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    models.initialize(second, rule=rule, rate=0.5, generator=generator(5))
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize("name", ["gpt2", "llama", "post_ln"])
def test_biases_and_norms_stay_as_constructed(name):
    model, fresh = build(name), build(name)
    models.initialize(model, rule="arxiv-2501.08537", rate=0.2, generator=generator())
    vectors = [(k, p) for k, p in model.named_parameters() if p.ndim == 1]
    assert vectors
    for key, parameter in vectors:
        assert torch.equal(parameter, fresh.get_parameter(key))


def test_tied_head_is_drawn_once_as_embedding():
    model = build("gpt2", tie_embeddings=True)
    rows = models.initialization_table(model, rule="arxiv-2405.05409", rate=0.5)
    assert "head" not in {row.component for row in rows}
    models.initialize(model, rule="arxiv-2405.05409", rate=0.5, generator=generator())
    assert model.lm_head.weight is model.transformer.wte.weight


def test_pytorch_rule_is_the_law_of_the_modules_own_constructor():
    rows = {row.parameter: row for row in models.initialization_table(build("post_ln"), rule="pytorch")}
    torch_head = torch.nn.Linear(48, VOCABULARY)
    assert rows["lm_head.weight"].std == pytest.approx(torch_head.weight.std().item(), rel=0.1)
    assert rows["lm_head.bias"].std == pytest.approx(1 / math.sqrt(3 * 48))
    assert rows["layers.0.self_attn.o_proj.weight"].std == pytest.approx(1 / math.sqrt(3 * 40))
    assert rows["embed_positions.weight"].std == 1.0
    lstm = {row.parameter: row for row in models.initialization_table(build("lstm"), rule="pytorch")}
    assert {f"lstm.{name}" for name, _ in torch.nn.LSTM(48, 48, 2).named_parameters()} <= lstm.keys()
    assert lstm["lstm.bias_hh_l1"].std == pytest.approx(1 / math.sqrt(3 * 48))


@pytest.mark.parametrize("tie", [False, True])
@pytest.mark.parametrize(("name", "library"), [("gpt2", GPT2LMHeadModel), ("llama", LlamaForCausalLM)])
def test_pytorch_rule_draws_as_hugging_face_does(name, library, tie):
    model = build(name, layers=3, tie_embeddings=tie)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        fresh = dict(library(model.config).named_parameters())
    models.initialize(model, rule="pytorch", generator=generator())
    for key, parameter in model.named_parameters():
        if parameter.ndim == 1:
            assert torch.equal(parameter, fresh[key]), key
        else:
            deviation = fresh[key].std().item()
            assert parameter.std().item() == pytest.approx(deviation, rel=9 / math.sqrt(2 * parameter.numel())), key
            assert abs(parameter.mean().item()) < 4.5 * deviation / math.sqrt(parameter.numel()), key


def test_hugging_face_scales_what_writes_to_the_residual_stream_in_gpt2_only():
    rows = {
        row.parameter: row.std
        for name in ("gpt2", "llama")
        for row in models.initialization_table(build(name, layers=3), rule="pytorch")
    }
    assert rows["transformer.h.0.attn.c_proj.weight"] == pytest.approx(0.02 / math.sqrt(6))
    assert rows["transformer.wte.weight"] == rows["model.layers.0.self_attn.o_proj.weight"] == 0.02


def test_pytorch_rule_has_no_rate_and_the_others_have():
    assert [rule for rule in models.rules() if not models.takes_rate(rule)] == ["pytorch"]
    tables = [
        models.initialization_table(build("post_ln"), rule="pytorch", rate=rate, distribution=distribution)
        for rate, distribution in ((None, "normal"), (0.8, "uniform"))
    ]
    assert tables[0] == tables[1]
    assert all(row.rate is None for row in tables[0])
    with pytest.raises(InputError, match="did you mean 'pytorch'"):
        models.takes_rate("pytroch")


@pytest.mark.parametrize("name", ["gpt2", "llama", "post_ln"])
def test_scaled_lecun_grows_with_the_rate(name):
    for row in models.initialization_table(build(name), rule="scaled-lecun", rate=0.7):
        assert row.fan_in == expected_fan_in(row.parameter, row.part)
        assert row.std == pytest.approx(0.7 / math.sqrt(row.fan_in))
    pairs = zip(
        models.initialization_table(build(name), rule="scaled-lecun", rate=1.0),
        models.initialization_table(build(name), rule="arxiv-2405.05409", rate=0.5),
        strict=True,
    )
    assert all(one.std == pytest.approx(half.std) for one, half in pairs)


@pytest.mark.parametrize("name", models.names())
def test_constant_rule_gives_every_matrix_the_rate_as_its_deviation(name):
    rows = models.initialization_table(build(name), rule="constant", rate=0.02)
    assert {row.std for row in rows} == {0.02}


def test_dtype_does_not_change_the_draw():
    single, double = build("post_ln"), build("post_ln").double()
    for model in (single, double):
        models.initialize(model, rule="arxiv-2405.05409", rate=0.5, generator=generator())
    for a, b in zip(single.parameters(), double.parameters(), strict=True):
        assert torch.equal(a.double(), b)


@settings(deadline=None, max_examples=15)
@given(st.floats(0, 3), st.floats(0, 3))
def test_a_larger_rate_is_a_smaller_initialization_of_the_same_directions(low, high):
    low, high = sorted((low, high))
    model = models.build("simplified", 7, 3)
    models.initialize(model, rule="arxiv-2405.05409", rate=low, generator=generator())
    large = model.embed_tokens.weight.detach().clone()
    models.initialize(model, rule="arxiv-2405.05409", rate=high, generator=generator())
    assert torch.allclose(model.embed_tokens.weight, large * 7.0 ** (low - high), rtol=1e-4)


@pytest.mark.parametrize("rate", [math.nan, math.inf, -0.1, None, True, "0.5"])
def test_rates_that_are_no_rates_are_refused(rate):
    with pytest.raises(InputError, match="must be a finite number"):
        models.initialization_table(build("gpt2"), rule="arxiv-2405.05409", rate=rate)
    with pytest.raises(InputError, match="initialization rate of mlp"):
        models.initialization_table(build("gpt2"), rule="arxiv-2405.05409", rate=0.5, component_rates={"mlp": rate})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rule": "arxiv-2405.05408"}, "did you mean 'arxiv-2405.05409'"),
        ({"distribution": "normla"}, "did you mean 'normal'"),
        ({"component_rates": {"attention": 0.5}}, "component_rates: unknown value 'attention'"),
        ({"component_rates": {"qk": 0.5}}, "has no matrix in 'qk'"),
        ({"rule": "pytorch", "component_rates": {"mlp": 0.5}}, "has no rates"),
    ],
)
def test_unknown_names_are_refused(arguments, message):
    with pytest.raises(InputError) as caught:
        models.initialization_table(build("lstm"), **{"rule": "arxiv-2405.05409", "rate": 0.5, **arguments})
    assert message in str(caught.value)


def test_refused_arguments_leave_the_weights_alone():
    model, fresh = build("gpt2"), build("gpt2")
    with pytest.raises(InputError):
        models.initialize(model, rule="arxiv-2405.05409", rate=math.nan, generator=generator())
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), fresh.parameters(), strict=True))


def test_models_without_a_map_are_refused():
    from transformers import MistralConfig, MistralForCausalLM

    config = MistralConfig(
        vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, head_dim=8
    )
    with pytest.raises(InputError, match="no initialization map for model type 'mistral'"):
        models.initialization_table(MistralForCausalLM(config), rule="arxiv-2405.05409", rate=0.5)
