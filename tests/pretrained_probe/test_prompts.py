"""Prompts of token ids and of task rows, and what a model can read of them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from trained_tokenizers import trained_tokenizer
from transformers import PreTrainedTokenizerFast

from anchorlab import tasks
from anchorlab.errors import InputError
from anchorlab.pretrained_probe.id_prompts import random_prompts, task_prompts
from anchorlab.pretrained_probe.prompts import Prompt, PromptSet, check_prompts, encode, prompt_from_ids


def made(*prompts: Prompt, moved: tuple[Prompt, ...] = ()) -> PromptSet:
    return PromptSet("text", "", prompts, moved)


def good(length: int = 4, **changes: object) -> Prompt:
    return replace(prompt_from_ids(range(length)), **changes)  # type: ignore[arg-type]


def rows(prompts: PromptSet) -> list[list[int]]:
    return [prompt.tokens.tolist() for prompt in prompts.prompts]


# -- what a model can read -----------------------------------------------------------------------------------------


def test_prompts_that_fit_are_accepted() -> None:
    check_prompts(made(good(), good(9, answer=8)), vocabulary_size=9, context=9)
    check_prompts(made(good(9), moved=(good(9),)), vocabulary_size=9, context=None)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (made(), "there are none"),
        (made(good(), good(12)), "prompt 2 has 12 tokens and the model reads at most 10; .*--length 10"),
        (made(good(), moved=(good(11),)), "moved prompt 1 has 11 tokens and the model reads at most 10"),
        (made(good(tokens=np.array([1, 20, 3, 4]))), "prompt 1 has the token id 20; the model has 0 to 19"),
        (made(good(tokens=np.array([1, -2, 3, 4]))), "prompt 1 has the token id -2"),
        (made(good(), good(answer=20)), "prompt 2 has the token id 20"),
        (made(good(), good(places={"key": 4})), "prompt 2 has 'key' at position 4; it has 0 to 3"),
        (made(good(places={"key": -1})), "prompt 1 has 'key' at position -1"),
        (made(good(tokens=np.empty(0, np.int64), pieces=())), "prompt 1 has 0 tokens"),
        (made(good(pieces=("a",))), "prompt 1 has 4 tokens and 1 pieces"),
        (made(good(), good(), moved=(good(),)), "moved prompts must be one for each"),
        (made(good(), moved=(good(places={"key": 1}),)), "with the same named places"),
    ],
)
def test_prompts_that_a_model_cannot_read_are_refused_in_one_line(prompts: PromptSet, message: str) -> None:
    with pytest.raises(InputError, match=rf"^prompts='text': .*{message}") as raised:
        check_prompts(prompts, vocabulary_size=20, context=10)
    assert "\n" not in str(raised.value)


def test_a_text_begins_as_the_tokenizer_begins_it_and_goes_on() -> None:
    for with_end in (False, True):
        tokenizer = trained_tokenizer("metaspace", with_end=with_end)
        ids = encode(tokenizer, "The sky is blue")
        assert tokenizer.convert_ids_to_tokens(ids) == ["<s>", "▁The", "▁sky", "▁is", "▁blue"]
    assert encode(trained_tokenizer("byte level"), " sky is") == trained_tokenizer("byte level").encode(" sky is")


def test_pieces_are_the_tokens_texts_or_ids() -> None:
    tokenizer = trained_tokenizer("byte level")
    prompt = prompt_from_ids(tokenizer.encode(" sky is blue."), tokenizer)
    assert prompt.pieces == (" sky", " is", " blue", ".")
    assert prompt.places == {"last": 3}
    assert prompt_from_ids([7, 30, 7]).pieces == ("7", "30", "7")


# -- random ids ----------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(2, 70), st.integers(4, 40), st.integers(0, 2**40))
def test_the_second_half_repeats_the_first_and_the_answer_goes_on(size: int, length: int, seed: int) -> None:
    prompts = random_prompts(size, n=3, length=length, seed=seed)
    check_prompts(prompts, size, length)
    period = -(-length // 2)
    for prompt in prompts.prompts:
        continued = [*prompt.tokens.tolist(), prompt.answer]
        assert len(continued) == length + 1
        assert continued[period:] == continued[: length + 1 - period]
        assert prompt.places == {"last": length - 1}


def test_random_ids_are_uniform_and_independent() -> None:
    prompts = random_prompts(10, n=200, length=200, repeated=False)
    tokens = np.array(rows(prompts))
    assert {prompt.answer for prompt in prompts.prompts} == {None}
    counts = np.bincount(tokens.ravel(), minlength=10)
    assert counts.sum() == 40_000
    assert np.abs(counts - 4000).max() < 5 * np.sqrt(40_000 * 0.1 * 0.9)
    same = (tokens[:, :100] == tokens[:, 100:]).mean()
    assert abs(same - 0.1) < 5 * np.sqrt(0.1 * 0.9 / 20_000)


def test_random_ids_with_a_tokenizer_are_its_own_and_not_special() -> None:
    tokenizer = trained_tokenizer("metaspace")
    plain = set(range(len(tokenizer))) - {tokenizer.convert_tokens_to_ids(name) for name in ("<unk>", "<s>", "</s>")}
    prompts = random_prompts(len(tokenizer) + 500, n=60, length=201, tokenizer=tokenizer)
    assert {row[0] for row in rows(prompts)} == {tokenizer.bos_token_id}
    assert {token for row in rows(prompts) for token in row[1:]} == plain
    assert all(row[1:101] == row[101:] for row in rows(prompts))
    small = random_prompts(40, n=60, length=60, tokenizer=tokenizer)
    assert max(max(row) for row in rows(small)) == 39


def test_special_tokens_without_a_role_are_not_drawn() -> None:
    backend = Tokenizer(WordLevel({word: number for number, word in enumerate(["a", "<unk>", "<reserved>", "b"])}))
    backend.add_special_tokens(["<reserved>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    assert tokenizer.all_special_ids == [1]
    prompts = random_prompts(4, n=9, length=9, tokenizer=tokenizer)
    assert {token for row in rows(prompts) for token in row} == {0, 3}


def test_random_prompts_without_a_tokens_left_are_refused() -> None:
    with pytest.raises(InputError, match=r"^vocabulary_size=3: all of these ids are special tokens"):
        random_prompts(3, tokenizer=trained_tokenizer("metaspace"))


@pytest.mark.parametrize("wrong", [{"n": 0}, {"seed": -1}, {"length": 3}])
def test_random_prompts_refuse_wrong_numbers(wrong: dict[str, int]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(InputError, match=f"^{name}: {value} is not allowed"):
        random_prompts(10, **wrong)  # type: ignore[arg-type]
    if name == "length":
        with pytest.raises(InputError, match=r"^length: 4 is not allowed; allowed: integers from 5"):
            random_prompts(10, length=4, tokenizer=trained_tokenizer("metaspace"))


@given(st.integers(0, 2**40))
def test_random_prompts_depend_on_seed_and_number_only(seed: int) -> None:
    first, again = (
        rows(random_prompts(1000, n=4, length=20, seed=seed)),
        random_prompts(1000, n=2, length=20, seed=seed),
    )
    assert rows(again) == first[:2]
    assert not {tuple(row) for row in first} & {
        tuple(row) for row in rows(random_prompts(1000, length=20, seed=seed + 1))
    }


# -- rows of a task ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "task", [*map(tasks.create, tasks.names()), tasks.create("working_memory", smallest_gap=16, largest_gap=17)]
)
def test_rows_of_every_task_are_prompts(task: tasks.Task) -> None:
    prompts = task_prompts(task, n=30, seed=2)
    check_prompts(prompts, task.vocabulary.size, task.length)
    sampled = {(*row, label) for row, label in zip(*token_lists(task.sample("test", 30, 2)), strict=True)}
    assert {(*prompt.tokens.tolist(), prompt.answer) for prompt in prompts.prompts} <= sampled
    for prompt in prompts.prompts:
        located = task.locate(prompt.tokens[None])
        anchors = [at for role, at in prompt.places.items() if role.startswith("anchor")]
        assert prompt.places["key"] == located.key_position[0]
        assert anchors == located.anchor_positions[0].tolist()
        assert prompt.pieces == tuple(task.vocabulary.token_name(token) for token in prompt.tokens.tolist())
    for prompt, moved in zip(prompts.prompts, prompts.moved, strict=False):
        assert sorted(prompt.tokens) == sorted(moved.tokens)
        assert moved.answer == prompt.answer
        assert all(moved.places[role] != at for role, at in prompt.places.items() if role != "last")
        assert moved.tokens[moved.places["key"]] == prompt.tokens[prompt.places["key"]]


def token_lists(sample: tasks.Sample) -> tuple[list[list[int]], list[int]]:
    return sample.tokens.tolist(), sample.label.tolist()


def test_moved_rows_have_the_answers_that_the_task_gives_them() -> None:
    task = tasks.create("composite")
    prompts = task_prompts(task, n=40, split="ood")
    assert len(prompts.moved) == len(prompts.prompts)
    moved = np.stack([prompt.tokens for prompt in prompts.moved])
    assert task.solve(moved).tolist() == [prompt.answer for prompt in prompts.moved]


def test_rows_that_fill_their_place_are_left_out() -> None:
    task = tasks.create("working_memory", smallest_gap=16, largest_gap=17)
    prompts = task_prompts(task, n=60)
    assert 0 < len(prompts.moved) == len(prompts.prompts) < 60
    assert all(prompt.places["anchor 2"] - prompt.places["key"] < 19 for prompt in prompts.prompts)


def test_a_task_that_fixes_its_anchors_keeps_all_rows_and_has_none_moved() -> None:
    prompts = task_prompts(tasks.create("classification"), n=7)
    assert (len(prompts.prompts), prompts.moved) == (7, ())
    assert "7 rows of the task 'classification', split 'test' (seed 0)" in prompts.description


@pytest.mark.parametrize(("wrong", "message"), [({"split": "tset"}, "did you mean 'test'"), ({"n": 0}, "n: 0 is not")])
def test_task_prompts_refuse_wrong_settings(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        task_prompts(tasks.create("composite"), **wrong)  # type: ignore[arg-type]
