"""The main job: one network that memorises and one that reasons, trained on the same rows and explained."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anchorlab.analysis import Explanation, explain
from anchorlab.engine import Run
from anchorlab.engine.progress import working
from anchorlab.errors import InputError
from anchorlab.report import write

from .experiment import Experiment
from .sweeps import sweep

# The smallest member of the composite family that shows the contrast for every seed. With two anchors nothing tells
# what the unseen pairs do. With three, (a,c) does what the seen pair (b,b) does, which puts the rule within reach of a
# small network; offsets whose unseen sum no seen pair has, such as chapter 13's, need more. See docs/concepts.md.
_TASK: dict[str, Any] = {
    "operations": {"a": "add:1", "b": "add:2", "c": "add:3"},
    "held_out": (("a", "c"), ("c", "a")),
}
_SHARED: dict[str, Any] = {
    "model": "post_ln",
    "layers": 2,
    "heads": 1,
    "width": 64,
    "feed_forward_width": 192,
    "train_rows": 60_000,
    "batch_size": 256,
    "learning_rate": 2e-3,
    "steps": 5_000,
    "checkpoint_every": 500,
    "keep_checkpoints": True,
}
_MEMBERS: dict[str, dict[str, Any]] = {
    "memorising": {"initialization_rate": 0.3, "weight_decay": 0.0},
    "reasoning": {"initialization_rate": 0.7, "weight_decay": 0.5},
}


@dataclass(frozen=True)
class Contrast:
    """The two runs of the main job and the report that explains them."""

    runs: tuple[Run, ...]
    explanations: tuple[Explanation, ...]
    report: Path

    def summary(self) -> str:
        """One line per member: accuracies and phase."""
        width = max(len(run.name) for run in self.runs)
        return "\n".join(
            f"{found.name:<{width}}  phase {found.phase.number}: "
            f"ID {found.phase.id_accuracy:.3f}, OOD {found.phase.ood_accuracy:.3f}"
            if found.phase
            else f"{found.name:<{width}}  {found.reason('phase')}"
            for found in self.explanations
        )


def contrast_experiments(task: str, seed: int) -> dict[str, Experiment]:
    """The two members' settings; they differ in γ and λ alone.

    Raises InputError for a task without a main job or a negative seed.
    """
    if task != "composite":
        raise InputError(f"task={task!r}: the main job exists for 'composite'; `anchorlab train` trains any task")
    shared: dict[str, Any] = {"task": task, "task_fields": _TASK, "seed": seed, "data_seed": seed} | _SHARED
    return {name: Experiment(**shared, **settings) for name, settings in _MEMBERS.items()}


def run_contrast(task: str, out: Path | str, *, seed: int = 0, progress: bool | None = None) -> Contrast:
    """Train a memorising and a reasoning network side by side and write `out/report.html`.

    Both runs continue if they had been stopped, and are used as they are if they had finished. Raises InputError for
    wrong settings or an `out` that holds other runs, Interrupted when stopped.
    """
    experiments = contrast_experiments(task, seed)
    folder = Path(out)
    runs = sweep(experiments, folder, progress=progress)
    command = shlex.join(["anchorlab", "run", task, "--seed", str(seed), "--out", str(out)])
    with working("explaining both networks", enabled=progress):
        explanations = tuple(explain(run) for run in runs)
        report = write(explanations, folder / "report.html", command=command)
    return Contrast(tuple(runs), explanations, report)
