"""The training loop: a population, its observers, its run folders."""

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from anchorlab.errors import Interrupted

from .interrupts import NotedInterrupts
from .monitor import Monitor, Progress
from .population import Advance, Population
from .problem import Measurement
from .stopping import StoppingRule
from .store import Checkpoint, MetricRow, Run, RunWriter, environment

_PROGRESS_SECONDS = 0.5
_BLOCK_SECONDS = 0.2  # between two looks at the losses, and hence at interrupts
_WRITERS = 8  # threads that write files
_UNWRITTEN_SECONDS = 5.0  # of ended members, before a checkpoint is worth its files
_WAITING_SHARE = 8  # a population is made smaller when this fraction of it has stopped

Found = TypeVar("Found")


class Observer(Protocol):
    """Records something about a population while it trains; results go to the metrics of each member."""

    def observe(self, population: Population, step: int) -> list[Measurement]:
        """Measure after `step` optimizer steps."""
        ...


class Evaluation:
    """The problem's own evaluation: loss and accuracy by split and group."""

    def observe(self, population: Population, step: int) -> list[Measurement]:
        """Evaluate every member."""
        return population.evaluate()


@dataclass(frozen=True)
class TrainingPlan:
    """How long to train and when to look.

    Observers run before the first step, every `evaluate_every` steps and after the last; also after the steps named in
    `evaluate_at`. Checkpoints are written every `checkpoint_every` steps, and at `evaluate_at` if they are kept:
    `keep_checkpoints` keeps the parameters of all of them and of step 0, not only of the last.
    """

    steps: int
    evaluate_every: int
    checkpoint_every: int
    keep_checkpoints: bool = False
    observers: Sequence[Observer] = (Evaluation(),)
    evaluate_at: frozenset[int] = frozenset()

    def evaluates(self, step: int) -> bool:
        """Whether observers run after `step` steps."""
        return step == self.steps or step % self.evaluate_every == 0 or step in self.evaluate_at

    def saves(self, step: int) -> bool:
        """Whether a checkpoint is due after `step` steps."""
        named = self.keep_checkpoints and step in self.evaluate_at
        return step == self.steps or step % self.checkpoint_every == 0 or named

    def until_event(self, step: int) -> int:
        """Steps from `step` to the next look, checkpoint or end."""
        ahead = [at - step for at in self.evaluate_at if at > step]
        regular = [every - step % every for every in (self.evaluate_every, self.checkpoint_every)]
        return min(self.steps - step, *regular, *ahead)


class MemberRecord(NamedTuple):
    """Where one member's run goes, the settings written there, and when it may stop early."""

    folder: Path
    config: Mapping[str, Any]
    stopping: Sequence[StoppingRule] = ()


def train_population(
    population: Population,
    records: Sequence[MemberRecord],
    plan: TrainingPlan,
    *,
    monitor: Monitor = Monitor(),  # noqa: B008 - it has no state
) -> list[Run]:
    """Train every member to `plan.steps`, or from its checkpoint onwards, and write its run folder.

    Members that had ended before are left as they are; the others continue from the newest checkpoint that all of them
    have. A member that meets one of its stopping rules after an evaluation ends there, with status `finished`; one
    whose loss, gradient or last parameters are not finite ends with status `diverged`. Those that ended leave the
    population when they are an eighth of it, and at checkpoints. Their ends are written with the next checkpoint, which
    then comes early if the last one is some seconds old. An interrupt (SIGINT, SIGTERM, or the monitor's wish) lets the
    steps at hand end, saves a checkpoint and raises Interrupted. Raises InputError if a folder holds something else.
    """
    _Session(population, records, plan, monitor).run()
    return [Run.open(record.folder) for record in records]


class _End(NamedTuple):
    status: str
    reason: str | None
    saved: Checkpoint


