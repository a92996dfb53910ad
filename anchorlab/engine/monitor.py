"""What connects a training to whoever watches it: progress goes out, the wish to stop comes in."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple


class Progress(NamedTuple):
    """The state of one member: steps done, batch loss, the newest accuracy of every split, and the run's status."""

    member: str
    step: int
    steps: int
    loss: float
    accuracies: dict[str, float]
    status: str = "running"


def _ignore(progress: Progress) -> None:
    pass


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Monitor:
    """`report` is called a few times a second; when `should_stop` answers True, training saves its state and stops."""

    report: Callable[[Progress], None] = _ignore
    should_stop: Callable[[], bool] = _never
