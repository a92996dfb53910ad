"""Outputs under masking (section 13.4): how they lie when the key, or the second anchor, is hidden from the network.

As in fig. 13.7 all edges from the hidden token to other positions are zeroed after the softmax, without renormalising.
Rows in which the hidden token stands at the last position are left out: nothing hides it from the output there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from torch import nn

from anchorlab.errors import InputError
from anchorlab.tasks import Task

from .edits import AttentionEdit, EditRecord, outputs, select_edges
from .output_space import PairClusters, SingleAnchorSimilarity, pair_clusters, single_anchor_similarity
from .pairs import pair_names
from .places import find_places

_MOST_ROWS, _MOST_BY_TSNE, _FEWEST_OF_A_PAIR = 1000, 300, 5


@dataclass(frozen=True)
class KeyMasked:
    """Fig. 13.8: outputs by anchor pair with the key hidden, and what hiding it removed.

    `clusters` are those of all rows by principal components, `by_tsne` those of the first rows of every pair (about 300
    in all) by t-SNE.
    """

    clusters: PairClusters
    by_tsne: PairClusters
    record: EditRecord


@dataclass(frozen=True)
class SecondAnchorMasked:
    """Fig. 13.9: similarity of outputs by g(x; a1) with the anchor hidden that acts last, and what that removed."""

    similarity: SingleAnchorSimilarity
    record: EditRecord


def mask_key(model: nn.Module, task: Task, seed: int, *, per_pair: int = 50, logits: bool = False) -> KeyMasked:
    """Hide the key in `per_pair` rows of every anchor pair and arrange the last hidden states (or the logits) by pair.

    Of many pairs, fewer rows each are taken: about a thousand in all, since every two outputs are compared. Seen pairs
    come from the test split, the others from ood.

    Raises `InputError` for a task without anchor pairs and `NoAttentionError` for a model without attention.
    """
    _check_pairs(task)
    splits = [split for split in task.splits if split != "train"]
    pairs = sum(len(np.unique(task.cells(split).anchors, axis=0)) for split in splits)
    each = max(_FEWEST_OF_A_PAIR, min(per_pair, _MOST_ROWS // pairs))
    rows = [_rows_of_pairs(task, split, seed, each) for split in splits]
    tokens, names = np.concatenate([tokens for tokens, _ in rows]), [name for _, found in rows for name in found]
    found, kept, record = _masked(model, task, tokens, "key", logits=logits)
    of_kept = pd.Series([names[row] for row in kept])
    some = of_kept.groupby(of_kept).head(max(_FEWEST_OF_A_PAIR, _MOST_BY_TSNE // pairs)).index.to_numpy()
    return KeyMasked(
        clusters=pair_clusters(found, of_kept.tolist()),
        by_tsne=pair_clusters(found[some], of_kept[some].tolist(), method="tsne", seed=seed),
        record=record,
    )


def mask_second_anchor(
    model: nn.Module, task: Task, seed: int, *, samples: int = 4000, logits: bool = False
) -> SecondAnchorMasked:
    """Hide the anchor that acts last and compare the outputs of one row for every key x and remaining anchor a1.

    Raises `InputError` for a task whose pairs are no compositions of single anchors, and `NoAttentionError`.
    """
    _check_pairs(task)
    if not task.single_anchors:
        raise InputError(f"task={task.name!r}: its anchors do not act on one key each, so there is no g(x; a1)")
    tokens = task.sample("test", samples, seed).tokens
    first, hidden = (0, "anchor 2") if task.acts_left_to_right else (1, "anchor 1")
    # Rows that can be used come first, so that they are the ones taken of each key and anchor.
    tokens = tokens[np.argsort(find_places(task, tokens)[hidden] == tokens.shape[1] - 1, kind="stable")]
    located = task.locate(tokens)
    _, one_of_each = np.unique(np.stack([located.key, located.anchors[:, first]]), axis=1, return_index=True)
    found, kept, record = _masked(model, task, tokens[one_of_each], hidden, logits=logits)
    keys, anchors = located.key[one_of_each][kept], located.anchors[one_of_each, first][kept]
    names = {token: name for name, token in task.vocabulary.anchors.items()}
    groups = np.empty(len(keys), np.int64)
    for anchor, operation in task.single_anchors.items():
        groups[anchors == anchor] = operation.apply(keys[anchors == anchor, None])
    similarity = single_anchor_similarity(found, groups, keys, [names[anchor] for anchor in anchors.tolist()])
    return SecondAnchorMasked(similarity, record)


def _check_pairs(task: Task) -> None:
    if task.cells("train").anchors.shape[1] != 2:
        raise InputError(f"task={task.name!r}: its rows do not hold two anchors")


def _rows_of_pairs(task: Task, split: str, seed: int, per_pair: int) -> tuple[Int[np.ndarray, "n length"], list[str]]:
    pairs = len(np.unique(task.cells(split).anchors, axis=0))
    sample = task.sample(split, 3 * per_pair * pairs, seed)
    names = pd.Series(pair_names(sample.anchors, task.vocabulary.anchors))
    chosen = names.groupby(names).head(per_pair).index.to_numpy()
    return sample.tokens[chosen], names[chosen].tolist()


def _masked(
    model: nn.Module, task: Task, tokens: Int[np.ndarray, "n length"], role: str, *, logits: bool
) -> tuple[Float[np.ndarray, "kept width"], Int[np.ndarray, " kept"], EditRecord]:
    places = find_places(task, tokens)
    kept = np.flatnonzero(places[role] < tokens.shape[1] - 1)
    if not len(kept):
        raise InputError(f"task={task.name!r}: the {role} is always the last token, where nothing hides it")
    here = {name: at[kept] for name, at in places.items()}
    edit = AttentionEdit(select_edges(here, tokens.shape[1], f"from {role}"))
    found, record = outputs(model, tokens[kept], edit, hidden=not logits)
    return found.numpy(), kept, record
