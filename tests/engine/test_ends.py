"""Members that diverge or stop early, and kills around them."""

import contextlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from small_trainings import SETTINGS, At, crash, run

from anchorlab.engine import (
    Evaluation,
    Measurement,
    MemberRecord,
    OptimizerSettings,
    Population,
    Run,
    RunWriter,
    Schedule,
    TrainingPlan,
    train_population,
    training,
)
from anchorlab.engine.store import MetricRow


def test_divergent_member_is_reported_and_others_go_on(linear: Callable[..., Any], tmp_path: Path) -> None:
    runs = run(linear([1, 2, 3], poison=1), tmp_path / "together")
    assert [r.status for r in runs] == ["finished", "diverged", "finished"]
    assert runs[1].environment["step"] == 3
    assert runs[1].environment["reason"] == "loss is inf in step 4"
    assert runs[1].checkpoints() == [3]
    expected = run(linear([1, 2, 3]), tmp_path / "healthy")
    for index in (0, 2):
        pd.testing.assert_frame_equal(runs[index].metrics(), expected[index].metrics(), rtol=1e-12)


@pytest.mark.parametrize(("steps", "evaluate_every"), [(8, 4), (4, 4), (8, 2)])
def test_resume_around_a_divergence_is_bit_identical(
    linear: Callable[..., Any], tmp_path: Path, steps: int, evaluate_every: int
) -> None:
    plan = TrainingPlan(steps, evaluate_every, checkpoint_every=2)
    cut = TrainingPlan(steps, evaluate_every, checkpoint_every=2, observers=(At(4, crash),))
    whole = run(linear([1, 2, 3], poison=1), tmp_path / "whole", plan)
    with pytest.raises(RuntimeError, match="went away"):
        run(linear([1, 2, 3], poison=1), tmp_path / "cut", cut)
    for a, b in zip(whole, run(linear([1, 2, 3], poison=1), tmp_path / "cut", plan), strict=True):
        assert a.status == b.status
        pd.testing.assert_frame_equal(a.metrics(), b.metrics(), check_exact=True)


@dataclass(frozen=True)
class NormAbove:
    """A stopping rule that reads the measured norm of the weights."""

    limit: float

    def reason(self, history: Sequence[MetricRow]) -> str | None:
        newest = history[-1].value if history else 0.0
        return f"norm {newest:.2f}" if newest > self.limit else None


@dataclass(frozen=True)
class FromStep:
    """A stopping rule that is met at a given step."""

    step: int

    def reason(self, history: Sequence[MetricRow]) -> str | None:
        return "as told" if history[-1].step >= self.step else None


@pytest.mark.parametrize(("members", "stopped"), [(3, {1}), (3, {0, 1, 2}), (12, {4}), (12, {2, 5, 9}), (1, {0})])
def test_members_that_stop_early_leave_and_disturb_nobody(
    linear: Callable[..., Any], tmp_path: Path, members: int, stopped: set[int]
) -> None:
    plan = TrainingPlan(30, 3, 10)
    undisturbed = run(linear(range(members)), tmp_path / "all", plan)
    population = Population(linear(range(members)), [SETTINGS] * members)
    sizes = []

    @dataclass
    class Sizes:
        def observe(self, population: Population, step: int) -> list[Measurement]:
            sizes.append((step, len(population.members)))
            return population.evaluate()

    limits = {m: undisturbed[m].metrics().query("step == 12").value.item() * (1 - 1e-9) for m in stopped}
    rising = {m for m in stopped if undisturbed[m].metrics().query("step < 12").value.max() < limits[m]}
    rules = {m: [NormAbove(limits[m])] for m in rising}
    records = [MemberRecord(tmp_path / f"few/m{m}", {"seed": m}, rules.get(m, ())) for m in range(members)]
    plan = TrainingPlan(30, 3, 10, observers=(Sizes(),))
    runs = train_population(population, records, plan)
    for member, (one, other) in enumerate(zip(runs, undisturbed, strict=True)):
        last = 12 if member in rising else 30
        assert (one.status, one.environment["step"], one.checkpoints()) == ("finished", last, [last])
        assert ("stopped early: norm" in one.environment.get("reason", "")) == (member in rising)
        expected = other.metrics()[other.metrics().step <= last].reset_index(drop=True)
        pd.testing.assert_frame_equal(one.metrics(), expected, rtol=1e-12)
        saved = torch.load(one.folder / "model/linear.pt")["weight"].norm().item()
        assert saved == pytest.approx(expected.value.iloc[-1])
    # One of three or three of twelve leave at once, one of twelve with the next checkpoint.
    crowd = len(rising) * 8 >= members
    assert max((step for step, size in sizes if size == members), default=0) == (
        30 if not rising else 12 if crowd else 18
    )


Training = Callable[..., list[Run]]


@pytest.fixture(scope="module")
def train_twelve(linear: Callable[..., Any]) -> Training:
    """Trains twelve members, some with stopping rules."""

    def train(folder: Path, rules: Mapping[int, Any], observer: Any = Evaluation()) -> list[Run]:  # noqa: B008
        records = [MemberRecord(folder / f"m{m}", {"seed": m}, rules.get(m, ())) for m in range(12)]
        population = Population(linear(range(12)), [SETTINGS] * 12)
        return train_population(population, records, TrainingPlan(30, 3, 10, observers=(observer,)))

    return train


