"""The live view of training: one bar per member with its accuracies."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from .monitor import Monitor, Progress


@contextmanager
def progress_bars(*, enabled: bool | None = None) -> Iterator[Monitor]:
    """Yield a monitor that draws training progress on standard error, one bar for every member.

    `enabled` defaults to whether standard error is a terminal.
    """
    with _bars(enabled) as bars:
        tasks = {}

        def show(progress: Progress) -> None:
            if progress.member not in tasks:
                tasks[progress.member] = bars.add_task(progress.member, total=progress.steps, scores="")
            accuracies = "  ".join(f"{split} {value:.2f}" for split, value in progress.accuracies.items())
            scores = f"loss {progress.loss:.3g}  {accuracies}"
            bars.update(tasks[progress.member], completed=progress.step, scores=scores)

        yield Monitor(show)


@contextmanager
def progress_bar_of_all(members: int, steps: int, *, enabled: bool | None = None) -> Iterator[Monitor]:
    """Yield a monitor that draws one bar for so many members with so many steps in all."""
    with _bars(enabled) as bars:
        task = bars.add_task(f"{members} networks", total=steps, scores="")
        done: dict[str, int] = {}
        ended: set[str] = set()

        def show(progress: Progress) -> None:
            finished = progress.status != "running"
            done[progress.member] = progress.steps if finished else progress.step
            ended.update({progress.member} if finished else ())
            bars.update(task, completed=sum(done.values()), scores=f"{len(ended)} ended")

        yield Monitor(show)


def _bars(enabled: bool | None) -> Bars:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[scores]}"),
    )
    return Bars(*columns, console=Console(stderr=True), disable=not _shown(enabled))


@contextmanager
def working(what: str, *, enabled: bool | None = None) -> Iterator[None]:
    """Show that something of unknown length goes on; `enabled` as for `progress_bars`."""
    if not _shown(enabled):
        yield
        return
    with Console(stderr=True).status(what):
        yield


def _shown(enabled: bool | None) -> bool:
    return sys.stderr.isatty() if enabled is None else enabled
