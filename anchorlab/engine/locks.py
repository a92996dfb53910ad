"""A lock on a folder, so that two processes never write to the same one."""

import errno
import fcntl
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from anchorlab.errors import FolderInUse, InputError

from .monitor import Monitor

Item = TypeVar("Item")

LOCK = ".lock"
_RETRY_SECONDS = 0.5


class FolderLock:
    """Keeps other processes out of a folder until it is released or this process ends, in whatever way.

    The lock is on a file in the folder, not on the folder itself, so that it holds between machines on a network file
    system too. The file stays, unless nothing else was written.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._descriptor: int | None = None

    def acquire(self, who: str) -> None:
        """Make the folder if needed and lock it; `who` says what else would be at work there.

        Raises FolderInUse if another process has the lock, InputError if the folder cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(self._descriptor).st_ino != (self.folder / LOCK).stat().st_ino:
                raise BlockingIOError  # its holder has just removed it, and another process may have made a new one
        except BlockingIOError:
            self._close()
            raise FolderInUse(f"out={str(self.folder)!r}: another {who} in this folder; let it end first") from None
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise
            raise InputError(f"out={str(self.folder)!r}: cannot be used ({error.strerror})") from None

    def release(self) -> None:
        """Let others in; a folder to which nothing was written goes away."""
        if self._descriptor is None:
            return
        with suppress(OSError):
            if os.listdir(self.folder) == [LOCK]:
                (self.folder / LOCK).unlink()
                self.folder.rmdir()
        self._close()

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def call_patiently(work: Callable[[Item, Monitor], None], item: Item, monitor: Monitor, *, patience: float) -> None:
    """Call `work`, for `patience` seconds again and again while its folder is locked by a process that is dying."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return work(item, monitor)
        except FolderInUse:
            if time.monotonic() > deadline or monitor.should_stop():
                raise
        time.sleep(_RETRY_SECONDS)
