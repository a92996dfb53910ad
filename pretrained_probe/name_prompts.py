"""Prompts that state a name and ask for it, as the one whose attention the book shows (section 12.7.3, fig. 12.17)."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from anchorlab.errors import InputError
from anchorlab.tasks.randomness import Stream
from anchorlab.tasks.sampling import check_count
from anchorlab.validation import check_known

from .name_sentences import LANGUAGES, Language
from .prompts import Prompt, PromptSet, encode, needed_tokenizer, prompt_from_ids

FEWEST_NAMES = 4
DISTANCES = (0, 1, 2, 3, 4)
_TRIES = 20  # for each prompt; some of those drawn may be alike


def book_prompt(tokenizer: PreTrainedTokenizerBase | None) -> PromptSet:
    """The book's “My name is John. What is my name? Your name is”, with which fig. 12.17 shows two heads of Llama 2.

    `key` is the first token of John (with its space, for most tokenizers), `anchor` the token before it, and the
    answer is the first token of John behind the prompt. Raises `InputError` without a tokenizer, or if it cuts John
    otherwise behind the prompt than in it.
    """
    tokenizer, english = needed_tokenizer(tokenizer), LANGUAGES["en"]
    prompt = _prompt(tokenizer, english.statement, " John", f". {english.question}")
    if prompt is None:
        raise InputError("tokenizer: it has no token that begins the name John; use random prompts or token ids")
    return PromptSet("name", "The prompt “My name is John. What is my name? Your name is”", (prompt,))


def name_prompts(
    tokenizer: PreTrainedTokenizerBase | None,
    n: int = 32,
    *,
    seed: int = 0,
    distances: Sequence[int] = DISTANCES,
    distractors: int = 1,
    language: str = "en",
) -> PromptSet:
    """`n` different prompts like the book's (section 12.7.3), in which name, place and surroundings vary.

    Each is an opening sentence, max(`distances`) other sentences and the statement (“My name is John.”) among them, and
    the question with the beginning of its answer. Of the other sentences, `distractors` give other names of other
    people; all others give none. `distances` are the numbers of them that may stand between statement and question. In
    `moved` the statement stands at another of these distances and all else stays: the tokens are the same, in another
    order. `key` is the name, `anchor` the token before it, and the answer is the name.

    Names are those that the tokenizer has as one token, which is the same in the statement and behind the prompt, and
    which nothing else in the prompt holds. `language` is `en`, `de`, `fr`, `es`, `it` or `zh`; in `zh` names are
    surnames and follow without a space. Prompt i depends on the arguments but `n` and is the same for every n.

    Raises `InputError` without a tokenizer, for an unknown language, fewer than 4 such names, fewer than two distances
    or too large ones, and more distractors or prompts than there can be.
    """
    tokenizer = needed_tokenizer(tokenizer)
    n, seed = check_count("n", n, 1), check_count("seed", seed, 0)
    check_known("language", language, LANGUAGES)
    words = LANGUAGES[language]
    names = _usable_names(tokenizer, words)
    distances = _checked_distances(distances, distractors, words, names)
    found: dict[tuple[int, ...], tuple[Prompt, Prompt]] = {}
    for number in range(_TRIES * n):
        pair = _draw(tokenizer, words, names, distances, distractors, ("name prompts", language, seed, number))
        if pair is not None:
            found.setdefault(tuple(pair[0].tokens.tolist()), pair)
        if len(found) == n:
            break
    else:
        raise InputError(f"n={n}: no more than {len(found)} different prompts were found; ask for fewer")
    description = (
        f"{n} prompts such as “{words.statement}{words.space}{names[0]}{_behind(words)}” ({words.title}) with "
        f"{distances[-1]} other sentences around the statement, {distractors} of them about other people's names; "
        f"{len(names)} names, seed {seed}"
    )
    return PromptSet("names", description, *(tuple(prompts) for prompts in zip(*found.values(), strict=True)))


def _usable_names(tokenizer: PreTrainedTokenizerBase, words: Language) -> list[str]:
    """Names with a token of their own, by which the prompt is continued."""
    usable = []
    for name in words.names:
        stated = words.statement + words.space + name
        prompt = _prompt(tokenizer, words.statement, words.space + name, _behind(words))
        if prompt is not None and len(encode(tokenizer, stated)) == prompt.places["key"] + 1:
            usable.append(name)
    if len(usable) < FEWEST_NAMES:
        raise InputError(
            f"tokenizer: only {len(usable)} of {len(words.names)} names ({words.title}) are one token of it, and "
            f"{FEWEST_NAMES} are needed; use another language, random prompts or token ids"
        )
    return usable


def _checked_distances(
    distances: Sequence[int], distractors: int, words: Language, names: Sequence[str]
) -> tuple[int, ...]:
    ordered = tuple(sorted({check_count("distances", distance, 0) for distance in distances}))
    if len(ordered) < 2:
        raise InputError(f"distances={tuple(distances)}: two different ones or more, so that the statement can move")
    most = min(ordered[-1], len(words.others), len(names) - 1)
    if check_count("distractors", distractors, 0) > most:
        raise InputError(f"distractors={distractors}: at most {most} with these distances and this tokenizer")
    if ordered[-1] > len(words.fillers) + distractors:
        raise InputError(
            f"distances={tuple(distances)}: at most {len(words.fillers) + distractors}, of the sentences that there are"
        )
    return ordered


def _draw(
    tokenizer: PreTrainedTokenizerBase,
    words: Language,
    names: Sequence[str],
    distances: Sequence[int],
    distractors: int,
    of: tuple[str | int, ...],
) -> tuple[Prompt, Prompt] | None:
    """A prompt and the moved one; None if the tokenizer gives them other tokens, or the name another time."""
    stream = Stream(*of)

    def chosen(among: Sequence[str], count: int) -> list[str]:
        return [among[place] for place in stream.permutation(len(among))[:count]]

    name, *other_names = chosen(names, 1 + distractors)
    about_others = [
        start + words.space + other + words.stop
        for start, other in zip(chosen(words.others, distractors), other_names, strict=True)
    ]
    sentences = chosen([*about_others, *chosen(words.fillers, distances[-1] - distractors)], distances[-1])
    (opening,) = chosen(words.openings, 1)
    first, second = (
        _statement_at(tokenizer, words, name, opening, sentences, distances[place])
        for place in stream.permutation(len(distances))[:2]
    )
    if first is None or second is None or sorted(first.tokens) != sorted(second.tokens):
        return None
    return (first, second) if (first.tokens == first.answer).sum() == 1 else None


def _statement_at(
    tokenizer: PreTrainedTokenizerBase,
    words: Language,
    name: str,
    opening: str,
    sentences: Sequence[str],
    distance: int,
) -> Prompt | None:
    """The prompt with `distance` of the sentences behind the statement."""
    place = len(sentences) - distance
    before = words.space.join([opening, *sentences[:place], words.statement])
    return _prompt(tokenizer, before, words.space + name, _behind(words, sentences[place:]))


def _behind(words: Language, sentences: Sequence[str] = ()) -> str:
    """What follows the name: the end of its sentence, other sentences, the question."""
    return words.space.join([words.stop, *sentences, words.question])


def _prompt(tokenizer: PreTrainedTokenizerBase, before: str, name: str, behind: str) -> Prompt | None:
    """The prompt, continued by the name; None unless the name is the same known tokens here and there.

    Places follow from the ids of the text up to them, which needs no offsets and so serves every tokenizer.
    """
    start, stated = encode(tokenizer, before), encode(tokenizer, before + name)
    whole = encode(tokenizer, before + name + behind)
    of_name = stated[len(start) :]
    if not of_name or whole[: len(stated)] != start + of_name:
        return None
    if encode(tokenizer, before + name + behind + name) != whole + of_name:
        return None
    key = len(start)
    prompt = prompt_from_ids(whole, tokenizer, places={"anchor": key - 1, "key": key}, answer=of_name[0])
    return prompt if of_name[0] != tokenizer.unk_token_id and prompt.pieces[key].strip() else None
