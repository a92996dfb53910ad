"""What a language model answers to prompts, as it is or while it is changed: the probability of the right token."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from anchorlab.analysis.predictions import entry_device, evaluating
from anchorlab.errors import InputError

from .prompts import Prompt, PromptSet, check_prompts

Change = Callable[[list[int]], AbstractContextManager[object]]
"""Given the numbers (from 0) of the prompts that the model reads next, what changes the model meanwhile."""

_PAIRS = 2**20  # of positions of one head in a batch
_MOST_ROWS = 64


@dataclass(frozen=True)
class Answers:
    """How a model continues each prompt behind its last token.

    `log_probability` (nats) is the answer's among all tokens. `first`: no token is more probable than the answer, so
    that greedy decoding says it. `chosen`: none of the prompts' other answers is more probable.
    """

    log_probability: Float[np.ndarray, " prompts"]
    first: Bool[np.ndarray, " prompts"]
    chosen: Bool[np.ndarray, " prompts"]


def answer_log_probabilities(model: PreTrainedModel, prompts: Sequence[Prompt]) -> Float[np.ndarray, " prompts"]:
    """Log-probability (nats) of every prompt's answer behind its last token; raises as `read_answers` does."""
    return read_answers(model, prompts).log_probability


def read_answers(model: PreTrainedModel, prompts: Sequence[Prompt], change: Change | None = None) -> Answers:
    """The answers to all prompts, each while `change` is in force for it.

    Prompts of one length are read together; nothing is padded. Probabilities are computed in float32 or wider.

    Raises:
        InputError: a prompt without answer, or that the model cannot read (see `check_prompts`); logits that are not
            finite.
    """
    right = _checked_answers(model, prompts)
    candidates = np.unique(right)
    log_probability = np.empty(len(prompts))
    first, chosen = np.empty((2, len(prompts)), bool)
    # Of a real model's logits, 100,000 for each position, only the last position's are wanted.
    only_last = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(type(model).forward).parameters else {}
    with evaluating(model):
        for rows in _batches(prompts):
            tokens = torch.from_numpy(np.stack([prompts[row].tokens for row in rows]).astype(np.int64))
            with nullcontext() if change is None else change(rows):
                logits: Float[Tensor, "rows vocabulary"] = model(
                    input_ids=tokens.to(entry_device(model)), **only_last
                ).logits[:, -1]
            nats = logits.log_softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))
            among = nats[:, candidates].cpu().numpy()
            log_probability[rows] = among[np.arange(len(rows)), np.searchsorted(candidates, right[rows])]
            first[rows] = nats.argmax(-1).cpu().numpy() == right[rows]
            chosen[rows] = candidates[among.argmax(-1)] == right[rows]
    if not np.isfinite(log_probability).all():
        number = int(np.isfinite(log_probability).argmin())
        raise InputError(f"model: the logits behind prompt {number + 1} are not finite numbers; try another dtype")
    return Answers(log_probability, first, chosen)


def _checked_answers(model: PreTrainedModel, prompts: Sequence[Prompt]) -> Int[np.ndarray, " prompts"]:
    embedding: Any = model.get_input_embeddings()
    context = getattr(model.config, "max_position_embeddings", None)
    check_prompts(PromptSet("with answers", "", tuple(prompts)), len(embedding.weight), context)
    answers = [prompt.answer for prompt in prompts if prompt.answer is not None]
    if len(answers) < len(prompts):
        raise InputError(f"prompts: {len(prompts) - len(answers)} of {len(prompts)} have no answer; each needs one")
    return np.array(answers)


def _batches(prompts: Sequence[Prompt]) -> Iterator[list[int]]:
    """Numbers of prompts with equal lengths, as many as fit in memory."""
    by_length: dict[int, list[int]] = {}
    for number, prompt in enumerate(prompts):
        by_length.setdefault(len(prompt.tokens), []).append(number)
    for length, numbers in by_length.items():
        rows = max(1, min(_MOST_ROWS, _PAIRS // length**2))
        for start in range(0, len(numbers), rows):
            yield numbers[start : start + rows]
