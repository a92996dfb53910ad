"""Rows per second of the composite task on one core, in memory and to Parquet: medians of several runs.

OMP_NUM_THREADS=1 python benchmarks/generation.py [--rows 1000000] [--repeats 5] [--out results/generation.json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine

from anchorlab import tasks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="composite")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "generation.json")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    results = measure(options.task, options.rows, options.repeats)
    print(f"{'what':<28}{'rows/s, median':>16}{'slowest':>14}{'fastest':>14}")
    for name, rates in results.items():
        print(f"{name:<28}{statistics.median(rates):>16,.0f}{min(rates):>14,.0f}{max(rates):>14,.0f}")
    record = {
        "task": options.task,
        "rows": options.rows,
        "rows_per_second": results,
        "medians": {name: statistics.median(rates) for name, rates in results.items()},
        "machine": machine.describe(),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=2) + "\n")
    print(f"saved: {options.out}")


def measure(name: str, rows: int, repeats: int) -> dict[str, list[float]]:
    """Return rows per second of every way, measured in turn so that a change of the machine's load hits all alike."""
    task = tasks.create(name)
    ways: dict[str, Callable[[int], Any]] = {
        "sample (in memory)": lambda seed: task.sample("train", rows, seed),
        "generate (Parquet)": lambda seed: _generate(task, rows, seed),
        "solve (oracle)": lambda seed: task.solve(fixed.tokens),
    }
    fixed = task.sample("train", rows, 0)
    for way in ways.values():
        way(0)
    rates: dict[str, list[float]] = {label: [] for label in ways}
    for repeat in range(repeats):
        for label, way in ways.items():
            begin = time.perf_counter()
            way(repeat)
            rates[label].append(rows / (time.perf_counter() - begin))
    return rates


def _generate(task: tasks.Task, rows: int, seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        task.generate(folder, {"train": rows}, seed)


if __name__ == "__main__":
    main()
