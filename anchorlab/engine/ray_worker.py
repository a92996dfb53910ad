"""The part of the Ray launcher that runs on the cluster's machines; needs the `ray` extra."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

import ray
import torch

from anchorlab.errors import Interrupted

from .locks import call_patiently
from .memory import allow_many_open_files, keep_freed_memory
from .monitor import Monitor, Progress

Item = TypeVar("Item")

_EXCHANGE_SECONDS = 0.5
_LOCK_SECONDS = 120.0  # network file systems keep the locks of a lost machine for about 90


class Attempt(NamedTuple):
    """The number of an item, and how many attempts at it there were before."""

    number: int
    earlier: int


def train_item(
    relay: Any, attempt: Attempt, work: Callable[[Item, Monitor], None], item: Item, folder: str, gpus: float
) -> None:
    """The Ray task: call `work` in `folder` (if this machine has it) with a monitor connected to the driver."""
    if Path(folder).is_dir():
        os.chdir(folder)
    if not gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # not every version of Ray hides the GPUs from those who asked for none
        torch.set_num_threads(1)
    keep_freed_memory()
    allow_many_open_files()
    with _Link(relay, attempt) as monitor:
        if monitor.should_stop():
            raise Interrupted("stopped before everything had begun; run the same again to continue")
        call_patiently(work, item, monitor, patience=_LOCK_SECONDS if attempt.earlier else 0.0)


class _Link:
    """Carries progress to the driver and its wish to stop back.

    In a thread of its own: while the main thread of a task waits for an answer, Ray lends its processor to other tasks.
    """

    def __init__(self, relay: Any, attempt: Attempt):
        self._relay = relay
        self._attempt = attempt
        self._news: SimpleQueue[Progress] = SimpleQueue()
        self._stop, self._first_answer, self._done = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._exchange_until_done, daemon=True)

    def __enter__(self) -> Monitor:
        self._thread.start()
        self._first_answer.wait()
        return Monitor(self._news.put, self._stop.is_set)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _exchange_until_done(self) -> None:
        last = False
        while not last:
            last = self._done.wait(_EXCHANGE_SECONDS if self._first_answer.is_set() else 0)
            if self._exchange():
                self._stop.set()
            self._first_answer.set()

    def _exchange(self) -> bool:
        try:
            return bool(ray.get(self._relay.exchange.remote(tuple(self._attempt), self._newest())))
        except ray.exceptions.RayError:
            return True  # the driver has gone

    def _newest(self) -> list[tuple[Any, ...]]:
        newest: dict[str, tuple[Any, ...]] = {}
        while True:
            try:
                progress = self._news.get_nowait()
            except Empty:
                return list(newest.values())
            newest[progress.member] = tuple(progress)
