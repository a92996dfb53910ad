"""Probes of models that there are not, with known heads."""

from typing import Any

import numpy as np
import pandas as pd
import torch

from anchorlab.analysis import HeadBatch, HeadScores, causal, score_heads
from anchorlab.pretrained_probe.depth import depth_trend
from anchorlab.pretrained_probe.knockouts import Knockouts
from anchorlab.pretrained_probe.probe import Probe, ShownAttention
from anchorlab.pretrained_probe.prompts import Prompt, PromptSet

LENGTH, ROWS = 15, 24
WORDS = ("<s>", "My", "name", "is", "John", ".", "What", "is", "my", "name", "?", "Your", "name", "is", "…")
SOURCE = {
    "name": "tiny/llama",
    "kind": "hub",
    "revision": None,
    "commit": "8a3b" * 10,
    "class": "LlamaForCausalLM",
    "parameters": 6738415616,
    "dtype": "bfloat16",
    "devices": ["cuda:0", "cpu"],
}


def planted(layers: int, heads: int, keys: torch.Tensor, length: int = LENGTH, seed: int = 0) -> torch.Tensor:
    """Noise, but the first head of the layers of the upper half shifts by 1, of the others it broadcasts the key."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(len(keys), layers, heads, length, length, generator=generator)
    logits[:, : layers // 2, 0, torch.arange(1, length), torch.arange(length - 1)] += 9
    logits[torch.arange(len(keys)), layers // 2 :, 0, :, keys] += 9
    return logits.masked_fill(~causal(length), -torch.inf).softmax(-1)


def made_scores(
    layers: int = 8, heads: int = 3, *, length: int = LENGTH, rows: int = ROWS, moved: bool = False
) -> HeadScores:
    """Scores of `planted` attention, in which head (1, 2) has a sink besides."""
    keys = torch.arange(rows) % 5 + 1

    def batch(at: torch.Tensor) -> HeadBatch:
        weights = planted(layers, heads, at, length)
        weights[:, 0, 1:2] = 0.1 * weights[:, 0, 1:2]
        weights[:, 0, 1:2, :, 0] += 0.9
        tokens = torch.randint(0, 9, (rows, length), generator=torch.Generator().manual_seed(1))
        norms = torch.ones(rows, layers, heads, length)
        return HeadBatch(weights, tokens=tokens, value_norms=norms, places={"key": at})

    test = (lambda: [batch((keys + 3) % 7 + 1)]) if moved else None
    return score_heads(lambda: [batch(keys)], visible=causal(length), moved=test)


def made_prompt(length: int = LENGTH, words: tuple[str, ...] = WORDS) -> Prompt:
    pieces = tuple(words[place % len(words)] for place in range(length))
    return Prompt(np.arange(length), pieces, {"key": 4, "anchor": 3, "last": length - 1}, answer=4)


def made_knockouts() -> Knockouts:
    row = {"what": "shift heads", "heads": 3, "log_probability": -2.5, "change": -2.0, "low": -2.4, "high": -1.6}
    row |= {"accuracy": 0.25, "control": "heads", "random_mean": -0.1, "random_low": -0.3, "random_high": 0.2}
    row |= {"random_sets": 20, "share_below": 0.0, "p": 0.048, "verdict": "matters", "note": ""}
    single = {"layer": 1, "head": 1, "kind": "shift 1", "log_probability": -1.0, "change": -0.5}
    single |= {"low": -0.6, "high": -0.4, "accuracy": 0.5}
    return Knockouts(pd.DataFrame([row]), pd.DataFrame([single]), 24, "mean", -0.5, 0.875, 6, 0.9, 0.25, True)


def made_probe(
    name: str = "tiny/llama", *, layers: int = 8, heads: int = 3, moved: bool = False, **fields: Any
) -> Probe:
    """Without knock-outs, unless they are among `fields`."""
    scores = made_scores(layers, heads, moved=moved)
    weights = planted(layers, heads, torch.tensor([4]))[0].numpy()
    values = {
        "source": SOURCE,
        "prompts": PromptSet("name", "24 prompts that state a name and ask for it, seed 0.", (made_prompt(),) * ROWS),
        "scores": scores,
        "trend": depth_trend(scores),
        "knockouts": None,
        "attention": ShownAttention(made_prompt(), weights),
        "absent": {"knockouts": "the prompts have no right answers", "attention": "it was not asked for"},
    }
    return Probe(name, **(values | fields))
