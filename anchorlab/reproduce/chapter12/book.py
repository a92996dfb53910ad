"""What section 12.8.3 says of all trainings of chapter 12."""

from collections.abc import Mapping
from typing import Any

TRANSFORMER: Mapping[str, Any] = {
    "model": "post_ln",
    "layers": 4,
    "heads": 4,
    "width": 400,
    "head_width": 64,
    "feed_forward_width": 1200,
    "initialization_rule": "pytorch",
    "weight_decay": 0.01,
    "learning_rate": 2e-4,
    "initial_learning_rate": 2e-5,
    "final_learning_rate": 2e-5,
    "schedule_unit": "epoch",
    "warmup": 400,
    "epochs": 4000,
    "batch_size": 100,
}
"""The Transformer and its training; the widths and the initialization are those of arXiv 2401.08309."""
