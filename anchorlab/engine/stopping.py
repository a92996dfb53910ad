"""When a member may stop before the last step: rules that read its history after every evaluation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from .store import MetricRow


class StoppingRule(Protocol):
    """Decides from a member's measurements alone, so that a resumed training decides the same."""

    def reason(self, history: Sequence[MetricRow]) -> str | None:
        """Why the member should stop now, or None."""
        ...


@dataclass(frozen=True)
class Fitted:
    """Stops when the training accuracy is 1 over all rows, hence in every group."""

    def reason(self, history: Sequence[MetricRow]) -> str | None:
        """Looks at the newest evaluation."""
        return "all training rows are answered" if _newest(history).get(("train", "accuracy")) == 1.0 else None


@dataclass(frozen=True)
class TargetAccuracy:
    """Stops when the accuracy of every given split has reached its target."""

    targets: Mapping[str, float]

    def reason(self, history: Sequence[MetricRow]) -> str | None:
        """Looks at the newest evaluation; a split that is not measured never reaches its target."""
        newest = _newest(history)
        reached = all(newest.get((split, "accuracy"), -1.0) >= target for split, target in self.targets.items())
        shown = ", ".join(f"{split} {target:g}" for split, target in self.targets.items())
        return f"accuracy reached {shown}" if reached else None


@dataclass(frozen=True)
class TargetLoss:
    """Stops when the loss over all rows of `split` is at most `target`."""

    target: float
    split: str = "train"

    def reason(self, history: Sequence[MetricRow]) -> str | None:
        """Looks at the newest evaluation; a split that is not measured never reaches its target."""
        loss = _newest(history).get((self.split, "loss"), float("inf"))
        return f"loss on {self.split} reached {self.target:g}" if loss <= self.target else None


@dataclass(frozen=True)
class Plateau:
    """Stops when the best training loss of the last `evaluations` is not 1 % below the best before them."""

    evaluations: int

    def reason(self, history: Sequence[MetricRow]) -> str | None:
        """Looks at the training loss over all rows at every evaluation."""
        losses = [row.value for row in history if (row.split, row.group, row.metric) == ("train", "", "loss")]
        before, recent = losses[: -self.evaluations], losses[-self.evaluations :]
        if not before or min(recent) <= 0.99 * min(before):
            return None
        return f"the training loss did not fall by 1 % in {self.evaluations} evaluations"


def _newest(history: Sequence[MetricRow]) -> dict[tuple[str, str], float]:
    last = history[-1].step if history else None
    return {(row.split, row.metric): row.value for row in history if row.step == last and not row.group}
