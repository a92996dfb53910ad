"""Initialization rate γ: the standard deviation of every matrix, and the draw itself.

Two sign conventions are in use, and the rule chooses: std = d_in^−γ, where a larger γ is a smaller initialization and
γ = 0.5 keeps the variance of a linear map's input, or std = γ / √d_in (`scaled-lecun`), where a larger γ is a larger
initialization and γ = 1 keeps that variance. Under `constant` the rate is the standard deviation itself.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GPT2PreTrainedModel, LlamaPreTrainedModel, PreTrainedModel

from anchorlab.errors import InputError
from anchorlab.validation import check_known

from .factory import FactoryForCausalLM
from .module_map import COMPONENTS, Matrix, matrices, width
from .registry import load
from .seeding import global_seed

FAN_IN = "arxiv-2405.05409"
MODEL_WIDTH = "arxiv-2501.08537"
SCALED_LECUN = "scaled-lecun"
CONSTANT = "constant"
PYTORCH = "pytorch"
OWN = "own"
DISTRIBUTIONS = ("normal", "uniform")


@dataclass(frozen=True)
class InitializationRow:
    """How one matrix (or one part of a fused one) is drawn, around mean 0.

    Attributes:
        parameter: name in `model.named_parameters()`.
        part: `q`, `k` or `v` inside a fused matrix, else empty.
        component: embedding, qk, vo, mlp or head.
        shape: shape of what is drawn.
        fan_in: the d of d^−γ or γ / √d.
        rate: γ; None under the rule `pytorch`.
        std: standard deviation of the drawn weights.
        distribution: `normal` or `uniform`.
        columns: the columns of a fused matrix that this row fills.
    """

    parameter: str
    part: str
    component: str
    shape: tuple[int, ...]
    fan_in: int
    rate: float | None
    std: float
    distribution: str
    columns: tuple[int, int] | None = None


def rules() -> tuple[str, ...]:
    """Names of the initialization rules that have a table; `initialize` also knows `own`."""
    return (FAN_IN, MODEL_WIDTH, SCALED_LECUN, CONSTANT, PYTORCH)


def takes_rate(rule: str) -> bool:
    """Whether the rule scales what it draws by γ; raises `InputError` for an unknown rule."""
    check_known("rule", rule, (*rules(), OWN))
    return rule not in (PYTORCH, OWN)


def initialization_table(
    model: PreTrainedModel,
    *,
    rule: str,
    rate: float | None = None,
    component_rates: Mapping[str, float] | None = None,
    distribution: str = "normal",
) -> list[InitializationRow]:
    """The standard deviation of everything that `initialize` draws with the same arguments, in drawing order.

    Rules:
        `arxiv-2405.05409`: std = d_in^−γ; for token and position embeddings d_in = d_model.
        `arxiv-2501.08537`: std = d_model^−γ everywhere; W_O and the second feed-forward matrix also ÷ √(2 · layers).
        `scaled-lecun`: std = γ / √d_in, LeCun's normal law times γ; d_in as in the first rule.
        `constant`: std = γ, the same for every matrix (σ = 0.02 of fig. 13.18).
        `pytorch`: the framework's own default. For gpt2 and llama that is Hugging Face's law (its `_init_weights`): std
            = 0.02 (`initializer_range`), biases 0, and in gpt2 W_O and the second feed-forward matrix also ÷ √(2 ·
            layers). For the other models it is the law of each module's constructor in PyTorch, biases included. The
            rule has no rate: `rate` and `distribution` are accepted, so that one call serves all rules, and change
            nothing.

    Args:
        model: a model of this package.
        rule: one of `rules()`.
        rate: γ of all components (finite, ≥ 0); without effect under `pytorch`.
        component_rates: γ of single components (embedding, qk, vo, mlp, head) in place of `rate`.
        distribution: `normal` with that standard deviation, or `uniform` on (−b, b) where b takes the place of the
            standard deviation in the rule (std = b / √3), as the concept-graph experiment of fig. 13.13 draws.

    Raises:
        InputError: unknown rule, component or distribution; a rate that is missing, negative or not finite.
    """
    check_known("rule", rule, rules())
    check_known("distribution", distribution, DISTRIBUTIONS)
    if rule == PYTORCH:
        _check_no_rates(rule, component_rates)
        return _default_rows(model)
    rates = _rates(model, rate, component_rates or {})
    return [_row(model, matrix, rule, rates[matrix.component], distribution) for matrix in matrices(model)]


@torch.no_grad()
def initialize(
    model: PreTrainedModel,
    *,
    rule: str,
    rate: float | None = None,
    component_rates: Mapping[str, float] | None = None,
    distribution: str = "normal",
    generator: torch.Generator,
) -> None:
    """Draw all weights of a model anew, in place; every number comes from `generator`, none from a global one.

    Arguments and rules are those of `initialization_table`. Biases become 0 and norms (1, 0), which no rate
    scales (the rule `pytorch` also draws the biases that PyTorch draws). The result depends on the shape, the arguments
    and the generator only: not on earlier weights, dtype or device (as long as the generator is a CPU one). Under one
    seed two rates give the same weights up to scale.

    A network of the user's own (`models.factory`) has one more rule, `own`, which has no rate either: every parameter
    is what the factory makes it under a seed that `generator` gives to PyTorch's global generator, which is then put
    back. The other rules serve such a network if all its parameters belong to embeddings, linear maps, recurrent nets
    and norms of `torch.nn`. Of a model that was loaded from a folder, `own` takes the weights saved there.

    Raises:
        InputError: as `initialization_table`; `own` for another model, or for a factory that makes the same weights
            under every seed.
    """
    if rule == OWN:
        _check_no_rates(rule, component_rates)
        _make_anew(model, generator)
        return
    rows = initialization_table(model, rule=rule, rate=rate, component_rates=component_rates, distribution=distribution)
    parameters = dict(model.named_parameters())
    _reset_constants(model, drawn={row.parameter for row in rows})
    for row in rows:
        parameter = parameters[row.parameter]
        target = parameter if row.columns is None else parameter[:, slice(*row.columns)]
        target.copy_(_draw(row, generator))


def _check_no_rates(rule: str, component_rates: Mapping[str, float] | None) -> None:
    if component_rates:
        raise InputError(f"component_rates: the rule {rule!r} has no rates, got {dict(component_rates)}")


def _make_anew(model: PreTrainedModel, generator: torch.Generator) -> None:
    fresh = dict(_own_weights(model, generator).named_parameters())
    for name, parameter in model.named_parameters():
        parameter.copy_(fresh[name])


def _own_weights(model: PreTrainedModel, generator: torch.Generator) -> PreTrainedModel:
    """What the factory makes, or what is saved in the folder that the model was loaded from."""
    if isinstance(model, FactoryForCausalLM):
        seed = int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))
        made, other = (_made_under(one, model) for one in (seed, seed + 1))
        if all(map(torch.equal, made.parameters(), other.parameters())):
            raise InputError(
                f"rule: {OWN!r} needs weights that follow the seed; factory={model.config.factory!r} makes the same "
                "under every seed: it must not seed PyTorch's global generator, and must draw from it"
            )
        return made
    if not model.name_or_path:
        raise InputError(
            f"rule: {OWN!r} is for networks of your own and saved ones; what {type(model).__name__} has is {PYTORCH!r}"
        )
    return load(model.name_or_path)


def _made_under(seed: int, model: FactoryForCausalLM) -> FactoryForCausalLM:
    with global_seed(seed):
        return model.anew()


def _draw(row: InitializationRow, generator: torch.Generator) -> Tensor:
    unit = torch.empty(row.shape, dtype=torch.float32, device=generator.device)
    if row.distribution == "normal":
        unit.normal_(0.0, 1.0, generator=generator)
    else:
        unit.uniform_(-math.sqrt(3.0), math.sqrt(3.0), generator=generator)
    return unit * row.std


def _reset_constants(model: PreTrainedModel, drawn: set[str]) -> None:
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if f"{prefix}.{name}" not in drawn and parameter.ndim == 1:
                parameter.fill_(1.0 if name == "weight" else 0.0)  # the one weight with one axis is a norm's gain


def _rates(model: PreTrainedModel, rate: float | None, component_rates: Mapping[str, float]) -> dict[str, float]:
    """γ of each component that the model has."""
    present = dict.fromkeys(matrix.component for matrix in matrices(model))
    for component in component_rates:
        check_known("component_rates", component, COMPONENTS)
        if component not in present:
            kind = model.config.model_type
            raise InputError(f"component_rates: {kind} has no matrix in {component!r} (it has {', '.join(present)})")
    rates = {component: component_rates.get(component, rate) for component in present}
    return {component: _checked_rate(component, value) for component, value in rates.items()}


def _checked_rate(component: str, rate: Any) -> float:
    number = not isinstance(rate, bool) and isinstance(rate, int | float)
    if not number or not math.isfinite(rate) or rate < 0:
        raise InputError(f"initialization rate of {component}: must be a finite number of at least 0, got {rate!r}")
    return float(rate)


def _row(model: PreTrainedModel, matrix: Matrix, rule: str, rate: float, distribution: str) -> InitializationRow:
    fan_in = width(model) if rule == MODEL_WIDTH else matrix.fan_in
    scale = _SCALES[rule](rate, fan_in)
    if rule == MODEL_WIDTH and matrix.writes_residual:
        scale /= math.sqrt(2 * model.config.num_hidden_layers)
    std = scale if distribution == "normal" else scale / math.sqrt(3.0)
    return _describe(model, matrix, fan_in=fan_in, rate=rate, std=std, distribution=distribution)


_SCALES: dict[str, Callable[[float, int], float]] = {
    FAN_IN: lambda rate, fan_in: float(fan_in**-rate),
    MODEL_WIDTH: lambda rate, width: float(width**-rate),
    SCALED_LECUN: lambda rate, fan_in: rate / math.sqrt(fan_in),
    CONSTANT: lambda rate, fan_in: rate,
}


def _describe(
    model: PreTrainedModel, matrix: Matrix, *, fan_in: int, rate: float | None, std: float, distribution: str
) -> InitializationRow:
    return InitializationRow(
        parameter=matrix.parameter,
        part=matrix.part,
        component=matrix.component,
        shape=_shape(model, matrix),
        fan_in=fan_in,
        rate=rate,
        std=std,
        distribution=distribution,
        columns=matrix.columns,
    )


def _shape(model: PreTrainedModel, matrix: Matrix) -> tuple[int, ...]:
    shape = tuple(model.get_parameter(matrix.parameter).shape)
    return shape if matrix.columns is None else (shape[0], matrix.columns[1] - matrix.columns[0])


def _default_rows(model: PreTrainedModel) -> list[InitializationRow]:
    if isinstance(model, GPT2PreTrainedModel):
        return _library_rows(model, depth=math.sqrt(2 * model.config.num_hidden_layers))
    return _library_rows(model, depth=1) if isinstance(model, LlamaPreTrainedModel) else _constructor_rows(model)


def _library_rows(model: PreTrainedModel, *, depth: float) -> list[InitializationRow]:
    """Every matrix as Hugging Face draws it, what writes to the residual stream ÷ `depth`; no bias is drawn."""
    std = model.config.initializer_range

    def row(matrix: Matrix) -> InitializationRow:
        scale = std / depth if matrix.writes_residual else std
        return _describe(model, matrix, fan_in=matrix.fan_in, rate=None, std=scale, distribution="normal")

    return [row(matrix) for matrix in matrices(model)]


def _constructor_rows(model: PreTrainedModel) -> list[InitializationRow]:
    """Every matrix by the law of its module, then the biases of the modules that draw theirs."""
    rows: list[InitializationRow] = []
    owners: dict[str, str] = {}
    for matrix in matrices(model):
        prefix = matrix.parameter.rpartition(".")[0]
        owners[prefix] = matrix.component
        std, distribution = _default_law(model.get_submodule(prefix))
        rows.append(_describe(model, matrix, fan_in=matrix.fan_in, rate=None, std=std, distribution=distribution))
    for prefix, component in owners.items():
        module = model.get_submodule(prefix)
        if not isinstance(module, nn.Linear | nn.RNNBase):
            continue
        std, distribution = _default_law(module)
        fan_in = module.in_features if isinstance(module, nn.Linear) else module.hidden_size
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.ndim == 1:
                shape = tuple(parameter.shape)
                rows.append(
                    InitializationRow(f"{prefix}.{name}", "", component, shape, fan_in, None, std, distribution)
                )
    return rows


def _default_law(module: nn.Module) -> tuple[float, str]:
    """Standard deviation and law that a module's own constructor draws with."""
    if isinstance(module, nn.Linear):  # kaiming_uniform_(a=√5): U(±1/√fan_in), for the bias too
        return 1 / math.sqrt(3 * module.in_features), "uniform"
    if isinstance(module, nn.RNNBase):  # U(±1/√hidden), biases too
        return 1 / math.sqrt(3 * module.hidden_size), "uniform"
    if isinstance(module, nn.Embedding):
        return 1.0, "normal"
    raise InputError(f"rule: {PYTORCH!r} knows no default for {type(module).__name__}")
