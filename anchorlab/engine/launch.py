"""The local launcher: one single-threaded process per core, or one process per GPU, each training one population."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from queue import Empty
from typing import Any, TypeVar

import torch

from anchorlab.errors import Interrupted

from .memory import allow_many_open_files, keep_freed_memory
from .monitor import Monitor, Progress

Item = TypeVar("Item")

_POLL_SECONDS = 0.2
_monitor = Monitor()
_busy = threading.Lock()


def train_in_processes(
    work: Callable[[Item, Monitor], None],
    items: Sequence[Item],
    *,
    processes: int | None = None,
    monitor: Monitor = Monitor(),  # noqa: B008 - it has no state
) -> None:
    """Call `work(item, monitor)` for every item in a pool of processes with one thread each.

    `work` must be importable (a module-level function). The number of processes defaults to the cores of this machine;
    on a machine with GPUs, process k has GPU k (modulo their number) as its current one. When this process is
    interrupted or a worker fails, the others save a checkpoint and stop before the error is raised here. Raises
    Interrupted if a worker was killed.
    """
    if not items:
        return
    # Workers are forked from a server that has imported everything but done nothing: they begin at once, and safely.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([work.__module__])
    channel, stop, numbers = context.Queue(), context.Event(), context.Queue()
    count = min(len(items), processes or len(os.sched_getaffinity(0)))
    for number in range(count):
        numbers.put(number)
    with ProcessPoolExecutor(count, context, _start_worker, (channel, stop, numbers)) as pool:
        with _interrupts_kept_from_children(), _main_module_kept_from_children(), _current_folder_not_imported():
            futures = [pool.submit(_work, work, item) for item in items]
        try:
            pending = set(futures)
            while pending:
                done, pending = wait(pending, _POLL_SECONDS, FIRST_EXCEPTION)
                _forward(channel, monitor)
                for future in done:
                    future.result()
                if monitor.should_stop():
                    stop.set()
        except BrokenProcessPool:
            raise Interrupted("a training process was killed; run the same again to continue") from None
        except BaseException:
            stop.set()
            for future in futures:
                future.cancel()  # a shutdown that does not wait would leave the pool's thread to the interpreter's exit
            while not all(future.done() for future in futures):
                wait(futures, _POLL_SECONDS)
                _forward(channel, monitor)  # a full channel would keep the workers from ending
            raise


def _forward(channel: Any, monitor: Monitor) -> None:
    while True:
        try:
            monitor.report(channel.get_nowait())
        except Empty:
            return


@contextmanager
def _interrupts_kept_from_children() -> Iterator[None]:
    # The terminal sends an interrupt to every process; only this one decides, and tells the workers by `stop`.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _main_module_kept_from_children() -> Iterator[None]:
    # Workers need nothing of the user's script, and importing it would run it again unless it guards against that.
    main = sys.modules["__main__"]
    hidden: dict[str, Any] = {name: vars(main).pop(name) for name in ("__spec__", "__file__") if name in vars(main)}
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update(hidden)


@contextmanager
def _current_folder_not_imported() -> Iterator[None]:
    # `python -c`, which starts the server, looks for modules in the current folder before those that are installed.
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before


def _start_worker(channel: Any, stop: Any, numbers: Any) -> None:
    global _monitor  # noqa: PLW0603 - a process pool has no other way to hand this to its workers
    parent = multiprocessing.parent_process()
    assert parent is not None
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel.cancel_join_thread()  # the last reports must not keep this process from ending
    allow_many_open_files()
    torch.set_num_threads(1)
    keep_freed_memory()
    if torch.cuda.is_available():
        torch.cuda.set_device(numbers.get() % torch.cuda.device_count())

    def report(progress: Progress) -> None:
        channel.put(progress)

    def should_stop() -> bool:
        return bool(stop.is_set()) or not parent.is_alive()

    def leave_with_parent() -> None:
        parent.join()
        with _busy:  # the item at hand sees that the parent has gone, and saves its state first
            os._exit(1)

    _monitor = Monitor(report, should_stop)
    threading.Thread(target=leave_with_parent, daemon=True).start()


def _work(work: Callable[[Item, Monitor], None], item: Item) -> None:
    with _busy:
        work(item, _monitor)
