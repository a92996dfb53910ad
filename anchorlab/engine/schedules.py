"""Learning-rate schedules as the papers publish them, stepped per batch or per epoch."""

import math
from dataclasses import dataclass
from typing import Literal

Unit = Literal["step", "epoch"]


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up from `initial` to `peak`, then cosine to `final`, then constant `final`.

    `warmup` and `total` count units (optimizer steps or epochs). With `unit="epoch"` the rate is constant inside an
    epoch, as when a scheduler is stepped once per epoch. A constant rate is `Schedule.constant(rate)`.

    Sources: section 12.8.3 (2e-5 → 2e-4 over 400 epochs, back to 2e-5 at 4000); arXiv 2405.05409 and 2501.08537 use the
    same shape with other numbers.
    """

    initial: float
    peak: float
    final: float
    warmup: float
    total: float
    unit: Unit = "step"

    @classmethod
    def constant(cls, rate: float, unit: Unit = "step") -> "Schedule":
        """The same rate at every step; `unit` is what a window of weight decay counts."""
        return cls(rate, rate, rate, 0, 0, unit)

    @property
    def steady(self) -> bool:
        """Whether the rate is the same at every step."""
        return self.initial == self.peak == self.final

    def rate(self, step: int, steps_per_epoch: int) -> float:
        """Learning rate of optimizer step `step` (counted from 0)."""
        now = step if self.unit == "step" else step // steps_per_epoch
        if now < self.warmup:
            return self.initial + (self.peak - self.initial) * now / self.warmup
        if now >= self.total:
            return self.final
        progress = (now - self.warmup) / (self.total - self.warmup)
        return self.final + (self.peak - self.final) * 0.5 * (1 + math.cos(math.pi * progress))
