from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from anchorlab.engine import Divergence, OptimizerSettings, Population, Schedule
from anchorlab.errors import InputError

ADAMW = [
    OptimizerSettings("adamw", Schedule(0.01, 0.05, 0.01, 3, 20), weight_decay=0.1, clip_norm=0.5),
    OptimizerSettings("adamw", Schedule.constant(0.02), weight_decay=0.3, betas=(0.8, 0.9)),
    OptimizerSettings("adamw", Schedule.constant(0.03), weight_decay=0.5, decay_scope="matrices"),
    OptimizerSettings("adamw", Schedule(0.0, 0.1, 0.0, 1, 3, "epoch"), clip_norm=0.1),
]
SETTINGS = {
    "adamw": ADAMW,
    "adam": [replace(settings, name="adam") for settings in ADAMW],
    "sgd": [
        OptimizerSettings("sgd", Schedule.constant(0.01), momentum=0.9, weight_decay=0.2, decay_scope="matrices"),
        OptimizerSettings("gd", Schedule.constant(0.02), weight_decay=0.1),
        OptimizerSettings("sgd", Schedule(0.0, 0.03, 0.01, 4, 20), momentum=0.5, clip_norm=0.3),
        OptimizerSettings("sgd", Schedule.constant(0.005)),
    ],
}
TORCH = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD, "gd": torch.optim.SGD}


def reference(problem: Any, member: int, settings: OptimizerSettings, steps: int) -> dict[str, torch.Tensor]:
    """One member trained by a plain torch loop."""
    parameters = {name: p.requires_grad_() for name, p in problem.initialize(member).items()}
    spared = [p for p in parameters.values() if settings.decay_scope == "matrices" and p.ndim < 2]
    decayed = [p for p in parameters.values() if not any(p is other for other in spared)]
    extra = {"momentum": settings.momentum} if settings.name in ("sgd", "gd") else {"betas": settings.betas}
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": spared, "weight_decay": 0.0}]
    optimizer = TORCH[settings.name]([group for group in groups if group["params"]], lr=1.0, **extra)
    for step in range(steps):
        loss = problem.loss({name: p[None] for name, p in parameters.items()}, problem.batch([member], step))
        optimizer.zero_grad()
        loss.sum().backward()
        if settings.clip_norm:
            torch.nn.utils.clip_grad_norm_(parameters.values(), settings.clip_norm)
        for group in optimizer.param_groups:
            group["lr"] = settings.schedule.rate(step, problem.steps_per_epoch)
        optimizer.step()
    return {name: p.detach() for name, p in parameters.items()}


