"""Step times of the Hugging Face Trainer on its own."""

import tempfile
import time
from typing import Any

import torch
import torch.nn.functional as F
from setups import CLIP, DECAY, RATE, SIZES, build, initialize
from training_step import Batches, InOrder
from transformers import TrainerCallback, TrainingArguments
from transformers.activations import ACT2FN


class Clock(TrainerCallback):
    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self.began = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.times.append(time.perf_counter() - self.began)


def trainer_times(
    size: str,
    steps: int,
    *,
    precision: str = "float32",
    device: str = "cpu",
    activation: str = "gelu_pytorch_tanh",
) -> list[float]:
    """Seconds of every step, in this process and with its present number of threads."""
    model, clock = build(size), Clock()
    initialize(model)
    for block in model.transformer.h:
        block.mlp.act = ACT2FN[activation]

    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        return F.cross_entropy(outputs.logits[:, -1].float(), labels)

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            max_steps=steps,
            per_device_train_batch_size=SIZES[size]["batch"],
            learning_rate=RATE,
            lr_scheduler_type="constant",
            weight_decay=DECAY,
            max_grad_norm=CLIP,
            bf16=precision == "bfloat16",
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            use_cpu=device == "cpu",
        )
        InOrder(model, arguments, train_dataset=Batches(size, 2), compute_loss_func=loss, callbacks=[clock]).train()
    return clock.times
