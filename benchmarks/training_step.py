"""One optimizer step of GPT-2 on composite rows: the engine beside the Hugging Face Trainer.

Same model, initial weights, batches, AdamW and last-position loss; one thread; both take turns, medians are compared.

    python benchmarks/training_step.py [--size T|S] [--rounds N] [--out benchmarks/results/training_step_T.json]
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from machine import describe
from torch.utils.data import Dataset, SequentialSampler
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments

from anchorlab import models, tasks
from anchorlab.engine import OptimizerSettings, Population, Rows, Schedule, SequenceMember, SequenceProblem

SIZES = {
    "T": {"width": 64, "feed_forward_width": 192, "batch": 512},
    "S": {"width": 400, "feed_forward_width": 1200, "batch": 2048},
}
RATE, DECAY, CLIP = 1e-4, 0.01, 1.0


class Batches(Dataset):
    """The rows in the order in which the engine visits them."""

    def __init__(self, tokens: torch.Tensor, labels: torch.Tensor):
        self.tokens, self.labels = tokens, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.tokens[index], "labels": self.labels[index]}


class InOrder(Trainer):
    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)


class Clock(TrainerCallback):
    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self.began = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.times.append(time.perf_counter() - self.began)


def build(size: dict[str, int], task: tasks.Task) -> PreTrainedModel:
    shape = {name: value for name, value in size.items() if name != "batch"}
    return models.build("gpt2", task.vocabulary.size, task.length, layers=2, heads=1, **shape)


def initialize(model: PreTrainedModel) -> None:
    models.initialize(model, rule="arxiv-2405.05409", rate=0.5, generator=torch.Generator().manual_seed(0))


def trainer_times(
    size: dict[str, int], task: tasks.Task, batches: Batches, steps: int
) -> tuple[list[float], list[float]]:
    """Seconds and loss of every step of the Hugging Face Trainer."""
    model, losses, clock = build(size, task), [], Clock()
    initialize(model)

    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        value = F.cross_entropy(outputs.logits[:, -1].float(), labels)
        losses.append(value.item())
        return value

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            max_steps=steps,
            per_device_train_batch_size=size["batch"],
            learning_rate=RATE,
            lr_scheduler_type="constant",
            weight_decay=DECAY,
            max_grad_norm=CLIP,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
        )
        trainer = InOrder(model, arguments, train_dataset=batches, compute_loss_func=loss, callbacks=[clock])
        trainer.train()
    return clock.times, losses


def engine_times(population: Population, start: int, steps: int) -> tuple[list[float], list[float]]:
    """Seconds and loss of every step of the engine."""
    times, losses = [], []
    for step in range(start, start + steps):
        began = time.perf_counter()
        losses.append(population.step(step).losses[0])
        times.append(time.perf_counter() - began)
    return times, losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="T")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="per round")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    size, task = SIZES[options.size], tasks.create("composite")
    sample = task.sample("train", options.rounds * options.steps * size["batch"], 0)
    tokens, labels = torch.from_numpy(sample.tokens).long(), torch.from_numpy(sample.label).long()
    rows = Rows(tokens, labels, torch.zeros_like(labels), ())
    problem = SequenceProblem(
        build(size, task), [SequenceMember({"train": rows}, initialize, 0)], batch_size=size["batch"]
    )
    # GPT-2's Trainer spares biases and LayerNorm from decay, hence `matrices`.
    settings = OptimizerSettings(
        "adamw", Schedule.constant(RATE), weight_decay=DECAY, decay_scope="matrices", clip_norm=CLIP
    )
    population = Population(problem, [settings])
    order = torch.cat([problem.batch([0], step).tokens[0] for step in range(options.steps)])
    answers = torch.cat([problem.batch([0], step).labels[0] for step in range(options.steps)])

    ours: list[float] = []
    theirs: list[float] = []
    difference = 0.0
    for turn in range(options.rounds):
        times, losses = engine_times(population, turn * options.steps, options.steps)
        peer_times, peer_losses = trainer_times(size, task, Batches(order, answers), options.steps)
        ours += times
        theirs += peer_times
        if turn == 0:
            difference = max(abs(a - b) for a, b in zip(losses, peer_losses, strict=True))
    if difference > 1e-4:
        raise SystemExit(f"the two do not train the same: losses differ by {difference:.2g}")
    result = {
        "size": options.size,
        **size,
        "engine_ms": 1000 * statistics.median(ours),
        "trainer_ms": 1000 * statistics.median(theirs),
        "ratio": statistics.median(theirs) / statistics.median(ours),
        "largest_loss_difference": difference,
        "steps": len(ours),
        "machine": describe(),
    }
    print(json.dumps(result, indent=2))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
