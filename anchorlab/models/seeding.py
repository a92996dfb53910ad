"""PyTorch's global generator under a seed, for constructors that draw from nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def global_seed(seed: int) -> Iterator[None]:
    """Seed PyTorch's global CPU generator inside the block and leave it as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
