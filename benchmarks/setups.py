"""What the training benchmarks share: sizes, members, and one step of plain PyTorch on Hugging Face's module."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from transformers import PreTrainedModel

from anchorlab import models, tasks
from anchorlab.engine import OptimizerSettings, Population, Rows, Schedule, SequenceMember, SequenceProblem

SIZES = {
    "S": {"width": 400, "feed_forward_width": 1200, "batch": 2048},
    "T": {"width": 64, "feed_forward_width": 192, "batch": 512},
    "small": {"width": 32, "feed_forward_width": 96, "batch": 16},
}
"""GPT-2 with two layers and one head on rows of nine tokens."""

RATE, DECAY, CLIP = 1e-4, 0.01, 1.0
# GPT-2's Trainer spares biases and LayerNorm from decay, hence `matrices`.
OPTIMIZER = OptimizerSettings(
    "adamw", Schedule.constant(RATE), weight_decay=DECAY, decay_scope="matrices", clip_norm=CLIP
)


def build(size: str) -> PreTrainedModel:
    task = tasks.create("composite")
    shape = {name: value for name, value in SIZES[size].items() if name != "batch"}
    return models.build("gpt2", task.vocabulary.size, task.length, layers=2, heads=1, **shape)


def initialize(model: PreTrainedModel, seed: int = 0) -> None:
    models.initialize(model, rule="arxiv-2405.05409", rate=0.5, generator=torch.Generator().manual_seed(seed))


def rows(size: str, batches: int) -> Rows:
    sample = tasks.create("composite").sample("train", batches * SIZES[size]["batch"], 0)
    labels = torch.from_numpy(sample.label).long()
    return Rows(torch.from_numpy(sample.tokens).long(), labels, torch.zeros_like(labels), ())


def population(size: str, members: int, precision: Any = "float32", device: str = "cpu") -> Population:
    """Members that differ in their initial weights."""
    splits = {"train": rows(size, 20)}

    def member(seed: int) -> SequenceMember:
        return SequenceMember(splits, lambda model: initialize(model, seed), 0)

    every = [member(seed) for seed in range(members)]
    problem = SequenceProblem(build(size), every, batch_size=SIZES[size]["batch"], device=device)
    return Population(problem, [OPTIMIZER] * members, precision=precision, device=device)


def plain_step(size: str, precision: str = "float32", device: str = "cpu") -> Callable[[], None]:
    """One step of a member written as most people write it: the whole module, autograd, torch's AdamW."""
    model = build(size).to(device).train()
    initialize(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    data = rows(size, 1)
    tokens, labels = data.tokens.to(device), data.labels.to(device)

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
            logits = model(tokens).logits[:, -1]
        optimizer.zero_grad()
        F.cross_entropy(logits.float(), labels).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()

    return step


def seconds(action: Callable[[], Any], repeats: int) -> float:
    """Median time of an action."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return statistics.median(times)
