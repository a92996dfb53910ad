"""One optimizer step of GPT-2 on composite rows: the engine beside the Hugging Face Trainer, one thread each.

Same initial weights, batches, AdamW, clipping and last-position loss over one continuous training; every contender is a
process of its own, they take turns in blocks of steps, and medians are compared. The Trainer runs with the activation
of our builder (`gelu_pytorch_tanh`) and with that of GPT-2's own configuration (`gelu_new`: the same function, slower).

    python benchmarks/training_step.py [--size T|S] [--precision float32|bfloat16] [--compiled] [--rounds N] [--steps N]
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from machine import report
from setups import CLIP, DECAY, OPTIMIZER, RATE, SIZES, build, initialize, population
from torch.utils.data import Dataset, SequentialSampler
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.activations import ACT2FN

from anchorlab.engine import Population
from anchorlab.engine.memory import keep_freed_memory

LARGEST_DIFFERENCE = {"float32": 1e-4, "bfloat16": 2e-2}


class Batches(Dataset):
    """The rows in the order in which the engine visits them."""

    def __init__(self, size: str, steps: int):
        problem = population(size, 1).problem
        batches = [problem.batch([0], step) for step in range(steps)]
        self.tokens = torch.cat([batch.tokens[0] for batch in batches])
        self.labels = torch.cat([batch.labels[0] for batch in batches])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.tokens[index], "labels": self.labels[index]}


class InOrder(Trainer):
    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)


class Turns(TrainerCallback):
    """Waits for its turn before every block of steps, and hands over times and losses behind it."""

    def __init__(self, pipe: Connection, block: int):
        self.pipe, self.block = pipe, block
        self.times: list[float] = []
        self.losses: list[float] = []

    def on_step_begin(self, arguments: Any, state: Any, *args: Any, **kwargs: Any) -> None:
        if state.global_step % self.block == 0:
            self.pipe.recv()
        self.began = time.perf_counter()

    def on_step_end(self, arguments: Any, state: Any, *args: Any, **kwargs: Any) -> None:
        self.times.append(time.perf_counter() - self.began)
        if state.global_step % self.block == 0:
            self.pipe.send((self.times, self.losses))
            self.times, self.losses = [], []


def train_with_trainer(pipe: Connection, options: argparse.Namespace, activation: str) -> None:
    torch.set_num_threads(1)
    model, turns = build(options.size), Turns(pipe, options.steps)
    initialize(model)
    for block in model.transformer.h:
        block.mlp.act = ACT2FN[activation]

    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        value = F.cross_entropy(outputs.logits[:, -1].float(), labels)
        turns.losses.append(value.item())
        return value

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            max_steps=options.rounds * options.steps,
            per_device_train_batch_size=SIZES[options.size]["batch"],
            learning_rate=RATE,
            lr_scheduler_type="constant",
            weight_decay=DECAY,
            max_grad_norm=CLIP,
            bf16=options.precision == "bfloat16",
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
        )
        batches = Batches(options.size, arguments.max_steps)
        InOrder(model, arguments, train_dataset=batches, compute_loss_func=loss, callbacks=[turns]).train()


def train_with_engine(pipe: Connection, options: argparse.Namespace, compiled: bool) -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    problem = population(options.size, 1).problem
    engine = Population(problem, [OPTIMIZER], precision=options.precision, compiled=compiled)
    for turn in range(options.rounds):
        pipe.recv()
        times, losses = [], []
        for step in range(turn * options.steps, (turn + 1) * options.steps):
            began = time.perf_counter()
            losses.append(engine.advance(step, 1).losses[0])
            times.append(time.perf_counter() - began)
        pipe.send((times, losses))


def measure(options: argparse.Namespace) -> dict[str, tuple[list[float], list[float]]]:
    """Seconds and losses of every step, by contender."""
    contenders: dict[str, tuple[Any, Any]] = {
        "engine": (train_with_engine, False),
        "trainer": (train_with_trainer, "gelu_pytorch_tanh"),
        "trainer_gelu_new": (train_with_trainer, "gelu_new"),
    }
    if options.compiled:
        contenders["engine_compiled"] = (train_with_engine, True)
    context = multiprocessing.get_context("spawn")
    pipes = {}
    for name, (work, extra) in contenders.items():
        pipes[name], other_end = context.Pipe()
        context.Process(target=work, args=(other_end, options, extra), daemon=True).start()
        other_end.close()
    found: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in contenders}
    for _ in range(options.rounds):
        for name, pipe in pipes.items():
            pipe.send(None)
            times, losses = pipe.recv()
            found[name][0].extend(times)
            found[name][1].extend(losses)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("T", "S"), default="T")
    parser.add_argument("--precision", choices=LARGEST_DIFFERENCE, default="float32")
    parser.add_argument("--compiled", action="store_true", help="time the engine with torch.compile, too")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=5, help="per round")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = measure(options)
    # The first step of every training also sets things up, or compiles.
    times = {name: statistics.median(seconds[1:]) for name, (seconds, _) in found.items()}
    peer = found["trainer"][1]
    differences = {
        name: max(abs(a - b) for a, b in zip(losses, peer, strict=True)) for name, (_, losses) in found.items()
    }
    if max(differences.values()) > LARGEST_DIFFERENCE[options.precision]:
        raise SystemExit(f"they do not train the same: losses differ by {differences}")
    engines = [name for name in times if name.startswith("engine")]
    result = {
        "size": options.size,
        **SIZES[options.size],
        "precision": options.precision,
        "steps": options.rounds * options.steps,
        "ms": {name: 1000 * value for name, value in times.items()},
        "ratio_to_trainer": {name: times["trainer"] / times[name] for name in engines},
        "ratio_to_trainer_gelu_new": {name: times["trainer_gelu_new"] / times[name] for name in engines},
        "largest_loss_difference": differences,
        "last_loss": peer[-1],
    }
    report(result, options.out)


if __name__ == "__main__":
    main()
