"""Networks of the user's own: made by a function, trained, saved and opened like those of the package."""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_experiments import SMALL
from transformers import AutoModelForCausalLM

from anchorlab import Experiment, models, sweep, train
from anchorlab.errors import InputError
from anchorlab.models.factory import FactoryForCausalLM

EXAMPLE = Path(__file__).parents[2] / "examples/tiny_rnn.py"
VOCABULARY, LENGTH = 30, 9

HEAD = "import torch\nfrom torch import nn\n"
MODULE = """
class Net(nn.Module):
    def __init__(self, vocabulary, length):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, 8)
        self.head = nn.Linear(8, vocabulary)

    def forward(self, tokens):
        return self.head(self.embedding(tokens).cumsum(1))
"""


def write(folder: Path, code: str, name: str = "net.py") -> str:
    """A factory file; `make` or the class `Net` is what it offers."""
    (folder / name).write_text(HEAD + code)
    return f"{folder / name}:{'make' if 'def make' in code else 'Net'}"


def build(reference: str, **options: Any) -> FactoryForCausalLM:
    model = models.build("factory", VOCABULARY, LENGTH, factory=reference, **options)
    assert isinstance(model, FactoryForCausalLM)
    return model


def experiment(reference: str, **settings: Any) -> Experiment:
    network = {"model": "factory", "model_options": {"factory": reference}, "initialization_rule": "own"}
    small = {name: value for name, value in SMALL.items() if name not in ("layers", "heads", "width")}
    return Experiment(**small | network | settings)


def tokens(rows: int = 4) -> torch.Tensor:
    return torch.randint(VOCABULARY, (rows, LENGTH), generator=torch.Generator().manual_seed(0))


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def initialized(reference: str, seed: int, rule: str = "own") -> dict[str, torch.Tensor]:
    model = build(reference)
    models.initialize(model, rule=rule, rate=0.5, generator=torch.Generator().manual_seed(seed))
    return weights(model)


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_logits_are_those_of_the_module() -> None:
    model = build(f"{EXAMPLE}:make")
    assert torch.equal(model(tokens()).logits, model.network(tokens()))
    assert model(tokens()).logits.shape == (4, LENGTH, VOCABULARY)
    assert not model.training


@pytest.mark.parametrize("answer", ["self.head(states[:, -1])", "Answer(self.head(states))"])
def test_answer_may_be_of_the_last_token_alone_or_an_object_with_logits(tmp_path: Path, answer: str) -> None:
    code = (
        "from transformers.modeling_outputs import CausalLMOutput\n\ndef Answer(x): return CausalLMOutput(logits=x)\n"
    )
    code += MODULE.replace(
        "return self.head(self.embedding(tokens).cumsum(1))",
        f"states = self.embedding(tokens).cumsum(1)\n        return {answer}",
    )
    model = build(write(tmp_path, code))
    expected = model.network.head(model.network.embedding(tokens()).sum(1))
    torch.testing.assert_close(model(tokens()).logits[:, -1], expected)
    if "Answer" not in answer:
        with pytest.raises(ValueError, match="no per-position loss"):
            model(tokens(), labels=tokens())


def test_own_weights_follow_the_seed_and_leave_the_global_generator_alone(tmp_path: Path) -> None:
    reference = write(tmp_path, MODULE)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = initialized(reference, 0)
    assert torch.equal(torch.get_rng_state(), before)
    assert same(first, initialized(reference, 0))
    assert not same(first, initialized(reference, 1))
    # The laws of the module's own constructors: a linear map is uniform within 1/√8.
    assert first["network.head.weight"].abs().max() <= 8**-0.5
    assert first["network.embedding.weight"].std().item() == pytest.approx(1, rel=0.2)


def test_rules_with_a_rate_serve_modules_that_are_mapped() -> None:
    drawn = initialized(f"{EXAMPLE}:make", 0, "arxiv-2405.05409")
    for name, weight in drawn.items():
        if weight.ndim > 1:
            assert weight.std().item() == pytest.approx(weight.shape[1] ** -0.5, rel=0.1), name
        else:
            assert not weight.any(), name


def test_rules_with_a_rate_refuse_what_they_do_not_know(tmp_path: Path) -> None:
    bare = MODULE.replace("self.head =", "self.gain = nn.Parameter(torch.ones(8))\n        self.head =")
    reference = write(tmp_path, bare.replace(".cumsum(1)", ".cumsum(1) * self.gain"))
    assert initialized(reference, 0)["network.gain"].tolist() == [1.0] * 8
    with pytest.raises(InputError, match=r"no law is known for Net \(network.gain\); use 'own'"):
        initialized(reference, 0, "arxiv-2405.05409")
    with pytest.raises(InputError, match="the width of a network of your own is not known"):
        initialized(f"{EXAMPLE}:make", 0, "arxiv-2501.08537")


