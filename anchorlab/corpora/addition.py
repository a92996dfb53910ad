"""Addition a + b = c with a central square of pairs held out (section 13.6, fig. 13.14C).

All pairs with both numbers in the held-out range are tested, all others trained, so that no training pair is near the
middle of the tested ones: copying from similar rows does not help ("case-based reasoning intervention").
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from tokenizers import Tokenizer

from anchorlab.errors import InputError
from anchorlab.tasks.randomness import Stream

from .rows import TokenRows, answered


class Square(NamedTuple):
    """Numbers 0..`largest`, and the range `low`..`high` (both included) of which all pairs are held out."""

    largest: int = 999
    low: int = 400
    high: int = 600


BOOK = Square()
"""The range of the book."""


class Pairs(NamedTuple):
    """The two numbers of each row."""

    first: Int[np.ndarray, " n"]
    second: Int[np.ndarray, " n"]


def split(
    square: Square = BOOK, *, train_rows: int | None = None, test_rows: int | None = None, seed: int = 0
) -> dict[str, Pairs]:
    """The pairs of `train`, and of `test` with both numbers in the square: all of them, or as many as asked for.

    Raises InputError for a square that is not inside the numbers or leaves none outside, and for more rows than pairs.
    """
    largest, low, high = square
    if not 0 <= low <= high <= largest or high - low == largest:
        raise InputError(f"square={low}..{high}: must be inside 0..{largest} and leave numbers outside")
    first, second = (axis.ravel() for axis in np.meshgrid(*[np.arange(largest + 1)] * 2, indexing="ij"))
    held_out = (first >= low) & (first <= high) & (second >= low) & (second <= high)
    chosen = {
        "train": _draw("train", np.flatnonzero(~held_out), train_rows, seed),
        "test": _draw("test", np.flatnonzero(held_out), test_rows, seed),
    }
    return {name: Pairs(first[rows], second[rows]) for name, rows in chosen.items()}


def _draw(name: str, pool: Int[np.ndarray, " pool"], count: int | None, seed: int) -> Int[np.ndarray, " n"]:
    count = len(pool) if count is None else count
    if not 1 <= count <= len(pool):
        raise InputError(f"{name}_rows={count}: must be between 1 and the {len(pool):,} pairs there are")
    chosen: Int[np.ndarray, " n"] = pool[Stream("addition", name, seed).permutation(len(pool))[:count]]
    return chosen


def whole_number_rows(pairs: Pairs, largest: int) -> TokenRows:
    """Rows `a + b =` with the token c behind them (column `label`): the token of a number is the number itself.

    The tokens of + and = are 2 · `largest` + 1 and + 2, behind the largest sum.
    """
    plus = np.full_like(pairs.first, 2 * largest + 1)
    tokens = np.stack([pairs.first, plus, pairs.second, plus + 1], axis=1)
    return TokenRows(tokens, label=pairs.first + pairs.second)


def digit_rows(pairs: Pairs) -> TokenRows:
    """Rows `a + b = c <end>` of which c and the end count (column `labels`), in decimal digits, the first one first.

    The tokens of digits are 0 to 9, of +, = and the end 10, 11 and 12.
    """
    prompts = [[*_digits(a), 10, *_digits(b), 11] for a, b in zip(*pairs, strict=True)]
    answers = [[*_digits(a + b), 12] for a, b in zip(*pairs, strict=True)]
    return answered(prompts, answers)


def text_rows(pairs: Pairs, tokenizer: Tokenizer) -> TokenRows:
    """Rows of the text `a+b=c` in a tokenizer's tokens, of which those of c count (column `labels`).

    Raises InputError for a tokenizer that cannot write digits and signs.
    """
    prompts: list[list[int]] = []
    answers: list[list[int]] = []
    for a, b in zip(*pairs, strict=True):
        for part, text in ((prompts, f"{a}+{b}="), (answers, f"{a + b}")):
            tokens = tokenizer.encode(text, add_special_tokens=False).ids
            if tokenizer.decode(tokens).replace(" ", "") != text:
                raise InputError(f"tokenizer: has no tokens for {text!r}; a text tokenizer with digits is needed")
            part.append(tokens)
    return answered(prompts, answers)


def _digits(number: int) -> list[int]:
    return [int(digit) for digit in str(number)]
