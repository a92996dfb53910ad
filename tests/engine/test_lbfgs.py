"""L-BFGS: the minima that scipy finds, every member as it would be alone, frozen and resumed as the others are."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from anchorlab.engine import Measurement, MemberRecord, OptimizerSettings, Population, Schedule, TrainingPlan
from anchorlab.engine.lbfgs import HISTORY
from anchorlab.engine.training import train_population
from anchorlab.errors import InputError

SIZE = 6


class Valleys:
    """Each member has its own start and loss: a quadratic of its own condition, or Rosenbrock's function."""

    steps_per_epoch = 1

    def __init__(self, seeds: Sequence[int], kind: str = "rosenbrock", poison: int | None = None):
        self.members, self.seeds, self.kind = len(seeds), list(seeds), kind
        self.poison = poison  # the member whose loss is no number from step 3 on
        self.dtype = torch.float64

    def initialize(self, member: int) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(self.seeds[member])
        return {"x": torch.randn(SIZE, dtype=torch.float64, generator=random).to(self.dtype)}

    def batch(self, members: Sequence[int], step: int) -> tuple[Tensor, ...]:
        scale = [math.nan if m == self.poison and step >= 3 else 1.0 for m in members]
        condition = [10.0 ** (self.seeds[m] % 4) for m in members]
        return torch.tensor(scale, dtype=self.dtype), torch.tensor(condition, dtype=self.dtype)

    def loss(self, parameters: Mapping[str, Tensor], batch: tuple[Tensor, ...]) -> Tensor:
        x, (scale, condition) = parameters["x"], batch
        if self.kind == "quadratic":
            powers = torch.linspace(0, 1, SIZE, dtype=x.dtype)
            return scale * (condition[:, None] ** powers * (x - powers) ** 2).sum(1)
        return scale * (100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(1)

    def evaluate(self, parameters: Mapping[str, Tensor], members: Sequence[int]) -> list[Measurement]:
        losses = self.loss(parameters, self.batch(members, 0)).tolist()
        return [Measurement(m, "train", "", "loss", one) for m, one in zip(members, losses, strict=True)]

    def save(self, member: int, parameters: Mapping[str, Tensor], folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        torch.save(dict(parameters), folder / "x.pt")


def trained(problem: Valleys, steps: int, rate: float = 1.0) -> Population:
    population = Population(problem, [OptimizerSettings("lbfgs", Schedule.constant(rate))] * problem.members)
    population.advance(0, steps)
    return population


@pytest.mark.parametrize("kind", ["quadratic", "rosenbrock"])
def test_finds_the_minima_that_scipy_finds(kind: str) -> None:
    problem = Valleys(range(4), kind)
    population = trained(problem, 80)
    for member in range(4):
        (_, condition) = problem.batch([member], 0)

        def loss(x: object, condition: Tensor = condition) -> float:
            point = torch.as_tensor(x, dtype=torch.float64)[None]
            return problem.loss({"x": point}, (torch.ones(1, dtype=torch.float64), condition)).item()

        found = population.member_parameters(member)["x"]
        best = minimize(loss, problem.initialize(member)["x"].numpy(), method="BFGS", options={"gtol": 1e-8})
        assert loss(found) <= best.fun + 1e-12
        if kind == "quadratic":
            torch.testing.assert_close(found, torch.linspace(0, 1, SIZE, dtype=torch.float64), atol=1e-6, rtol=0)


def test_needs_about_as_many_iterations_as_torch() -> None:
    problem = Valleys([0])
    x = problem.initialize(0)["x"].clone().requires_grad_()
    theirs = torch.optim.LBFGS([x], max_iter=40, history_size=HISTORY, line_search_fn="strong_wolfe")

    def closure() -> float:
        theirs.zero_grad()
        loss = problem.loss({"x": x[None]}, problem.batch([0], 0)).sum()
        loss.backward()
        return loss.item()

    theirs.step(closure)
    ours = trained(problem, 50).member_parameters(0)["x"]
    assert problem.loss({"x": ours[None]}, problem.batch([0], 0)).item() <= max(closure(), 1e-10)


def test_loss_never_rises_and_float32_works() -> None:
    problem = Valleys(range(3))
    problem.dtype = torch.float32
    population = Population(problem, [OptimizerSettings("lbfgs", Schedule.constant(1.0))] * 3)
    history = torch.tensor([list(population.advance(step, 1).losses.values()) for step in range(60)])
    assert (history[1:] <= history[:-1] * (1 + 1e-6)).all()
    assert (history[-1] < 1e-3 * history[0]).all()


def test_a_member_follows_the_trajectory_that_it_would_follow_alone() -> None:
    together = trained(Valleys(range(5)), 25)
    for seed in range(5):
        alone = trained(Valleys([seed]), 25)
        torch.testing.assert_close(
            together.member_parameters(seed)["x"], alone.member_parameters(0)["x"], rtol=1e-9, atol=1e-12
        )


def test_a_frozen_member_is_untouched_and_the_others_go_on() -> None:
    problem = Valleys(range(3), poison=1)
    population = Population(problem, [OptimizerSettings("lbfgs", Schedule.constant(1.0))] * 3)
    population.advance(0, 3)
    before = population.member_parameters(1)["x"].clone(), population.optimizer_state(1)["x/s_0"].clone()
    result = population.advance(3, 10)
    assert set(result.diverged) == {1}
    assert result.diverged[1].step == 4
    torch.testing.assert_close(population.member_parameters(1)["x"], before[0], rtol=0, atol=0)
    torch.testing.assert_close(population.optimizer_state(1)["x/s_0"], before[1], rtol=0, atol=0)
    alone = trained(Valleys([2]), 13)
    torch.testing.assert_close(population.member_parameters(2)["x"], alone.member_parameters(0)["x"], rtol=1e-9, atol=0)


def test_a_resumed_training_is_the_same_to_the_last_bit(tmp_path: Path) -> None:
    def run(folder: Path, steps: int, stop: int | None = None) -> Tensor:
        problem = Valleys(range(2))
        population = Population(problem, [OptimizerSettings("lbfgs", Schedule.constant(1.0))] * 2)
        records = [MemberRecord(folder / str(member), {"member": member}) for member in range(2)]
        plan = TrainingPlan(steps=steps, evaluate_every=5, checkpoint_every=5)
        if stop is not None:
            population.advance(0, stop)  # what a process that was killed had done, and its checkpoint
            saved = [population.member_parameters(member) for member in range(2)]
            states = [population.optimizer_state(member) for member in range(2)]
            fresh = Population(problem, [OptimizerSettings("lbfgs", Schedule.constant(1.0))] * 2)
            fresh.load(saved, states)
            fresh.advance(stop, steps - stop)
            return torch.stack([fresh.member_parameters(member)["x"] for member in range(2)])
        train_population(population, records, plan)
        return (
            torch.stack([population.problem.initialize(0)["x"]])
            if not population.members
            else torch.stack([population.member_parameters(member)["x"] for member in range(2)])
        )

    whole = run(tmp_path / "whole", 20)
    torch.testing.assert_close(run(tmp_path / "cut", 20, stop=10), whole, rtol=0, atol=0)


def test_a_member_at_its_minimum_stays_there() -> None:
    problem = Valleys([0], "quadratic")
    population = trained(problem, 60)
    before = population.member_parameters(0)["x"].clone()
    result = population.advance(60, 5)
    assert not result.diverged
    torch.testing.assert_close(population.member_parameters(0)["x"], before, rtol=0, atol=1e-9)


@pytest.mark.parametrize("wrong", [{"weight_decay": 0.1}, {"clip_norm": 1.0}])
def test_decay_and_clipping_are_refused(wrong: dict[str, float]) -> None:
    settings = OptimizerSettings("lbfgs", Schedule.constant(1.0), **wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="optimizer='lbfgs': must have neither weight_decay nor clip_norm"):
        Population(Valleys([0]), [settings])


def test_a_member_at_its_minimum_looks_at_its_loss_no_more_than_needed() -> None:
    class Counted(Valleys):
        looks = 0

        def loss(self, parameters: Mapping[str, Tensor], batch: tuple[Tensor, ...]) -> Tensor:
            self.looks += 1
            return super().loss(parameters, batch)

    # Rounding of float32 leaves a slope at the minimum that no step makes smaller.
    problem = Counted(range(8))
    problem.dtype = torch.float32
    population = trained(problem, 120)
    before, problem.looks = {m: population.member_parameters(m)["x"] for m in range(8)}, 0
    population.advance(120, 10)
    assert problem.looks == 20  # one to note the loss and one for the search, in every step
    for member, x in before.items():
        torch.testing.assert_close(population.member_parameters(member)["x"], x, rtol=0, atol=1e-4)
