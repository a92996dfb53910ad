"""Anchor-function benchmarks for Transformer reasoning: exact data, fast training, explained models.

    run = anchorlab.train(anchorlab.Experiment(task="composite", initialization_rate=0.8, steps=2000))
    contrast = anchorlab.run_contrast("composite", "runs/composite")

Heavy libraries load on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .benchmark_card import benchmark
    from .engine import Run
    from .errors import InputError, Interrupted
    from .experiments import (
        Analysis,
        Contrast,
        Experiment,
        PhaseDiagram,
        ProbeRun,
        analyze,
        colour_text,
        compare_probes,
        grid,
        phase_diagram,
        probe,
        read_sweep,
        run_contrast,
        slow_groups,
        sweep,
        train,
        write_report,
    )

__all__ = [
    "Analysis",
    "Contrast",
    "Experiment",
    "InputError",
    "Interrupted",
    "PhaseDiagram",
    "ProbeRun",
    "Run",
    "analyze",
    "benchmark",
    "colour_text",
    "compare_probes",
    "grid",
    "phase_diagram",
    "probe",
    "read_sweep",
    "run_contrast",
    "slow_groups",
    "sweep",
    "train",
    "write_report",
]
_HOMES = dict.fromkeys(__all__, ".experiments") | {
    "Run": ".engine",
    "benchmark": ".benchmark_card",
    "InputError": ".errors",
    "Interrupted": ".errors",
}
_PACKAGES = (
    *("analysis", "benchmark_card", "corpora", "engine", "experiments", "models", "pretrained_probe", "report"),
    *("reproduce", "tasks"),
)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    if name in _PACKAGES:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module 'anchorlab' has no attribute {name!r}")