@pytest.mark.parametrize("name", ["gpt2", "fnn"])
def test_own_rule_is_for_factories(name: str) -> None:
    model = models.build(name, VOCABULARY, LENGTH, layers=1, width=8, heads=1)
    with pytest.raises(InputError, match="'own' is for networks of your own"):
        models.initialize(model, rule="own", generator=torch.Generator())
    with pytest.raises(InputError, match="has no rates"):
        models.initialize(
            build(f"{EXAMPLE}:make"), rule="own", component_rates={"mlp": 1.0}, generator=torch.Generator()
        )


def test_saved_network_opens_with_tied_weights_and_with_buffers_that_are_not_saved(tmp_path: Path) -> None:
    code = MODULE.replace(
        "self.head = nn.Linear(8, vocabulary)",
        "self.head = nn.Linear(8, vocabulary, bias=False)\n"
        "        self.head.weight = self.embedding.weight\n"
        "        self.register_buffer('scale', torch.full((), 3.0), persistent=False)",
    ).replace(".cumsum(1)", ".cumsum(1) * self.scale")
    model = build(write(tmp_path, code))
    models.initialize(model, rule="own", generator=torch.Generator().manual_seed(3))
    models.save(model, tmp_path / "model")
    again = models.load(tmp_path / "model")
    assert same(weights(model), weights(again))
    assert torch.equal(again(tokens()).logits, model(tokens()).logits)


def test_class_is_not_opened_by_the_library_of_which_anyone_may_call_a_folder(tmp_path: Path) -> None:
    models.save(build(f"{EXAMPLE}:make"), tmp_path)
    with pytest.raises(ValueError, match="anchorlab_factory"):
        AutoModelForCausalLM.from_pretrained(tmp_path)


def test_run_is_trained_resumed_and_opened_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = write(tmp_path, MODULE)
    monkeypatch.chdir(tmp_path)
    made = experiment("net.py:Net")
    assert made.model_options["factory"] == reference
    run = train(made, tmp_path / "run", progress=False)
    assert run.status == "finished"
    monkeypatch.chdir("/")
    assert Experiment.from_record(run.config).record() == made.record()
    assert train(experiment(reference), tmp_path / "run", progress=False).metrics().equals(run.metrics())
    began = initialized(reference, 0)
    assert not same(weights(run.model()), began)
    assert weights(run.model()).keys() == began.keys()


def test_workers_of_a_sweep_train_the_network_as_this_process_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beside.py").write_text("WIDTH = 8\n")
    reference = write(tmp_path, "from beside import WIDTH\n" + MODULE.replace("8", "WIDTH"))
    monkeypatch.chdir(tmp_path)
    members = {f"seed{seed}": experiment("net.py:Net", seed=seed) for seed in range(2)}
    runs = sweep(members, tmp_path / "sweep", placement="pool", progress=False)
    alone = train(experiment(reference, seed=1), tmp_path / "alone", progress=False)
    assert runs[1].metrics().equals(alone.metrics())
    assert not runs[0].metrics().equals(alone.metrics())


def test_network_of_a_file_that_is_gone_or_another_is_not_opened(tmp_path: Path) -> None:
    reference = write(tmp_path, MODULE)
    run = train(experiment(reference), tmp_path / "run", progress=False)
    file = tmp_path / "net.py"
    file.write_text(file.read_text() + "# changed\n")
    with pytest.raises(InputError, match=rf"{file} has changed since the network was made; restore it"):
        run.model()
    with pytest.raises(InputError, match="other settings"):
        train(experiment(reference), tmp_path / "run", progress=False)
    file.unlink()
    with pytest.raises(InputError, match=rf"there is no file {file}"):
        run.model()
    assert Experiment.from_record(run.config).model_options == run.config["model_options"]
    with pytest.raises(InputError, match=rf"there is no file {file}"):
        experiment(reference)


