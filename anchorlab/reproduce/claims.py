"""Claims and how measured numbers decide them: holds, fails or undecided, by a rule that is the same for all."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from anchorlab.errors import InputError

Verdict = Literal["holds", "fails", "undecided"]


class Value(NamedTuple):
    """One measured number of one seed; NaN where it could not be measured, infinite where it was never reached."""

    seed: int
    quantity: str
    value: float


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What a claim says of one measured quantity: a seed meets it with a value of `at_least` .. `at_most`.

    `text` says in words what the quantity is, `source` what the source reports of it. Raises InputError without any
    limit.
    """

    quantity: str
    text: str
    at_least: float | None = None
    at_most: float | None = None
    source: str = ""

    def __post_init__(self) -> None:
        if self.at_least is None and self.at_most is None:
            raise InputError(f"condition {self.quantity!r}: needs at_least or at_most, or nothing can decide it")

    def met_by(self, value: float) -> bool:
        """Whether a value is within the limits."""
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    @property
    def limits(self) -> str:
        """The limits in signs."""
        low = [] if self.at_least is None else [f"≥ {self.at_least:g}"]
        return " and ".join(low + ([] if self.at_most is None else [f"≤ {self.at_most:g}"]))


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a source reports, as conditions on measured quantities that all have to hold.

    A condition holds if at least the share `agreement` of the measured seeds meets it, fails if at least this share
    does not, and is undecided in between. It is undecided, too, if fewer than `seeds` seeds have a value, or less than
    the share `agreement` of all seeds.
    """

    text: str
    conditions: tuple[Condition, ...]
    seeds: int = 3
    agreement: float = 0.8


@dataclass(frozen=True)
class ConditionDecision:
    """One condition beside the values of all seeds that were measured; `missing` seeds have none."""

    condition: Condition
    values: tuple[float, ...]
    verdict: Verdict
    missing: int = 0

    @property
    def mean(self) -> float:
        """Mean over seeds; NaN without any."""
        return sum(self.values) / len(self.values) if self.values else math.nan

    @property
    def met(self) -> int:
        """How many seeds meet the condition."""
        return sum(map(self.condition.met_by, self.values))

    @property
    def unmeasured(self) -> str:
        """What stands behind the number of seeds: how many have no value; nothing if all have one."""
        return f", {self.missing} not measured" if self.missing else ""

    def summary(self) -> str:
        """Mean and range over seeds; the range alone where infinities of both signs leave no mean."""
        if not self.values:
            return "not measured"
        low, high = min(self.values), max(self.values)
        spread = f"{_number(low)} to {_number(high)}"
        if math.isnan(self.mean):
            return spread
        return _number(self.mean) if low == high else f"{_number(self.mean)} ({spread})"

    def text(self) -> str:
        """What was measured, and how many seeds meet the limits."""
        seeds = f"{self.met} of {len(self.values)} seeds{self.unmeasured}"
        return f"{self.condition.text}: {self.summary()}, wanted {self.condition.limits}: {seeds}"


@dataclass(frozen=True)
class Decision:
    """The verdict on a claim and on each of its conditions."""

    verdict: Verdict
    conditions: tuple[ConditionDecision, ...]


def decide(claim: Claim, values: Sequence[Value]) -> Decision:
    """The verdict that the measured values give.

    A claim fails if one of its conditions fails; otherwise it is undecided if one is undecided.

    Raises:
        InputError: a seed has two values of one quantity.
    """
    found = tuple(_decide(claim, condition, values) for condition in claim.conditions)
    verdicts = {one.verdict for one in found}
    overall: Verdict = "fails" if "fails" in verdicts else "undecided" if "undecided" in verdicts else "holds"
    return Decision(overall, found)


def _decide(claim: Claim, condition: Condition, values: Sequence[Value]) -> ConditionDecision:
    by_seed = [(one.seed, one.value) for one in values if one.quantity == condition.quantity]
    if len(dict(by_seed)) < len(by_seed):
        raise InputError(f"quantity {condition.quantity!r}: a seed has two values of it")
    measured = tuple(value for _, value in sorted(by_seed) if not math.isnan(value))
    seeds = len({one.seed for one in values})
    met, wanted = sum(map(condition.met_by, measured)), claim.agreement * len(measured)
    verdict: Verdict = "undecided"
    if len(measured) >= max(claim.seeds, claim.agreement * seeds):
        verdict = "holds" if met >= wanted else "fails" if len(measured) - met >= wanted else "undecided"
    return ConditionDecision(condition, measured, verdict, missing=seeds - len(measured))


def _number(value: float) -> str:
    return "never" if value == math.inf else f"{value:.3g}"
