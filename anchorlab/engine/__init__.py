"""The training engine: populations of problems, observers, checkpoints and run folders."""

from .language import NOT_COUNTED, LanguageProblem
from .launch import train_in_processes
from .monitor import Monitor, Progress
from .optimizers import OptimizerSettings, PopulationOptimizer
from .population import Advance, Divergence, Population
from .problem import Batch, Measurement, Problem
from .rows import Rows, SequenceMember
from .schedules import Schedule
from .sequences import SequenceProblem
from .stopping import Fitted, Plateau, StoppingRule, TargetAccuracy
from .store import Run, RunWriter, find_runs
from .training import Evaluation, MemberRecord, Observer, TrainingPlan, train_population

__all__ = [
    "NOT_COUNTED",
    "Advance",
    "Batch",
    "Divergence",
    "Evaluation",
    "Fitted",
    "LanguageProblem",
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
