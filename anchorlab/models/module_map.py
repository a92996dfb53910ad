"""Which matrices a model has, what each is part of, and how many inputs it reads: the map behind the γ rules."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn
from transformers import GPT2LMHeadModel, LlamaForCausalLM, PreTrainedConfig, PreTrainedModel

from anchorlab.errors import InputError

from .factory import MODEL_TYPE, FactoryForCausalLM
from .fnn import FNNForCausalLM
from .lstm import LSTMForCausalLM
from .post_ln import PostLNForCausalLM
from .simplified import SimplifiedForCausalLM

COMPONENTS = ("embedding", "qk", "vo", "mlp", "head")

# Of these modules every matrix is mapped, and a vector is a bias or a gain.
_MAPPED = (nn.Embedding, nn.Linear, nn.RNNBase, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.BatchNorm1d)


@dataclass(frozen=True)
class Matrix:
    """One matrix, or the columns of a fused one, that is drawn as a whole.

    Attributes:
        parameter: name in `model.named_parameters()`.
        component: one of `COMPONENTS`.
        fan_in: d_in, the numbers one output reads; d_model for embeddings.
        columns: first and one-past-last column inside a fused matrix; None for a whole parameter.
        part: which of the fused matrices this is (`q`, `k`, `v`), else empty.
        writes_residual: it adds to the residual stream (W_O and the second feed-forward matrix).
    """

    parameter: str
    component: str
    fan_in: int
    columns: tuple[int, int] | None = None
    part: str = ""
    writes_residual: bool = False


def _gpt2(model: GPT2LMHeadModel) -> list[Matrix]:
    # Conv1D stores [in, out]; c_attn holds the columns of q, k and v side by side.
    config = model.config
    width, inner = config.n_embd, config.n_inner or 4 * config.n_embd
    matrices = [
        Matrix("transformer.wte.weight", "embedding", width),
        Matrix("transformer.wpe.weight", "embedding", width),
    ]
    for layer in range(config.n_layer):
        block = f"transformer.h.{layer}"
        for index, (part, component) in enumerate((("q", "qk"), ("k", "qk"), ("v", "vo"))):
            columns = (index * width, (index + 1) * width)
            matrices.append(Matrix(f"{block}.attn.c_attn.weight", component, width, columns, part))
        matrices += [
            Matrix(f"{block}.attn.c_proj.weight", "vo", width, writes_residual=True),
            Matrix(f"{block}.mlp.c_fc.weight", "mlp", width),
            Matrix(f"{block}.mlp.c_proj.weight", "mlp", inner, writes_residual=True),
        ]
    return matrices + _head(model, width)


def _llama(model: LlamaForCausalLM) -> list[Matrix]:
    width = model.config.hidden_size
    blocks = _blocks(model.config, "model.layers", ("gate_proj", "up_proj"))
    return [Matrix("model.embed_tokens.weight", "embedding", width), *blocks, *_head(model, width)]


def _post_ln(model: PostLNForCausalLM) -> list[Matrix]:
    width = model.config.hidden_size
    matrices = [Matrix("embed_tokens.weight", "embedding", width), Matrix("embed_positions.weight", "embedding", width)]
    return matrices + _blocks(model.config, "layers", ("up_proj",)) + _head(model, width)


def _blocks(config: PreTrainedConfig, path: str, expanding: Sequence[str]) -> list[Matrix]:
    """Blocks with Llama's names; `expanding` are the feed-forward net's matrices that read the stream."""
    width, inner = config.hidden_size, config.num_attention_heads * config.head_dim
    matrices = []
    for layer in range(config.num_hidden_layers):
        block = f"{path}.{layer}"
        matrices += [
            Matrix(f"{block}.self_attn.q_proj.weight", "qk", width),
            Matrix(f"{block}.self_attn.k_proj.weight", "qk", width),
            Matrix(f"{block}.self_attn.v_proj.weight", "vo", width),
            Matrix(f"{block}.self_attn.o_proj.weight", "vo", inner, writes_residual=True),
            *(Matrix(f"{block}.mlp.{name}.weight", "mlp", width) for name in expanding),
            Matrix(f"{block}.mlp.down_proj.weight", "mlp", config.intermediate_size, writes_residual=True),
        ]
    return matrices


def _simplified(model: SimplifiedForCausalLM) -> list[Matrix]:
    width = model.config.vocab_size
    matrices = [Matrix("embed_tokens.weight", "embedding", width), Matrix("embed_positions.weight", "embedding", width)]
    for layer in range(model.config.num_hidden_layers):
        matrices += [
            Matrix(f"layers.{layer}.{name}_proj.weight", component, width)
            for name, component in (("q", "qk"), ("k", "qk"), ("v", "vo"))
        ]
    return matrices


def _lstm(model: LSTMForCausalLM) -> list[Matrix]:
    width = model.config.hidden_size
    matrices = [Matrix("embed_tokens.weight", "embedding", width)]
    for layer in range(model.config.num_hidden_layers):
        matrices += [Matrix(f"lstm.weight_{kind}_l{layer}", "mlp", width) for kind in ("ih", "hh")]
    return matrices + _head(model, width)


def _fnn(model: FNNForCausalLM) -> list[Matrix]:
    config = model.config
    matrices = []
    if model.embed_tokens is not None:
        matrices.append(Matrix("embed_tokens.weight", "embedding", config.hidden_size))
    for layer in range(config.num_hidden_layers):
        fan_in = config.hidden_size if layer else config.input_width
        matrices.append(Matrix(f"layers.{layer}.weight", "mlp", fan_in))
    return matrices + _head(model, config.hidden_size)


def _factory(model: FactoryForCausalLM) -> list[Matrix]:
    # What a matrix does in a network of the user's own is not known: besides embeddings all are `mlp`.
    matrices = []
    listed = {id(parameter) for parameter in model.parameters()}
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not isinstance(module, _MAPPED):
                raise InputError(
                    f"initialization_rule: no law is known for {type(module).__name__} "
                    f"({prefix}.{name}); use 'own', which keeps what the factory draws"
                )
            if parameter.ndim > 1 and id(parameter) in listed:
                listed.remove(id(parameter))  # a tied one is drawn once
                component = "embedding" if isinstance(module, nn.Embedding) else "mlp"
                matrices.append(Matrix(f"{prefix}.{name}", component, parameter.shape[1]))
    return matrices


def _head(model: PreTrainedModel, width: int) -> list[Matrix]:
    # A tied head is the token embedding, which is drawn once, as an embedding.
    return [] if model.config.tie_word_embeddings else [Matrix("lm_head.weight", "head", width)]


_MAPS: dict[str, Callable[..., list[Matrix]]] = {
    "gpt2": _gpt2,
    "llama": _llama,
    "anchorlab_post_ln": _post_ln,
    "anchorlab_simplified": _simplified,
    "anchorlab_lstm": _lstm,
    "anchorlab_fnn": _fnn,
    MODEL_TYPE: _factory,
}


def matrices(model: PreTrainedModel) -> list[Matrix]:
    """Every matrix of a model in a fixed order; what is not listed (biases, layer norms) is not scaled by any rate.

    Raises:
        InputError: a model type without a map.
    """
    model_type = model.config.model_type
    if model_type not in _MAPS:
        raise InputError(f"model: no initialization map for model type {model_type!r} (known: {', '.join(_MAPS)})")
    return _MAPS[model_type](model)


def width(model: PreTrainedModel) -> int:
    """d_model: the width of the residual stream or hidden state; `InputError` for a network that does not tell it."""
    config = model.config
    if config.model_type == MODEL_TYPE:
        raise InputError("initialization_rule: the width of a network of your own is not known; use another rule")
    return int(config.vocab_size if config.model_type == "anchorlab_simplified" else config.hidden_size)
