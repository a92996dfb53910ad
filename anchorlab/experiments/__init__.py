"""Experiments: settings, training and the main job, on top of tasks, models, engine, analysis and report."""

from .contrast import Contrast, run_contrast
from .experiment import Experiment
from .training import train, train_all

__all__ = ["Contrast", "Experiment", "run_contrast", "train", "train_all"]
