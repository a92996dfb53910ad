"""Populations on one GPU beside the Hugging Face Trainer and beside members trained one after another.

    python benchmarks/gpu.py [--out benchmarks/results/gpu.json]

`--device cpu --quick` runs the same code with tiny sizes on a CPU.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from machine import report
from setups import SIZES, build, plain_step, population, seconds
from trainer_times import trainer_times

_MATMUL = 8192


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def member_steps_per_second(size: str, members: int, precision: str, device: str, steps: int, rounds: int) -> float:
    stacked = population(size, members, precision, device)
    stacked.advance(0, 10)
    times = []
    for turn in range(rounds):
        wait(device)
        times.append(seconds(lambda turn=turn: stacked.advance(10 + turn * steps, steps), 1))
    return members * steps / statistics.median(times)


def eager_steps_per_second(size: str, precision: str, device: str, steps: int) -> float:
    step = plain_step(size, precision, device)
    for _ in range(10):
        step()
    wait(device)
    began = time.perf_counter()
    for _ in range(steps):
        step()
    wait(device)
    return steps / (time.perf_counter() - began)


def matmul_rate(device: str, width: int) -> float:
    """Floating-point operations per second of a large bfloat16 product."""
    a, b = (torch.randn(width, width, device=device, dtype=torch.bfloat16) for _ in range(2))

    def several() -> None:
        for _ in range(10):
            a @ b
        wait(device)

    several()
    return 10 * 2 * width**3 / seconds(several, 5)


def full_step_operations(size: str) -> float:
    """Floating-point operations of one step of the whole module: six per matrix entry and token."""
    matrices = sum(
        p.numel() for name, p in build(size).named_parameters() if p.ndim == 2 and "transformer.w" not in name
    )
    return 6 * matrices * 9 * SIZES[size]["batch"]


def scaling(size: str, counts: list[int], device: str, steps: int) -> list[dict[str, Any]]:
    """Time and memory of populations of growing size."""
    rows = []
    for members in counts:
        if device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        rate = member_steps_per_second(size, members, "bfloat16", device, steps, 3)
        peak = torch.cuda.max_memory_allocated() if device == "cuda" else None
        rows.append({"members": members, "step_ms": 1000 * members / rate, "peak_bytes": peak})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run?")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    device, quick = options.device, options.quick
    large, small = ("small", "small") if quick else ("S", "T")
    many, most = (2, 3) if quick else (64, 198)
    steps = 2 if quick else 20

    trainer = trainer_times(large, steps + 5, precision="bfloat16", device=device)
    trainer_rate = 1 / statistics.median(trainer[5:])
    stacked = member_steps_per_second(large, many, "bfloat16", device, steps, 3)
    peak = matmul_rate(device, 256 if quick else _MATMUL)
    one_by_one = eager_steps_per_second(small, "float32", device, steps)
    together = member_steps_per_second(small, most, "float32", device, steps, 3)
    counts = [1, 2] if quick else [16, 32, 64, 128]
    result = {
        "members_of_S": many,
        "member_steps_per_second": stacked,
        "trainer_steps_per_second": trainer_rate,
        "ratio": stacked / trainer_rate,
        "matmul_tflops": peak / 1e12,
        "share_of_matmul_rate_by_full_step": stacked * full_step_operations(large) / peak,
        "members_of_T": most,
        "T_member_steps_per_second": together,
        "T_eager_steps_per_second": one_by_one,
        "T_ratio": together / one_by_one,
        "scaling_of_S": scaling(large, counts, device, steps),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
    }
    report(result, options.out)


if __name__ == "__main__":
    main()
