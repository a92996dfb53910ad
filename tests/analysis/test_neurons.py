import numpy as np
import pytest
import torch
from torch import nn
from transformers import GPTBigCodeConfig, GPTBigCodeForCausalLM, LlamaConfig, LlamaForCausalLM

from anchorlab import models
from anchorlab.analysis import NoAttentionError, query_weights
from anchorlab.analysis.neurons import layer_and_matrix, neuron_weights
from anchorlab.errors import InputError

ATTENTION = ("W_Q", "W_K", "W_V", "W_O")


def llama() -> nn.Module:
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=30, num_hidden_layers=2, tie_word_embeddings=False, **shape))
    drawn = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2, generator=drawn)
    return model


def built(name: str, **options) -> nn.Module:
    return models.build(name, 30, 6, **({"layers": 2, "width": 16} | options))


# For every network the modules of layer 2 and what their outputs are, side by side.
BLOCKS = {
    "gpt2": {
        "transformer.h.1.attn.c_attn": ("W_Q", "W_K", "W_V"),
        "transformer.h.1.attn.c_proj": ("W_O",),
        "transformer.h.1.mlp.c_fc": ("W_1",),
        "transformer.h.1.mlp.c_proj": ("W_2",),
    },
    "post_ln": {
        **{f"layers.1.self_attn.{name[-1].lower()}_proj": (name,) for name in ATTENTION},
        "layers.1.mlp.up_proj": ("W_1",),
        "layers.1.mlp.down_proj": ("W_2",),
    },
    "simplified": {f"layers.1.{name[-1].lower()}_proj": (name,) for name in ATTENTION[:3]},
    "fnn": {"layers.1": ("W",)},
    "llama": {
        **{f"model.layers.1.self_attn.{name[-1].lower()}_proj": (name,) for name in ATTENTION},
        "model.layers.1.mlp.gate_proj": ("W_gate",),
        "model.layers.1.mlp.up_proj": ("W_1",),
        "model.layers.1.mlp.down_proj": ("W_2",),
    },
}


@pytest.mark.parametrize("name", BLOCKS)
@torch.no_grad()
def test_rows_reproduce_what_the_modules_compute(name):
    options = {"width": None} if name == "simplified" else {}
    model = llama() if name == "llama" else built(name, **options)
    weights = neuron_weights(model)
    in_layer = {matrix for matrices in BLOCKS[name].values() for matrix in matrices}
    head = set() if name == "simplified" else {"head"}
    assert set(weights) == {f"layer {layer} {matrix}" for layer in (1, 2) for matrix in in_layer} | head
    for path, matrices in BLOCKS[name].items():
        rows = np.concatenate([weights[f"layer 2 {matrix}"] for matrix in matrices])
        module = model.get_submodule(path)
        zero, x = (
            torch.zeros(1, rows.shape[1]),
            torch.randn(5, rows.shape[1], generator=torch.Generator().manual_seed(0)),
        )
        assert x.numpy() @ rows.T == pytest.approx((module(x) - module(zero)).numpy(), abs=1e-5)


@torch.no_grad()
def test_gates_of_an_lstm_compute_its_state():
    model = built("lstm")
    weights = neuron_weights(model)
    assert set(weights) == {f"layer {layer} {m}_{gate}" for layer in (1, 2) for m in "WU" for gate in "ifgo"} | {"head"}
    for parameter in model.lstm.parameters():
        if parameter.ndim == 1:
            parameter.zero_()
    x, hidden, cell = torch.randn(3, 4, 16, generator=torch.Generator().manual_seed(0)).numpy()
    gates = {g: x @ weights[f"layer 1 W_{g}"].T + hidden @ weights[f"layer 1 U_{g}"].T for g in "ifgo"}
    open_ = {gate: 1 / (1 + np.exp(-values)) for gate, values in gates.items()}
    new_cell = open_["f"] * cell + open_["i"] * np.tanh(gates["g"])
    first = nn.LSTM(16, 16, batch_first=True)
    first.load_state_dict({name: tensor for name, tensor in model.lstm.state_dict().items() if name.endswith("_l0")})
    found, _ = first(torch.from_numpy(x[:, None]), (torch.from_numpy(hidden[None]), torch.from_numpy(cell[None])))
    assert open_["o"] * np.tanh(new_cell) == pytest.approx(found[:, 0].numpy(), abs=1e-6)


