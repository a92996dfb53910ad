"""The pool placement: one single-threaded process per core, each training one item of work."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from pathlib import Path
from queue import Empty
from typing import Any, TypeVar

import torch

from .store import Run
from .training import Progress

Item = TypeVar("Item")
OnProgress = Callable[[Progress], None]

_POLL_SECONDS = 0.2
_channel: Any = None
_stop: Any = None
_parent: int = 0


def train_in_processes(
    work: Callable[[Item, OnProgress], Path],
    items: Sequence[Item],
    *,
    processes: int | None = None,
    on_progress: OnProgress = lambda progress: None,
) -> list[Run]:
    """Call `work(item, on_progress)` for every item in a pool of processes with one thread each; return the runs.

    `work` must be importable (a module-level function) and return the run folder that it wrote. The number of processes
    defaults to the cores of this machine. An interrupt makes every worker save a checkpoint; the first exception of a
    worker is raised here after the others have stopped in the same way.
    """
    context = multiprocessing.get_context("spawn")
    channel, stop = context.Queue(), context.Event()
    count = min(len(items), processes or len(os.sched_getaffinity(0)))
    with ProcessPoolExecutor(count, context, _start_worker, (channel, stop, os.getpid())) as pool:
        futures = [pool.submit(_work, work, item) for item in items]
        try:
            pending = set(futures)
            while pending:
                done, pending = wait(pending, _POLL_SECONDS, FIRST_EXCEPTION)
                _forward(channel, on_progress)
                for future in done:
                    future.result()
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        return [Run.open(future.result()) for future in futures]


def _forward(channel: Any, on_progress: OnProgress) -> None:
    while True:
        try:
            on_progress(channel.get_nowait())
        except Empty:
            return


def _start_worker(channel: Any, stop: Any, parent: int) -> None:
    global _channel, _stop, _parent
    _channel, _stop, _parent = channel, stop, parent
    torch.set_num_threads(1)
    # An interrupt of the terminal reaches every process; the parent's `stop` is the one that counts.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _work(work: Callable[[Item, OnProgress], Path], item: Item) -> Path:
    return work(item, _report)


def _report(progress: Progress) -> None:
    # Without its parent a worker would go on writing to a folder that the user believes to be free.
    if _stop.is_set() or os.getppid() != _parent:
        signal.raise_signal(signal.SIGTERM)
    else:
        _channel.put(progress)
