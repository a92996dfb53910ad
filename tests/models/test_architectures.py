"""Every model against an independent restatement of its equations, its parameter count, and its saved copy."""

import math

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from anchorlab import models
from anchorlab.errors import InputError

VOCABULARY, LENGTH = 23, 6
SMALL = {
    "gpt2": {"layers": 2, "heads": 2, "width": 8},
    "llama": {"layers": 2, "heads": 4, "key_value_heads": 2, "width": 8, "head_width": 4, "feed_forward_width": 12},
    "post_ln": {"layers": 2, "heads": 2, "width": 8, "head_width": 3},
    "simplified": {},
    "lstm": {"layers": 2, "width": 8},
    "fnn": {"layers": 2, "width": 8},
}


def small(name, **options):
    model = models.build(name, VOCABULARY, LENGTH, **{**SMALL[name], **options})
    models.initialize(model, rule="arxiv-2405.05409", rate=0.3, generator=torch.Generator().manual_seed(1))
    return model


def rows(batch=5, seed=0):
    return torch.randint(0, VOCABULARY, (batch, LENGTH), generator=torch.Generator().manual_seed(seed))


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def test_published_size_of_the_two_layer_post_ln_model():
    model = models.build("post_ln", 201, 20, layers=2, heads=1, width=400, head_width=200, feed_forward_width=1200)
    assert count(model) == 2_732_201
    assert count(AutoModelForCausalLM.from_config(models.PostLNConfig())) == 2_732_201


def test_parameter_counts_in_closed_form():
    v, n, d, f, k = VOCABULARY, LENGTH, 8, 32, 6
    assert count(small("gpt2")) == (2 * v + n) * d + 2 * (4 * d * d + 2 * d * f + 9 * d + f) + 2 * d
    assert count(small("gpt2", tie_embeddings=True)) == count(small("gpt2")) - v * d
    assert count(small("llama")) == 2 * v * d + 2 * (2 * d * 16 + 2 * d * 8 + 3 * d * 12 + 2 * d) + d
    assert count(small("llama", tie_embeddings=True)) == count(small("llama")) - v * d
    assert count(small("post_ln")) == (2 * v + n) * d + v + 2 * (4 * d * k + 2 * d * 24 + 4 * d)
    assert count(small("simplified")) == (v + n) * v + 6 * v * v
    assert count(small("lstm")) == v * d + 2 * (8 * d * d + 8 * d) + v * d + v
    assert count(small("fnn")) == v * d + n * d * d + d + d * d + d + d * v + v
    assert count(small("fnn", input_code="one_hot")) == n * v * d + d + d * d + d + d * v + v


@pytest.mark.parametrize("name", models.names())
def test_the_answer_is_the_last_row_of_the_logits(name):
    model = small(name)
    assert not model.training
    output = model(rows(), use_cache=False)
    assert output.logits[:, -1].shape == (5, VOCABULARY)
    assert torch.equal(model(rows(), return_dict=False)[0], output.logits)
    assert all(module.p == 0 for module in model.modules() if isinstance(module, torch.nn.Dropout))


@pytest.mark.parametrize(
    ("name", "tie"),
    [*((name, False) for name in models.names()), *((name, True) for name in ("gpt2", "llama", "post_ln"))],
)
def test_saved_models_return_with_the_same_logits(name, tie, tmp_path):
    model = small(name, tie_embeddings=tie)
    model.save_pretrained(tmp_path)
    state = torch.get_rng_state()
    for copy in (models.load(tmp_path), AutoModelForCausalLM.from_pretrained(tmp_path, local_files_only=True)):
        assert type(copy) is type(model)
        assert all(torch.equal(weights, copy.state_dict()[key]) for key, weights in model.state_dict().items())
        assert torch.allclose(copy(rows()).logits, model(rows()).logits, atol=1e-5)
        assert dict(copy.named_parameters()).keys() == dict(model.named_parameters()).keys()
    assert torch.equal(torch.get_rng_state(), state)
    assert AutoConfig.from_pretrained(tmp_path).model_type == model.config.model_type


