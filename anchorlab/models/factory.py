"""A network of the user's own: a module made by a function in a Python file or an installed package."""

import sys
from collections.abc import Callable, Mapping
from functools import cache
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.func import functional_call
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from anchorlab.errors import InputError
from anchorlab.user_code import errors_with_line, importing_from

from .options import Option
from .outputs import causal_output, refuse_labels
from .seeding import global_seed
from .validation import check_positive_integer

MODEL_TYPE = "anchorlab_factory"
OPTIONS = {
    "factory": Option(
        None,
        "FILE.py:FUNCTION or package.module:FUNCTION; FUNCTION(vocabulary_size, max_length) returns the module",
    ),
    "source": Option(None, "SHA-256 of the file in which FUNCTION stands; filled in"),
}

_WEIGHTS = "model.safetensors"


class FactoryConfig(PreTrainedConfig):
    """What the factory is called with, where it stands, and the SHA-256 of its file."""

    model_type = MODEL_TYPE

    vocab_size: int = 201
    max_position_embeddings: int = 20
    factory: str = ""
    source: str = ""
    tie_word_embeddings: bool = False


class FactoryForCausalLM(PreTrainedModel):
    """The module that a factory makes, as a model of this package; its parameters are named `network.…`.

    The module takes token ids [batch, length] and returns logits: [batch, length, vocabulary], or [batch, vocabulary]
    if it only answers behind the last token, or an object with one of these as `logits`. Training, which reads the last
    position alone, runs the module in evaluation mode: no dropout, and norms over batches keep the statistics that they
    begin with. Only parameters are trained and drawn from a seed; buffers are the same in every network.

    Opening a saved model runs the factory again, so its file is needed, and as it was. For this reason the class is not
    known to `AutoModelForCausalLM`: a folder from elsewhere must not choose what code runs here.
    """

    config_class = FactoryConfig
    base_model_prefix = "network"

    def __init__(self, config: FactoryConfig) -> None:
        super().__init__(config)
        self.network = _make(config)

    def anew(self) -> "FactoryForCausalLM":
        """Another network of this factory, with what it draws from PyTorch's global generator as that is."""
        return FactoryForCausalLM(cast(FactoryConfig, self.config))

    def get_input_embeddings(self) -> nn.Module | None:  # type: ignore[override]
        """The first embedding with a row for every token id, if there is one."""
        tables = (module for module in self.network.modules() if isinstance(module, nn.Embedding))
        return next((table for table in tables if table.num_embeddings == self.config.vocab_size), None)

    def forward(
        self,
        input_ids: Int[Tensor, "batch length"],
        *,
        labels: Int[Tensor, "batch length"] | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> CausalLMOutput | tuple[Any, ...]:
        """Logits [batch, length, vocabulary], or [batch, 1, vocabulary]; other keyword arguments are ignored."""
        answer = self.network(input_ids)
        logits: Float[Tensor, "batch *length vocabulary"] = getattr(answer, "logits", answer)
        if logits.ndim == 2:
            refuse_labels(self, labels)
            logits = logits[:, None]
        return causal_output(self, logits, labels=labels, return_dict=return_dict)

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Write `config.json` and the weights, tied ones once."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        self.config.save_pretrained(folder)
        save_model(self, str(folder / _WEIGHTS), metadata={"format": "pt"})

    @classmethod
    def from_pretrained(cls, folder: Any, **kwargs: Any) -> "FactoryForCausalLM":  # type: ignore[override]
        """What `save_pretrained` wrote, in evaluation mode; arguments of Hugging Face's loader are ignored.

        The module is made as its factory makes it, not on the meta device: buffers that are not saved exist.

        Raises:
            InputError: the factory's file is gone or another one, or makes another network than the saved one.
            OSError: a file of the folder is missing.
        """
        with global_seed(0):
            model = cls(FactoryConfig.from_pretrained(folder))
        load_model(model, Path(folder) / _WEIGHTS)
        model.eval()  # type: ignore[no-untyped-call]
        return model


def settled_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with the factory's path made absolute and its file's hash, so that they mean the same everywhere.

    Raises:
        InputError: no factory is named, or there is none of this name.
    """
    reference = options.get("factory")
    if not isinstance(reference, str) or not all(reference.rpartition(":")[::2]):
        raise InputError(f"factory={reference!r}: must be FILE.py:FUNCTION or package.module:FUNCTION")
    place, _, function = reference.rpartition(":")
    if place.endswith(".py"):
        reference = f"{Path(place).resolve()}:{function}"
    source = options.get("source") or _digest(_locate(reference).file)
    return {**options, "factory": reference, "source": source}


def build_factory(vocabulary_size: int, max_length: int, *, factory: str, source: str | None) -> FactoryForCausalLM:
    """The factory's network for rows of `max_length` tokens, checked as far as can be told before training.

    Raises:
        InputError: there is no such factory; it raises or makes no module; the module does not fit the vocabulary, has
            no parameters or some that cannot be trained, mixes rows, or is not determined by the seed.
    """
    options = settled_options({"factory": factory, "source": source})
    config = FactoryConfig(vocab_size=vocabulary_size, max_position_embeddings=max_length, **options)
    with global_seed(0):
        model = FactoryForCausalLM(config)
    model.eval()  # type: ignore[no-untyped-call]
    try:
        _check_parameters(model)
        _check_answer(model)
    except InputError as error:
        raise InputError(f"factory={config.factory!r}: {error}") from None
    return model


class _Place(NamedTuple):
    """The file of a factory, its name inside, and the name of its module (empty: it is run from the file)."""

    file: Path
    function: str
    module: str


def _locate(reference: str) -> _Place:
    place, _, function = reference.rpartition(":")
    if place.endswith(".py"):
        if not Path(place).is_file():
            raise InputError(f"factory={reference!r}: there is no file {place}")
        return _Place(Path(place), function, "")
    try:
        spec = find_spec(place)
    except Exception:  # of a package that is imported on the way, or of a malformed name
        spec = None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise InputError(
            f"factory={reference!r}: there is no Python module {place!r}; write a file as FILE.py:{function}"
        )
    return _Place(Path(spec.origin), function, place)


def _digest(file: Path) -> str:
    return sha256(file.read_bytes()).hexdigest()


def _make(config: FactoryConfig) -> nn.Module:
    for field in ("vocab_size", "max_position_embeddings"):
        check_positive_integer(field, getattr(config, field))
    place = _locate(config.factory)
    if _digest(place.file) != config.source:
        raise InputError(
            f"factory={config.factory!r}: {place.file} has changed since the network was made; restore it, or train "
            "anew in another folder"
        )
    try:
        with errors_with_line(place.file), importing_from(place.file.parent):
            network = _function(place, config.source)(config.vocab_size, config.max_position_embeddings)
        if not isinstance(network, nn.Module):
            raise InputError(f"returned a {type(network).__name__}; must return a torch.nn.Module")
    except InputError as error:
        raise InputError(f"factory={config.factory!r}: {error}") from None
    return network


def _function(place: _Place, source: str) -> Callable[[int, int], Any]:
    module = import_module(place.module) if place.module else _run(place.file, source)
    if not callable(function := getattr(module, place.function, None)):
        raise InputError(f"there is no function {place.function!r} in {place.file}")
    return cast(Callable[[int, int], Any], function)


@cache
def _run(file: Path, source: str) -> Any:
    """The module that the file makes, once for every content of the file."""
    name = f"anchorlab_factory_{sha256(f'{file}/{source}'.encode()).hexdigest()[:16]}"
    spec = spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = module_from_spec(spec)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _check_parameters(model: FactoryForCausalLM) -> None:
    parameters = dict(model.named_parameters())
    if not parameters:
        raise InputError("the module has no parameters; there is nothing to train")
    for name, parameter in parameters.items():
        if parameter.dtype != torch.float32:
            raise InputError(f"parameter {_own(name)} is {parameter.dtype}; must be torch.float32")
        if not parameter.requires_grad:
            raise InputError(f"parameter {_own(name)} does not require a gradient; make it a buffer")
        if not parameter.isfinite().all():
            raise InputError(f"parameter {_own(name)} has values that are not finite")
    with global_seed(0):
        again = dict(model.anew().named_parameters())
    if parameters.keys() != again.keys() or any(not torch.equal(parameters[n], again[n]) for n in parameters):
        raise InputError("makes another network each time; its weights must be drawn by PyTorch's global generator")
    if any(parameters[name] is again[name] for name in parameters):
        raise InputError("returns the same module each time; it must make a new one")


def perturbed(model: nn.Module) -> dict[str, Tensor]:
    """The parameters with noise of the size of a usual initialization, so that none is zero and hides what it is for.

    Always the same noise; the model and the global generators are left as they were.
    """
    random, found = torch.Generator().manual_seed(0), {}
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=random) * max((1, *parameter.shape[-1:])) ** -0.5
        found[name] = parameter.detach() + noise.to(parameter)
    return found


def _check_answer(model: FactoryForCausalLM) -> None:
    """Run rows of the lowest and of the highest token ids through the network, and the gradient back."""
    vocabulary, length = model.config.vocab_size, model.config.max_position_embeddings
    rows = 4
    half = torch.arange(rows * length // 2)
    tokens = (torch.cat([half, half - len(half)]) % vocabulary).view(rows, length)
    file = _locate(model.config.factory).file
    with errors_with_line(file):
        answer = model.network(tokens)
    logits = getattr(answer, "logits", answer)
    allowed = f"[{rows}, {length}, {vocabulary}] (or [{rows}, {vocabulary}]) for {rows} rows of {length} tokens"
    if not isinstance(logits, Tensor):
        raise InputError(f"the module returned a {type(answer).__name__}; must return logits {allowed}")
    if tuple(logits.shape) not in ((rows, length, vocabulary), (rows, vocabulary)):
        raise InputError(f"the module returned shape {list(logits.shape)}; must return logits {allowed}")
    last = logits if logits.ndim == 2 else logits[:, -1]
    if not last.requires_grad:
        raise InputError("the logits have no gradient; the module must be differentiable")
    names, parameters = zip(*model.named_parameters(), strict=True)
    for name, gradient in zip(names, torch.autograd.grad(last.sum(), parameters, allow_unused=True), strict=True):
        if gradient is None:
            raise InputError(f"parameter {_own(name)} is not used in the logits of the last token; leave it out")
    with torch.no_grad(), errors_with_line(file):
        weights = perturbed(model)
        together = functional_call(model, weights, (tokens,)).logits
        alone = torch.cat([functional_call(model, weights, (row[None],)).logits for row in tokens])
    if alone.shape != together.shape or (alone - together).abs().max() > 1e-4 * together.abs().max():
        raise InputError("the module answers a row otherwise among others than alone; it must not mix rows of a batch")


def _own(name: str) -> str:
    """A parameter's name in the user's module."""
    return name.removeprefix("network.")
