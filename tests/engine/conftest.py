"""Small problems of both kinds: a quadratic one in float64 that knows no tokens, and a sequence problem."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from anchorlab import models
from anchorlab.engine import Measurement, Rows, SequenceMember, SequenceProblem


class LinearRegression:
    """Least squares per member, with its own data; everything in float64."""

    steps_per_epoch = 5

    def __init__(self, seeds: Sequence[int], poison: int | None = None):
        self.members = len(seeds)
        self.seeds = seeds
        self.poison = poison  # the member whose loss becomes infinite in step 3

    def initialize(self, member: int) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(self.seeds[member])
        return {
            "weight": torch.randn(4, 3, dtype=torch.float64, generator=random),
            "bias": torch.randn(3, dtype=torch.float64, generator=random),
        }

    def batch(self, members: Sequence[int], step: int) -> tuple[Tensor, Tensor, Tensor]:
        random = [torch.Generator().manual_seed(1000 * self.seeds[m] + step) for m in members]
        x = torch.stack([torch.randn(8, 4, dtype=torch.float64, generator=r) for r in random])
        scale = torch.tensor([math.inf if m == self.poison and step == 3 else 1.0 for m in members])
        return x, x.sum(-1, keepdim=True).repeat(1, 1, 3), scale

    def loss(self, parameters: Mapping[str, Tensor], batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        x, y, scale = batch
        predicted = x @ parameters["weight"] + parameters["bias"][:, None]
        return ((predicted - y) ** 2).mean((1, 2)) * scale

    def evaluate(self, parameters: Mapping[str, Tensor], members: Sequence[int]) -> list[Measurement]:
        norms = parameters["weight"].flatten(1).norm(dim=1)
        return [Measurement(m, "", "", "norm", norm.item()) for m, norm in zip(members, norms, strict=True)]

    def save(self, member: int, parameters: Mapping[str, Tensor], folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        torch.save(dict(parameters), folder / "linear.pt")


@pytest.fixture(scope="session")
def linear() -> Callable[..., LinearRegression]:
    return LinearRegression


@pytest.fixture(scope="session")
def rows() -> Rows:
    random = np.random.default_rng(0)
    tokens = torch.from_numpy(random.integers(1, 12, (70, 5)))
    groups = torch.from_numpy(random.integers(0, 2, 70))
    return Rows(tokens, tokens[:, 2], groups, ("even", "odd", "never"))


@pytest.fixture(scope="session")
def sequences(rows: Rows) -> Callable[..., SequenceProblem]:
    def make(
        seeds: Sequence[int],
        model: str = "post_ln",
        batch_size: int | None = 16,
        order_seed: int = 0,
        device: str = "cpu",
    ) -> SequenceProblem:
        built = models.build(model, 12, 5, layers=2, heads=1, width=12)

        def member(seed: int) -> SequenceMember:
            def initialize(module: PreTrainedModel) -> None:
                generator = torch.Generator().manual_seed(seed)
                models.initialize(module, rule="arxiv-2405.05409", rate=0.5, generator=generator)

            return SequenceMember({"train": rows, "test": rows.head(20)}, initialize, order_seed)

        members = [member(seed) for seed in seeds]
        return SequenceProblem(built, members, batch_size=batch_size, evaluation_rows=30, device=device)

    return make
