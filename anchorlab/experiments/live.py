"""The live view of a sweep: its grid filling in, what is running, and how long the rest takes."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from anchorlab.engine import Monitor, Progress

from .experiment import Experiment
from .plane import Plane, plane
from .sweep_progress import SweepProgress

HEARTBEAT_SECONDS = 300.0

_REFRESHES_PER_SECOND = 4
_MOST_RUNNING = 6
_LONGEST_LABEL = 10
# Orange over pale to teal: told apart without red against green, and light enough for black digits.
_COLOURS = ((236, 140, 80), (245, 235, 180), (80, 195, 175))


@contextmanager
def live_grid(experiments: Mapping[str, Experiment], *, enabled: bool | None = None) -> Iterator[Monitor]:
    """Yield a monitor that shows the progress of a sweep on standard error.

    True draws the grid, False shows nothing. By default the grid is drawn on a terminal, and elsewhere, as in the log
    of a batch job, a line appears every five minutes.
    """
    if enabled is False:
        yield Monitor()
    elif enabled or sys.stderr.isatty():
        view = SweepView(experiments)
        console = Console(stderr=True)
        with Live(view, console=console, refresh_per_second=_REFRESHES_PER_SECOND, transient=True):
            yield Monitor(view.report)
    else:
        yield Monitor(heartbeat(experiments, lambda line: print(line, file=sys.stderr, flush=True)))


def heartbeat(
    experiments: Mapping[str, Experiment],
    write: Callable[[str], None],
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Callable[[Progress], None]:
    """A receiver of reports that writes a line about the sweep every `HEARTBEAT_SECONDS`."""
    state = SweepProgress(experiments, clock)
    due = clock() + HEARTBEAT_SECONDS

    def report(progress: Progress) -> None:
        nonlocal due
        state.update(progress)
        if clock() >= due:
            due = clock() + HEARTBEAT_SECONDS
            write(f"sweep: {state.counts()}; {state.pace().strip()}")

    return report


class SweepView:
    """What rich draws: the grid, if two settings vary, and below it counts, a bar and the running members.

    It keeps within the size of the console: columns shrink to one character each, then columns and rows are left out.
    """

    def __init__(self, experiments: Mapping[str, Experiment], *, clock: Callable[[], float] = time.monotonic):
        self.state = SweepProgress(experiments, clock)
        self._plane = plane(experiments)
        self._lock = Lock()  # reports and redrawing come from different threads

    def report(self, progress: Progress) -> None:
        """Take in a report; it shows with the next redrawing."""
        with self._lock:
            self.state.update(progress)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the present state."""
        width, height = console.size
        with self._lock:
            lines = _grid_lines(self._plane, self.state, width, height - 3) if self._plane else []
            yield from lines
            yield _line(self.state.counts(), width)
            yield _bar(self.state, width)
            yield from _running_lines(self.state, width, min(_MOST_RUNNING, height - 3 - len(lines)))


