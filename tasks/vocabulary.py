"""Token ids: a number is its own id, anchors lie elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Int
from pydantic import BeforeValidator

from anchorlab.errors import InputError
from anchorlab.validation import unknown_name

PAD = 0
LARGEST_SIZE = 2**15  # ids are stored as int16


def _as_name(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


AnchorName = Annotated[str, BeforeValidator(_as_name)]  # 9 means the anchor named "9"


@dataclass(frozen=True)
class Vocabulary:
    """What every token id stands for. Ranges include both ends."""

    size: int
    anchors: Mapping[str, int]
    low: int
    high: int
    labels: tuple[int, int]
    pad: int = PAD

    def token_name(self, token: int) -> str:
        """Return the anchor's name, the number, or ``<id>`` for an id that no row and no label uses."""
        for name, anchor in self.anchors.items():
            if anchor == token:
                return name
        used = self.low <= token <= self.high or self.labels[0] <= token <= self.labels[1]
        return str(token) if used else "<pad>" if token == self.pad else f"<{token}>"

    def token_id(self, name: str | int) -> int:
        """Return the id of an anchor's name or of a number."""
        if str(name) in self.anchors:
            return self.anchors[str(name)]
        if not str(name).isdecimal() or int(name) >= self.size:
            raise unknown_name("token", name, [*self.anchors, f"{self.low}..{self.high}"])
        return int(name)

    def encode(self, names: Iterable[str | int]) -> Int[np.ndarray, "1 length"]:
        """Return one row of ids, for example of ``(23, "a", "b", 43)``."""
        return np.array([[self.token_id(name) for name in names]], np.int16)


def place_anchors(
    names: Iterable[str], given: Mapping[str, int] | None, *, highest_number: int, highest_label: int
) -> dict[str, int]:
    """Return the id of each anchor: the `given` ones, or the ids after the largest number and label."""
    names = tuple(names)
    if given is None:
        first = max(highest_number, highest_label) + 1
        return {name: first + index for index, name in enumerate(names)}
    for name in given:
        if name not in names:
            raise unknown_name("anchor_ids", name, names)
    if missing := [name for name in names if name not in given]:
        raise InputError(f"anchor_ids: anchor {missing[0]!r} has no id; every anchor needs one: {', '.join(names)}")
    return {name: given[name] for name in names}


def check_anchors(
    field: str,
    anchors: Mapping[str, int],
    *,
    numbers: tuple[int, int],
    noise: tuple[int, int],
    labels: Int[np.ndarray, " values"],
) -> None:
    """Raise `InputError`, naming the field that the ids come from, if an anchor's id is taken.

    Taken are the pad, numbers, noise numbers, labels and the ids of other anchors.
    """
    taken: dict[int, str] = {}
    reached = set(labels.tolist())
    for name, anchor in anchors.items():
        problem = None
        if anchor < 1 or anchor >= LARGEST_SIZE:
            problem = f"allowed: 1..{LARGEST_SIZE - 1} (0 is the pad)"
        elif numbers[0] <= anchor <= numbers[1]:
            problem = f"which is also the number {anchor} (numbers run {numbers[0]}..{numbers[1]})"
        elif noise[0] <= anchor <= noise[1]:
            problem = f"which is also the noise number {anchor} (noise runs {noise[0]}..{noise[1]})"
        elif anchor in reached:
            problem = f"which is also the label {anchor} (labels run {min(reached)}..{max(reached)})"
        elif anchor in taken:
            problem = f"which is also the id of anchor {taken[anchor]!r}"
        if problem:
            raise InputError(f"{field}: anchor {name!r} has id {anchor}, {problem}")
        taken[anchor] = name


def check_labels(field: str, labels: Int[np.ndarray, " values"]) -> None:
    """Raise `InputError` if a label is not a positive id that int16 can hold."""
    low, high = int(labels.min()), int(labels.max())
    if low < 1 or high >= LARGEST_SIZE:
        raise InputError(f"{field}: labels run {low}..{high}; allowed: 1..{LARGEST_SIZE - 1} (0 is the pad)")


def vocabulary_size(given: int | None, largest_id: int) -> int:
    """Return the given size or the smallest that holds every id; `InputError` if the given one is too small."""
    if given is None:
        return largest_id + 1
    if given <= largest_id:
        raise InputError(
            f"vocabulary_size: {given} does not hold the largest id {largest_id}; allowed: {largest_id + 1} and above"
        )
    return given
