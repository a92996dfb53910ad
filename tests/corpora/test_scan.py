import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anchorlab.corpora import pairs, scan
from anchorlab.errors import InputError


def rewritten(command: str) -> str:
    """The actions by rewriting the text itself, innermost phrases first: no parts in common with the package."""
    text = re.sub(r"(.+) after (.+)", r"\2 and \1", command)
    turns = {"left": "I_TURN_LEFT", "right": "I_TURN_RIGHT"}
    for way, turn in turns.items():
        text = re.sub(rf"(\w+) around {way}", rf"({turn} \1) ({turn} \1) ({turn} \1) ({turn} \1)", text)
        text = re.sub(rf"(\w+) opposite {way}", rf"({turn} {turn} \1)", text)
        text = re.sub(rf"(\w+) {way}", rf"({turn} \1)", text)
    text = " and ".join(re.sub(r"^(.*) twice$", r"\1 \1", part) for part in text.split(" and "))
    text = " and ".join(re.sub(r"^(.*) thrice$", r"\1 \1 \1", part) for part in text.split(" and "))
    words = re.sub(r"\b(and|turn)\b|[()]", " ", text).split()
    return " ".join(word if word.startswith("I_") else f"I_{word.upper()}" for word in words)


def test_there_are_as_many_commands_as_the_paper_counts() -> None:
    assert len(scan.commands()) == len(set(scan.commands())) == 20_910
    assert max(len(pair.target.split()) for pair in scan.pairs()) == 48
    assert max(len(pair.source.split()) for pair in scan.pairs()) == 9


@pytest.mark.parametrize(
    ("name", "train", "test"),
    [
        ("simple", 16_728, 4_182),
        ("length", 16_990, 3_920),
        ("add_jump", 14_670, 7_706),
        ("add_turn_left", 21_890, 1_208),
    ],
)
def test_splits_have_the_sizes_of_the_published_files(name: str, train: int, test: int) -> None:
    found = scan.split(name)
    assert (len(found["train"]), len(found["test"])) == (train, test)
    assert not set(found["train"]) & set(found["test"])


@given(st.integers(0, 20_909))
def test_actions_agree_with_rewriting_the_text(index: int) -> None:
    command = scan.commands()[index]
    assert scan.interpret(command) == rewritten(command)


@pytest.mark.parametrize(
    ("command", "actions"),
    [
        ("jump", "I_JUMP"),
        ("jump left", "I_TURN_LEFT I_JUMP"),
        ("turn opposite right", "I_TURN_RIGHT I_TURN_RIGHT"),
        ("jump thrice", "I_JUMP I_JUMP I_JUMP"),
        ("walk after run", "I_RUN I_WALK"),
        ("jump around right", " ".join(["I_TURN_RIGHT I_JUMP"] * 4)),
        (
            "jump opposite left after walk around left",
            " ".join(["I_TURN_LEFT I_WALK"] * 4 + ["I_TURN_LEFT", "I_TURN_LEFT", "I_JUMP"]),
        ),
    ],
)
def test_the_papers_examples(command: str, actions: str) -> None:
    assert scan.interpret(command) == actions


@pytest.mark.parametrize("command", ["", "turn", "jump jump", "jump and", "and jump", "jump twice twice", "go left"])
def test_what_the_grammar_does_not_make_is_refused(command: str) -> None:
    with pytest.raises(InputError, match="SCAN's grammar"):
        scan.interpret(command)


@pytest.mark.parametrize(("name", "primitive"), [("add_jump", "jump"), ("add_turn_left", "turn left")])
def test_an_added_primitive_is_trained_alone_in_a_tenth_of_the_rows(name: str, primitive: str) -> None:
    found = scan.split(name)
    shown = [pair.source for pair in found["train"] if primitive in pair.source]
    assert set(shown) == {primitive}
    assert len(shown) == round(len(found["train"]) / 10)
    assert all(primitive in pair.source and pair.source != primitive for pair in found["test"])


def test_the_simple_split_follows_its_seed() -> None:
    assert scan.split("simple", seed=1) == scan.split("simple", seed=1)
    assert set(scan.split("simple", seed=1)["test"]) != set(scan.split("simple", seed=2)["test"])
    assert {pair for part in scan.split("simple").values() for pair in part} == set(scan.pairs())


def test_an_unknown_split_is_named() -> None:
    with pytest.raises(InputError, match="did you mean 'add_jump'"):
        scan.split("addjump")


def test_rows_ask_for_the_actions_and_their_end() -> None:
    splits = {"train": [pairs.Pair("jump left", "I_TURN_LEFT I_JUMP")], "test": [pairs.Pair("jump", "I_JUMP")]}
    vocabulary = pairs.Vocabulary(pair for part in splits.values() for pair in part)
    rows = pairs.token_rows(splits)["train"]
    assert vocabulary.decode(rows.input_ids[0]) == "jump left <sep> I_TURN_LEFT I_JUMP <end>"
    assert rows.labels is not None
    assert list(rows.labels[0]) == [-100] * 3 + list(rows.input_ids[0][3:])
    with pytest.raises(InputError, match="'run' is not in the vocabulary"):
        vocabulary.encode("run left")


def test_a_subset_is_of_the_pairs_and_follows_its_seed() -> None:
    chosen = pairs.subset(scan.pairs(), 50, "part", 3)
    assert len(set(chosen)) == 50
    assert set(chosen) < set(scan.pairs())
    assert chosen == pairs.subset(scan.pairs(), 50, "part", 3) != pairs.subset(scan.pairs(), 50, "part", 4)
    with pytest.raises(InputError, match="count=0: must be between 1 and the 2 pairs"):
        pairs.subset(scan.pairs()[:2], 0)


def test_published_files_are_read(tmp_path: Path) -> None:
    lines = [f"IN: {pair.source} OUT: {pair.target}" for pair in scan.pairs()[:30]]
    for name, part in {"train": lines[:20], "test": lines[20:]}.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(part) + "\n\n")
    found = scan.load(tmp_path / "train.txt", tmp_path / "test.txt")
    assert found == {"train": list(scan.pairs()[:20]), "test": list(scan.pairs()[20:30])}
    (tmp_path / "bad.txt").write_text("IN: jump OUT: I_JUMP\njump\n")
    with pytest.raises(InputError, match="line 2 has another form: 'jump'"):
        scan.load(tmp_path / "bad.txt", tmp_path / "test.txt")
    with pytest.raises(InputError, match="cannot be read"):
        scan.load(tmp_path / "none.txt", tmp_path / "test.txt")


def test_a_data_set_in_the_hubs_form_is_read(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("commands,actions\njump,I_JUMP\n")
    assert scan.load_hub(str(tmp_path), None) == {"train": [pairs.Pair("jump", "I_JUMP")]}
    (tmp_path / "test.csv").write_text("commands,actions\njump,I_JUMP\nrun,\n")
    with pytest.raises(InputError, match=r"split 'test', row 1 has no 'actions'$"):
        scan.load_hub(str(tmp_path), None)
    (tmp_path / "test.csv").write_text("")
    with pytest.raises(InputError, match=r"^name=.*: cannot be loaded \([^\n]*\)$"):
        scan.load_hub(str(tmp_path), None)
    (tmp_path / "test.csv").unlink()
    with pytest.raises(InputError, match="no column 'meaning'"):
        pairs.read_hub(str(tmp_path), ("commands", "meaning"))
    with pytest.raises(InputError, match="cannot be loaded"):
        scan.load_hub(str(tmp_path / "nothing"), None)