@pytest.mark.parametrize("rule", SETTINGS)
def test_members_with_their_own_hyperparameters_follow_torch_loops(linear: Callable[..., Any], rule: str) -> None:
    problem = linear(seeds=[3, 1, 4, 1])
    population = Population(problem, SETTINGS[rule])
    for first, steps in ((0, 5), (5, 1), (6, 6)):
        population.advance(first, steps)
    for member, settings in enumerate(SETTINGS[rule]):
        expected = reference(problem, member, settings, 12)
        for name, value in population.member_parameters(member).items():
            torch.testing.assert_close(value, expected[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rule", SETTINGS)
@pytest.mark.parametrize("model", ["gpt2", "post_ln"])
def test_member_in_a_population_equals_the_member_alone_and_torch(
    sequences: Callable[..., Any], rule: str, model: str
) -> None:
    problem, settings = sequences([0, 1, 2, 3], model=model), SETTINGS[rule]
    slower = [replace(one, schedule=Schedule.constant(1e-3)) for one in settings]
    together = Population(problem, slower)
    together.advance(0, 20)
    for member in range(4):
        alone = Population(sequences([member], model=model), [slower[member]])
        alone.advance(0, 20)
        expected = reference(problem, member, slower[member], 20)
        for name, value in together.member_parameters(member).items():
            for other in (alone.member_parameters(0)[name], expected[name]):
                torch.testing.assert_close(_felt(name, value), _felt(name, other), rtol=0, atol=1e-5)


def _felt(name: str, parameter: torch.Tensor) -> torch.Tensor:
    """Without GPT-2's key biases: the softmax cancels them, so their gradient is rounding that Adam makes large."""
    query, _, value = parameter.chunk(3) if name.endswith("c_attn.bias") else (parameter, None, parameter)
    return torch.cat([query.flatten(), value.flatten()])


def test_rules_do_not_mix(linear: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match="optimizer: members of one population need the same one, got adamw, sgd"):
        Population(linear([1, 2]), [ADAMW[0], SETTINGS["sgd"][0]])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_parameters_in_half_precision_are_refused(linear: Callable[..., Any], dtype: torch.dtype) -> None:
    problem = linear([1])
    whole = problem.initialize(0)
    problem.initialize = lambda member: {name: tensor.to(dtype) for name, tensor in whole.items()}
    with pytest.raises(InputError, match=r"parameters: must all be float32 .* got (b?)float16; precision='bfloat16'"):
        Population(problem, ADAMW[:1])


def test_tf32_needs_a_gpu(linear: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match="precision='tf32': only a GPU has it"):
        Population(linear([1]), ADAMW[:1], precision="tf32")


def test_non_finite_loss_freezes_that_member_only(linear: Callable[..., Any]) -> None:
    population = Population(linear([5, 6, 7], poison=1), ADAMW[:3])
    assert not population.advance(0, 3).diverged
    parameters = {name: value.clone() for name, value in population.member_parameters(1).items()}
    state = {name: value.clone() for name, value in population.optimizer_state(1).items()}
    assert population.advance(3, 2).diverged == {1: Divergence(4, "loss is inf")}
    population.remove([2])
    assert population.advance(5, 1).diverged == {1: Divergence(4, "loss is inf")}
    assert all(torch.equal(value, parameters[name]) for name, value in population.member_parameters(1).items())
    assert all(torch.equal(value, state[name]) for name, value in population.optimizer_state(1).items())
    population.remove([1])
    assert population.members == [0]
    population.advance(6, 3)
    expected = reference(linear([5, 6, 7]), 0, ADAMW[0], 9)
    torch.testing.assert_close(population.member_parameters(0), expected, rtol=1e-12, atol=1e-12)


def test_gradient_that_is_not_finite_freezes_the_member(linear: Callable[..., Any]) -> None:
    problem = linear([5, 6])
    loss = problem.loss
    # sqrt has an infinite slope at 0, where the loss itself is 0.
    problem.loss = lambda p, batch: torch.stack([loss(p, batch)[0], (p["bias"][1] * 0).sqrt().sum()])
    population = Population(problem, ADAMW[:2])
    assert population.advance(0, 1).diverged == {1: Divergence(1, "gradient norm is not finite")}


def test_load_continues_exactly(linear: Callable[..., Any]) -> None:
    whole = Population(linear([1, 2]), ADAMW[:2])
    whole.advance(0, 10)
    first, second = Population(linear([1, 2]), ADAMW[:2]), Population(linear([1, 2]), ADAMW[:2])
    first.advance(0, 4)
    second.load([first.member_parameters(m) for m in first.members], [first.optimizer_state(m) for m in first.members])
    second.advance(4, 6)
    for name, value in whole.parameters.items():
        assert torch.equal(value, second.parameters[name])


def test_bfloat16_keeps_float32_parameters_and_stays_close(sequences: Callable[..., Any]) -> None:
    settings = OptimizerSettings("adamw", Schedule.constant(1e-3))
    half, full = (Population(sequences([0]), [settings], precision=p) for p in ("bfloat16", "float32"))
    for step in range(5):
        losses = half.advance(step, 1).losses[0], full.advance(step, 1).losses[0]
        assert losses[0] == pytest.approx(losses[1], abs=0.02)
    assert {p.dtype for p in half.parameters.values()} == {torch.float32}
    assert losses[0] != losses[1]


@pytest.mark.slow
def test_compiled_steps_are_the_same_steps(sequences: Callable[..., Any]) -> None:
    settings = [OptimizerSettings("sgd", Schedule.constant(0.01))]
    plain, compiled = Population(sequences([0]), settings), Population(sequences([0]), settings, compiled=True)
    for population in (plain, compiled):
        population.advance(0, 5)
    for name, value in compiled.member_parameters(0).items():
        torch.testing.assert_close(value, plain.member_parameters(0)[name], rtol=0, atol=1e-6)


def test_compiling_without_a_compiler_says_what_is_missing(
    linear: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InputError, match=r"compile=True: needs a C\+\+ compiler"):
        Population(linear([1]), ADAMW[:1], compiled=True)


def test_random_state_is_untouched(sequences: Callable[..., Any]) -> None:
    before = torch.random.get_rng_state()
    Population(sequences([0]), [OptimizerSettings("adamw", Schedule.constant(1e-3))]).advance(0, 1)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("model", ["gpt2", "post_ln"])
def test_captured_steps_on_a_gpu_follow_those_on_a_cpu(sequences: Callable[..., Any], model: str) -> None:
    results = []
    for device in ("cpu", "cuda"):
        population = Population(sequences([0, 1, 2], model=model, device=device), ADAMW[:3], device=device)
        population.advance(0, 8)
        population.remove([1])
        population.advance(8, 12)
        results.append({name: p.detach().cpu() for name, p in population.parameters.items()})
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=1e-4)
