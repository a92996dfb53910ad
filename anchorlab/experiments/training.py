"""Train one network from its settings."""

from pathlib import Path

from anchorlab.engine import Run
from anchorlab.engine.progress import progress_bars

from .experiment import Experiment
from .populations import train_members


def train(experiment: Experiment, out: Path | str | None = None, *, progress: bool | None = None) -> Run:
    """Train one network and return its run.

    `out` is the run folder (default: a name made of the settings, under `runs/`). If it holds an unfinished run of the
    same settings, that run continues from its last checkpoint; a finished one is returned as it is. `progress` shows a
    bar on standard error (default: if that is a terminal).

    Raises InputError for wrong settings or a folder that holds something else, Interrupted when stopped.
    """
    folder = Path(out) if out is not None else Path("runs") / default_name(experiment)
    with progress_bars(enabled=progress) as monitor:
        (run,) = train_members([experiment], [folder], monitor)
    return run


def default_name(experiment: Experiment) -> str:
    """A folder name from what is varied most: data, model, γ, λ, seed."""
    data = Path(experiment.data).stem if experiment.data else experiment.task
    rate = "" if experiment.rate is None else f"-gamma{experiment.rate:g}"
    return f"{data}-{experiment.model}{rate}-decay{experiment.weight_decay:g}-seed{experiment.seed}"
