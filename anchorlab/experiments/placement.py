"""How many members train together: measured on the members themselves, before a sweep begins."""

import json
import resource
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch

from anchorlab.engine import Monitor, Population
from anchorlab.engine.memory import available_memory, is_out_of_memory
from anchorlab.files import replacing

from .experiment import Experiment
from .populations import assemble, device_of

Placement = Literal["auto", "pool", "stacked"]

_SECONDS = 0.7  # of steps per size
_GROWTH = 4
_MEMORY_SHARE = 0.8
_UNTIL_CAPTURED = 5  # steps
_SIZES_ON_A_GPU = (1, 2)  # enough to tell what one more member needs
_WORTHWHILE = 0.87  # smaller populations spread better over the cores, so larger ones must be clearly faster


@dataclass(frozen=True)
class Speed:
    """What a population of so many members measured in one process."""

    members: int
    seconds_per_step: float
    bytes_per_member: float

    @property
    def rate(self) -> float:
        """Member steps per second."""
        return self.members / self.seconds_per_step


@dataclass(frozen=True)
class Measured:
    """The speeds on one device, and the memory that it had left before."""

    device: str
    available_bytes: int
    speeds: tuple[Speed, ...]

    def largest(self, processes: int) -> int:
        """The largest population of which one fits into memory for every process."""
        share = _MEMORY_SHARE * self.available_bytes / (1 if self.device == "cuda" else processes)
        return max(1, int(share / max(1.0, self.speeds[-1].bytes_per_member)))

    def best(self, limit: int, processes: int) -> int:
        """Members in a population, at most `limit`: as many as memory allows on a GPU, on a CPU the fastest size.

        A larger population must be faster by 15 % than a smaller one.
        """
        limit = max(1, min(limit, self.largest(processes)))
        if self.device == "cuda":
            return limit
        fitting = [speed for speed in self.speeds if speed.members <= limit]
        enough = _WORTHWHILE * max(speed.rate for speed in fitting)
        return next(speed.members for speed in fitting if speed.rate >= enough)

    def summary(self) -> str:
        """The speeds in one line."""
        shown = (f"{speed.members} together {speed.rate:.0f}" for speed in self.speeds)
        return f"member steps per second in one process: {', '.join(shown)}"


def measure(item: tuple[Sequence[Experiment], int, Path], monitor: Monitor) -> None:
    """Time populations of growing size made of the given members, up to a limit, and write the numbers to a file.

    On a CPU it stops growing when larger populations are no faster.
    """
    experiments, limit, path = item
    device = device_of(experiments[0])
    available = available_memory(device)
    speeds: list[Speed] = []
    for size in _sizes(device, min(limit, len(experiments))):
        try:
            speeds.append(_time(experiments[:size], device, smaller=speeds[-1].members if speeds else 0))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or not speeds:
                raise
            break
        if len(speeds) > 1 and device.type == "cpu" and speeds[-1].rate < 1.05 * max(s.rate for s in speeds[:-1]):
            break
    with replacing(path) as temporary:
        found = {"device": device.type, "available_bytes": available, "speeds": [asdict(speed) for speed in speeds]}
        temporary.write_text(json.dumps(found))


def read_measured(path: Path) -> Measured:
    """What `measure` wrote."""
    found = json.loads(path.read_text())
    speeds = tuple(Speed(**speed) for speed in found["speeds"])
    return Measured(found["device"], found["available_bytes"], speeds)


def _sizes(device: torch.device, limit: int) -> list[int]:
    if device.type == "cuda":
        return [size for size in _SIZES_ON_A_GPU if size <= limit]
    sizes = [1]
    while sizes[-1] < limit:
        sizes.append(min(limit, sizes[-1] * _GROWTH))
    return sizes


def _time(experiments: Sequence[Experiment], device: torch.device, *, smaller: int) -> Speed:
    """The speed of these members; `smaller` is the size of the population timed before, which tells the growth."""
    before = _peak(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    assembly = assemble(experiments)
    assembly.population.advance(0, min(_UNTIL_CAPTURED if device.type == "cuda" else 1, assembly.plan.steps))
    assembly.population.evaluate()
    needed = max(0, _peak(device) - before)
    steps = min(2, assembly.plan.steps)
    began = time.perf_counter()
    while (elapsed := _advance(assembly.population, steps, began)) < _SECONDS and 2 * steps <= assembly.plan.steps:
        steps, began = 2 * steps, time.perf_counter()
    return Speed(len(experiments), elapsed / steps, needed / (len(experiments) - smaller))


def _advance(population: Population, steps: int, began: float) -> float:
    population.advance(0, steps)
    return time.perf_counter() - began


def _peak(device: torch.device) -> int:
    """The most memory used: by the process so far, on a GPU since the peak was last forgotten."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
