"""COGS: sentences and their logical forms, with nouns, verbs and structures tested where training never shows them.

`generate` draws from a reduced grammar in the form of the published data (Kim and Linzen, arXiv 2010.05465): about 70
words instead of 900, eight verb frames, and twelve of the twenty-one cases of generalization (no infinitives, no
`omitted object` and `unaccusative` cases). Numbers from it are not COGS' own; `load` reads the published files.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from anchorlab.errors import InputError
from anchorlab.tasks.randomness import Stream

from . import cogs_grammar as grammar
from .cogs_grammar import Clause, Noun, write
from .pairs import Pair, read_hub, read_lines

Item = TypeVar("Item")

_WEIGHTS = {
    "transitive": 6,
    "passive": 3,
    "short passive": 2,
    "unergative": 3,
    "unaccusative": 1,
    "dative": 2,
    "double object": 2,
    "clausal": 3,
}
_VERBS = {
    "unergative": grammar.UNERGATIVE,
    "unaccusative": grammar.UNACCUSATIVE,
    "clausal": grammar.CLAUSAL,
    "dative": grammar.DATIVE,
    "double object": grammar.DATIVE,
}
_NAME_SHARE, _MODIFIER_SHARE = 3, 4  # one agent or recipient in 3 is a name, one object in 4 has a modifier
_REPEATED_DRAWS = 10_000  # without any new sentence, before there are thought to be no more


class _Draws:
    """Random sentences of the grammar without the reserved words."""

    def __init__(self, stream: Stream, depth: int):
        self._stream = stream
        self._depth = depth

    def clause(self, frame: str | None = None, verb: str | None = None, depth: int = 0, **roles: Noun) -> Clause:
        """A clause inside `depth` others, with what is given and the rest drawn."""
        frame = frame or self._frame(nested=depth < self._depth)
        verb = verb or self._one(list(_VERBS.get(frame, grammar.TRANSITIVE)))
        wanted = [item for item in grammar.FRAMES[frame].split() if item in grammar.ROLES]
        return Clause(verb, frame, {role: roles.get(role) or self._argument(role, frame, depth) for role in wanted})

    def nested(self, depth: int) -> Clause:
        """A clause inside exactly `depth` clauses with `that`."""
        inner = self.clause("transitive")
        for _ in range(depth):
            agent = self._argument("agent", "clausal", 0)
            inner = Clause(self._one(list(grammar.CLAUSAL)), "clausal", {"agent": agent, "ccomp": inner})
        return inner

    def modified(self, word: str, depth: int) -> Noun:
        """A noun phrase with `depth` prepositional phrases inside each other."""
        noun = Noun(word, self._flip())
        if depth == 0:
            return noun
        inner = self.modified(self._one(grammar.PLACES), depth - 1)
        return replace(noun, modifier=(self._one(grammar.PREPOSITIONS), inner))

    def theme(self, word: str | None = None, *, modifiers: bool = True) -> Noun:
        """The word (None: any that fits) as an object, perhaps with modifiers, no deeper ones than in training."""
        modified = modifiers and not self._below(_MODIFIER_SHARE)
        word = word or self._one((*grammar.THINGS, *grammar.BEINGS))
        return self.modified(word, 1 + self._below(self._depth) if modified else 0)

    def common(self, word: str) -> Noun:
        """The word with an article."""
        return Noun(word, self._flip())

    def deeper(self) -> int:
        """A depth that is one to three more than the most in training."""
        return self._depth + 1 + self._below(3)

    def thing(self) -> str:
        """A noun that fits an object."""
        return self._one(grammar.THINGS)

    def being(self) -> str:
        """A noun that fits a subject."""
        return self._one(grammar.BEINGS)

    def _argument(self, role: str, frame: str, depth: int) -> Noun | Clause:
        if role == "ccomp":
            return self.clause(depth=depth + 1)
        if role == "theme":
            return self.theme(modifiers=frame not in _SUBJECT_THEMES)
        return Noun(self._one(grammar.NAMES)) if not self._below(_NAME_SHARE) else self.common(self.being())

    def _frame(self, *, nested: bool) -> str:
        frames = [frame for frame, weight in _WEIGHTS.items() for _ in range(weight) if nested or frame != "clausal"]
        return self._one(frames)

    def _one(self, items: Sequence[Item]) -> Item:
        return items[self._below(len(items))]

    def _below(self, bound: int) -> int:
        return int(self._stream.below(bound, 1)[0])

    def _flip(self) -> bool:
        return bool(self._below(2))


_SUBJECT_THEMES = ("unaccusative", "passive", "short passive")


@dataclass(frozen=True)
class Case:
    """One generalization: what training shows of it (None: nothing of its own), and what is tested."""

    name: str
    seen: Callable[[_Draws], Clause | Pair] | None
    tested: Callable[[_Draws], Clause]


def _primitive(word: str) -> Pair:
    """A word alone: its logical form is an open expression, or a name itself."""
    return Pair(word, word if word[0].isupper() else f"LAMBDA a . {word} ( a )")


CASES = (
    Case(
        "subject to object (noun)",
        lambda draw: draw.clause("transitive", agent=draw.common("hedgehog")),
        lambda draw: draw.clause("transitive", theme=draw.theme("hedgehog")),
    ),
    Case(
        "object to subject (noun)",
        lambda draw: draw.clause("transitive", theme=draw.common("cockroach")),
        lambda draw: draw.clause("transitive", agent=draw.common("cockroach")),
    ),
    Case(
        "primitive to subject (noun)",
        lambda draw: _primitive("shark"),
        lambda draw: draw.clause("transitive", agent=draw.common("shark")),
    ),
    Case(
        "primitive to object (noun)",
        None,  # the word of the case before
        lambda draw: draw.clause("transitive", theme=draw.theme("shark")),
    ),
    Case(
        "primitive to subject (name)",
        lambda draw: _primitive("Paula"),
        lambda draw: draw.clause("transitive", agent=Noun("Paula")),
    ),
    Case(
        "active to passive",
        lambda draw: draw.clause("transitive", "bless"),
        lambda draw: draw.clause("passive", "bless"),
    ),
    Case(
        "passive to active",
        lambda draw: draw.clause("passive", "squeeze"),
        lambda draw: draw.clause("transitive", "squeeze"),
    ),
    Case(
        "double object to dative",
        lambda draw: draw.clause("double object", "teleport"),
        lambda draw: draw.clause("dative", "teleport"),
    ),
    Case(
        "dative to double object",
        lambda draw: draw.clause("dative", "ship"),
        lambda draw: draw.clause("double object", "ship"),
    ),
    Case(
        "modified object to modified subject",
        None,
        lambda draw: draw.clause("transitive", agent=draw.modified(draw.being(), 1)),
    ),
    Case(
        "deeper prepositional phrases",
        None,
        lambda draw: draw.clause("transitive", theme=draw.modified(draw.thing(), draw.deeper())),
    ),
    Case("deeper clauses", None, lambda draw: draw.nested(draw.deeper())),
)


def generate(
    *, train_rows: int, test_rows: int, ood_rows: int, exposures: int = 20, depth: int = 2, seed: int = 0
) -> dict[str, list[Pair]]:
    """`train`, `test` (in distribution) and `ood` pairs, all different; those of `ood` are grouped by their case.

    `exposures` of the training rows show each case that needs a word to be seen (a primitive is repeated), and
    `ood_rows` are tested of each case. `depth` is the most prepositional phrases inside each other, and the most
    clauses with `that`, in training.

    Raises InputError for numbers that are not positive, leave no other training rows, or are more than there are
    different sentences.
    """
    for name, count in {"test_rows": test_rows, "ood_rows": ood_rows, "exposures": exposures, "depth": depth}.items():
        if count < 1:
            raise InputError(f"{name}={count}: must be at least 1")
    shown = [case for case in CASES if case.seen]
    general = train_rows - exposures * len(shown)
    if general < 1:
        raise InputError(
            f"train_rows={train_rows}: must be more than the {exposures * len(shown)} rows that show the cases"
        )
    draws = _Draws(Stream("cogs", seed), depth)
    used: set[str] = set()
    train = _different("train_rows", general, draws.clause, used)
    for case in shown:
        train += _exposed(case, exposures, draws, used)
    return {
        "train": train,
        "test": _different("test_rows", test_rows, draws.clause, used),
        "ood": [
            pair._replace(group=case.name)
            for case in CASES
            for pair in _different("ood_rows", ood_rows, partial(case.tested, draws), used)
        ],
    }


def _exposed(case: Case, count: int, draws: _Draws, used: set[str]) -> list[Pair]:
    assert case.seen is not None
    first = case.seen(draws)
    if isinstance(first, Pair):
        return [first] * count
    return _different("exposures", count, partial(case.seen, draws), used)  # type: ignore[arg-type]


def _different(name: str, count: int, draw: Callable[[], Clause], used: set[str]) -> list[Pair]:
    """`count` (the setting `name`) drawn pairs with sentences that are not in `used`, which they are added to."""
    found: list[Pair] = []
    repeated = 0
    while len(found) < count:
        pair = Pair(*write(draw()))
        repeated += 1
        if pair.source not in used:
            used.add(pair.source)
            found.append(pair)
            repeated = 0
        if repeated == _REPEATED_DRAWS:
            raise InputError(f"{name}={count}: must be at most the {len(found)} different sentences of this kind")
    return found


def compact(form: str) -> str:
    """A logical form in fewer tokens, without what follows from the rest.

    `eat . agent ( x _ 2 , x _ 1 )` becomes `eat agent x2 x1`: variables are one token; brackets, commas and dots go.
    """
    return re.sub(r" [().,](?= |$)", "", re.sub(r"x _ (\d+)", r"x\1", form))


def load(train: Path | str, **others: Path | str) -> dict[str, list[Pair]]:
    """Splits from published files (`train.tsv`, `test.tsv`, `gen.tsv`): sentence, logical form and case between tabs.

    `load("train.tsv", test="test.tsv", ood="gen.tsv")`. Raises InputError for a file that cannot be read or a line of
    another form.
    """
    return {split: read_lines(path, _parse) for split, path in {"train": train, **others}.items()}


def load_hub(name: str, columns: Sequence[str] = ("source", "target", "category")) -> Mapping[str, list[Pair]]:
    """Splits of a data set of the hub (or a folder); `columns` are those of sentence, logical form and case.

    Raises InputError if it cannot be loaded or has other columns.
    """
    return read_hub(name, columns)


def _parse(line: str) -> Pair | None:
    parts = line.rstrip("\n").split("\t")
    return Pair(*parts) if len(parts) == 3 and all(parts) else None
