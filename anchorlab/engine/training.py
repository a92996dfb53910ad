"""The training loop: a population, its observers, its run folders."""

import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, Protocol

from anchorlab.errors import Interrupted

from .monitor import Monitor, Progress
from .population import Population, StepResult
from .problem import Measurement
from .store import Checkpoint, MetricRow, Run, RunWriter

_PROGRESS_SECONDS = 0.5


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

    Observers run before the first step, every `evaluate_every` steps and after the last. Checkpoints are written every
    `checkpoint_every` steps; `keep_checkpoints` keeps the parameters of all of them, not only of the last.
    """

    steps: int
    evaluate_every: int
    checkpoint_every: int
    keep_checkpoints: bool = False
    observers: Sequence[Observer] = (Evaluation(),)


class MemberRecord(NamedTuple):
    """Where one member's run goes, and the settings written there."""

    folder: Path
    config: Mapping[str, Any]


def train_population(
    population: Population,
    records: Sequence[MemberRecord],
    plan: TrainingPlan,
    *,
    monitor: Monitor = Monitor(),  # noqa: B008 - it has no state
) -> list[Run]:
    """Train every member to `plan.steps`, or from its checkpoint onwards, and write its run folder.

    Members that had ended before are left as they are; the others continue from the newest checkpoint that all of them
    have. A member whose loss or gradient is not finite stops with status `diverged`, the others go on. An interrupt
    (SIGINT, SIGTERM, or the monitor's wish) lets the current step end, saves a checkpoint and raises Interrupted.
    Raises InputError if a folder holds something else.
    """
    _Session(population, records, plan, monitor).run()
    return [Run.open(record.folder) for record in records]


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
        self.monitor = monitor
        self.began = self.shown = time.perf_counter()
        self.step = 0
        self.interrupted = False

    def run(self) -> None:
        try:
            for writer, record in zip(self.writers, self.records, strict=True):
                writer.claim(record.config)
            ended = [member for member, record in enumerate(self.records) if self._start(member, record)]
            self.population.remove(ended)
            if self.population.members:
                self._resume()
                with self._noting_interrupts():
                    self._train()
        finally:
            for writer in self.writers:
                writer.close()

    def _start(self, member: int, record: MemberRecord) -> bool:
        return self.writers[member].start(record.config, self.population.device.type)

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
        if self.step == 0:
            self._observe()
        while self.step < self.plan.steps and self.population.members:
            result = self.population.step(self.step)
            diverged = {member: self._saved(member, self.step) for member in result.diverged}
            self.population.remove(list(diverged))
            self.step += 1
            self._look_and_save(result, changed=bool(diverged))
            # Their end is recorded last: until then a resumed training repeats the step with all members.
            for member, saved in diverged.items():
                self._end(member, "diverged", saved, reason=f"{result.diverged[member]} in step {self.step}")
        for member in self.population.members:
            self._end(member, "finished", self._saved(member, self.step))

    def _look_and_save(self, result: StepResult, *, changed: bool) -> None:
        done = self.step == self.plan.steps
        stop = self.interrupted or self.monitor.should_stop()
        if self.population.members and (done or self.step % self.plan.evaluate_every == 0):
            self._observe()
        if done or stop or changed or self.step % self.plan.checkpoint_every == 0:
            self._checkpoint()
        self._show(result.losses)
        if stop and not done and self.population.members:
            self._interrupt()

    def _observe(self) -> None:
        for observer in self.plan.observers:
            for found in observer.observe(self.population, self.step):
                row = MetricRow(self.step, found.split, found.group, found.metric, found.value)
                self.metrics[found.member].append(row)

    def _show(self, losses: Mapping[int, float]) -> None:
        if time.perf_counter() - self.shown < _PROGRESS_SECONDS and self.step < self.plan.steps:
            return
        self.shown = time.perf_counter()
        for member in self.population.members:
            accuracies = {r.split: r.value for r in self.metrics[member] if r.metric == "accuracy" and not r.group}
            name = self.records[member].folder.name
            self.monitor.report(Progress(name, self.step, self.plan.steps, losses[member], accuracies))

    def _checkpoint(self) -> None:
        writers = {member: self.writers[member] for member in self.population.members}
        for member, writer in writers.items():
            writer.checkpoint(self._saved(member, self.step))
        # Older ones go only when all members have the new one: they must continue from a common step.
        for writer in writers.values():
            writer.prune(self.step, keep_parameters=self.plan.keep_checkpoints)

    def _saved(self, member: int, step: int) -> Checkpoint:
        parameters = self.population.member_parameters(member)
        return Checkpoint(step, parameters, self.population.optimizer_state(member), self.metrics[member])

    def _end(self, member: int, status: str, saved: Checkpoint, *, reason: str | None = None) -> None:
        writer = self.writers[member]
        if reason:
            writer.checkpoint(saved)
            writer.prune(saved.step, keep_parameters=self.plan.keep_checkpoints)
        parameters = {name: tensor.cpu() for name, tensor in saved.parameters.items()}
        self.population.problem.save(member, parameters, writer.folder / "model")
        elapsed = time.perf_counter() - self.began
        writer.finish(status, step=saved.step, wall_time=elapsed, reason=reason)

    def _interrupt(self) -> None:
        for member in self.population.members:
            elapsed = time.perf_counter() - self.began
            self.writers[member].finish("interrupted", step=self.step, wall_time=elapsed)
        folders = ", ".join(str(self.writers[member].folder) for member in self.population.members)
        raise Interrupted(
            f"stopped after step {self.step} of {self.plan.steps}; run the same again to continue {folders}"
        )

    @contextmanager
    def _noting_interrupts(self) -> Iterator[None]:
        # Stopping in the middle of an update would leave parameters that no undisturbed run passes through. A second
        # interrupt acts at once; the last checkpoint then stands.
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def note(number: int, frame: FrameType | None) -> None:
            self.interrupted = True
            signal.signal(number, before[signal.Signals(number)])

        for number in before:
            signal.signal(number, note)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
