"""Fully connected nets of real inputs, for function fitting and differential equations, many members at once."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save
from torch import Tensor
from torch.func import jvp

from anchorlab.errors import InputError
from anchorlab.files import replacing

from .jets import Index, Jet, closure
from .mlp_activations import Activation, activation
from .mlp_initialization import Initialization
from .validation import check_positive_integer

Parameters = Mapping[str, Tensor]
_SETTINGS, _WEIGHTS = "mlp.json", "model.safetensors"


@dataclass(frozen=True, kw_only=True)
class MLP:
    """Shape of a fully connected net; its parameters are kept apart, stacked over members.

    - `inputs`, `outputs`: numbers of a point and of what is computed there; `widths`: units of each hidden layer;
    - `activation`: one name for all hidden layers, or one for each, as in `mlp_activations` (`tanh`, `sin:10`);
    - `bias`: whether layers have biases (of hidden layers, of the last one);
    - `residual`: hidden layers from the second on add their output to their input (widths must be equal);
    - `output_scale`: a fixed factor of the output, 1/α of eq. 7.4;
    - `antisymmetric`: the ASI trick: (f(x; θ₁) - f(x; θ₂)) / √2 with θ₁ = θ₂ at the start, so that it starts at 0
      (Zhang et al. 2020, arXiv 1905.07777);
    - `input_scales`: MscaleDNN (eq. 5.2): the first hidden layer is cut into as many parts as there are scales, and
      the k-th part reads the inputs times the k-th scale;
    - `frequencies`: rows b of a matrix: the first layer reads cos(b·x), sin(b·x) instead of x (see `octaves`,
      `gaussian_frequencies`).

    Raises InputError for values that do not fit together.
    """

    inputs: int
    widths: tuple[int, ...]
    outputs: int = 1
    activation: str | tuple[str, ...] = "tanh"
    bias: tuple[bool, bool] = (True, True)
    residual: bool = False
    output_scale: float = 1.0
    antisymmetric: bool = False
    input_scales: tuple[float, ...] = ()
    frequencies: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        for name, value in (("inputs", self.inputs), ("outputs", self.outputs), *(("widths", w) for w in self.widths)):
            check_positive_integer(name, value)
        if not self.widths:
            raise InputError("widths: must have at least one hidden layer")
        for name in self.activation_names:
            activation(name)
        if len(self.activation_names) != len(self.widths):
            raise InputError(
                f"activation={self.activation}: must be one name, or one for each of {len(self.widths)} hidden layers"
            )
        if self.residual and len(set(self.widths)) != 1:
            raise InputError(f"widths={self.widths}: must all be equal in a residual net")
        if not all(math.isfinite(scale) for scale in (self.output_scale, *self.input_scales)):
            raise InputError("output_scale, input_scales: must be finite")
        if len(self.input_scales) > self.widths[0]:
            raise InputError(f"input_scales: {len(self.input_scales)} scales are more than {self.widths[0]} units")
        if any(len(row) != self.inputs for row in self.frequencies):
            raise InputError(f"frequencies: every row must have {self.inputs} numbers, one for each input")

    @property
    def activation_names(self) -> tuple[str, ...]:
        """The activation of each hidden layer."""
        one = self.activation
        return (one,) * len(self.widths) if isinstance(one, str) else tuple(one)

    @property
    def layer_sizes(self) -> tuple[tuple[int, int], ...]:
        """Inputs and outputs of every layer, the last included."""
        read = 2 * len(self.frequencies) or self.inputs
        return tuple(pairwise((read, *self.widths, self.outputs)))

    @property
    def parameter_count(self) -> int:
        """How many numbers are trained."""
        return sum(shape.numel() for shape in self.shapes().values())

    def shapes(self) -> dict[str, torch.Size]:
        """Parameters of one member: `layers.K.weight` [inputs, outputs] and `layers.K.bias` [outputs].

        An antisymmetric net has two of each, the weights with a leading axis of 2, the biases one behind the other.
        """
        copies = 2 if self.antisymmetric else 1
        last, found = len(self.widths), {}
        for layer, (inputs, outputs) in enumerate(self.layer_sizes):
            matrix = (copies, inputs, outputs) if copies > 1 else (inputs, outputs)
            found[f"layers.{layer}.weight"] = torch.Size(matrix)
            if self.bias[layer == last]:
                found[f"layers.{layer}.bias"] = torch.Size((copies * outputs,))
        return found

    def initialize(
        self, initialization: Initialization, seed: int, *, dtype: torch.dtype = torch.float32
    ) -> dict[str, Tensor]:
        """Fresh parameters of one member; both copies of an antisymmetric net are the same.

        Drawn in float64, so that the same seed is the same network in both precisions.
        """
        random = torch.Generator().manual_seed(seed)
        spreads = initialization.spreads(self.layer_sizes)
        found = {}
        for name, shape in self.shapes().items():
            weight, bias = spreads[int(name.split(".")[1])]
            spread = weight if name.endswith("weight") else bias
            copies = 2 if self.antisymmetric else 1
            drawn = torch.empty((shape.numel() // copies,), dtype=torch.float64)
            if initialization.distribution == "normal":
                drawn.normal_(generator=random)
            else:
                drawn.uniform_(-1, 1, generator=random)
            found[name] = (spread * drawn).repeat(copies).view(shape).to(dtype)
        return found

    def __call__(
        self, parameters: Parameters, points: Float[Tensor, "*member n inputs"]
    ) -> Float[Tensor, "member n outputs"]:
        """Every member's output; points without a member axis are the same for all members."""
        return self._jet(parameters, points, ((),)).parts.squeeze(1)

    def derivatives(
        self, parameters: Parameters, points: Float[Tensor, "*member n inputs"], wanted: Sequence[Index]
    ) -> dict[Index, Float[Tensor, "member n outputs"]]:
        """The wanted derivatives of the output in the inputs: (0, 0) is the second in the first input, () the output.

        First and second ones are carried forward through the layers; each order above differentiates that once more
        with `torch.func.jvp`. The result can be differentiated in the parameters.
        """
        low = [index for index in wanted if len(index) <= 2]
        found = dict(self._jet(parameters, points, closure(low)).named())
        for index in wanted:
            if len(index) > 2:
                found[index] = self._higher(parameters, points, index)
        return {tuple(index): found[tuple(sorted(index)) if len(index) <= 2 else index] for index in wanted}

    def _higher(self, parameters: Parameters, points: Tensor, index: Index) -> Tensor:
        def lower(at: Tensor) -> Tensor:
            rest = index[1:]
            return self.derivatives(parameters, at, [rest])[rest]

        direction = torch.zeros_like(points)
        direction[..., index[0]] = 1
        slope: Tensor = jvp(lower, (points,), (direction,))[1]
        return slope

    def hidden(
        self, parameters: Parameters, points: Float[Tensor, "*member n inputs"]
    ) -> list[Float[Tensor, "member n width"]]:
        """What each hidden layer hands on; of both copies of an antisymmetric net, one behind the other."""
        layers: list[Tensor] = []
        self._jet(parameters, points, ((),), layers)
        return layers

    def _jet(
        self,
        parameters: Parameters,
        points: Tensor,
        indices: Sequence[Index],
        layers: list[Tensor] | None = None,
    ) -> Jet:
        members = parameters["layers.0.weight"].shape[0]
        if points.ndim == 2:
            points = points.expand(members, *points.shape)
        jet = self._first_jet(points, indices)
        last = len(self.widths)
        for layer, name in enumerate(self.activation_names):
            before = jet
            jet = jet.affine(*self.layer(parameters, layer)).through(activation(name))
            if self.residual and layer:
                jet = Jet(jet.parts + before.parts, jet.indices)
            if layers is not None:
                layers.append(jet.parts.squeeze(1))
        parts = self.combine(jet.affine(*self.layer(parameters, last)).parts)
        return Jet(parts, tuple(indices))

    def _first_jet(self, points: Float[Tensor, "member n inputs"], indices: Sequence[Index]) -> Jet:
        jet = Jet.of_points(points.repeat_interleave(2, 0) if self.antisymmetric else points, indices)
        return _waves(jet, points.new_tensor(self.frequencies)) if self.frequencies else jet

    def first_layer_inputs(self, points: Float[Tensor, "member n inputs"]) -> Float[Tensor, "copy n read"]:
        """What the first layer reads: for every member and copy of it the points, or the waves of them."""
        if not (self.antisymmetric or self.frequencies):
            return points
        return self._first_jet(points, ((),)).parts.squeeze(1)

    def layer(self, parameters: Parameters, number: int) -> tuple[Tensor, Tensor | None]:
        """Weight [copy, inputs, outputs] and bias of one layer, for every member and copy of it."""
        weight, bias = parameters[f"layers.{number}.weight"], parameters.get(f"layers.{number}.bias")
        if self.antisymmetric:
            weight = weight.flatten(0, 1)
            bias = None if bias is None else bias.unflatten(1, (2, -1)).flatten(0, 1)
        if number == 0 and self.input_scales:
            weight = weight * self.unit_scales().to(weight)
        return weight, bias

    def unit_scales(self) -> Float[Tensor, " width"]:
        """The scale of every unit of the first hidden layer."""
        width, parts = self.widths[0], len(self.input_scales)
        return torch.tensor(self.input_scales, dtype=torch.float64)[torch.arange(width) * parts // width]

    def combine(self, outputs: Float[Tensor, "copy *n outputs"]) -> Float[Tensor, "member *n outputs"]:
        """The output from that of every copy."""
        if self.antisymmetric:
            plus, minus = outputs.unflatten(0, (-1, 2)).unbind(1)
            outputs = (plus - minus) * math.sqrt(0.5)
        return outputs if self.output_scale == 1 else outputs * self.output_scale

    def spread(self, gradient: Float[Tensor, "member *n outputs"]) -> Float[Tensor, "copy *n outputs"]:
        """The gradient in the output of every copy, from that in the output: the transpose of `combine`."""
        if self.output_scale != 1:
            gradient = gradient * self.output_scale
        if not self.antisymmetric:
            return gradient
        half = gradient * math.sqrt(0.5)
        return torch.stack((half, -half), 1).flatten(0, 1)

    def save(self, parameters: Parameters, folder: Path) -> None:
        """Write one member's net (parameters without member axis) to `folder`; `load_mlp` opens it."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in parameters.items()}
        with replacing(folder / _WEIGHTS) as temporary:
            temporary.write_bytes(save(tensors))
        with replacing(folder / _SETTINGS) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=2) + "\n")


def load_mlp(folder: Path | str) -> tuple[MLP, dict[str, Tensor]]:
    """The net that `MLP.save` wrote, and its parameters with a member axis of 1; raises InputError if there is none."""
    path = Path(folder)
    if not (path / _SETTINGS).is_file():
        raise InputError(f"folder={str(folder)!r}: holds no fully connected net ({_SETTINGS} is missing)")
    content: dict[str, Any] = json.loads((path / _SETTINGS).read_text())
    known = {field.name for field in fields(MLP)}
    settings = {name: _tuples(value) for name, value in content.items() if name in known}
    weights = load_file(path / _WEIGHTS)
    return MLP(**settings), {name: tensor[None] for name, tensor in weights.items()}


def octaves(count: int, inputs: int) -> tuple[tuple[float, ...], ...]:
    """Frequencies 2⁰π … 2^(count-1)π of each input alone: the positional encoding of section 5.3."""
    return tuple(
        tuple(2.0**level * math.pi * (axis == other) for other in range(inputs))
        for axis in range(inputs)
        for level in range(count)
    )


def gaussian_frequencies(count: int, inputs: int, std: float, seed: int) -> tuple[tuple[float, ...], ...]:
    """Random frequencies 2πb, b ~ N(0, std²): Fourier features (Tancik et al. 2020, arXiv 2006.10739)."""
    random = torch.Generator().manual_seed(seed)
    drawn = torch.randn(count, inputs, generator=random, dtype=torch.float64) * (2 * math.pi * std)
    return tuple(tuple(row) for row in drawn.tolist())


def _waves(jet: Jet, frequencies: Float[Tensor, "wave inputs"]) -> Jet:
    """cos(b·x) and sin(b·x) of every frequency b."""
    weight = frequencies.T.repeat(1, 2).expand(len(jet.parts), -1, -1)
    phases = frequencies.new_zeros(2 * len(frequencies))
    phases[: len(frequencies)] = math.pi / 2
    return jet.affine(weight, phases.expand(len(jet.parts), -1)).through(Activation("sin"))


def _tuples(value: Any) -> Any:
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value
