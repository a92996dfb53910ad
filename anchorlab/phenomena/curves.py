"""What the curve of an error or a loss over the steps shows."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

_FLAT = 0.1  # a loss that changes more slowly than t^±0.1
_PLATEAU = math.log(1.5)  # in log t: a plateau lasts until half as many steps again


def settled_at(table: pd.DataFrame, limit: float) -> float:
    """The step from which on `error` (by `step`) is at most `limit` to the end; infinite if it is above at the end.

    NaN if an error is: nothing is known of it.

    Between two measured steps it is where the line through them reaches the limit. An output that sweeps over the right
    value on its way to another has not learned it.
    """
    ordered = table.sort_values("step")
    steps, errors = ordered["step"].to_numpy(dtype=float), ordered["error"].to_numpy(dtype=float)
    if np.isnan(errors).any():
        return math.nan
    above = (errors > limit).nonzero()[0]
    if not len(above):
        return float(steps[0])
    at = int(above[-1])
    if at == len(steps) - 1:
        return math.inf
    share = 1.0 if math.isinf(errors[at]) else (errors[at] - limit) / (errors[at] - errors[at + 1])
    return float(steps[at] + share * (steps[at + 1] - steps[at]))


def lateness(first: float, second: float) -> float:
    """How many times as late as `first` is `second`, two steps of `settled_at`; infinite if only `second` is never.

    NaN if both are never or one is unknown. A start that is right by chance counts as one step.
    """
    if math.isinf(first) and math.isinf(second):
        return math.nan
    return max(second, 1.0) / max(first, 1.0)


def plateaus(steps: Sequence[float], losses: Sequence[float]) -> int:
    """How many times the loss stops between falls: stretches of log t where it changes more slowly than t^±0.1.

    Each lasts until at least half as many steps again, after a faster fall and before one: neither the start of a
    training counts nor an end that may be one for good.
    """
    time, height = np.log(np.asarray(steps, dtype=float)), np.log(np.asarray(losses, dtype=float))
    change, limit = np.diff(height), _FLAT * np.diff(time)
    flat, falls = np.abs(change) < limit, change <= -limit
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat, [False]]).astype(int)))
    inner = [(start, end) for start, end in edges.reshape(-1, 2) if start > 0 and end < len(flat)]
    between = [(start, end) for start, end in inner if falls[start - 1] and falls[end]]
    return int(sum(time[end] - time[start] >= _PLATEAU for start, end in between))
