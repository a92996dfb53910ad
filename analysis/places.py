"""Where the meaningful tokens of rows stand: positions by role, every position's name, and rows moved as a whole."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int, Shaped

from anchorlab.errors import InputError
from anchorlab.tasks import Task

LAST = "last"
Places = Mapping[str, Int[np.ndarray, " n"]]


def find_places(task: Task, tokens: Int[np.ndarray, "n length"]) -> dict[str, Int[np.ndarray, " n"]]:
    """The position of every role in every row: `key`, `anchor` (or `anchor 1`, `anchor 2`, …) and `last`.

    Raises `InputError` naming the first row that is none of the task's, such as one without an anchor.
    """
    found = task.locate(tokens)
    count = found.anchor_positions.shape[1]
    places = {"key": found.key_position}
    for number, column in enumerate(found.anchor_positions.T, start=1):
        places["anchor" if count == 1 else f"anchor {number}"] = column
    places[LAST] = np.full(len(tokens), tokens.shape[1] - 1)
    return {role: positions.astype(np.int64) for role, positions in places.items()}


def name_positions(places: Places, length: int) -> Shaped[np.ndarray, "n length"]:
    """The name of every position: its role, or `before`, `between` or `after` the roles; the last one is `last`.

    A role that stands at the last position keeps its own name.
    """
    roles = {role: at for role, at in places.items() if role != LAST}
    everywhere, at = np.arange(length), np.stack(list(roles.values()))
    first, final = at.min(axis=0)[:, None], at.max(axis=0)[:, None]
    names = np.where(everywhere < first, "before", np.where(everywhere > final, "after", "between")).astype(object)
    names[:, -1] = LAST
    rows = np.arange(len(names))
    for role, positions in roles.items():
        names[rows, positions] = role
    return names


def is_role(name: str) -> bool:
    """Whether a position of this name holds the key or an anchor."""
    return name.split(maxsplit=1)[0] in ("key", "anchor")


def ordered_names(names: Shaped[np.ndarray, "n length"]) -> list[str]:
    """The names that occur: `before`, roles and `between` by their mean position, `after`, `last`."""
    position = np.broadcast_to(np.arange(names.shape[1]), names.shape)
    found = {str(name): float(position[names == name].mean()) for name in np.unique(names.astype(str))}
    outside = {"before": -1, "after": 1, LAST: 2}
    return sorted(found, key=lambda name: (outside.get(name, 0), found[name]))


def move_rows(task: Task, tokens: Int[np.ndarray, "n length"]) -> tuple[Int[np.ndarray, " kept"], np.ndarray]:
    """Rows with key and anchors at other positions: the numbers of the rows that can be moved, and the moved rows.

    A row is turned by as many positions as its index gives among those that keep key and anchors in the row in their
    order; the noise goes along, so both rows hold the same tokens. Raises `InputError` if the task fixes where anchors
    stand, so that no row can be moved.
    """
    places = find_places(task, tokens)
    roles = np.stack([at for role, at in places.items() if role != LAST])
    first, final = roles.min(axis=0), roles.max(axis=0)
    room = tokens.shape[1] - 1 - (final - first)
    kept, moved = [], []
    for row, (tokens_of_row, start, free) in enumerate(zip(tokens, first, room, strict=True)):
        others = np.delete(np.arange(free + 1), start)
        if len(others):
            kept.append(row)
            moved.append(np.roll(tokens_of_row, others[row % len(others)] - start))
    if not kept or not _are_rows(task, np.array(moved), places, np.array(kept)):
        raise InputError(f"task={task.name!r}: it fixes where anchors stand, so they cannot be moved")
    return np.array(kept), np.array(moved)


def _are_rows(task: Task, moved: np.ndarray, places: Places, kept: np.ndarray) -> bool:
    try:
        found = find_places(task, moved)
    except InputError:
        return False
    shift = found["key"] - places["key"][kept]
    return all((found[role] - at[kept] == shift).all() for role, at in places.items() if role != LAST)
