"""The part of the Ray launcher that hands out the work and waits for it; needs the `ray` extra."""

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import ray
from ray.exceptions import (
    NodeDiedError,
    OutOfMemoryError,
    RayError,
    RaySystemError,
    RayTaskError,
    TaskCancelledError,
    WorkerCrashedError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from anchorlab.errors import InputError, Interrupted

from .interrupts import NotedInterrupts
from .monitor import Monitor, Progress
from .ray_cluster import connected, has_room, is_own, no_room
from .ray_worker import Attempt, train_item

Item = TypeVar("Item")

_log = logging.getLogger(__name__)
_POLL_SECONDS = 0.2
_ROOM_SECONDS = 30.0
_MOST_CRASHES = 3
_AGAIN = "run the same again to continue"


def drive(
    work: Callable[[Item, Monitor], None],
    items: Sequence[Item],
    *,
    address: str | None,
    cpus: float,
    gpus: float,
    monitor: Monitor,
) -> None:
    """Do what `train_on_ray` says."""
    interrupts, own = NotedInterrupts(), is_own(address)

    def should_stop() -> bool:
        return interrupts.noted or monitor.should_stop()

    with interrupts.noting(), connected(address):
        if own and not has_room(cpus, gpus):
            raise InputError(no_room(cpus, gpus))
        driver = _Driver(work, items, cpus, gpus, Monitor(monitor.report, should_stop))
        try:
            driver.run()
        except RayTaskError:
            raise
        except RayError as error:
            raise Interrupted(f"Ray failed ({_first_line(error)}); {_AGAIN}") from error


class _Driver:
    def __init__(
        self,
        work: Callable[[Item, Monitor], None],
        items: Sequence[Item],
        cpus: float,
        gpus: float,
        monitor: Monitor,
    ):
        self.work = work
        self.items = items
        self.cpus = cpus
        self.gpus = gpus
        self.monitor = monitor
        self.relay = _start_relay()
        # Who is to blame for a lost task decides whether it begins again; Ray's own retries do not ask.
        self.task: Any = ray.remote(train_item).options(num_cpus=cpus, num_gpus=gpus, max_retries=0)
        self.pending: dict[Any, Attempt] = {}
        self.crashes: Counter[int] = Counter()
        self.stopping = False
        self.roomy, self.room_checked = True, -_ROOM_SECONDS

    def run(self) -> None:
        try:
            for index in range(len(self.items)):
                self._submit(Attempt(index, 0))
            while self.pending:
                ended = self._wait()
                self._forward()
                for task in ended:
                    self._settle(task)
                self._warn_if_there_is_no_room()
                if self.monitor.should_stop():
                    self._stop()
        except BaseException:
            self._let_all_save()
            raise
        finally:
            ray.kill(self.relay)

    def _submit(self, attempt: Attempt) -> None:
        item = self.items[attempt.number]
        task = self.task.remote(self.relay, attempt, self.work, item, os.getcwd(), self.gpus)
        self.pending[task] = attempt

    def _wait(self) -> list[Any]:
        """Wait a moment, and return the tasks that have ended."""
        # Asleep in Python, not in Ray, which loses what a signal handler raises.
        time.sleep(_POLL_SECONDS)
        ended: list[Any] = ray.wait(list(self.pending), num_returns=len(self.pending), timeout=0)[0]
        return ended

    def _forward(self) -> None:
        for fields in ray.get(self.relay.collect.remote()):
            self.monitor.report(Progress(*fields))

    def _settle(self, task: Any) -> None:
        attempt = self.pending.pop(task)
        try:
            ray.get(task)
        except RayTaskError as error:
            self._settle_error(attempt, error)
        except NodeDiedError:
            self._begin_again(attempt, "the machine that trained it was lost")
        except (WorkerCrashedError, OutOfMemoryError):
            why = f"a training process was killed {_MOST_CRASHES} times (is there enough memory?)"
            self._note_crash(attempt, Interrupted(f"{why}; {_AGAIN}"))
        except TaskCancelledError:
            raise Interrupted(f"stopped before everything had begun; {_AGAIN}") from None

    def _settle_error(self, attempt: Attempt, error: RayTaskError) -> None:
        cause = error.cause
        if isinstance(cause, Interrupted) and not self.stopping:
            self._note_crash(attempt, cause)  # the system told the process to end, as when its machine is shut down
        elif isinstance(cause, InputError | Interrupted):
            raise cause from None
        elif isinstance(cause, RaySystemError):
            reason = _first_line(cause).removeprefix("System error: ")
            raise InputError(
                f"a machine of the cluster cannot load the work ({reason}); install the same on all"
            ) from error
        elif isinstance(cause, Exception):
            raise cause from error
        else:
            raise error

    def _note_crash(self, attempt: Attempt, last: Interrupted) -> None:
        self.crashes[attempt.number] += 1
        if self.crashes[attempt.number] == _MOST_CRASHES:
            raise last
        self._begin_again(attempt, "the process that trained it was killed")

    def _begin_again(self, attempt: Attempt, why: str) -> None:
        if self.stopping:
            raise Interrupted(f"a training process was killed; {_AGAIN}")
        _log.warning("population %d of %d begins again: %s", attempt.number + 1, len(self.items), why)
        self._submit(Attempt(attempt.number, attempt.earlier + 1))

    def _warn_if_there_is_no_room(self) -> None:
        if time.monotonic() - self.room_checked < _ROOM_SECONDS:
            return
        before, self.roomy = self.roomy, has_room(self.cpus, self.gpus)
        self.room_checked = time.monotonic()
        if before and not self.roomy:
            _log.warning("%s; waiting for one to join the cluster", no_room(self.cpus, self.gpus))

    def _stop(self) -> None:
        if self.stopping:
            return
        self.stopping = True
        begun = set(map(tuple, ray.get(self.relay.stop.remote())))
        # Those that have not begun may wait for a machine that never comes. Whoever begins after this is told to stop.
        for task, attempt in self.pending.items():
            if tuple(attempt) not in begun:
                ray.cancel(task)

    def _let_all_save(self) -> None:
        # Without the relay they stop too. The error that brought us here is the one to raise.
        with suppress(RayError):
            self._stop()
        while self.pending:
            for task in self._wait():
                del self.pending[task]
            with suppress(RayError):
                self._forward()


def _start_relay() -> Any:
    """An actor between the driver and the tasks, which cannot call the driver."""

    class Relay:  # here, so that Ray ships it by value: its process then does without anchorlab and torch
        def __init__(self) -> None:
            self.progress: list[Any] = []
            self.begun: set[Any] = set()
            self.stopping = False

        def exchange(self, attempt: Any, progress: list[Any]) -> bool:
            self.begun.add(attempt)
            self.progress += progress
            return self.stopping

        def collect(self) -> list[Any]:
            taken, self.progress = self.progress, []
            return taken

        def stop(self) -> set[Any]:
            self.stopping = True
            return self.begun

    # On the driver's machine, so that no other's loss takes it along; calls outlast a network that fails for a while.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"num_cpus": 0, "max_restarts": 0, "max_task_retries": -1, "scheduling_strategy": here}
    return ray.remote(Relay).options(**options).remote()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
