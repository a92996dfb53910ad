"""The live view of training: one bar per member with its accuracies."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from .launch import OnProgress
from .training import Progress


@contextmanager
def progress_bars(*, enabled: bool | None = None) -> Iterator[OnProgress]:
    """Yield a callback that draws training progress on standard error.

    `enabled` defaults to whether standard error is a terminal.
    """
    if enabled is None:
        enabled = sys.stderr.isatty()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[scores]}"),
    )
    with Bars(*columns, console=Console(stderr=True), disable=not enabled) as bars:
        tasks = {}

        def show(progress: Progress) -> None:
            if progress.member not in tasks:
                tasks[progress.member] = bars.add_task(progress.member, total=progress.steps, scores="")
            accuracies = "  ".join(f"{split} {value:.2f}" for split, value in progress.accuracies.items())
            scores = f"loss {progress.loss:.3g}  {accuracies}"
            bars.update(tasks[progress.member], completed=progress.step, scores=scores)

        yield show
