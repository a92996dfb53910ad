"""How fast each group of rows is learned, and which are slow: candidates for rows that break a rule (figure 13.19)."""

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from anchorlab.errors import InputError

_SCALED_MAD = 1.4826  # the median absolute deviation times this estimates the standard deviation of a normal


@dataclass(frozen=True)
class LearningSpeed:
    """The step at which each group of a split first reached an accuracy, and the groups that were slow.

    - `table` has one row a group, the fastest first: group; step (the first recorded one at or above the threshold;
      missing if there was none); below (the recorded step before it, missing for a group that starts above: the true
      step lies between the two, or beyond `below`); final_accuracy; slow;
    - `resolution` is the largest distance between two recorded steps: no step is known more exactly;
    - `last_step` is the last recorded step;
    - `slow_after` is the step beyond which a group is slow: `median_step` times the larger of `ratio` and
      exp(`deviations` scaled median absolute deviations of log step), both over the groups that are not slow, found by
      repetition. A group is slow if it was still below the threshold there, so that neither the resolution nor an early
      end of training makes one slow. Both are infinite, and no group is slow, if half of them never got there.
    """

    split: str
    threshold: float
    deviations: float
    ratio: float
    table: pd.DataFrame
    resolution: int
    last_step: int
    median_step: float
    slow_after: float

    @property
    def slow(self) -> list[str]:
        """The names of the slow groups."""
        return [str(name) for name in self.table.loc[self.table["slow"], "group"]]

    @property
    def undecided(self) -> list[str]:
        """The groups that never got there, in a training too short to tell whether they are slow."""
        return [str(name) for name in self.table.loc[self.table["step"].isna() & ~self.table["slow"], "group"]]


@dataclass(frozen=True)
class Detection:
    """How well the slow groups are those that are known to be noisy.

    `precision` is the share of the slow groups that are noisy (NaN if no group is slow), `recall` the share of the
    noisy groups that are slow.
    """

    noisy: tuple[str, ...]
    precision: float
    recall: float


def detection(slow: Collection[str], noisy: Collection[str]) -> Detection:
    """Compare the groups that were flagged as slow with the noisy ones; raises InputError without a noisy group."""
    if not noisy:
        raise InputError("noisy: names no group")
    found = len(set(slow) & set(noisy))
    precision = found / len(set(slow)) if slow else math.nan
    return Detection(tuple(noisy), precision, recall=found / len(set(noisy)))


def learning_speed(
    metrics: pd.DataFrame,
    *,
    split: str = "train",
    threshold: float = 0.6,
    deviations: float = 3.0,
    ratio: float = 1.5,
) -> LearningSpeed:
    """Learning speed by group from a recorded history (columns step, split, group, metric, value).

    What counts is the first step at or above the threshold, as in figure 13.19, and not the one from which accuracy
    stays there: training is not monotone, and a short late dip is no slow learning. Slow groups are outliers of log
    step by the median absolute deviation, with a smallest `ratio` to the median, since groups that learn alike can have
    no spread at all. Step 0 counts as 1.

    Raises:
        InputError: no accuracy by group was recorded on the split, or a setting is out of its range.
    """
    _check(threshold, deviations, ratio)
    history = _accuracy_by_group(metrics, split)
    recorded = history.index.to_numpy(int)
    above = (history >= threshold).to_numpy()
    reached = np.asarray(above.any(axis=0))
    first = np.where(reached, above.argmax(axis=0), len(recorded))
    step = np.where(reached, recorded[np.minimum(first, len(recorded) - 1)], np.inf)
    below = np.where(first > 0, recorded[first - 1], np.nan)
    median, slow_after = _limit(step, below, deviations, ratio)
    table = pd.DataFrame(
        {
            "group": history.columns.astype(str),
            "step": _steps(step, known=reached),
            "below": _steps(below, known=~np.isnan(below)),
            "final_accuracy": history.ffill().iloc[-1].to_numpy(float),
            "slow": below >= slow_after,
        }
    )
    return LearningSpeed(
        split=split,
        threshold=threshold,
        deviations=deviations,
        ratio=ratio,
        table=table.sort_values(["step", "group"], ignore_index=True),
        resolution=int(np.diff(recorded).max(initial=0)),
        last_step=int(recorded[-1]),
        median_step=median,
        slow_after=slow_after,
    )


def _check(threshold: float, deviations: float, ratio: float) -> None:
    if not 0 < threshold <= 1:
        raise InputError(f"threshold={threshold}: must be above 0 and at most 1, an accuracy")
    if not deviations > 0:
        raise InputError(f"deviations={deviations}: must be above 0")
    if not ratio >= 1:
        raise InputError(f"ratio={ratio}: must be at least 1")


def _accuracy_by_group(metrics: pd.DataFrame, split: str) -> pd.DataFrame:
    grouped = metrics[(metrics["metric"] == "accuracy") & (metrics["group"] != "")]
    rows = grouped[grouped["split"] == split]
    if rows.empty:
        known = ", ".join(sorted(set(grouped["split"]))) or "none"
        raise InputError(f"split={split!r}: no accuracy by group was recorded on it (splits with groups: {known})")
    return rows.pivot_table(index="step", columns="group", values="value", aggfunc="last")


def _limit(
    step: Float[np.ndarray, " group"], below: Float[np.ndarray, " group"], deviations: float, ratio: float
) -> tuple[float, float]:
    """The median step of the groups that are not slow, and the step beyond which the others are."""
    logs, slow = np.log(np.maximum(step, 1)), np.zeros(len(step), bool)
    while True:
        centre = float(np.median(logs[~slow]))
        if np.isinf(centre):
            return centre, centre
        spread = _SCALED_MAD * float(np.median(np.abs(logs[~slow] - centre)))
        limit = float(np.exp(centre + max(deviations * spread, np.log(ratio))))
        found = slow | (below >= limit)
        if (found == slow).all():
            return float(np.exp(centre)), limit
        slow = found


def _steps(values: Float[np.ndarray, " group"], *, known: Bool[np.ndarray, " group"]) -> "pd.Series[int]":
    return pd.Series(np.where(known, values, 0).astype(int), dtype="Int64").where(known)