@pytest.mark.parametrize("name", ["gpt2", "post_ln", "lstm", "fnn"])
def test_the_parameters_of_a_checkpoint_are_read_like_the_model(name):
    model = built(name)
    from_model, from_tensors = neuron_weights(model), neuron_weights({n: p.data for n, p in model.named_parameters()})
    assert list(from_model) == list(from_tensors)
    assert all(np.array_equal(from_model[weight], from_tensors[weight]) for weight in from_model)


def test_prefixes_of_wrapped_models_do_not_change_the_names():
    parameters = {f"_orig_mod.{name}": parameter for name, parameter in built("gpt2").named_parameters()}
    assert list(neuron_weights(parameters)) == list(neuron_weights(built("gpt2")))


@pytest.mark.parametrize(("name", "tokens"), [("gpt2", "transformer.wte.weight"), ("post_ln", "embed_tokens.weight")])
def test_neurons_of_an_embedding_are_its_coordinates(name, tokens):
    model = built(name)
    weights = neuron_weights(model, embeddings=True)
    assert set(weights) - set(neuron_weights(model)) == {"embedding", "positions"}
    assert np.array_equal(weights["embedding"], model.get_parameter(tokens).detach().numpy().T)
    assert weights["positions"].shape == (16, 6)


def test_a_tied_head_is_the_embedding():
    assert "head" not in neuron_weights(built("post_ln", tie_embeddings=True))


def test_weights_are_float32_copies():
    model = built("post_ln").bfloat16()
    weights = neuron_weights(model)
    found = weights["head"]
    assert found.dtype == np.float32
    found[:] = 0
    assert weights["head"].any()
    with torch.no_grad():
        model.lm_head.weight.fill_(2)
    assert (weights["head"] == 2).all()


def test_what_follows_no_convention_keeps_its_own_name():
    model = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))
    assert {name: rows.shape for name, rows in neuron_weights(model).items()} == {"0": (8, 1), "2": (8, 8)}
    experts = {f"model.layers.3.mlp.experts.{number}.up_proj.weight": torch.ones(2, 3) for number in range(2)}
    assert list(neuron_weights(experts)) == [f"layer 4 mlp.experts.{number}.up_proj" for number in range(2)]


def test_names_come_apart():
    assert layer_and_matrix("layer 12 W_Q") == (12, "W_Q")
    assert layer_and_matrix("layer 4 mlp.experts.0.up_proj") == (4, "mlp.experts.0.up_proj")
    assert layer_and_matrix("head") == (None, "head")


def test_query_weights_are_those_of_the_first_block():
    model = built("gpt2")
    assert np.array_equal(query_weights(model), neuron_weights(model)["layer 1 W_Q"])
    for name in ("lstm", "fnn"):
        with pytest.raises(NoAttentionError, match="no query projection"):
            query_weights(built(name))


def test_a_model_without_matrices_is_refused():
    with pytest.raises(InputError, match="none of its 3 parameters is a weight matrix"):
        neuron_weights(nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 1, bias=False)))
    with pytest.raises(InputError, match="none of its 0 parameters"):
        neuron_weights({})


def test_two_matrices_of_one_name_are_refused():
    both = {f"{part}.layers.0.self_attn.q_proj.weight": torch.ones(2, 2) for part in ("encoder", "decoder")}
    with pytest.raises(InputError, match=r"two parameters hold a 'layer 1 W_Q', one of them 'decoder\.layers"):
        neuron_weights(both)


def test_a_fused_projection_of_another_layout_is_refused():
    model = GPTBigCodeForCausalLM(GPTBigCodeConfig(vocab_size=9, n_positions=4, n_embd=8, n_layer=1, n_head=2))
    with pytest.raises(InputError, match=r"attn\.c_attn of shape \[16, 8\]: only GPT-2's"):
        neuron_weights(model)
