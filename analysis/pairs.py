"""Anchor pairs of sample rows: their names, and the same rows with the two anchors exchanged."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int


def swap_anchors(
    tokens: Int[np.ndarray, "n length"], anchor_positions: Int[np.ndarray, "n 2"]
) -> Int[np.ndarray, "n length"]:
    """A copy of `tokens` with the two anchors of every row exchanged; key and noise stay where they are."""
    swapped = tokens.copy()
    rows = np.arange(len(tokens))
    first, second = anchor_positions.T
    swapped[rows, first], swapped[rows, second] = tokens[rows, second], tokens[rows, first]
    return swapped


def pair_names(anchors: Int[np.ndarray, "n 2"], anchor_ids: Mapping[str, int]) -> list[str]:
    """The ordered pair of every row as `first,second`, in the anchors' own names."""
    names = {token: name for name, token in anchor_ids.items()}
    return [f"{names[first]},{names[second]}" for first, second in anchors.tolist()]


def swapped_name(pair: str) -> str:
    """`second,first` of the pair `first,second`."""
    first, second = pair.split(",")
    return f"{second},{first}"


def unordered_name(pair: str) -> str:
    """The same name for `a,b` and `b,a`: the two anchors in alphabetical order."""
    return ",".join(sorted(pair.split(",")))
