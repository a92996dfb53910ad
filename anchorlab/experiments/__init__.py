"""Experiments: settings, training, sweeps and the main job, on top of tasks, models, engine, analysis and report."""

from .colouring import colour_text
from .contrast import Contrast, run_contrast
from .experiment import Experiment
from .grids import grid
from .group_speed import SlowGroups, slow_groups
from .live import live_grid
from .phase import PhaseDiagram, phase_diagram
from .probing import ProbeRun, compare_probes, probe
from .reports import Analysis, analyze, write_report
from .sweep_file import read_sweep
from .sweeps import sweep
from .training import train
from .values import parse_values

__all__ = [
    "Analysis",
    "Contrast",
    "Experiment",
    "PhaseDiagram",
    "ProbeRun",
    "SlowGroups",
    "analyze",
    "colour_text",
    "compare_probes",
    "grid",
    "live_grid",
    "parse_values",
    "phase_diagram",
    "probe",
    "read_sweep",
    "run_contrast",
    "slow_groups",
    "sweep",
    "train",
    "write_report",
]
