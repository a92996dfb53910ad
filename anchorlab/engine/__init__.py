"""The training engine: populations of problems, observers, checkpoints and run folders."""

from .launch import train_in_processes
from .monitor import Monitor, Progress
from .optimizers import MemberOptimizer, OptimizerSettings
from .population import Population
from .problem import Measurement, Problem
from .schedules import Schedule
from .sequences import Rows, SequenceMember, SequenceProblem
from .store import Run, RunWriter
from .training import Evaluation, MemberRecord, Observer, TrainingPlan, train_population

__all__ = [
    "Evaluation",
    "Measurement",
    "MemberOptimizer",
    "MemberRecord",
    "Monitor",
    "Observer",
    "OptimizerSettings",
    "Population",
    "Problem",
    "Progress",
    "Rows",
    "Run",
    "RunWriter",
    "Schedule",
    "SequenceMember",
    "SequenceProblem",
    "TrainingPlan",
    "train_in_processes",
    "train_population",
]
