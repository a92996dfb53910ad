"""Trains members of a sweep as usual, and writes beside each run how long its optimizer steps took."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anchorlab.engine import Monitor, Population
from anchorlab.experiments import Experiment
from anchorlab.experiments.sweeps import _train

FILE = "step_seconds.json"


def train(members: Sequence[tuple[Experiment, Path]], monitor: Monitor) -> None:
    """What a worker of `sweep` does; the steps of a population count for each of its members in equal parts."""
    seconds, advance = 0.0, Population.advance

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
    for _, folder in members:
        (folder / FILE).write_text(json.dumps(seconds / len(members)))