def test_factory_may_stand_in_an_importable_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_nets").mkdir()
    write(tmp_path / "own_nets", MODULE, "nets_a.py")
    (tmp_path / "own_nets/__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert build("own_nets.nets_a:Net")(tokens()).logits.shape == (4, LENGTH, VOCABULARY)
    with pytest.raises(InputError, match="there is no Python module 'own_nets"):
        build("own_nets.nets_b:Net")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("Net = 3", "there is no function 'Net'"),
        ("def make(vocabulary, length): return 3", "returned a int; must return a torch.nn.Module"),
        ("def make(vocabulary): return nn.Linear(2, 2)", "TypeError"),
        ("def make(vocabulary, length):\n    raise KeyError('width')", "line 4: KeyError: 'width'"),
        ("def make(vocabulary, length)\n", "line 3: SyntaxError"),
        ("import nothing_of_this_name\ndef make(v, n): ...", "line 3: ModuleNotFoundError"),
        ("raise SystemExit(3)\ndef make(v, n): ...", "line 3: SystemExit"),
        ("def make(vocabulary, length): return nn.Identity()", "no parameters"),
        (MODULE.replace("nn.Embedding(vocabulary, 8)", "nn.Embedding(29, 8)"), "line 11: IndexError: index out of"),
        (MODULE.replace("nn.Linear(8, vocabulary)", "nn.Linear(8, 31)"), r"shape \[4, 9, 31\]; must return logits"),
        (MODULE.replace(".cumsum(1)", ".cumsum(1)[:, 1:]"), r"shape \[4, 8, 30\]; must return logits \[4, 9, 30\]"),
        (MODULE.replace("return self", "return 3, self"), "returned a tuple; must return logits"),
        (MODULE.replace("cumsum(1))", "cumsum(1)).detach()"), "no gradient"),
        (MODULE.replace("super().__init__()", "super().__init__(); self.a = nn.Linear(2, 2)"), "a.weight is not used"),
        (MODULE + "        .double()", "SyntaxError"),
        (MODULE + "def make(v, n): return Net(v, n).double()", "embedding.weight is torch.float64; must be"),
        (MODULE + "def make(v, n): return Net(v, n).requires_grad_(False)", "does not require a gradient"),
        (
            MODULE
            + "def make(v, n):\n    net = Net(v, n); nn.init.constant_(net.head.weight, float('nan')); return net",
            "head.weight has values that are not finite",
        ),
        (MODULE.replace("cumsum(1))", "cumsum(0))"), "must not mix rows of a batch"),
        (
            MODULE.replace("self.head =", "self.gate = nn.Parameter(torch.zeros(8))\n        self.head =").replace(
                "cumsum(1))", "cumsum(1) + self.gate * self.embedding(tokens).mean(0))"
            ),
            "must not mix rows of a batch",
        ),
        (
            MODULE + "def make(v, n, known=[]):\n    known or known.append(Net(v, n)); return known[0]",
            "makes? a new one",
        ),
        (
            MODULE + "def make(v, n):\n    net = Net(v, n); nn.init.normal_(net.head.bias, generator=G); return net\n"
            "G = torch.Generator()",
            "another network each time",
        ),
    ],
)
def test_unfit_factories_are_told_in_one_line(tmp_path: Path, code: str, said: str) -> None:
    (tmp_path / "net.py").write_text(HEAD + code)
    reference = f"{tmp_path / 'net.py'}:{'make' if 'def make' in code else 'Net'}"
    with pytest.raises(InputError, match=said) as caught:
        build(reference)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"factory={reference!r}: ")


def test_a_large_vocabulary_is_checked_in_little_memory(tmp_path: Path) -> None:
    code = MODULE.replace("return self", "sizes.append(tokens.unique()); return self")
    reference = write(tmp_path, code + "sizes = []\n")
    models.build("factory", 100, 3, factory=reference)
    (place,) = (one for name, one in sys.modules.items() if getattr(one, "__file__", "") == str(tmp_path / "net.py"))
    assert place.sizes[0].tolist() == [*range(6), *range(94, 100)]


@pytest.mark.parametrize("made", ["torch.manual_seed(42)", "pass"])
def test_a_factory_that_does_not_follow_the_seed_only_serves_rules_that_draw_anew(tmp_path: Path, made: str) -> None:
    code = MODULE + f"def make(v, n):\n    {made}\n    net = Net(v, n)\n"
    if made == "pass":
        code += "    for weight in net.parameters(): nn.init.constant_(weight, 0.5)\n"
    reference = write(tmp_path, code + "    return net\n")
    with pytest.raises(InputError, match=r"^rule: 'own' needs weights that follow the seed; factory=[^\n]*$"):
        initialized(reference, 0)
    assert not same(*(initialized(reference, seed, "arxiv-2405.05409") for seed in (0, 1)))


@pytest.mark.parametrize("reference", [None, 3, "net.py", ":make", "net.py:", "no/such.py:make", "..:x", "torch.nn:"])
def test_names_that_are_no_factory_are_refused_with_the_settings(reference: Any) -> None:
    with pytest.raises(InputError, match="factory="):
        experiment(reference)


def test_options_of_other_models_are_refused() -> None:
    for settings in ({"width": 8}, {"layers": 2}):
        with pytest.raises(InputError, match="option of model factory"):
            train(experiment(f"{EXAMPLE}:make", **settings), "unused", progress=False)
    with pytest.raises(InputError, match="initialization_rule 'own' does not use it"):
        experiment(f"{EXAMPLE}:make", initialization_rate=0.3)


def test_sizes_in_a_saved_configuration_must_be_numbers(tmp_path: Path) -> None:
    models.save(build(f"{EXAMPLE}:make"), tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace(f'"vocab_size": {VOCABULARY}', '"vocab_size": "echo"'))
    with pytest.raises(InputError, match="vocab_size"):
        models.load(tmp_path)


def test_factory_is_no_network_of_the_package() -> None:
    assert "factory" in models.kinds()
    assert "factory" not in models.names()


def test_example_learns_a_rule(tmp_path: Path) -> None:
    run = train(
        experiment(
            f"{EXAMPLE}:make",
            **{"task": "identity", "task_fields": {"length": 4}, "train_rows": 2000},
            **{"learning_rate": 1e-2, "steps": 200, "batch_size": 128},
        ),
        tmp_path / "run",
        progress=False,
    )
    assert run.final("test") > 0.9
    assert os.path.samefile(run.config["model_options"]["factory"].rpartition(":")[0], EXAMPLE)
    assert np.isfinite(run.metrics().value).all()