def test_gpt2_folder_is_readable_without_this_package(tmp_path):
    model = small("gpt2")
    model.save_pretrained(tmp_path)
    plain = GPT2LMHeadModel.from_pretrained(tmp_path)
    assert torch.allclose(plain(rows()).logits, model(rows()).logits, atol=1e-6)
    assert plain.config.pad_token_id is None
    assert plain.config.n_positions == LENGTH
    assert plain.config.activation_function == "gelu_pytorch_tanh"


def test_llama_folder_is_readable_without_this_package(tmp_path):
    model = small("llama")
    model.save_pretrained(tmp_path)
    plain = LlamaForCausalLM.from_pretrained(tmp_path)
    assert torch.allclose(plain(rows()).logits, model(rows()).logits, atol=1e-6)
    assert (plain.config.pad_token_id, plain.config.bos_token_id, plain.config.eos_token_id) == (None, None, None)
    assert plain.config.max_position_embeddings == LENGTH


def test_llama_shapes_that_are_not_given_are_those_of_hugging_face():
    ours = models.build("llama", VOCABULARY, LENGTH, layers=1, heads=2, width=12).config
    theirs = LlamaConfig(hidden_size=12, num_attention_heads=2)
    assert ours.num_key_value_heads == theirs.num_key_value_heads == 2
    assert ours.head_dim == theirs.head_dim == 6
    assert ours.rope_parameters == theirs.rope_parameters
    assert ours.rms_norm_eps == theirs.rms_norm_eps
    assert ours.intermediate_size == 32


def test_gpt2_activation_is_the_function_of_gelu_new():
    new = GPT2LMHeadModel(
        small("gpt2").config.__class__(**{**small("gpt2").config.to_dict(), "activation_function": "gelu_new"})
    )
    new.load_state_dict(small("gpt2").state_dict())
    assert torch.allclose(new.eval()(rows()).logits, small("gpt2")(rows()).logits, atol=1e-6)


def normed(x, weights, name):
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + 1e-5)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


@pytest.mark.parametrize(("heads", "head_width"), [(1, 8), (2, 3), (4, 2)])
def test_post_ln_follows_equations_13_3_to_13_6(heads, head_width):
    model = small("post_ln", heads=heads, head_width=head_width).double()
    with torch.no_grad():  # layer norms and head bias away from their neutral values
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.linspace(-0.3, 0.4, parameter.numel(), dtype=torch.float64))
    weights = model.state_dict()
    output = model(rows(), output_attentions=True)
    for sample, tokens in enumerate(rows()):
        x = torch.stack([weights["embed_tokens.weight"][t] for t in tokens]) + weights["embed_positions.weight"]
        for layer in range(2):
            block, mixed = f"layers.{layer}", torch.zeros_like(x)
            for head in range(heads):
                part = slice(head * head_width, (head + 1) * head_width)
                q, k, v = (x @ weights[f"{block}.self_attn.{name}_proj.weight"][part].T for name in "qkv")
                attention = torch.zeros(LENGTH, LENGTH, dtype=torch.float64)
                for i in range(LENGTH):
                    exponentials = torch.exp(q[i] @ k[: i + 1].T / math.sqrt(head_width))
                    attention[i, : i + 1] = exponentials / exponentials.sum()
                assert torch.allclose(output.attentions[layer][sample, head], attention, atol=1e-12)
                mixed = mixed + attention @ v @ weights[f"{block}.self_attn.o_proj.weight"][:, part].T
            x = normed(x + mixed, weights, f"{block}.attention_norm")
            hidden = torch.clamp(x @ weights[f"{block}.mlp.up_proj.weight"].T, min=0)
            x = normed(hidden @ weights[f"{block}.mlp.down_proj.weight"].T + x, weights, f"{block}.mlp_norm")
        logits = x @ weights["lm_head.weight"].T + weights["lm_head.bias"]
        assert torch.allclose(output.logits[sample], logits, atol=1e-12)


