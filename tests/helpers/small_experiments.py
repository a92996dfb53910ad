"""Experiments that train in a moment."""

from typing import Any

from anchorlab import Experiment

SMALL: dict[str, Any] = {
    "model": "post_ln",
    "layers": 2,
    "heads": 1,
    "width": 16,
    "train_rows": 600,
    "test_rows": 50,
    "ood_rows": 40,
    "batch_size": 32,
    "steps": 10,
    "device": "cpu",
}


def small(**settings: Any) -> Experiment:
    """An experiment of ten steps, with some other settings."""
    return Experiment(**(SMALL | settings))
