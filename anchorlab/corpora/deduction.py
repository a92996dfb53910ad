"""Deduction over made-up concepts: is x a D, if every A is a B, every B is a D, and x is an A?

After PrOntoQA (arXiv 2210.01240), which section 13.6 (fig. 13.16) asks for true or false. A row states the rules of
several chains of concepts in random order, one fact, and a question:

    every A B  every C D  …  x A  x D ?    with the token `true` or `false` behind it.

No shortcut answers more than half of the rows: the fact names the first concept of one chain, the question a concept
of the same chain (true) or, equally often, of another one (false), at a depth that has nothing to do with the answer.
Whoever does not see the fact, or the question, cannot know it; whoever sees both has to follow the rules.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Int

from anchorlab.errors import InputError
from anchorlab.tasks.randomness import Stream

from .rows import TokenRows

_WORDS = ("false", "true", "every", "?")
_FALSE, _TRUE, _EVERY, _ASK = range(len(_WORDS))
_NAMES = ("Alex", "Fae", "Max", "Polly", "Rex", "Sally", "Sam", "Stella", "Wren")
_ENDINGS = ("umpus", "impus", "ompus", "ampus", "empus")
_LETTERS = "wybdgjlnrstvz"
_MOST = len(_ENDINGS) * len(_LETTERS)


@dataclass(frozen=True)
class Deductions:
    """Rows of one split; `steps` is how many rules lead to the concept that is asked for."""

    tokens: Int[np.ndarray, "n length"]
    label: Int[np.ndarray, " n"]
    steps: Int[np.ndarray, " n"]

    def rows(self) -> TokenRows:
        """The rows to train on, grouped by the number of steps."""
        groups = [f"{steps} step{'s' if steps > 1 else ''}" for steps in self.steps]
        return TokenRows(self.tokens, label=self.label, groups=groups)


@dataclass(frozen=True, kw_only=True)
class Ontology:
    """What rows look like: `chains` chains of `steps` rules each, over `concepts` concepts.

    Questions are about concepts `least_steps`..`steps` rules behind the first one of a chain, all equally often.
    Raises InputError for values that do not fit together.
    """

    concepts: int = 30
    chains: int = 2
    steps: int = 3
    least_steps: int = 1

    def __post_init__(self) -> None:
        if self.chains < 2:
            raise InputError(f"chains={self.chains}: must be at least 2; a wrong answer is a concept of another chain")
        if not 1 <= self.least_steps <= self.steps:
            raise InputError(f"least_steps={self.least_steps}: must be between 1 and steps={self.steps}")
        needed = self.chains * (self.steps + 1)
        if not needed <= self.concepts <= _MOST:
            raise InputError(
                f"concepts={self.concepts}: must be between the {needed} of a row (chains · (steps + 1)) and {_MOST}"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The word of every token."""
        concepts = [letter + ending for ending, letter in product(_ENDINGS, _LETTERS)]
        return (*_WORDS, *_NAMES, *concepts[: self.concepts])

    @property
    def length(self) -> int:
        """Tokens in a row."""
        return 3 * self.chains * self.steps + 5

    def text(self, tokens: Sequence[int]) -> str:
        """A row in words; raises InputError for a row of another form."""
        rules, (who, first), (_, asked, _) = self._parts(tokens)
        names = self.names
        said = " ".join(f"Every {names[a]} is a {names[b]}." for a, b in rules)
        return f"{said} {names[who]} is a {names[first]}. Is {names[who]} a {names[asked]}?"

    def solve(self, tokens: Sequence[int]) -> bool:
        """Whether the rules lead from the fact to what is asked; raises InputError for a row of another form."""
        rules, (_, reached), (_, asked, _) = self._parts(tokens)
        follows = dict(rules)
        while reached != asked and reached in follows:
            reached = follows[reached]
        return reached == asked

    def _parts(self, tokens: Sequence[int]) -> tuple[list[tuple[int, int]], tuple[int, ...], tuple[int, ...]]:
        row = [int(token) for token in tokens]
        rules = row[:-5]
        if len(row) != self.length or set(rules[::3]) != {_EVERY} or row[-1] != _ASK or row[-5] != row[-3]:
            raise InputError(f"tokens: must be {self.chains * self.steps} rules, a fact and a question about it")
        return list(zip(rules[1::3], rules[2::3], strict=True)), tuple(row[-5:-3]), tuple(row[-3:])

    def splits(self, *, train_rows: int, test_rows: int, seed: int = 0) -> dict[str, Deductions]:
        """`train` and `test` rows, all different; in each, half of the rows (of an odd number, one less) are true.

        No test row differs from a training row only in who it is about and in the order of its rules. Raises InputError
        if there are not enough different rows.
        """
        counts = {"test": test_rows, "train": train_rows}
        for name, count in counts.items():
            if count < 2:
                raise InputError(f"{name}_rows={count}: must be at least 2")
        drawn = self._draw(4 * sum(counts.values()), Stream("deduction", repr(self), seed))
        _, first = np.unique(drawn.tokens, axis=0, return_index=True)
        free, problems = np.sort(first), self._problems(drawn.tokens)
        found = {}
        for name, count in counts.items():
            shares = {_TRUE: count // 2, _FALSE: count - count // 2}
            taken = [free[drawn.label[free] == label][:share] for label, share in shares.items()]
            if any(len(rows) < share for rows, share in zip(taken, shares.values(), strict=True)):
                raise InputError(f"{name}_rows={count}: there are not so many different rows; take more concepts")
            rows = np.concatenate(taken)
            free = free[~np.isin(problems[free], problems[rows])]
            rows = rows[Stream("deduction order", name, seed).permutation(count)]
            found[name] = Deductions(drawn.tokens[rows], drawn.label[rows], drawn.steps[rows])
        return {name: found[name] for name in ("train", "test")}

    def _problems(self, tokens: Int[np.ndarray, "n length"]) -> Int[np.ndarray, " n"]:
        """A number for each row; rows that differ only in who they are about and in the order of rules share it."""
        premise, conclusion = tokens[:, 1:-5:3], tokens[:, 2:-5:3]
        rules = np.sort(premise * len(self.names) + conclusion, axis=1)
        _, found = np.unique(np.column_stack([rules, tokens[:, [-4, -2]]]), axis=0, return_inverse=True)
        return np.ravel(found)

    def _draw(self, count: int, stream: Stream) -> Deductions:
        """Rows of which every second one is true."""
        rows, rules = np.arange(count), self.chains * self.steps
        first_concept = len(_WORDS) + len(_NAMES)
        pool = np.tile(np.arange(self.concepts) + first_concept, (count, 1))
        concepts = stream.distinct(pool, self.chains * (self.steps + 1)).reshape(count, self.chains, self.steps + 1)
        edges = np.stack([concepts[..., :-1], concepts[..., 1:]], axis=-1).reshape(count, rules, 2)
        order = stream.distinct(np.tile(np.arange(rules), (count, 1)), rules)
        told, elsewhere = stream.below(self.chains, count), 1 + stream.below(self.chains - 1, count)
        true = rows % 2 == 0
        asked = np.where(true, told, (told + elsewhere) % self.chains)
        steps = self.least_steps + stream.below(self.steps - self.least_steps + 1, count)
        who = len(_WORDS) + stream.below(len(_NAMES), count)
        ask = np.full(count, _ASK)
        statements = np.insert(edges[rows[:, None], order], 0, _EVERY, axis=-1).reshape(count, 3 * rules)
        fact_and_question = np.stack([who, concepts[rows, told, 0], who, concepts[rows, asked, steps], ask], axis=1)
        return Deductions(np.concatenate([statements, fact_and_question], axis=1), np.where(true, _TRUE, _FALSE), steps)