def _grid_lines(plane: Plane, state: SweepProgress, width: int, height: int) -> list[Text]:
    """At most `height` lines: what is shown, the column labels, and the rows."""
    label_width = min(max(map(len, plane.row_texts)), _LONGEST_LABEL)
    cell_width = max(5, min(max(map(len, plane.column_texts)), _LONGEST_LABEL) + 1)
    room = width - label_width - 1
    if len(plane.column_texts) * cell_width > room:
        cell_width = 1
    columns, rows = min(len(plane.column_texts), room // cell_width), min(len(plane.row_texts), height - 2)
    if rows < 1 or columns < 1:
        return []
    header = _header(plane.column_texts[:columns], cell_width)
    split = _split(state)
    lines = [_line(_caption(plane, split, columns, rows, cell_width), width)]
    lines.append(_line(f"{'':{label_width}} {header}", width))
    for row in range(rows):
        line = Text(f"{plane.row_texts[row][:label_width]:>{label_width}} ", no_wrap=True)
        for column in range(columns):
            line.append_text(_cell(plane.members.get((row, column), ()), state, split, cell_width))
        lines.append(line)
    return lines


def _caption(plane: Plane, split: str, columns: int, rows: int, cell_width: int) -> str:
    parts = [f"{split} accuracy: {plane.title}"]
    if columns < len(plane.column_texts):
        parts.append(f"{len(plane.column_texts) - columns} more columns")
    if rows < len(plane.row_texts):
        parts.append(f"{len(plane.row_texts) - rows} more rows")
    if cell_width == 1:
        parts.append("digits: tenths")
    return "; ".join(parts)


def _header(texts: tuple[str, ...], cell_width: int) -> str:
    if cell_width > 1:
        return "".join(f"{text[: cell_width - 1]:<{cell_width}}" for text in texts)
    return f"{texts[0]}…{texts[-1]}"


def _cell(members: tuple[str, ...], state: SweepProgress, split: str, width: int) -> Text:
    """The mean over the members that have finished; before that a growing bar."""
    known = [state.newest[member] for member in members if member in state.newest]
    values = [p.accuracies[split] for p in known if p.status == "finished" and split in p.accuracies]
    diverged = any(progress.status == "diverged" for progress in known)
    complete = bool(members) and all(map(state.ended, members))
    if values:
        text, style = _number(sum(values) / len(values), width, diverged=diverged)
        return Text(text, f"{style} bold" if complete else style)
    if diverged and complete:
        return Text(f"{'✗':<{width}}", "bold red")
    done = sum(1.0 if state.ended(p.member) else p.step / p.steps for p in known)
    return _shade(done / len(members) if known else None, width)


def _number(accuracy: float, width: int, *, diverged: bool) -> tuple[str, str]:
    colour = "black on rgb({},{},{})".format(*_colour(accuracy))
    if width == 1:
        return str(min(9, int(accuracy * 10))), f"{colour} underline" if diverged else colour
    return f"{f'{accuracy:.2f}' + ('✗' if diverged else ''):<{width}}", colour


def _shade(done: float | None, width: int) -> Text:
    if done is None:
        return Text(f"{'·':<{width}}", "dim")
    if width == 1:
        return Text("░▒▓█"[min(3, int(done * 4))])
    full = int(done * (width - 1))
    return Text("█" * full + "░" * (width - 1 - full) + " ", "cyan")


def _colour(accuracy: float) -> tuple[int, int, int]:
    low, middle, high = _COLOURS
    begin, end, share = (low, middle, accuracy * 2) if accuracy < 0.5 else (middle, high, accuracy * 2 - 1)
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(begin, end, strict=True))
    return red, green, blue


def _split(state: SweepProgress) -> str:
    """The split that the cells show: unseen anchors if the task has them."""
    measured = {split for progress in state.newest.values() for split in progress.accuracies}
    return next((split for split in ("ood", "test") if split in measured), "train")


def _bar(state: SweepProgress, width: int) -> Table:
    total = state.total_steps
    done = 0 if total is None else total - (state.remaining_steps or 0)
    line = Table.grid(padding=(0, 1, 0, 0), expand=True)
    line.add_column(ratio=1)
    line.add_column(no_wrap=True, max_width=max(1, width - 10))
    line.add_row(ProgressBar(total=total or 1, completed=done), state.pace())
    return line


def _running_lines(state: SweepProgress, width: int, most: int) -> Iterator[Text]:
    running = state.running()
    shown = running if len(running) <= most else running[: max(0, most - 1)]
    longest = max((len(progress.member) for progress in shown), default=0)
    for progress in shown:
        accuracies = "  ".join(f"{split} {value:.2f}" for split, value in progress.accuracies.items())
        steps = f"{progress.step:,}/{progress.steps:,}"
        yield _line(f"{progress.member:<{longest}}  {steps}  loss {progress.loss:.3g}  {accuracies}", width)
    if len(shown) < len(running) and most > 0:
        yield _line(f"… and {len(running) - len(shown)} more", width)


def _line(text: str, width: int) -> Text:
    line = Text(text, no_wrap=True)
    line.truncate(width, overflow="ellipsis")
    return line
