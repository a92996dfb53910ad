"""SIGINT and SIGTERM noted instead of obeyed, so that work can stop at a place from which it can continue."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class NotedInterrupts:
    """Whether an interrupt has come; a second one acts at once, the last checkpoint then stands."""

    def __init__(self) -> None:
        self.noted = False

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Note interrupts while the block runs. Only the main thread gets any."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def note(number: int, frame: FrameType | None) -> None:
            self.noted = True
            signal.signal(number, before[signal.Signals(number)])

        for number in before:
            signal.signal(number, note)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