def root_mean_square_normed(x, gain, epsilon):
    return x / torch.sqrt((x**2).mean(-1, keepdim=True) + epsilon) * gain


def turned(x, base):
    """Columns i and i + width / 2 of position p as one complex number, turned by p · base^(-2i / width)."""
    half = x.shape[1] // 2
    angles = torch.arange(len(x))[:, None] * base ** (-torch.arange(half) / half)
    z = torch.complex(x[:, :half], x[:, half:]) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([z.real, z.imag], 1)


@pytest.mark.parametrize(("groups", "base", "epsilon"), [(4, 10_000.0, 1e-6), (2, 20.0, 0.1), (1, 3.0, 1e-6)])
def test_llama_follows_its_published_equations(groups, base, epsilon):
    model = small("llama", key_value_heads=groups, rope_base=base, rms_norm_epsilon=epsilon)
    with torch.no_grad():  # gains away from their neutral value
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.linspace(-0.3, 0.4, parameter.numel()))
    weights = {name.removeprefix("model."): value for name, value in model.state_dict().items()}
    output = model(rows(), output_attentions=True)
    future = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)
    for sample, tokens in enumerate(rows()):
        x = weights["embed_tokens.weight"][tokens]
        for layer in range(2):
            block = f"layers.{layer}"
            read = root_mean_square_normed(x, weights[f"{block}.input_layernorm.weight"], epsilon)
            q, k, v = (read @ weights[f"{block}.self_attn.{name}_proj.weight"].T for name in "qkv")
            for head in range(4):
                own, shared = (slice(4 * index, 4 * index + 4) for index in (head, head * groups // 4))
                scores = turned(q[:, own], base) @ turned(k[:, shared], base).T / math.sqrt(4)
                attention = scores.masked_fill(future, -torch.inf).softmax(-1)
                assert torch.allclose(output.attentions[layer][sample, head], attention, atol=1e-5)
                x = x + attention @ v[:, shared] @ weights[f"{block}.self_attn.o_proj.weight"][:, own].T
            read = root_mean_square_normed(x, weights[f"{block}.post_attention_layernorm.weight"], epsilon)
            gate, up = (read @ weights[f"{block}.mlp.{name}_proj.weight"].T for name in ("gate", "up"))
            x = x + (gate * torch.sigmoid(gate) * up) @ weights[f"{block}.mlp.down_proj.weight"].T
        logits = root_mean_square_normed(x, weights["norm.weight"], epsilon) @ weights["lm_head.weight"].T
        assert torch.allclose(output.logits[sample], logits, atol=1e-4)


def test_simplified_follows_section_12_7_2():
    model = small("simplified").double()
    weights = model.state_dict()
    output = model(rows(), output_attentions=True)
    for sample, tokens in enumerate(rows()):
        first = weights["embed_tokens.weight"][tokens] + weights["embed_positions.weight"]
        x, maps = first, []
        for layer in range(2):
            q, k, v = (weights[f"layers.{layer}.{name}_proj.weight"].T for name in "qkv")
            exponentials = torch.exp(x @ q @ k.T @ x.T / math.sqrt(VOCABULARY))
            maps.append(exponentials / exponentials.sum(-1, keepdim=True))
            x = maps[-1] @ x @ v
        values = [weights[f"layers.{layer}.v_proj.weight"].T for layer in range(2)]
        closed_form = maps[1] @ maps[0] @ first @ values[0] @ values[1]
        assert torch.allclose(output.logits[sample], closed_form, atol=1e-12)
        assert torch.allclose(output.attentions[0][sample, 0], maps[0], atol=1e-12)
    assert output.attentions[0].shape == (5, 1, LENGTH, LENGTH)


@pytest.mark.parametrize("input_code", ["embedding", "one_hot"])
def test_fnn_reads_the_concatenated_row(input_code):
    model = small("fnn", input_code=input_code)
    weights = model.state_dict()
    for sample, tokens in enumerate(rows()):
        table = torch.eye(VOCABULARY) if input_code == "one_hot" else weights["embed_tokens.weight"]
        hidden = torch.cat([table[token] for token in tokens])
        for layer in range(2):
            hidden = torch.clamp(weights[f"layers.{layer}.weight"] @ hidden + weights[f"layers.{layer}.bias"], min=0)
        logits = weights["lm_head.weight"] @ hidden + weights["lm_head.bias"]
        assert torch.allclose(model(rows()).logits[sample, -1], logits, atol=1e-6)


def test_fnn_on_one_hot_codes_has_no_embedding_table_and_is_saved(tmp_path):
    model = small("fnn", input_code="one_hot")
    assert model.get_input_embeddings() is None
    model.save_pretrained(tmp_path)
    assert torch.allclose(models.load(tmp_path)(rows()).logits, model(rows()).logits, atol=1e-6)
    assert small("fnn").get_input_embeddings().weight.shape == (VOCABULARY, 8)


@pytest.mark.parametrize("name", ["gpt2", "llama", "post_ln", "lstm"])
def test_later_tokens_do_not_change_earlier_logits(name):
    model, changed = small(name), rows()
    changed[:, 3:] = (changed[:, 3:] + 1) % VOCABULARY
    before, after = model(rows()).logits, model(changed).logits
    assert torch.allclose(before[:, :3], after[:, :3], atol=1e-7)
    assert not torch.allclose(before[:, 3:], after[:, 3:], atol=1e-3)


@pytest.mark.parametrize("name", ["gpt2", "llama", "post_ln"])
def test_attention_maps_are_causal_and_sum_to_one(name):
    model = small(name, layers=3, heads=2)
    attentions = model(rows(), output_attentions=True).attentions
    assert len(attentions) == 3
    for attention in attentions:
        assert attention.shape == (5, 2, LENGTH, LENGTH)
        assert torch.allclose(attention.sum(-1), torch.ones(5, 2, LENGTH))
        assert attention.triu(1).abs().max() == 0


def test_post_ln_masks_padding_by_attention_mask():
    model, mask = small("post_ln"), torch.ones(5, LENGTH, dtype=torch.long)
    assert torch.allclose(model(rows(), attention_mask=mask).logits, model(rows()).logits, atol=1e-6)
    mask[:, 1] = 0
    attentions = model(rows(), attention_mask=mask, output_attentions=True).attentions
    assert all(attention[:, :, 2:, 1].abs().max() == 0 for attention in attentions)


def test_post_ln_takes_a_registered_attention_function():
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    from anchorlab.models.post_ln import eager_attention

    def first_token_only(module, query, key, value, attention_mask, **kwargs):
        mixed, attention = eager_attention(module, query, key, value, attention_mask, **kwargs)
        return torch.zeros_like(mixed), torch.zeros_like(attention)

    AttentionInterface.register("test_zero_attention", first_token_only)
    AttentionMaskInterface.register("test_zero_attention", eager_mask)
    model = small("post_ln")
    model.set_attn_implementation("test_zero_attention")
    assert all(a.abs().max() == 0 for a in model(rows(), output_attentions=True).attentions)


def test_missing_attention_maps_are_an_error_not_an_empty_tuple():
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    AttentionInterface.register("test_no_maps", lambda m, q, k, v, mask, **kwargs: (v.transpose(1, 2), None))
    AttentionMaskInterface.register("test_no_maps", eager_mask)
    model = small("post_ln")
    model.set_attn_implementation("test_no_maps")
    with pytest.raises(ValueError, match="returns no maps"):
        model(rows(), output_attentions=True)


def test_labels_are_shifted_where_a_position_has_an_answer_and_refused_elsewhere():
    model = small("post_ln")
    labels = torch.full_like(rows(), -100)
    labels[:, -1] = 3  # the shift compares this label with the position before the last
    expected = torch.nn.functional.cross_entropy(model(rows()).logits[:, -2], labels[:, -1])
    assert torch.allclose(model(rows(), labels=labels).loss, expected)
    for name in ("simplified", "fnn"):
        with pytest.raises(ValueError, match="labels"):
            small(name)(rows(), labels=labels)


@pytest.mark.parametrize("name", ["post_ln", "simplified", "lstm", "fnn"])
def test_rows_longer_than_the_model_are_refused(name):
    with pytest.raises(ValueError, match="input_ids"):
        small(name)(torch.zeros(2, LENGTH + 1, dtype=torch.long))


def test_fnn_refuses_shorter_rows():
    with pytest.raises(ValueError, match="exactly 6"):
        small("fnn")(torch.zeros(2, LENGTH - 1, dtype=torch.long))


def test_building_leaves_the_global_generator_alone_and_repeats():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = models.build("post_ln", VOCABULARY, LENGTH, width=8)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    second = models.build("post_ln", VOCABULARY, LENGTH, width=8)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gpt", {}, "did you mean 'gpt2'"),
        ("gpt2", {"widht": 8}, "did you mean 'width'"),
        ("lstm", {"head_width": 8}, "did you mean 'width'"),
        ("lstm", {"tie_embeddings": True}, "known: layers, heads, width"),
        ("gpt2", {"width": 10, "heads": 4}, "divisible by heads=4"),
        ("gpt2", {"width": 8, "heads": 2, "head_width": 3}, "width / heads = 4"),
        ("llama", {"width": 10, "heads": 4, "head_width": 4}, "divisible by heads=4 for llama"),
        ("llama", {"width": 12, "heads": 4}, "head_width: must be even"),
        ("llama", {"width": 8, "heads": 4, "key_value_heads": 3}, "key_value_heads: must divide heads=4, got 3"),
        ("llama", {"key_value_heads": 0}, "key_value_heads: must be an integer of at least 1"),
        ("llama", {"rope_base": 0}, "rope_base: must be a finite number above 0"),
        ("llama", {"rms_norm_epsilon": -1.0}, "rms_norm_epsilon"),
        ("llama", {"activation": "silu"}, "unknown value 'activation'"),
        ("gpt2", {"activation": "swish"}, "activation: unknown value 'swish'"),
        ("post_ln", {"width": 10, "heads": 3}, "divisible by heads=3"),
        ("post_ln", {"layers": 0}, "layers: must be an integer of at least 1, got 0"),
        ("post_ln", {"layers": True}, "layers: must be an integer"),
        ("post_ln", {"layers": 2.0}, "layers: must be an integer"),
        ("post_ln", {"feed_forward_width": -3}, "feed_forward_width"),
        ("post_ln", {"layer_norm_epsilon": 0.0}, "layer_norm_epsilon"),
        ("post_ln", {"tie_embeddings": "no"}, "tie_embeddings: must be true or false, got 'no'"),
        ("simplified", {"layers": 3}, "layers: must be 2"),
        ("simplified", {"width": 8}, f"width: must be {VOCABULARY}"),
        ("lstm", {"heads": 2}, "heads: must be 1"),
        ("fnn", {"input_code": "onehot"}, "did you mean 'one_hot'"),
        ("fnn", {"heads": 2}, "heads: must be 1"),
    ],
)
def test_wrong_shapes_are_refused_in_one_line(name, options, message):
    with pytest.raises(InputError) as caught:
        models.build(name, VOCABULARY, LENGTH, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_sizes_and_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match="vocabulary_size"):
        models.build("gpt2", 0, LENGTH)
    with pytest.raises(InputError, match="max_length"):
        models.build("gpt2", VOCABULARY, 0)
    with pytest.raises(InputError, match=r"config\.json is missing"):
        models.load(tmp_path)
