"""One model and one set of prompts, answered again and again with heads or edges of attention taken away."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from anchorlab.analysis.attention_hooks import AttentionHook, NoAttentionError, hooked_attention
from anchorlab.analysis.edits import AttentionEdit, NeverFired, edited_attention, select_edges

from .answers import Answers, Change, read_answers
from .prompts import Prompt

Head = tuple[int, int]
"""Layer and head, from 1."""
Ablation = Literal["mean", "zero"]


class Trials:
    """Every trial reads all prompts once and gives its `Answers`; `intact` are those with nothing taken away.

    A head that is knocked out reads at all positions what it reads on average over all positions of all prompts
    (lengths differ, so that positions have no counterparts), or zeros. `after_trial` is called after every reading.

    Raises:
        NoAttentionError: the model has no attention that can be hooked.
        InputError: as `read_answers` does.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Prompt],
        ablation: Ablation = "mean",
        after_trial: Callable[[], None] = lambda: None,
    ):
        self._model, self.prompts, self._after_trial = model, prompts, after_trial
        reads = _Reads()
        self.intact = self._answers(lambda rows: hooked_attention(model, reads))
        if not reads.totals:
            raise NoAttentionError(f"model: {type(model).__name__} does not use Hugging Face's AttentionInterface")
        share = 1 / sum(len(prompt.tokens) for prompt in prompts) if ablation == "mean" else 0.0
        self._instead = {layer: total * share for layer, total in reads.totals.items()}

    def without_heads(self, heads: Sequence[Head]) -> Answers:
        """With these heads knocked out."""
        hook = _KnockedOut(_by_layer(heads), self._instead)
        return self._answers(lambda rows: hooked_attention(self._model, hook))

    def without_edges(self, words: str, sources: Sequence[int], heads: Sequence[Head] | None = None) -> Answers | None:
        """Without the edges that `words` name (see `select_edges`); None if none of them carries weight.

        What is called `source` in `words` stands at `sources`, one position (from 0) for each prompt. The edges are cut
        in all heads or in those given, and the other weights renormalised: that is masking before the softmax, and the
        only cut that lets nothing of the source through. Merely zeroed weights would also make a head's read shorter,
        which says little about the source where it had much of the weight.
        """
        removed = [0]

        @contextmanager
        def cut(rows: list[int]) -> Iterator[None]:
            length = len(self.prompts[rows[0]].tokens)
            places = {"source": np.array([sources[row] for row in rows]), "last": np.full(len(rows), length - 1)}
            edges = select_edges(places, length, words)
            edits = [AttentionEdit(edges, renormalise=True)]
            if heads is not None:
                edits = [
                    AttentionEdit(edges, (layer + 1,), tuple(head + 1 for head in own), renormalise=True)
                    for layer, own in _by_layer(heads).items()
                ]
            # Some prompts or layers may have none of the edges, such as those that reach beyond a sliding window.
            with suppress(NeverFired), edited_attention(self._model, *edits) as record:
                yield
            removed[0] += record.fired

        answers = self._answers(cut)
        return answers if removed[0] else None

    def _answers(self, change: Change) -> Answers:
        found = read_answers(self._model, self.prompts, change)
        self._after_trial()
        return found


def _by_layer(heads: Sequence[Head]) -> dict[int, list[int]]:
    """Heads of each layer, both from 0."""
    by_layer: dict[int, list[int]] = {}
    for layer, head in heads:
        by_layer.setdefault(layer - 1, []).append(head - 1)
    return by_layer


class _Reads(AttentionHook):
    """Adds up what every head reads."""

    def __init__(self) -> None:
        self.totals: dict[int, Float[Tensor, "heads head_width"]] = {}

    def mixed(self, layer: int, mixed: Tensor) -> Tensor:
        total = mixed.float().sum(dim=(0, 2)).cpu().double()
        self.totals[layer] = self.totals.get(layer, torch.zeros_like(total)) + total
        return mixed


class _KnockedOut(AttentionHook):
    def __init__(self, by_layer: dict[int, list[int]], instead: dict[int, Float[Tensor, "heads head_width"]]):
        self.by_layer, self.instead = by_layer, instead

    def mixed(self, layer: int, mixed: Tensor) -> Tensor:
        if layer not in self.by_layer:
            return mixed
        heads, changed = self.by_layer[layer], mixed.clone()
        changed[:, heads] = self.instead[layer][heads, None].to(mixed)
        return changed