@pytest.fixture(scope="module")
def one_ends(train_twelve: Training, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[int, Any], list[Run]]:
    """A rule that ends one member at step 12, and the undisturbed training with it."""
    history = train_twelve(tmp_path_factory.mktemp("free"), {})[4].metrics()
    rules = {4: [NormAbove(history.query("step == 12").value.item() * (1 - 1e-9))]}
    return rules, train_twelve(tmp_path_factory.mktemp("whole"), rules)


@pytest.mark.parametrize("step", [3, 12, 15, 18, 21])
def test_resume_around_an_early_stop_is_bit_identical(
    train_twelve: Training, one_ends: tuple[dict[int, Any], list[Run]], tmp_path: Path, step: int
) -> None:
    rules, whole = one_ends
    with pytest.raises(RuntimeError, match="went away"):
        train_twelve(tmp_path, rules, At(step, crash))
    for one, other in zip(train_twelve(tmp_path, rules), whole, strict=True):
        assert (one.status, one.environment["step"]) == (other.status, other.environment["step"])
        pd.testing.assert_frame_equal(one.metrics(), other.metrics(), check_exact=True)


class SizesAfterStep12:
    """An observer that evaluates and notes how many members there are."""

    def __init__(self) -> None:
        self.sizes: set[int] = set()

    def observe(self, population: Population, step: int) -> list[Measurement]:
        if step > 12:
            self.sizes.add(len(population.members))
        return population.evaluate()


FOUR_END: dict[int, Any] = {member: [FromStep(12)] for member in (4, 5, 9, 11)}


@pytest.fixture(scope="module")
def four_end(train_twelve: Training, tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """The undisturbed training in which four members end at step 12."""
    sizes = SizesAfterStep12()
    runs = train_twelve(tmp_path_factory.mktemp("four"), FOUR_END, sizes)
    assert sizes.sizes == {8}
    return runs


@pytest.mark.parametrize("at_once", [True, False], ids=["written at once", "written with the next checkpoint"])
@pytest.mark.parametrize("recorded", range(4))
def test_kill_while_ends_are_recorded_lets_all_of_them_end(
    train_twelve: Training,
    four_end: list[Run],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    recorded: int,
    at_once: bool,
) -> None:
    monkeypatch.setattr(training, "_UNWRITTEN_SECONDS", 0.0 if at_once else 1e9)
    sizes, ends = SizesAfterStep12(), iter(range(5))
    note = RunWriter.note

    def fails_once(writer: RunWriter, status: str, **known: Any) -> None:
        if status == "finished" and next(ends) == recorded:
            crash()
        note(writer, status, **known)

    monkeypatch.setattr(RunWriter, "note", fails_once)
    with pytest.raises(RuntimeError, match="went away"):
        train_twelve(tmp_path, FOUR_END, sizes)
    monkeypatch.setattr(RunWriter, "note", note)
    for one, other in zip(train_twelve(tmp_path, FOUR_END, sizes), four_end, strict=True):
        assert (one.status, one.environment["step"]) == (other.status, other.environment["step"])
        assert one.environment.get("reason") == other.environment.get("reason")
        assert one.checkpoints() == other.checkpoints()
        pd.testing.assert_frame_equal(one.metrics(), other.metrics(), check_exact=True)
    assert sizes.sizes == {8}


def test_member_that_leaves_the_numbers_in_its_last_step_has_diverged(
    linear: Callable[..., Any], tmp_path: Path
) -> None:
    settings = OptimizerSettings("sgd", Schedule.constant(1e308))
    population = Population(linear([1]), [settings])
    (only,) = train_population(population, [MemberRecord(tmp_path / "m0", {})], TrainingPlan(1, 1, 1))
    assert (only.status, only.environment["reason"]) == ("diverged", "a parameter is not finite after step 1")


def test_kill_after_a_member_stopped_at_the_start_repeats_no_measurement(
    linear: Callable[..., Any], tmp_path: Path
) -> None:
    records = [MemberRecord(tmp_path / f"m{m}", {"seed": m}, [FromStep(0)] * (m == 0)) for m in range(2)]
    for observers in ((At(5, crash),), (Evaluation(),)):
        population = Population(linear(range(2)), [SETTINGS] * 2)
        with contextlib.suppress(RuntimeError):
            train_population(population, records, TrainingPlan(10, 5, 10, observers=observers))
    assert Run.open(tmp_path / "m0").metrics().step.tolist() == [0]
    assert Run.open(tmp_path / "m1").metrics().step.tolist() == [0, 5, 10]


def test_ended_member_whose_folder_was_deleted_is_trained_again(linear: Callable[..., Any], tmp_path: Path) -> None:
    def train() -> list[Run]:
        records = [MemberRecord(tmp_path / f"m{m}", {"seed": m}, [FromStep(12)] * (m < 3)) for m in range(4)]
        return train_population(Population(linear(range(4)), [SETTINGS] * 4), records, TrainingPlan(30, 3, 10))

    before = [one.metrics() for one in train()]
    shutil.rmtree(tmp_path / "m1")
    for one, metrics in zip(train(), before, strict=True):
        assert one.status == "finished"
        pd.testing.assert_frame_equal(one.metrics(), metrics, rtol=1e-12)


def test_last_member_may_diverge_when_observers_are_due(linear: Callable[..., Any], tmp_path: Path) -> None:
    (only,) = run(linear([1], poison=0), tmp_path, TrainingPlan(8, 4, 4))
    assert (only.status, only.environment["step"]) == ("diverged", 3)
