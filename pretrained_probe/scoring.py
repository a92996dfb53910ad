"""Scores of all heads of a model on a set of prompts, layer by layer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from anchorlab.analysis import HeadScores, join_scores
from anchorlab.analysis.attention import sight_of
from anchorlab.analysis.attention_sums import AttentionSums, Read
from anchorlab.analysis.heads import score_sums
from anchorlab.analysis.predictions import entry_device, evaluating
from anchorlab.errors import InputError

from .layers import advance, block_outputs, blocks_of, entering
from .prompts import Prompt, PromptSet, check_prompts, context_length
from .streaming import streamed_attention

OFFSETS = tuple(range(1, 17))
_TOKENS = 4096  # in a batch, unless one prompt is longer: the activations of a feed-forward net have to fit

Track = Callable[[Iterable[int]], Iterable[int]]


def score_prompts(
    model: PreTrainedModel,
    prompts: PromptSet,
    *,
    offsets: Sequence[int] = OFFSETS,
    track: Track = lambda layers: layers,
) -> HeadScores:
    """The scores of all heads, averaged over the prompts; `HeadScores` says how, and `moved` prompts test it.

    No attention pattern is held: one block of queries at a time is computed and added up, and one layer is scored
    before the next. So memory grows with the number of tokens in all prompts, not with the square of a prompt's length.
    `offsets` are those tried for shift. `track` follows the layers, for a progress bar.

    Raises:
        NoAttentionError: a model without attention.
        InputError: prompts that the model cannot read, offsets that are not different whole numbers from 1, attention
            that is not finite, an Apple GPU (it has no double precision).
    """
    check_prompts(prompts, model.config.get_text_config().vocab_size, context_length(model))
    if min(offsets, default=0) < 1 or len(set(offsets)) < len(offsets):
        raise InputError(f"offsets={list(offsets)}: must be different whole numbers from 1")
    if entry_device(model).type == "mps":
        raise InputError("device=mps: scores need double precision, which it does not have; use --device cpu")
    groups = list(_alike(prompts))
    length = max(len(prompt.tokens) for prompt in (*prompts.prompts, *prompts.moved))
    tried = tuple(offset for offset in offsets if offset < length)
    blocks = blocks_of(model)
    with evaluating(model):
        outputs = block_outputs(model)
        batches, moved = (
            [_Batch(model, [some[at] for at in group], tried, outputs) for group in groups if some]
            for some in (prompts.prompts, prompts.moved)
        )
        return join_scores(
            [_layer_scores(model, blocks[layer], layer, batches, moved, length) for layer in track(range(len(blocks)))]
        )


def _layer_scores(
    model: PreTrainedModel,
    block: nn.Module,
    layer: int,
    batches: Sequence[_Batch],
    moved: Sequence[_Batch],
    length: int,
) -> HeadScores:
    """What was summed up of the layer is gone when this returns."""
    sums, moved_sums = ([batch.through(model, block, layer) for batch in some] for some in (batches, moved))
    return score_sums(lambda: sums, length=length, moved=(lambda: moved_sums) if moved else None, first_layer=layer + 1)


def _alike(prompts: PromptSet) -> Iterator[list[int]]:
    """Numbers of prompts that have one length, and one when moved; a few at a time."""
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for number, prompt in enumerate(prompts.prompts):
        others = (prompts.moved[number],) if prompts.moved else ()
        groups[tuple(len(one.tokens) for one in (prompt, *others))].append(number)
    for lengths, numbers in groups.items():
        together = max(1, _TOKENS // max(lengths))
        yield from (numbers[start : start + together] for start in range(0, len(numbers), together))


class _Batch:
    """Prompts of one length on their way through the model; as a listener, it keeps the sums of one layer."""

    def __init__(
        self, model: PreTrainedModel, prompts: Sequence[Prompt], offsets: tuple[int, ...], outputs: Sequence[Any]
    ):
        ids = np.stack([prompt.tokens for prompt in prompts])
        self.tokens = torch.from_numpy(ids).to(entry_device(model))
        roles = set.intersection(*(set(prompt.places) for prompt in prompts))
        self.places = {role: torch.tensor([prompt.places[role] for prompt in prompts]) for role in sorted(roles)}
        self.offsets = offsets
        self.sight = sight_of(model, ids.shape[1])
        self.kept: AttentionSums
        with streamed_attention(model, self):
            self.sequences = entering(model, self.tokens, outputs)

    def through(self, model: PreTrainedModel, block: nn.Module, layer: int) -> AttentionSums:
        """Send the prompts through one block, and return what was summed up of its attention."""
        with streamed_attention(model, self):
            advance(block, layer, self.sequences)
        sums = self.kept
        del self.kept
        if not bool(sums.entropy.isfinite().all()):
            raise InputError(f"model: attention of layer {layer + 1} is not finite in {model.dtype}; try another dtype")
        return sums

    def sums(self, layer: int, value: Tensor, heads: int, read: Read) -> AttentionSums:
        """Sums for one layer."""
        norms = value.float().norm(dim=-1).repeat_interleave(heads // value.shape[1], dim=1)
        self.kept = AttentionSums.empty(
            (len(self.tokens), 1, heads),
            self.sight.layer(layer).to(value.device),
            self.offsets,
            read,
            token_ids=self.tokens.to(value.device),
            value_norms=norms[:, None],
            places=self.places,
        )
        return self.kept
