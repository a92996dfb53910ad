"""SCAN: commands such as `jump around left twice and walk` and the actions they stand for, all 20,910 of them.

The grammar and the interpretation function of Lake and Baroni (arXiv 1711.00350, figures 6 and 7), and their splits;
section 13.6 (fig. 13.14A) uses the one where `turn left` is seen alone and tested in compounds.
"""

import re
from collections.abc import Callable, Mapping
from functools import cache
from itertools import product
from pathlib import Path

from anchorlab.errors import InputError
from anchorlab.validation import check_known

from .pairs import Pair, read_hub, read_lines, subset

Splits = dict[str, list[Pair]]

_DIRECTIONS = {"left": "I_TURN_LEFT", "right": "I_TURN_RIGHT"}
_PRIMITIVES = {"walk": "I_WALK", "look": "I_LOOK", "run": "I_RUN", "jump": "I_JUMP"}
_TIMES = {"twice": 2, "thrice": 3}

SPLITS = ("simple", "length", "add_jump", "add_turn_left")
_LONGEST_TRAINING = 22  # actions; section 4, experiment 2
_PRIMITIVE_SHARE = 10  # experiment 3: the primitive alone is every tenth training row
_SIMPLE_TEST_SHARE = 5  # experiment 1: a fifth of all commands


@cache
def commands() -> tuple[str, ...]:
    """All commands of the grammar, in its order.

    C → S and S | S after S | S; S → V twice | V thrice | V; V → D opposite | D around | D | U;
    D → U left | U right | turn left | turn right; U → walk | look | run | jump.
    """
    directed = [" ".join(words) for words in product((*_PRIMITIVES, "turn"), ("opposite", "around", ""), _DIRECTIONS)]
    verbs = [" ".join(phrase.split()) for phrase in (*_PRIMITIVES, *directed)]
    phrases = [phrase for verb in verbs for phrase in (verb, *(f"{verb} {times}" for times in _TIMES))]
    joined = (f"{first} {word} {second}" for first, word, second in product(phrases, ("and", "after"), phrases))
    return (*phrases, *joined)


def interpret(command: str) -> str:
    """The actions of a command of the grammar; raises InputError for anything else.

    `x and y` is x, y; `x after y` is y, x; `x twice` is x, x; `u left` turns and does u; `u opposite left` turns twice
    and does u; `u around left` turns and does u four times. The `u` of `turn` does nothing.
    """
    try:
        return " ".join(_actions(command.split()))
    except (KeyError, IndexError):
        raise InputError(f"command={command!r}: is not in SCAN's grammar") from None


def _actions(words: list[str]) -> list[str]:
    for conjunction in ("and", "after"):
        if conjunction in words:
            place = words.index(conjunction)
            parts = [_phrase(words[:place]), _phrase(words[place + 1 :])]
            return parts[0] + parts[1] if conjunction == "and" else parts[1] + parts[0]
    return _phrase(words)


def _phrase(words: list[str]) -> list[str]:
    times = _TIMES.get(words[-1])
    return _verb(words[:-1]) * times if times else _verb(words)


def _verb(words: list[str]) -> list[str]:
    if len(words) == 1:
        return [_PRIMITIVES[words[0]]]
    primitive = [] if words[0] == "turn" else [_PRIMITIVES[words[0]]]
    turn = [_DIRECTIONS[words[-1]]]
    match words[1:-1]:
        case []:
            return turn + primitive
        case ["opposite"]:
            return turn + turn + primitive
        case ["around"]:
            return (turn + primitive) * 4
    raise KeyError(words)


@cache
def pairs() -> tuple[Pair, ...]:
    """Every command with its actions."""
    return tuple(Pair(command, interpret(command)) for command in commands())


def split(name: str, *, seed: int = 0) -> Splits:
    """`train` and `test` of one of `SPLITS`.

    - `simple`: a random fifth of all commands is tested (`seed` says which);
    - `length`: commands of at most 22 actions are trained, longer ones tested;
    - `add_jump`, `add_turn_left`: of the commands with `jump` (`turn left`) only the bare one is trained, so often that
      it makes a tenth of the training rows; the others are tested.

    Raises InputError for another name.
    """
    check_known("split", name, SPLITS)
    if name == "simple":
        order = subset(pairs(), len(pairs()), "scan", seed)
        held_out = len(order) // _SIMPLE_TEST_SHARE
        return {"train": order[held_out:], "test": order[:held_out]}
    if name == "length":
        return _divided(lambda pair: len(pair.target.split()) <= _LONGEST_TRAINING)
    return _add_primitive(name.removeprefix("add_").replace("_", " "))


def _add_primitive(primitive: str) -> Splits:
    bare = Pair(primitive, interpret(primitive))
    found = _divided(lambda pair: primitive not in pair.source)
    copies = round(len(found["train"]) / (_PRIMITIVE_SHARE - 1))
    return {"train": found["train"] + [bare] * copies, "test": [pair for pair in found["test"] if pair != bare]}


def _divided(trained: Callable[[Pair], bool]) -> Splits:
    return {
        "train": [pair for pair in pairs() if trained(pair)],
        "test": [pair for pair in pairs() if not trained(pair)],
    }


def load(train: Path | str, test: Path | str) -> Splits:
    """Splits from two of the published files, such as `tasks_train_addprim_turn_left.txt`: lines `IN: … OUT: …`.

    Raises InputError for a file that cannot be read or a line of another form.
    """
    return {"train": read_lines(train, _parse), "test": read_lines(test, _parse)}


def load_hub(name: str = "scan", configuration: str | None = "addprim_turn_left") -> Mapping[str, list[Pair]]:
    """Splits of a data set of the hub (or a folder) with columns `commands` and `actions`.

    Raises InputError if it cannot be loaded or has other columns.
    """
    return read_hub(name, ("commands", "actions"), configuration)


def _parse(line: str) -> Pair | None:
    found = re.fullmatch(r"IN: (.+) OUT: (.+)", line.strip())
    return Pair(*found.groups()) if found else None
