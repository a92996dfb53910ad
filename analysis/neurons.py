"""The input weights of the neurons of every weight matrix of a model, under names with layer and matrix.

A neuron is one output coordinate of a matrix, and its input weights are the numbers it multiplies the matrix's input
with (section 13.5.1). Matrices are told by their parameters' names alone, so that a model and the tensors of one of its
checkpoints are read alike. Names are `layer 1 W_Q` (layers from 1), or without a layer `head`, with these matrices:

- attention: `W_Q`, `W_K`, `W_V`, `W_O`;
- feed-forward net: `W_1` into its hidden units and `W_2` out of them; `W_gate`, the gates of Llama's family;
- LSTM: `W_i`, `W_f`, `W_g`, `W_o` of the layer's input and `U_i`, `U_f`, `U_g`, `U_o` of its state, for the input,
  forget, cell and output gates; FNN: `W`;
- any other matrix keeps its parameter's own name (behind its layer, if it is in one) and is read as [neuron, input].
"""

import re
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from anchorlab.errors import InputError

from .attention_hooks import NoAttentionError

_BLOCK = re.compile(r"(?:^|\.)(?:layers|h)\.(\d+)(?:\.(.+))?$")
_LSTM = re.compile(r"(?:^|\.)lstm\.weight_(ih|hh)_l(\d+)$")
_HEAD = re.compile(r"(?:^|\.)(lm_head|embed_out)$")
_EMBEDDING = re.compile(r"(?:^|\.)(wte|wpe|(?:[^.]*_)?emb(?:ed[^.]*)?)$")
_LAYERED = re.compile(r"layer (\d+) (.+)")

_LINEAR = {
    "q_proj": "W_Q",
    "k_proj": "W_K",
    "v_proj": "W_V",
    "o_proj": "W_O",
    "gate_proj": "W_gate",
    "up_proj": "W_1",
    "down_proj": "W_2",
}
# Conv1D stores [input, neuron]; c_attn holds the columns of Q, K and V side by side.
_CONV1D = {
    "attn.c_attn": ("W_Q", "W_K", "W_V"),
    "attn.c_proj": ("W_O",),
    "mlp.c_fc": ("W_1",),
    "mlp.c_proj": ("W_2",),
}
_EMBEDDINGS = {"wte": "embedding", "embed_tokens": "embedding", "wpe": "positions", "embed_positions": "positions"}


class NeuronWeights(Mapping[str, Float[np.ndarray, "neuron input"]]):
    """Weight matrices by name, one neuron a row.

    Every access copies one matrix to the main memory as float32; nothing else is held beside the model.
    """

    def __init__(self, rows: Mapping[str, Float[Tensor, "neuron input"]]) -> None:
        self._rows = rows

    def __getitem__(self, name: str) -> Float[np.ndarray, "neuron input"]:
        weights: Float[np.ndarray, "neuron input"] = (
            self._rows[name].detach().to("cpu", torch.float32, copy=True).numpy()
        )
        return weights

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


def neuron_weights(model: nn.Module | Mapping[str, Tensor], *, embeddings: bool = False) -> NeuronWeights:
    """The neurons of every matrix of a model, or of its parameters by name (as in `model.named_parameters()`).

    Embeddings are left out by default: they must keep all tokens apart and resist condensation (section 13.5). With
    `embeddings` they come as `embedding` and `positions`, a neuron being one coordinate of the vectors, whose inputs
    are the tokens or positions. A tied head is the token embedding. A matrix of a single neuron is left out: it has no
    directions to compare.

    Raises:
        InputError: there is no matrix of two or more neurons, two have the same name (an encoder and a decoder, say),
            or a `c_attn` is not GPT-2's [width, 3 * width].
    """
    parameters = dict(model.named_parameters()) if isinstance(model, nn.Module) else model
    found: dict[str, Tensor] = {}
    for parameter, weight in parameters.items():
        if weight.ndim != 2 or not weight.is_floating_point():
            continue
        for name, rows in _neurons_of(parameter.removesuffix(".weight"), weight, embeddings):
            if name in found:
                raise InputError(
                    f"model: two parameters hold a {name!r}, one of them {parameter!r}; pass one part only"
                )
            if len(rows) > 1:
                found[name] = rows
    if not found:
        raise InputError(f"model: none of its {len(parameters)} parameters is a weight matrix of two or more neurons")
    return NeuronWeights(found)


def query_weights(model: nn.Module) -> Float[np.ndarray, "neuron input"]:
    """Query projection of the first block, W_Q(1), one neuron a row; raises `NoAttentionError` if there is none."""
    weights = neuron_weights(model)
    if "layer 1 W_Q" not in weights:
        raise NoAttentionError(f"model: {type(model).__name__} has no query projection")
    return weights["layer 1 W_Q"]


def layer_and_matrix(name: str) -> tuple[int | None, str]:
    """The parts of a matrix's name: its layer (from 1; None without one) and what it is there."""
    layered = _LAYERED.fullmatch(name)
    return (int(layered[1]), layered[2]) if layered else (None, name)


def _neurons_of(name: str, weight: Tensor, embeddings: bool) -> list[tuple[str, Tensor]]:
    if block := _BLOCK.search(name):
        return _in_block(f"layer {int(block[1]) + 1}", block[2] or "W", weight)
    if gates := _LSTM.search(name):
        letter = {"ih": "W", "hh": "U"}[gates[1]]
        names = [f"layer {int(gates[2]) + 1} {letter}_{gate}" for gate in "ifgo"]
        return list(zip(names, weight.chunk(4), strict=True))
    if _HEAD.search(name):
        return [("head", weight)]
    if embedding := _EMBEDDING.search(name):
        return [(_EMBEDDINGS.get(embedding[1], name), weight.T)] if embeddings else []
    return [(name, weight)]


def _in_block(layer: str, inside: str, weight: Tensor) -> list[tuple[str, Tensor]]:
    if names := _CONV1D.get(inside):
        if inside == "attn.c_attn" and weight.shape[1] != 3 * weight.shape[0]:
            shape = list(weight.shape)
            raise InputError(f"model: {layer} {inside} of shape {shape}: only GPT-2's [width, 3 * width] is known")
        return [(f"{layer} {name}", rows) for name, rows in zip(names, weight.T.chunk(len(names)), strict=True)]
    plain = re.sub(r"^(self_attn|attn|mlp)\.", "", inside)
    return [(f"{layer} {_LINEAR.get(plain, inside)}", weight)]
