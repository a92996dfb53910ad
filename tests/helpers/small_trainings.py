"""Trainings of thirty steps, and an observer that disturbs them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anchorlab.engine import (
    Measurement,
    MemberRecord,
    OptimizerSettings,
    Population,
    Run,
    Schedule,
    TrainingPlan,
    train_population,
)

SETTINGS = OptimizerSettings("adamw", Schedule(1e-3, 1e-2, 1e-3, 5, 30), weight_decay=0.1, clip_norm=1.0)
PLAN = TrainingPlan(steps=30, evaluate_every=5, checkpoint_every=10)


@dataclass
class At:
    """An observer that evaluates and then does something once, after a given step."""

    step: int
    action: Callable[[], None]

    def observe(self, population: Population, step: int) -> list[Measurement]:
        if step == self.step:
            self.action()
        return population.evaluate()


def crash() -> None:
    raise RuntimeError("the machine went away")


def run(problem: Any, folder: Path, plan: TrainingPlan = PLAN, **changes: Any) -> list[Run]:
    records = [MemberRecord(folder / f"m{i}", {"seed": i, **changes}) for i in range(problem.members)]
    return train_population(Population(problem, [SETTINGS] * problem.members), records, plan)
