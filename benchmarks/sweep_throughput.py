"""Rows a second of a sweep, one single-threaded process a core, beside the Hugging Face Trainer on all cores.

Both take turns, each in fresh processes; the sweep's processes run at the same time, and so share memory bandwidth.

    python benchmarks/sweep_throughput.py [--size S|T] [--precision float32|bfloat16] [--rounds 3] [--out FILE]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from machine import report

HERE = Path(__file__).parent
STEPS = {"S": 8, "T": 150}
TRAINER_STEPS = {"S": 6, "T": 60}

ENGINE = """
import json, sys, time, torch
torch.set_num_threads(1)
from anchorlab.engine.memory import keep_freed_memory
keep_freed_memory()
from setups import population
from anchorlab.engine import Population
from setups import OPTIMIZER
size, precision, steps, compiled = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "compiled"
member = Population(population(size, 1).problem, [OPTIMIZER], precision=precision, compiled=compiled)
member.advance(0, 3)
print("ready", flush=True)
sys.stdin.readline()
times = []
for step in range(3, 3 + steps):
    began = time.perf_counter(); member.advance(step, 1); times.append(time.perf_counter() - began)
print(json.dumps(times))
"""
TRAINER = """
import json, sys, torch
torch.set_num_threads(int(sys.argv[4]))
from trainer_times import trainer_times
print("\\n" + json.dumps(trainer_times(sys.argv[1], int(sys.argv[3]), activation=sys.argv[2])[2:]))
"""


def start(program: str, *arguments: str, threads: int) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(HERE), "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-P", "-c", program, *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)


def times_of(process: subprocess.Popen[str]) -> list[float]:
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(process.returncode)
    times: list[float] = json.loads(output.strip().splitlines()[-1])
    return times


def measured_together(workers: list[subprocess.Popen[str]]) -> list[float]:
    """Step times of processes that begin when all of them are ready."""
    for worker in workers:
        assert worker.stdout is not None
        worker.stdout.readline()
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    with ThreadPoolExecutor() as readers:
        return [one for times in readers.map(times_of, workers) for one in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=STEPS, default="S")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compiled", action="store_true", help="with torch.compile")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    batch = {"S": 2048, "T": 512}[options.size]
    ours: list[float] = []
    theirs: dict[str, list[float]] = {"gelu_pytorch_tanh": [], "gelu_new": []}
    for _ in range(options.rounds):
        compiled = "compiled" if options.compiled else "plain"
        arguments = (options.size, options.precision, str(STEPS[options.size]), compiled)
        workers = [start(ENGINE, *arguments, threads=1) for _ in range(cores)]
        ours += measured_together(workers)
        for activation, known in theirs.items():
            steps = str(TRAINER_STEPS[options.size])
            known.extend(times_of(start(TRAINER, options.size, activation, steps, str(cores), threads=cores)))
    rows = cores * batch / statistics.median(ours)
    peers = {activation: batch / statistics.median(times) for activation, times in theirs.items()}
    result = {
        "size": options.size,
        "precision": options.precision,
        "compiled": options.compiled,
        "engine_ms_per_step_and_core": 1000 * statistics.median(ours),
        "engine_rows_per_second": rows,
        "trainer_rows_per_second": peers,
        "ratio": {activation: rows / peer for activation, peer in peers.items()},
    }
    report(result, options.out)


if __name__ == "__main__":
    main()
