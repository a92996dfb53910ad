"""Positional read-out (figs. 12.8, 12.10): what every position would answer in every layer, by the logit lens.

The residual stream of a layer and position goes through the final layer norm and the head, as if the model ended there,
and the most likely token is compared with what the rule's parts make of the key: each anchor alone, each anchor twice,
their composition (the answer), the key itself, or none of these.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int, Shaped
from torch import Tensor, nn

from anchorlab.errors import InputError
from anchorlab.tasks import Task
from anchorlab.tasks.operations import Operation

from .parts import parts, residual_stream
from .places import find_places, name_positions, ordered_names
from .predictions import batches, evaluating

NONE = "none"


@dataclass(frozen=True)
class Readout:
    """Shares of rows by layer and place.

    `table` has the columns layer (0: the embedding), place (a role, or `before`, `between`, `after`, `last`), positions
    (how many were read there), one column for every hypothesis with the share that reads it out, and none. Values can
    coincide, so only rows are used in which all hypotheses have different ones (`rows` of them out of `drawn`);
    hypotheses that coincide in every row are joined by `=`.

    `offsets` tells whether a place holds an intermediate result up to a constant (fig. 12.10): for every layer, place
    and single-anchor function, the most frequent difference between read-out and value, and its share.
    """

    table: pd.DataFrame
    offsets: pd.DataFrame
    hypotheses: tuple[str, ...]
    places: tuple[str, ...]
    layers: int
    rows: int
    drawn: int

    def label(self, layer: int, place: str, *, least: float = 0.5) -> str:
        """The hypothesis that most positions of a place confirm; `none` if fewer than `least` do."""
        row = self.table[(self.table["layer"] == layer) & (self.table["place"] == place)]
        shares = row.iloc[0][list(self.hypotheses)].astype(float)
        return str(shares.idxmax()) if shares.max() >= least else NONE


def read_out(model: nn.Module, task: Task, tokens: Int[np.ndarray, "n length"], *, batch: int = 256) -> Readout:
    """Read out every position behind every layer of `model` on rows of `task`.

    Raises `InputError` for a task whose answer is no composition of single anchors, a model whose parts are not known,
    and a row that is none of the task's, such as one without an anchor.
    """
    values, each = hypotheses(task, tokens), _values(task, tokens)
    telling = _different(values)
    if not telling.any():
        raise InputError(
            f"task={task.name!r}: in every row two of {', '.join(values)} coincide, so none tells them apart"
        )
    tokens, values = tokens[telling], {name: column[telling] for name, column in values.items()}
    names = name_positions(find_places(task, tokens), tokens.shape[1])
    single = {name: column[telling] for name, column in each.items() if name.startswith("f_a") and "∘" not in name}
    counts: dict[tuple[int, str], np.ndarray] = {}
    differences: dict[tuple[int, str, str], Counter[int]] = {}
    for start, rows in batches(model, tokens, batch):
        chosen = slice(start, start + len(rows))
        for layer, answers in enumerate(_answers(model, rows)):
            for place in np.unique(names[chosen].astype(str)):
                here = names[chosen] == place
                hits = [(answers == column[chosen, None])[here].sum() for column in values.values()]
                missed = np.all([(answers != column[chosen, None])[here] for column in values.values()], axis=0).sum()
                counts[layer, place] = counts.get((layer, place), 0) + np.array([here.sum(), *hits, missed])
                for name, column in single.items():
                    found, often = np.unique((answers - column[chosen, None])[here], return_counts=True)
                    counter = differences.setdefault((layer, place, name), Counter())
                    counter.update(dict(zip(found.tolist(), often.tolist(), strict=True)))
    return Readout(
        table=_table(counts, list(values)),
        offsets=_offsets(differences),
        hypotheses=tuple(values),
        places=tuple(ordered_names(names)),
        layers=max(layer for layer, _ in counts),
        rows=len(tokens),
        drawn=len(telling),
    )


def hypotheses(task: Task, tokens: Int[np.ndarray, "n length"]) -> dict[str, Int[np.ndarray, " n"]]:
    """Values that a network may compute on the way from key to answer, by name.

    `answer`, `key`, and for every anchor, numbered in the order in which they act, `f_a1` (the anchor's function of the
    key) and `f_a1∘f_a1` (the function twice); of three anchors and more also what the first two give, `f_a2∘f_a1`, and
    so on. Hypotheses of equal values in all rows are joined. Raises `InputError` for a task whose anchors do not act on
    one key each, and for no rows.
    """
    by_value: dict[bytes, list[str]] = {}
    values = _values(task, tokens)
    for name, column in values.items():
        by_value.setdefault(column.tobytes(), []).append(name)
    return {" = ".join(names): values[names[0]] for names in by_value.values()}


def _values(task: Task, tokens: Int[np.ndarray, "n length"]) -> dict[str, Int[np.ndarray, " n"]]:
    if len(tokens) == 0:
        raise InputError("tokens: no rows given; at least one is needed")
    operations = task.single_anchors
    if not operations:
        raise InputError(f"task={task.name!r}: its answer is no composition of single anchors acting on one key")
    found = task.locate(tokens)
    columns = list(found.anchors.T) if task.acts_left_to_right else list(found.anchors.T[::-1])
    key = found.key.astype(np.int64)
    values = {"answer": task.solve(tokens).astype(np.int64), "key": key}
    for number, anchors in enumerate(columns, start=1):
        name = "f_a" if len(columns) == 1 else f"f_a{number}"
        values[name] = _apply(operations, anchors, key)
        values[f"{name}∘{name}"] = _apply(operations, anchors, values[name])
    name, composed = "f_a1", values.get("f_a1", key)
    for number, anchors in enumerate(columns[1:-1], start=2):
        name, composed = f"f_a{number}∘{name}", _apply(operations, anchors, composed)
        values[name] = composed
    return values


def _apply(
    operations: Mapping[int, Operation], anchors: Int[np.ndarray, " n"], values: Int[np.ndarray, " n"]
) -> Int[np.ndarray, " n"]:
    results = np.empty(len(values), np.int64)
    for anchor in np.unique(anchors):
        mine = anchors == anchor
        results[mine] = operations[int(anchor)].apply(values[mine, None])
    return results


def _different(values: dict[str, Int[np.ndarray, " n"]]) -> Shaped[np.ndarray, " n"]:
    ordered = np.sort(np.stack(list(values.values())), axis=0)
    return np.asarray((np.diff(ordered, axis=0) != 0).all(axis=0))


def _answers(model: nn.Module, rows: Int[Tensor, "batch length"]) -> list[Int[np.ndarray, "batch length"]]:
    known = parts(model)
    with evaluating(model):
        stream = residual_stream(model, rows, known)
        return [known.unembed(state, layer).argmax(dim=-1).cpu().numpy() for layer, state in enumerate(stream)]


def _table(counts: dict[tuple[int, str], np.ndarray], names: list[str]) -> pd.DataFrame:
    rows = [
        {"layer": layer, "place": place, "positions": int(count[0])}
        | dict(zip([*names, NONE], (count[1:] / count[0]).tolist(), strict=True))
        for (layer, place), count in counts.items()
    ]
    return pd.DataFrame(rows)


def _offsets(differences: dict[tuple[int, str, str], Counter[int]]) -> pd.DataFrame:
    rows = []
    for where, counter in differences.items():
        offset, most = min(counter.items(), key=lambda item: (-item[1], item[0]))
        rows.append((*where, offset, most / counter.total()))
    return pd.DataFrame(rows, columns=["layer", "place", "function", "offset", "share"])
