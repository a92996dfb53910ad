from collections.abc import Callable
from typing import Any

import pytest
import torch

from anchorlab.engine import OptimizerSettings, Population, Schedule

SETTINGS = [
    OptimizerSettings("adamw", Schedule(0.01, 0.05, 0.01, 3, 20), weight_decay=0.1, clip_norm=0.5),
    OptimizerSettings("adam", Schedule.constant(0.02), weight_decay=0.3, betas=(0.8, 0.9)),
    OptimizerSettings("sgd", Schedule.constant(0.01), momentum=0.9, weight_decay=0.2, decay_scope="matrices"),
    OptimizerSettings("adamw", Schedule.constant(0.03), weight_decay=0.5, decay_scope="matrices"),
]
TORCH = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}


def reference(problem: Any, member: int, settings: OptimizerSettings, steps: int) -> dict[str, torch.Tensor]:
    """One member trained by a plain torch loop."""
    parameters = {name: p.requires_grad_() for name, p in problem.initialize(member).items()}
    spared = [] if settings.decay_scope == "all" else [parameters["bias"]]
    decayed = [p for p in parameters.values() if not any(p is other for other in spared)]
    extra = {"momentum": settings.momentum} if settings.name == "sgd" else {"betas": settings.betas}
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": spared, "weight_decay": 0.0}]
    optimizer = TORCH[settings.name](groups, lr=1.0, **extra)
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


def test_members_with_different_optimizers_follow_torch_loops(linear: Callable[..., Any]) -> None:
    problem = linear(seeds=[3, 1, 4, 1])
    population = Population(problem, SETTINGS)
    for step in range(12):
        population.step(step)
    for member, settings in enumerate(SETTINGS):
        expected = reference(problem, member, settings, 12)
        for name, value in population.member_parameters(member).items():
            torch.testing.assert_close(value, expected[name], rtol=1e-12, atol=1e-12)


def test_member_in_a_stack_equals_member_alone(sequences: Callable[..., Any]) -> None:
    settings = OptimizerSettings("adamw", Schedule.constant(1e-3), weight_decay=0.1, clip_norm=1.0)
    together, alone = Population(sequences([0, 1, 2]), [settings] * 3), Population(sequences([2]), [settings])
    for step in range(10):
        losses = together.step(step).losses[2], alone.step(step).losses[0]
        assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    for name, value in together.member_parameters(2).items():
        torch.testing.assert_close(value, alone.member_parameters(0)[name], rtol=1e-3, atol=1e-5)


def test_non_finite_loss_stops_that_member_only(linear: Callable[..., Any]) -> None:
    population = Population(linear([5, 6, 7], poison=1), SETTINGS[:3])
    for step in range(3):
        assert not population.step(step).diverged
    before = {name: value.clone() for name, value in population.member_parameters(1).items()}
    assert population.step(3).diverged == {1: "loss is inf"}
    for name, value in population.member_parameters(1).items():
        assert torch.equal(value, before[name])
    population.remove([1])
    assert population.members == [0, 2]
    for step in range(4, 9):
        population.step(step)
    for member in (0, 2):
        expected = reference(linear([5, 6, 7]), member, SETTINGS[member], 9)
        torch.testing.assert_close(population.member_parameters(member), expected, rtol=1e-12, atol=1e-12)


def test_load_continues_exactly(linear: Callable[..., Any]) -> None:
    whole = Population(linear([1, 2]), SETTINGS[:2])
    for step in range(10):
        whole.step(step)
    first, second = Population(linear([1, 2]), SETTINGS[:2]), Population(linear([1, 2]), SETTINGS[:2])
    for step in range(4):
        first.step(step)
    second.load([first.member_parameters(m) for m in first.members], [first.optimizer_state(m) for m in first.members])
    for step in range(4, 10):
        second.step(step)
    for name, value in whole.parameters.items():
        assert torch.equal(value, second.parameters[name])


def test_bfloat16_keeps_float32_parameters_and_stays_close(sequences: Callable[..., Any]) -> None:
    settings = OptimizerSettings("adamw", Schedule.constant(1e-3))
    half, full = (Population(sequences([0]), [settings], precision=p) for p in ("bfloat16", "float32"))
    for step in range(5):
        losses = half.step(step).losses[0], full.step(step).losses[0]
        assert losses[0] == pytest.approx(losses[1], abs=0.02)
    assert {p.dtype for p in half.parameters.values()} == {torch.float32}
    assert losses[0] != losses[1]


def test_random_state_is_untouched(sequences: Callable[..., Any]) -> None:
    before = torch.random.get_rng_state()
    Population(sequences([0]), [OptimizerSettings("adamw", Schedule.constant(1e-3))]).step(0)
    assert torch.equal(torch.random.get_rng_state(), before)
