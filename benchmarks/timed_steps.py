"""Trains members of a sweep as usual, and writes beside each run when it began and how long what took."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anchorlab.engine import Monitor, Population
from anchorlab.experiments import Experiment
from anchorlab.experiments.sweeps import _train

FILE = "times.json"


def train(members: Sequence[tuple[Experiment, Path]], monitor: Monitor) -> None:
    """What a worker of `sweep` does; the times of a population count for each of its members in equal parts."""
    start, seconds, advance = time.time(), 0.0, Population.advance

    def timed(population: Population, first: int, steps: int) -> Any:
        nonlocal seconds
        began = time.perf_counter()
        result = advance(population, first, steps)
        seconds += time.perf_counter() - began
        return result

    Population.advance = timed  # type: ignore[method-assign]
    try:
        _train(members, monitor)
    finally:
        Population.advance = advance  # type: ignore[method-assign]
    shares = {"in_steps": seconds / len(members), "in_all": (time.time() - start) / len(members)}
    for _, folder in members:
        (folder / FILE).write_text(json.dumps({"start": start, **shares}))
