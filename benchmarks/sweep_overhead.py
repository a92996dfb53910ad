"""What a training spends outside its steps: evaluation at every percent, checkpoints, metrics, the model at the end.

python benchmarks/sweep_overhead.py [--size T] [--steps 3000] [--out benchmarks/results/sweep_overhead.json]
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from machine import describe
from setups import SIZES

from anchorlab import Experiment, train
from anchorlab.engine import Population


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("T", "S"), default="T")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    shape = dict(SIZES[options.size])
    experiment = Experiment(
        task="composite",
        model="gpt2",
        layers=2,
        heads=1,
        batch_size=shape.pop("batch"),
        steps=options.steps,
        evaluate_every=max(1, options.steps // 100),
        test_rows=1000,
        ood_rows=1000,
        evaluation_rows=1000,
        device="cpu",
        **shape,
    )
    in_steps = 0.0
    advance = Population.advance

    def timed(population: Population, first: int, steps: int) -> Any:
        nonlocal in_steps
        began = time.perf_counter()
        result = advance(population, first, steps)
        in_steps += time.perf_counter() - began
        return result

    Population.advance = timed  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        run = train(experiment, Path(folder) / "run", progress=False)
        total = time.perf_counter() - began
        evaluations = int(run.metrics().step.nunique())
    result = {
        "size": options.size,
        "steps": options.steps,
        "evaluations": evaluations,
        "rows_per_evaluation": 4000,
        "seconds": total,
        "seconds_in_steps": in_steps,
        "share_outside_steps": 1 - in_steps / total,
        "machine": describe(),
    }
    print(json.dumps(result, indent=2))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