class _Session:
    def __init__(
        self,
        population: Population,
        records: Sequence[MemberRecord],
        plan: TrainingPlan,
        monitor: Monitor,
    ):
        self.population = population
        self.plan = plan
        self.records = records
        self.writers = [RunWriter(record.folder) for record in records]
        self.metrics: list[list[MetricRow]] = [[] for _ in records]
        self.ends: dict[int, _End] = {}  # of members that are still in the population
        self.left: dict[int, _End] = {}  # of members that are not, but whose end is not written yet
        self.monitor = monitor
        self.interrupts = NotedInterrupts()
        self.noted = time.perf_counter()
        self.shown = float("-inf")
        self.step = 0
        self.step_seconds = _BLOCK_SECONDS

    def run(self) -> None:
        try:
            for writer, record in zip(self.writers, self.records, strict=True):
                writer.claim(record.config)
            ended = self._ended_before()
            self.population.remove(ended + self._end_as_noted(ended))
            if self.population.members:
                self._resume()
                with self.interrupts.noting():
                    self._train()
        finally:
            for writer in self.writers:
                writer.close()

    def _ended_before(self) -> list[int]:
        def start(member: int) -> bool:
            return self.writers[member].start(self.records[member].config, surroundings)

        surroundings = environment(self.population.device.type)
        members = self.population.members
        ended = [member for member, found in zip(members, _at_once(start, members), strict=True) if found]
        for member in ended:
            self.monitor.report(Run.open(self.writers[member].folder).progress(self.plan.steps))
        return ended

    def _end_as_noted(self, ended: Sequence[int]) -> list[int]:
        """Record the ends that a killed process had noted but not recorded."""
        noted, late = self.writers[0].noted_ends(), {}
        for member in set(self.population.members) - set(ended):
            status, reason, step = noted.get(self._place(member), ("", None, -1))
            if step in self.writers[member].checkpoints():
                late[member] = _End(status, reason, self.writers[member].load_checkpoint(step))
                self.metrics[member] = late[member].saved.metrics
        self._record(late, len(late))
        return list(late)

    def _place(self, member: int) -> str:
        return os.path.relpath(self.records[member].folder, self.records[0].folder)

    def _resume(self) -> None:
        writers = [self.writers[member] for member in self.population.members]
        common = set.intersection(*(set(writer.checkpoints()) for writer in writers))
        if not common:
            return
        self.step = max(common)
        saved = [writer.load_checkpoint(self.step) for writer in writers]
        self.population.load([c.parameters for c in saved], [c.optimizer for c in saved])
        for member, checkpoint in zip(self.population.members, saved, strict=True):
            self.metrics[member] = checkpoint.metrics

    def _train(self) -> None:
        if not any(self.metrics):
            self._observe()
        self._apply_stopping_rules()
        self._save(due=self.plan.keep_checkpoints and self.step == 0)
        while self.step < self.plan.steps and self.population.members:
            result = self._advance()
            self._note_diverged(result)
            if self.plan.evaluates(self.step):
                self._observe()
                self._apply_stopping_rules()
            stop = self.interrupts.noted or self.monitor.should_stop()
            self._save(due=stop or self.plan.saves(self.step))
            self._show(result.losses)
            if stop and self.step < self.plan.steps and self.population.members:
                self._interrupt()
        self._record({member: self._finished(member) for member in self.population.members}, self._size())

    def _advance(self) -> Advance:
        steps = min(self.plan.until_event(self.step), max(1, int(_BLOCK_SECONDS / self.step_seconds)))
        began = time.perf_counter()
        result = self.population.advance(self.step, steps)
        self.step_seconds = (time.perf_counter() - began) / steps
        self.step += steps
        return result

    def _note_diverged(self, result: Advance) -> None:
        for member, found in result.diverged.items():
            if member not in self.ends:
                reason = f"{found.reason} in step {found.step}"
                self.ends[member] = _End("diverged", reason, self._saved(member, found.step - 1))

    def _observe(self) -> None:
        for observer in self.plan.observers:
            for found in observer.observe(self.population, self.step):
                if found.member not in self.ends:
                    row = MetricRow(self.step, found.split, found.group, found.metric, found.value)
                    self.metrics[found.member].append(row)

    def _apply_stopping_rules(self) -> None:
        for member in self.population.members:
            if member not in self.ends and self.step < self.plan.steps:
                reasons = (rule.reason(self.metrics[member]) for rule in self.records[member].stopping)
                if reason := next(filter(None, reasons), None):
                    self.ends[member] = self._finished(member, f"stopped early: {reason}")

    def _save(self, *, due: bool) -> None:
        """Let members leave if many wait for it, and write a checkpoint if one is due or worth it."""
        # Who leaves when must depend neither on the length of a block nor on time: the sums over a stack depend on
        # its size. Every checkpoint costs files for all members, hence not each time that somebody leaves.
        crowded = self.plan.evaluates(self.step) and len(self.ends) * _WAITING_SHARE >= self._size()
        all_ended = len(self.ends) == self._size()
        leaving = self.ends and (crowded or all_ended)
        if due or (leaving and (all_ended or self._seconds() > _UNWRITTEN_SECONDS)):
            self._checkpoint()
        elif leaving:
            self._leave()

    def _size(self) -> int:
        return len(self.population.members)

    def _leave(self) -> None:
        self.population.remove(list(self.ends))
        self.left |= self.ends
        self.ends.clear()

    def _checkpoint(self) -> None:
        self._leave()
        ends, going_on = self.left, self.population.members
        together = len(ends) + len(going_on)
        _at_once(lambda member: self.writers[member].checkpoint(self._saved(member)), going_on)
        # In this order all members that go on have a checkpoint in common, whenever this process is killed.
        _at_once(lambda member: self.writers[member].checkpoint(ends[member].saved), list(ends))
        # If only some of them had ended, the others would resume in a smaller population, with other rounding errors.
        noted = {self._place(member): (end.status, end.reason, end.saved.step) for member, end in ends.items()}
        if noted:
            self.writers[0].note_ends(noted)
        self._record(ends, together)
        self.left = {}

        def note(member: int) -> None:
            self.writers[member].prune(self.step, keep_parameters=self.plan.keep_checkpoints)
            self.writers[member].note("running", step=self.step, seconds=seconds, members=together)

        seconds = self._seconds()
        _at_once(note, going_on)
        self.noted = time.perf_counter()

    def _seconds(self) -> float:
        return time.perf_counter() - self.noted

    def _saved(self, member: int, step: int | None = None) -> Checkpoint:
        # On the CPU, and copies: a member that waits to leave is trained on.
        parameters = {n: t.detach().cpu().clone() for n, t in self.population.member_parameters(member).items()}
        optimizer = {n: t.cpu().clone() for n, t in self.population.optimizer_state(member).items()}
        return Checkpoint(self.step if step is None else step, parameters, optimizer, self.metrics[member])

    def _finished(self, member: int, reason: str | None = None) -> _End:
        saved = self._saved(member)
        if all(parameter.isfinite().all() for parameter in saved.parameters.values()):
            return _End("finished", reason, saved)
        return _End("diverged", f"a parameter is not finite after step {self.step}", saved)

    def _record(self, ends: Mapping[int, _End], together: int) -> None:
        def record(member: int) -> None:
            writer, (status, reason, saved) = self.writers[member], ends[member]
            self.population.problem.save(member, saved.parameters, writer.folder / "model")
            writer.note(status, step=saved.step, seconds=seconds, members=together, reason=reason)
            writer.prune(saved.step, keep_parameters=self.plan.keep_checkpoints)

        seconds = self._seconds()
        _at_once(record, list(ends))
        for member, end in ends.items():
            self._report(member, end.saved.step, status=end.status)

    def _show(self, losses: Mapping[int, float]) -> None:
        if time.perf_counter() - self.shown < _PROGRESS_SECONDS:
            return
        self.shown = time.perf_counter()
        for member in self.population.members:
            self._report(member, self.step, losses[member])

    def _report(self, member: int, step: int, loss: float = math.nan, status: str = "running") -> None:
        accuracies = {r.split: r.value for r in self.metrics[member] if r.metric == "accuracy" and not r.group}
        name = self.records[member].folder.name
        self.monitor.report(Progress(name, step, self.plan.steps, loss, accuracies, status))

    def _interrupt(self) -> None:
        for member in self.population.members:
            self.writers[member].note("interrupted", step=self.step, seconds=self._seconds(), members=self._size())
            self._report(member, self.step, status="interrupted")
        folders = [str(self.writers[member].folder) for member in self.population.members]
        shown = ", ".join(folders) if len(folders) <= 3 else f"{len(folders)} runs beside {folders[0]}"
        raise Interrupted(
            f"stopped after step {self.step} of {self.plan.steps}; run the same again to continue {shown}"
        )


def _at_once(work: Callable[[int], Found], members: Sequence[int]) -> list[Found]:
    """`work` for all members in threads: it writes files, and waiting for the disk takes longer than writing."""
    with ThreadPoolExecutor(_WRITERS) as pool:
        return list(pool.map(work, members))
