"""Prompts for a language model: token ids, how each is shown, where the named ones stand, and what rightly follows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from anchorlab.analysis.places import LAST
from anchorlab.errors import InputError


@dataclass(frozen=True)
class Prompt:
    """One prompt.

    `tokens` are its ids and `pieces` how they are shown: each token's text, or its id where there is no tokenizer.
    `places` are positions from 0 of named tokens, such as `key` (a name in its statement), `anchor` (the token before
    it) and `last`. `answer` is the id of the token that rightly continues the prompt, or None if there is no such.
    """

    tokens: Int[np.ndarray, " length"]
    pieces: tuple[str, ...]
    places: Mapping[str, int] = field(default_factory=dict)
    answer: int | None = None


@dataclass(frozen=True)
class PromptSet:
    """Prompts of one kind; their lengths may differ.

    `description` says in one sentence what they are. `moved`, for the moving test, is empty or has one prompt for each
    of `prompts`, in their order: the same tokens and named places, with key and anchor elsewhere.
    """

    name: str
    description: str
    prompts: tuple[Prompt, ...]
    moved: tuple[Prompt, ...] = ()


def context_length(model: PreTrainedModel) -> int | None:
    """The most tokens that the model was made for; None if its positions have no end."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def check_prompts(prompts: PromptSet, vocabulary_size: int, context: int | None) -> None:
    """Check that a model with `vocabulary_size` ids can read the prompts in its `context` (tokens; None: no limit).

    Raises `InputError`, one line with the number of the first wrong prompt (from 1), for: no prompts; a prompt without
    tokens, with ids that the model does not have, longer than the context, with another number of pieces, or with
    places outside it; and moved prompts that are not one for each prompt with the same named places.
    """
    where = f"prompts={prompts.name!r}"
    if not prompts.prompts:
        raise InputError(f"{where}: there are none; at least one is needed")
    for name, prompt in _numbered(prompts):
        length = len(prompt.tokens)
        if length == 0 or len(prompt.pieces) != length:
            raise InputError(f"{where}: {name} has {length} tokens and {len(prompt.pieces)} pieces; one each is needed")
        if context is not None and length > context:
            raise InputError(
                f"{where}: {name} has {length} tokens and the model reads at most {context}; use shorter ones, such as "
                f"--prompts name, or --length {context} for texts and random tokens"
            )
        ids = [*prompt.tokens.tolist(), *([] if prompt.answer is None else [prompt.answer])]
        if min(ids) < 0 or max(ids) >= vocabulary_size:
            wrong = min(ids) if min(ids) < 0 else max(ids)
            raise InputError(f"{where}: {name} has the token id {wrong}; the model has 0 to {vocabulary_size - 1}")
        for role, place in prompt.places.items():
            if not 0 <= place < length:
                raise InputError(f"{where}: {name} has {role!r} at position {place}; it has 0 to {length - 1}")
    if prompts.moved and [set(prompt.places) for prompt in prompts.moved] != [set(p.places) for p in prompts.prompts]:
        raise InputError(f"{where}: the moved prompts must be one for each prompt, with the same named places")


def _numbered(prompts: PromptSet) -> Iterator[tuple[str, Prompt]]:
    for kind, group in (("prompt", prompts.prompts), ("moved prompt", prompts.moved)):
        for number, prompt in enumerate(group, start=1):
            yield f"{kind} {number}", prompt


def needed_tokenizer(tokenizer: PreTrainedTokenizerBase | None) -> PreTrainedTokenizerBase:
    """The tokenizer itself; `InputError` if there is none, because a text needs one."""
    if tokenizer is None:
        raise InputError("tokenizer: the model comes without one, which a text needs; use random prompts or token ids")
    return tokenizer


def ids_before_text(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids that the tokenizer puts before every text: its begin-of-sequence token, or none."""
    alone = tokenizer.encode("a", add_special_tokens=False)
    whole: list[int] = tokenizer.encode("a", add_special_tokens=True)
    return next((whole[:start] for start in range(len(whole)) if whole[start:][: len(alone)] == alone), [])


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The ids of a text that goes on: with what the tokenizer puts before a text, without what it puts behind one."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False, verbose=False)
    return ids_before_text(tokenizer) + ids


def prompt_from_ids(
    ids: Sequence[int],
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    places: Mapping[str, int] | None = None,
    answer: int | None = None,
) -> Prompt:
    """The prompt of one or more token ids, with the place `last` besides `places`."""
    shown = {token: str(token) if tokenizer is None else _text(tokenizer, token) for token in set(ids)}
    places = {**(places or {}), LAST: len(ids) - 1}
    return Prompt(np.array(ids, np.int64), tuple(shown[token] for token in ids), places, answer)


def _text(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    return str(tokenizer.decode([token], clean_up_tokenization_spaces=False))


def prompt_from_text(text: str, tokenizer: PreTrainedTokenizerBase) -> Prompt:
    """The prompt of a text, with the place `last`."""
    return prompt_from_ids(encode(tokenizer, text), tokenizer)
