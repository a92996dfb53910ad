"""Prompts that state a name and ask for it, with tokenizers that cut words in different ways."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trained_tokenizers import KINDS, SlowWords, trained_tokenizer
from transformers import PreTrainedTokenizerFast

from anchorlab.errors import InputError
from anchorlab.pretrained_probe.name_prompts import FEWEST_NAMES, book_prompt, name_prompts
from anchorlab.pretrained_probe.name_sentences import LANGUAGES, Language
from anchorlab.pretrained_probe.prompts import Prompt, PromptSet, check_prompts, encode

BOOK = "My name is John. What is my name? Your name is"
SPACED = [language for language, words in LANGUAGES.items() if words.space]
CASES = [(kind, language) for kind in KINDS for language in LANGUAGES if kind != "words" or language in SPACED]


def text_of(prompt: Prompt, tokenizer: PreTrainedTokenizerFast) -> str:
    return tokenizer.decode(prompt.tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()


def ids(prompts: PromptSet) -> list[list[int]]:
    return [prompt.tokens.tolist() for prompt in (*prompts.prompts, *prompts.moved)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_books_prompt_has_its_key_where_offsets_say(kind: str) -> None:
    tokenizer = trained_tokenizer(kind)
    (prompt,) = book_prompt(tokenizer).prompts
    spans = tokenizer(BOOK, return_offsets_mapping=True)
    begin = BOOK.index("John")
    (key,) = [place for place, (low, high) in enumerate(spans["offset_mapping"]) if low < begin + 4 and high > begin]
    assert prompt.tokens.tolist() == spans["input_ids"]
    assert prompt.places == {"anchor": key - 1, "key": key, "last": len(spans["input_ids"]) - 1}
    assert prompt.answer == tokenizer(f"{BOOK} John")["input_ids"][-1] == prompt.tokens[key]
    assert [prompt.pieces[place].strip() for place in (key - 1, key)] == ["is", "John"]


def test_a_name_of_several_tokens_is_known_by_its_first_in_the_books_prompt() -> None:
    words = ["My", "name", "is", "What", "my", "Your"]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe([*words, "Jo", "hn"]), bos_token="<s>")
    (prompt,) = book_prompt(tokenizer).prompts
    key = prompt.places["key"]
    assert prompt.pieces[key : key + 2] == (" Jo", "hn")
    assert prompt.tokens[key] == prompt.answer == tokenizer.encode(" Jo")[0]


def bpe(words: list[str]) -> object:
    from hub_layout import small_tokenizer

    return small_tokenizer(words, byte_level=True, bos=False).backend_tokenizer


def test_places_need_no_fast_tokenizer() -> None:
    slow = SlowWords(["My", "name", "is", "John", ".", "What", "my", "?", "Your"])
    (prompt,) = book_prompt(slow).prompts
    assert prompt.pieces == ("My", "name", "is", "John", ".", "What", "is", "my", "name", "?", "Your", "name", "is")
    assert prompt.places == {"anchor": 2, "key": 3, "last": 12}
    assert prompt.answer == prompt.tokens[3]


@pytest.mark.parametrize(("kind", "language"), CASES)
def test_every_prompt_asks_for_a_name_that_it_states_once(kind: str, language: str) -> None:
    tokenizer, words = trained_tokenizer(kind, language), LANGUAGES[language]
    prompts = name_prompts(tokenizer, 24, language=language, distractors=2)
    check_prompts(prompts, len(tokenizer), context=100)
    assert len({tuple(prompt.tokens) for prompt in prompts.prompts}) == 24
    for prompt in (*prompts.prompts, *prompts.moved):
        key, text = prompt.places["key"], text_of(prompt, tokenizer)
        name = prompt.pieces[key].strip()
        assert name in words.names
        assert (np.flatnonzero(prompt.tokens == prompt.answer) == [key]).all()
        assert prompt.places == {"anchor": key - 1, "key": key, "last": len(prompt.tokens) - 1}
        assert text.replace(" ", "").endswith(words.question.replace(" ", ""))
        assert encode(tokenizer, f"{text}{words.space}{name}") == [*prompt.tokens, prompt.answer]
        stated = words.statement + words.space + name + words.stop
        assert text.replace(" ", "").count(stated.replace(" ", "")) == 1
        others = [other for other in words.others if other.replace(" ", "") in text.replace(" ", "")]
        assert len(others) == 2


@pytest.mark.parametrize(("kind", "language"), CASES)
def test_in_moved_prompts_nothing_but_the_statement_has_moved(kind: str, language: str) -> None:
    tokenizer, words = trained_tokenizer(kind, language), LANGUAGES[language]
    prompts = name_prompts(tokenizer, 12, language=language)
    assert len(prompts.moved) == len(prompts.prompts)
    for prompt, moved in zip(prompts.prompts, prompts.moved, strict=True):
        assert moved.places["key"] != prompt.places["key"]
        assert moved.places.keys() == prompt.places.keys()
        assert moved.answer == prompt.answer
        assert sorted(moved.tokens) == sorted(prompt.tokens)
        name = prompt.pieces[prompt.places["key"]].strip()
        statement = f"{words.statement}{words.space}{name}{words.stop}".replace(" ", "")
        rests = [text_of(one, tokenizer).replace(" ", "").replace(statement, "") for one in (prompt, moved)]
        assert rests[0] == rests[1]


@pytest.mark.parametrize("distances", [(0, 1), (1, 3), (4, 0, 2)])
def test_distances_are_those_asked_for(distances: tuple[int, ...]) -> None:
    tokenizer = trained_tokenizer("byte level")
    prompts = name_prompts(tokenizer, 20, distances=distances)
    question = len(tokenizer.encode(f" {LANGUAGES['en'].question}"))
    between = []
    for prompt in (*prompts.prompts, *prompts.moved):
        after_name = prompt.pieces[prompt.places["key"] + 1 : len(prompt.pieces) - question]
        between.append(after_name.count(".") - 1)
        assert prompt.pieces.count(".") == max(distances) + 2
    assert set(between) == set(distances)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**40), st.sampled_from(KINDS))
def test_a_seed_gives_the_same_prompts_again_and_its_neighbour_others(seed: int, kind: str) -> None:
    tokenizer = trained_tokenizer(kind)
    first = name_prompts(tokenizer, 4, seed=seed)
    assert ids(first) == ids(name_prompts(tokenizer, 4, seed=seed))
    assert ids(first)[:2] == ids(name_prompts(tokenizer, 2, seed=seed))[:2]
    assert not set(map(tuple, ids(first))) & set(map(tuple, ids(name_prompts(tokenizer, 4, seed=seed + 1))))


def test_names_that_are_not_one_token_are_left_out() -> None:
    words = LANGUAGES["en"]
    whole = [*words.statement.split(), "John", "Mary", "James", "Paul"]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe(whole), bos_token="<s>")
    prompts = name_prompts(tokenizer, 16)
    assert {prompt.pieces[prompt.places["key"]] for prompt in prompts.prompts} <= {" John", " Mary", " James", " Paul"}
    too_few = PreTrainedTokenizerFast(tokenizer_object=bpe(whole[:-1]), bos_token="<s>")
    with pytest.raises(InputError, match=rf"only 3 of {len(words.names)} names .*{FEWEST_NAMES} are needed; use"):
        name_prompts(too_few, 16)


def test_a_tokenizer_that_does_not_know_the_name_is_refused() -> None:
    words = SlowWords(["My", "name", "is", ".", "What", "my", "?", "Your"])
    with pytest.raises(InputError, match=r"^tokenizer: it has no token that begins the name John; use random prompts"):
        book_prompt(words)
    with pytest.raises(InputError, match="only 0 of"):
        name_prompts(words)
    with pytest.raises(InputError, match="only 0 of"):
        name_prompts(trained_tokenizer("words", "zh"), language="zh")


class WithFullStops(SlowWords):
    """Takes a name and the full stop behind it together."""

    def _tokenize(self, text: str, **_: object) -> list[str]:
        return text.replace("?", " ?").split()


def test_a_name_that_is_another_token_in_its_statement_is_refused() -> None:
    words = ["My", "name", "is", "John", "John.", "What", "my", "?", "Your"]
    with pytest.raises(InputError, match="no token that begins the name John"):
        book_prompt(WithFullStops(words))
    spaces_alone = PreTrainedTokenizerFast(tokenizer_object=bpe(words[:3]), bos_token="<s>")
    assert spaces_alone.tokenize(" John")[0] == "Ġ"
    with pytest.raises(InputError, match="no token that begins the name John"):
        book_prompt(spaces_alone)


@pytest.mark.parametrize("make", [book_prompt, name_prompts])
def test_names_need_a_tokenizer(make: object) -> None:
    assert callable(make)
    with pytest.raises(InputError, match=r"^tokenizer: the model comes without one.*use random prompts or token ids$"):
        make(None)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n": 0}, "n: 0 is not allowed"),
        ({"seed": -1}, "seed: -1 is not allowed"),
        ({"language": "eng"}, "language: unknown value 'eng'; did you mean 'en'?"),
        ({"distances": (3,)}, "two different ones"),
        ({"distances": (3, 3)}, "two different ones"),
        ({"distances": (-1, 2)}, "distances: -1 is not allowed"),
        ({"distances": (0, 40)}, "at most 13"),
        ({"distances": (0, 2), "distractors": 3}, "distractors=3: at most 2"),
        ({"distances": (0, 9), "distractors": 7}, "distractors=7: at most 6"),
        ({"distractors": -1}, "distractors: -1 is not allowed"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(wrong: dict[str, object], message: str) -> None:
    arguments: dict = {"n": 4, **wrong}
    with pytest.raises(InputError) as raised:
        name_prompts(trained_tokenizer("words"), **arguments)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Language:
    """English with four names, one opening and two other sentences, one of which holds a name."""
    fillers = ("The sky is blue today.", "I know John well.")
    words = replace(LANGUAGES["en"], names=("John", "Mary", "James", "Paul"), openings=("Hello.",), fillers=fillers)
    monkeypatch.setitem(LANGUAGES, "en", words)
    return words


def test_more_prompts_than_there_are_cannot_be_had(few: Language) -> None:
    tokenizer = SlowWords([*few.names, *" ".join([few.statement, few.question, *few.openings]).split(), ".", "?"])
    possible = len(few.names) * 2 * 2 - 2  # two distances, two sentences; John may not be said twice
    assert len(name_prompts(tokenizer, possible, distances=(0, 1), distractors=0).prompts) == possible
    with pytest.raises(InputError, match=f"^n={possible + 1}: no more than {possible} different prompts were found"):
        name_prompts(tokenizer, possible + 1, distances=(0, 1), distractors=0)


class AcrossSentences(SlowWords):
    """Has a token that begins in one sentence and ends in the next."""

    def _tokenize(self, text: str, **_: object) -> list[str]:
        return super()._tokenize(text.replace("well. My", "well.My"))


def test_prompts_whose_tokens_change_when_they_are_moved_are_left_out(few: Language) -> None:
    known = " ".join([few.statement, few.question, *few.openings, *few.fillers]).replace(".", " .").split()
    tokenizer = AcrossSentences([*few.names, *known, "well.My", ".", "?"])
    prompts = name_prompts(tokenizer, 8, distances=(0, 1), distractors=0)
    for prompt, moved in zip(prompts.prompts, prompts.moved, strict=True):
        assert "well.My" not in (*prompt.pieces, *moved.pieces)
        assert sorted(prompt.tokens) == sorted(moved.tokens)


def test_the_description_says_what_the_prompts_are() -> None:
    prompts = name_prompts(trained_tokenizer("metaspace"), 5, seed=3, distractors=2, distances=(0, 3))
    for part in ("5 prompts", f"“{BOOK}”", "English", "3 other sentences", "2 of them", "seed 3"):
        assert part in prompts.description


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_sentence_holds_a_name_and_all_are_whole(language: str) -> None:
    words = LANGUAGES[language]
    sentences = (*words.openings, *words.fillers, *words.others, words.statement, words.question)
    parts = [set(sentence.split() if words.space else sentence) for sentence in sentences]
    assert not set.union(*parts) & set(words.names)
    assert all(sentence.endswith(words.stop) for sentence in (*words.openings, *words.fillers))
    for group in (sentences, words.names):
        assert len(set(group)) == len(group)
