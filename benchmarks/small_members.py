"""Many tiny members: one stacked population beside the same step in a loop over members; one thread.

python benchmarks/small_members.py [--members 32] [--rounds 15] [--out benchmarks/results/small_members.json]
"""

import argparse
import statistics
from pathlib import Path

import torch
from machine import report
from setups import population, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=5, help="per round")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    together = population("small", options.members)
    alone = [population("small", 1) for _ in range(options.members)]

    def loop(start: int) -> None:
        for member in alone:
            member.advance(start, options.steps)

    stacked_times, loop_times = [], []
    together.advance(0, options.steps)
    loop(0)
    for turn in range(1, options.rounds + 1):
        start = turn * options.steps
        stacked_times.append(seconds(lambda start=start: together.advance(start, options.steps), 1) / options.steps)
        loop_times.append(seconds(lambda start=start: loop(start), 1) / options.steps)
    stacked, looped = statistics.median(stacked_times), statistics.median(loop_times)
    result = {
        "members": options.members,
        "stacked_ms": 1000 * stacked,
        "loop_ms": 1000 * looped,
        "ratio": looped / stacked,
    }
    report(result, options.out)


if __name__ == "__main__":
    main()
