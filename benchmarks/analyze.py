"""What explaining a run costs: time of `anchorlab analyze` and `anchorlab report`, and memory as rows grow.

    python benchmarks/analyze.py [RUN] [--rounds 3] [--out benchmarks/results/analyze.json]

RUN is a trained run, such as `runs/demo/reasoning` of the main job; without it the main job is trained first. Every
command runs in a process of its own, importing included. The peer of streamed head scores is the same scores of all
attention weights at once.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from machine import report

from anchorlab import models, run_contrast, tasks
from anchorlab.analysis import causal, record_attention, score_heads

_LENGTH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", type=int, nargs=2, metavar=("ROWS", "BATCH"), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.memory:
        print(json.dumps(_memory(*options.memory)))
        return
    with tempfile.TemporaryDirectory() as folder:
        run = options.run or run_contrast("composite", Path(folder) / "demo").runs[-1].folder
        commands = {
            "analyze": ["analyze", str(run), "--out", f"{folder}/analysis"],
            "report": ["report", str(run), "--out", f"{folder}/report.html"],
        }
        times = {name: [_seconds(arguments) for _ in range(options.rounds)] for name, arguments in commands.items()}
        size = Path(f"{folder}/report.html").stat().st_size
    report(
        {
            "seconds": {name: {"median": statistics.median(found), "all": found} for name, found in times.items()},
            "report_bytes": size,
            "memory": [_in_a_process(rows, batch) for rows in (1000, 4000) for batch in (0, rows)],
        },
        options.out,
    )


def _seconds(arguments: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-P", "-m", "anchorlab", *arguments], check=True, capture_output=True)
    return time.perf_counter() - began


def _in_a_process(rows: int, batch: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--memory", str(rows), str(batch)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def _memory(rows: int, batch: int) -> dict[str, float | str]:
    """Peak memory of scoring a GPT-2 of 4 layers and 8 heads on rows of 64 tokens, above what it had before."""
    task = tasks.create("identity", length=_LENGTH)
    model = models.build("gpt2", task.vocabulary.size, _LENGTH, layers=4, heads=8, width=64)
    tokens = task.sample("train", rows, 0).tokens

    def score(some: np.ndarray) -> None:
        score_heads(lambda: record_attention(model, some, batch=batch or None), visible=causal(_LENGTH))

    score(tokens[:8])
    before = _peak_mib()
    began = time.perf_counter()
    score(tokens)
    seconds = time.perf_counter() - began
    weights = rows * 4 * 8 * _LENGTH**2 * np.dtype(np.float32).itemsize / 2**20
    return {
        "rows": rows,
        "batch": batch or "default",
        "attention_weights_mib": weights,
        "peak_mib_above_before": _peak_mib() - before,
        "seconds": seconds,
        "threads": torch.get_num_threads(),
    }


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


if __name__ == "__main__":
    main()
