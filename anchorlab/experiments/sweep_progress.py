"""How far a sweep has come: counted from what its members report."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import timedelta

from anchorlab.engine import Progress

from .experiment import Experiment

_ENDED = ("finished", "diverged")


class SweepProgress:
    """Counts, steps and the time left of a sweep.

    The first report of a member says where it starts: those steps were not done now. `clock` gives seconds.
    """

    def __init__(self, experiments: Mapping[str, Experiment], clock: Callable[[], float] = time.monotonic):
        self.newest: dict[str, Progress] = {}
        self._steps = {name: experiment.steps for name, experiment in experiments.items()}
        self._first_steps: dict[str, int] = {}
        self._clock = clock
        self._began = clock()

    def update(self, progress: Progress) -> None:
        """Take in a report."""
        self.newest[progress.member] = progress
        self._steps[progress.member] = progress.steps
        self._first_steps.setdefault(progress.member, progress.step)

    def ended(self, member: str) -> bool:
        """Whether a member has finished or diverged."""
        return member in self.newest and self.newest[member].status in _ENDED

    def running(self) -> list[Progress]:
        """The newest reports of the members that are being trained."""
        return [progress for progress in self.newest.values() if progress.status == "running"]

    @property
    def total_steps(self) -> int | None:
        """Steps of all members; None while no member has told how many steps its epochs are."""
        known = [steps for steps in self._steps.values() if steps is not None]
        return round(sum(known) / len(known) * len(self._steps)) if known else None

    @property
    def remaining_steps(self) -> int | None:
        """Steps still to do; a member that has ended, early or not, leaves none."""
        if self.total_steps is None:
            return None
        gone = sum(p.steps if self.ended(name) else p.step for name, p in self.newest.items())
        return self.total_steps - gone

    @property
    def steps_per_second(self) -> float:
        """Steps of all members done since the start, over the time since then."""
        done = sum(progress.step - self._first_steps[name] for name, progress in self.newest.items())
        return done / max(self._clock() - self._began, 1e-9)

    @property
    def time_left(self) -> timedelta | None:
        """When all members will have ended at the present rate; None while nothing is known."""
        if self.remaining_steps is None or not self.steps_per_second:
            return None
        return timedelta(seconds=round(self.remaining_steps / self.steps_per_second))

    def counts(self) -> str:
        """How many members are in which state: `12 of 84 finished, 2 diverged, 4 running`."""
        found = Counter(progress.status for progress in self.newest.values())
        others = [f"{found[status]} {status}" for status in ("diverged", "interrupted", "running") if found[status]]
        return ", ".join([f"{found['finished']} of {len(self._steps)} finished", *others])

    def pace(self) -> str:
        """Part of the steps done, throughput and time left: `43 %  1,234 steps/s  0:12:33 left`."""
        done = 1 - (self.remaining_steps or 0) / self.total_steps if self.total_steps else 0.0
        left = "" if self.time_left is None else f"  {self.time_left} left"
        return f"{done:3.0%}  {self.steps_per_second:,.0f} steps/s{left}"
