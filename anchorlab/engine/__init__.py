"""The training engine: populations of problems, observers, checkpoints and run folders."""

from .launch import train_in_processes
from .monitor import Monitor, Progress
from .optimizers import OptimizerSettings, PopulationOptimizer
from .population import Advance, Divergence, Population
from .problem import Batch, Measurement, Problem
from .schedules import Schedule
from .sequences import Rows, SequenceMember, SequenceProblem
from .stopping import Fitted, Plateau, StoppingRule, TargetAccuracy
from .store import Run, RunWriter, find_runs
from .training import Evaluation, MemberRecord, Observer, TrainingPlan, train_population

__all__ = [
    "Advance",
    "Batch",
    "Divergence",
    "Evaluation",
    "Fitted",
    "Measurement",
    "MemberRecord",
    "Monitor",
    "Observer",
    "OptimizerSettings",
    "Plateau",
    "Population",
    "PopulationOptimizer",
    "Problem",
    "Progress",
    "Rows",
    "Run",
    "RunWriter",
    "Schedule",
    "SequenceMember",
    "SequenceProblem",
    "StoppingRule",
    "TargetAccuracy",
    "TrainingPlan",
    "find_runs",
    "train_in_processes",
    "train_population",
]
