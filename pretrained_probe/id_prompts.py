"""Prompts without words: random token ids, and the rows of an anchor task."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int
from transformers import PreTrainedTokenizerBase

from anchorlab.analysis.places import find_places, move_rows
from anchorlab.errors import InputError
from anchorlab.tasks import Task
from anchorlab.tasks.randomness import Stream
from anchorlab.tasks.sampling import check_count

from .prompts import Prompt, PromptSet, ids_before_text, prompt_from_ids


def random_prompts(
    vocabulary_size: int,
    *,
    n: int = 32,
    length: int = 64,
    seed: int = 0,
    repeated: bool = True,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> PromptSet:
    """`n` prompts of `length` independent, uniformly drawn token ids.

    With `repeated` the second half repeats the first, which makes induction heads visible (Olsson et al. 2022,
    arXiv:2209.11895); the answer is the id that continues the repetition. Without it there is no answer.

    With a tokenizer, ids are those of its tokens that are not special, and every prompt begins with the token that
    the tokenizer puts before a text, if it does; `length` counts it. Prompt i is the same for every n.

    Raises `InputError` for n < 1, a negative seed, a length that leaves fewer than 4 random tokens, or no ids to draw.
    """
    n, seed = check_count("n", n, 1), check_count("seed", seed, 0)
    start = [] if tokenizer is None else ids_before_text(tokenizer)
    free = check_count("length", length, len(start) + 4) - len(start)
    ids = _ordinary_ids(check_count("vocabulary_size", vocabulary_size, 1), tokenizer)
    period = (free + 1) // 2 if repeated else free
    prompts = []
    for number in range(n):
        drawn = ids[Stream("random prompts", seed, number).below(len(ids), period)]
        tokens = np.resize(drawn, free).tolist()
        answer = int(drawn[free % period]) if repeated else None
        prompts.append(prompt_from_ids(start + tokens, tokenizer, answer=answer))
    kind = "random tokens of which the second half repeats the first" if repeated else "random tokens"
    return PromptSet("random", f"{n} prompts of {length} tokens: {kind} (seed {seed})", tuple(prompts))


def _ordinary_ids(vocabulary_size: int, tokenizer: PreTrainedTokenizerBase | None) -> Int[np.ndarray, " ids"]:
    """Ids below `vocabulary_size`, without special ones and those that the tokenizer does not have."""
    ids = np.arange(vocabulary_size)
    if tokenizer is not None:
        special = [token for token, added in tokenizer.added_tokens_decoder.items() if added.special]
        known = np.array(list(tokenizer.get_vocab().values()))
        ids = ids[np.isin(ids, known) & ~np.isin(ids, special)]
    if len(ids) == 0:
        raise InputError(f"vocabulary_size={vocabulary_size}: all of these ids are special tokens of the tokenizer")
    return ids


def task_prompts(task: Task, *, n: int = 32, seed: int = 0, split: str = "test") -> PromptSet:
    """Rows 0..n-1 of a task's `split` (`test`, `ood`, …) as prompts: their ids are numbers and anchors, not text.

    Places are `key`, `anchor` (or `anchor 1`, `anchor 2`, …) and `last`, answers the task's labels. Where anchors can
    stand elsewhere, `moved` has the rows turned (see `analysis.places.move_rows`), and rows that cannot be turned are
    left out; a task that fixes where anchors stand keeps all n rows and has no moved ones.

    Raises `InputError` for an unknown split, n < 1 and a negative seed.
    """
    rows = task.sample(split, n, seed)
    try:
        kept, moved = move_rows(task, rows.tokens)
    except InputError:  # the task fixes where anchors stand
        kept, moved = np.arange(n), rows.tokens[:0]
    answers = rows.label[kept]
    prompts, turned = _rows(task, rows.tokens[kept], answers), _rows(task, moved, answers[: len(moved)])
    description = f"{len(prompts)} rows of the task {task.name!r}, split {split!r} (seed {seed})"
    return PromptSet("task", description, prompts, turned)


def _rows(task: Task, tokens: Int[np.ndarray, "n length"], answers: Int[np.ndarray, " n"]) -> tuple[Prompt, ...]:
    places = {role: at.tolist() for role, at in find_places(task, tokens).items()}
    return tuple(
        Prompt(
            row.astype(np.int64),
            tuple(task.vocabulary.token_name(token) for token in row.tolist()),
            {role: at[number] for role, at in places.items()},
            int(answer),
        )
        for number, (row, answer) in enumerate(zip(tokens, answers, strict=True))
    )
