"""What a sweep spends outside optimizer steps: start, placement, data, evaluation at every percent, checkpoints.

Every core counts from the start of the command to the end of its last member; that some have nothing left to do while
the last members end is told apart.

    python benchmarks/sweep_overhead.py [--members 6] [--steps 10000] [--out benchmarks/results/sweep_overhead.json]
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import timed_steps
from machine import report
from setups import SIZES

from anchorlab import grid, sweep
from anchorlab.experiments import sweeps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("T", "S"), default="T")
    parser.add_argument("--members", type=int, default=6)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    batch = SIZES[options.size]["batch"]
    shape = {name: value for name, value in SIZES[options.size].items() if name != "batch"}
    looking = {"evaluate_every": max(1, options.steps // 100), "test_rows": 1000, "ood_rows": 1000}
    settings = {"task": "composite", "model": "gpt2", "layers": 2, "heads": 1, **shape, "batch_size": batch}
    members = grid(
        {**settings, **looking, "evaluation_rows": 1000, "steps": options.steps, "device": "cpu"},
        {"initialization_rate": [0.3 + 0.1 * index for index in range(options.members)]},
    )
    sweeps._train = timed_steps.train
    with tempfile.TemporaryDirectory() as folder:
        began = time.time()
        runs = sweep(members, Path(folder) / "sweep", progress=False)
        wall = time.time() - began
        times = [json.loads((run.folder / timed_steps.FILE).read_text()) for run in runs]
        evaluations = int(runs[0].metrics().step.nunique())
    start = min(one["start"] for one in times) - began
    in_steps, in_members = (sum(one[name] for one in times) for name in ("in_steps", "in_all"))
    result = {
        "size": options.size,
        "members": options.members,
        "steps": options.steps,
        "evaluations": evaluations,
        "rows_per_evaluation": 4000,
        "cores": cores,
        "wall_seconds": wall,
        "seconds_until_the_first_member": start,
        "seconds_in_members": in_members,
        "seconds_in_steps": in_steps,
        "share_outside_steps": 1 - in_steps / (in_members + cores * start),
        "share_of_idle_cores": 1 - (in_members + cores * start) / (cores * wall),
    }
    report(result, options.out)


if __name__ == "__main__":
    main()
