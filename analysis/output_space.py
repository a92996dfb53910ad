"""How masked outputs are arranged: clusters by anchor pair (fig. 13.8), similarity by single-anchor value (fig. 13.9).

The outputs (logits or last hidden states) come from a network that was not allowed to read a part of the row: the key
for `pair_clusters`, the second anchor for `single_anchor_similarity` (section 13.4).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.spatial.distance import pdist, squareform
from sklearn.metrics import silhouette_score

from anchorlab.errors import InputError

from .pairs import swapped_name, unordered_name
from .projection import Projection, check_points, project, unit_rows

_SHUFFLES = 200
_CHANCE = 0.95  # quantile of the shuffles


@dataclass(frozen=True)
class PairClusters:
    """Outputs by anchor pair, projected, and how far the pairs' clusters are apart (in all dimensions of the output).

    `names` are the pairs, `members[i]` is the number of row i's pair among them. `separation` is the mean silhouette of
    the rows by pair (Rousseeuw, 1987): 1 for tight clusters far apart, about 0 for mixed ones. `unordered_separation`
    is the same with (c,d) and (d,c) as one cluster; NaN if there is only one such cluster.

    `merging` tells for every pair that is there in both orders, named in alphabetical order, whether the two orders
    are one cluster: 1 − excess(p, p′) / typical excess. The *excess* of two pairs is the mean distance of a row of one
    from a row of the other, less the mean distance of two rows of the same pair (half the energy distance: Székely and
    Rizzo, 2013), which is 0 on average if both come from one distribution. It is *typical* as the median over every
    other pair, from p and from p′. So 1 is one cluster, 0 is as far apart as different pairs, and a negative number is
    further. NaN where the typical excess is not above the largest one of 95 % of 200 shuffles of the rows: nothing is
    apart there that could merge. `reason` says why there is no number at all; it is empty if there is one.
    """

    projection: Projection
    names: tuple[str, ...]
    members: Int[np.ndarray, " n"]
    separation: float
    unordered_separation: float
    merging: dict[str, float]
    reason: str

    @property
    def symmetric_merging(self) -> float:
        """Mean of `merging` over the pairs that have a number; NaN if none has."""
        known = [value for value in self.merging.values() if not np.isnan(value)]
        return float(np.mean(known)) if known else float("nan")


def pair_clusters(
    outputs: Float[np.ndarray, "n width"],
    pairs: Sequence[str],
    *,
    method: str = "pca",
    perplexity: float | None = None,
    seed: int = 0,
) -> PairClusters:
    """Project outputs (figure 13.8: key masked) and measure their clusters; `pairs` names each row's, `first,second`.

    `method`, `perplexity` and `seed` are those of `project`. Raises `InputError` for fewer than two pairs, a pair of
    only one row or no `first,second`, lengths that do not fit, and what `project` refuses.
    """
    check_points("outputs", outputs)
    names, members = _named(pairs, len(outputs))
    outputs = outputs.astype(np.float64)
    distances = squareform(pdist(outputs))
    unordered = np.array([unordered_name(name) for name in names])[members]
    merging, reason = _merging(distances, names, members)
    return PairClusters(
        projection=project(outputs, method, perplexity=perplexity, seed=seed),
        names=names,
        members=members,
        separation=_silhouette(distances, members),
        unordered_separation=_silhouette(distances, unordered),
        merging=merging,
        reason=reason,
    )


def _named(pairs: Sequence[str], rows: int) -> tuple[tuple[str, ...], Int[np.ndarray, " n"]]:
    if len(pairs) != rows:
        raise InputError(f"pairs: one for every row of outputs needed, got {len(pairs)} for {rows}")
    names, members, counts = np.unique(np.array(pairs, dtype=str), return_inverse=True, return_counts=True)
    for name, count in zip(names.tolist(), counts.tolist(), strict=True):
        if name.count(",") != 1:
            raise InputError(f"pairs={name!r}: must be named first,second")
        if count < 2:
            raise InputError(f"pairs={name!r}: at least two rows of every pair needed, got one")
    if len(names) < 2:
        raise InputError(f"pairs: at least two different ones needed, got {len(names)}")
    return tuple(names.tolist()), members


def _silhouette(distances: Float[np.ndarray, "n n"], labels: Int[np.ndarray, " n"]) -> float:
    if (labels == labels[0]).all():
        return float("nan")
    return float(silhouette_score(distances, labels, metric="precomputed"))


def _merging(
    distances: Float[np.ndarray, "n n"], names: tuple[str, ...], members: Int[np.ndarray, " n"]
) -> tuple[dict[str, float], str]:
    both = [(names.index(name), names.index(swapped_name(name))) for name in names if swapped_name(name) in names]
    exchanged = [(first, second) for first, second in both if first < second]
    if not exchanged:
        return {}, "no pair is there in both orders"
    if len(names) < 3:
        return {unordered_name(names[0]): float("nan")}, "no other pair to compare the two orders with"
    excess, chance = _excess(distances, members), _chance_excess(distances, members)
    merging = {}
    for pair in exchanged:
        others = np.setdiff1d(np.arange(len(names)), pair)
        typical = float(np.median(excess[list(pair)][:, others]))
        merging[unordered_name(names[pair[0]])] = (
            1 - float(excess[pair]) / typical if typical > chance else float("nan")
        )
    apart = not np.isnan(list(merging.values())).all()
    return merging, "" if apart else "the clusters of different pairs are not further apart than by chance"


def _excess(distances: Float[np.ndarray, "n n"], members: Int[np.ndarray, " n"]) -> Float[np.ndarray, "pairs pairs"]:
    """Mean distance between rows of two pairs, less that inside the two (without a row's distance from itself)."""
    one_hot = np.eye(members.max() + 1)[members]
    sizes = one_hot.sum(axis=0)
    sums = one_hot.T @ distances @ one_hot
    inside = sums.diagonal() / (sizes * (sizes - 1))
    excess: Float[np.ndarray, "pairs pairs"] = sums / np.outer(sizes, sizes) - np.add.outer(inside, inside) / 2
    return excess


def _chance_excess(distances: Float[np.ndarray, "n n"], members: Int[np.ndarray, " n"]) -> float:
    random = np.random.Generator(np.random.Philox(key=0))
    largest = [_excess(distances, random.permutation(members)).max() for _ in range(_SHUFFLES)]
    return float(np.quantile(largest, _CHANCE))


@dataclass(frozen=True)
class SingleAnchorSimilarity:
    """Cosine similarity of outputs by the value g(x; a1) of the single-anchor function.

    An *input* is a key and a first anchor, (x, a1); two inputs' similarity is the mean cosine between rows of one and
    rows of the other. Inputs that share their g with no other do not count. `within` is the mean over pairs of
    different inputs of equal g, `between` over those of different g; `difference` is how much more similar the former
    are, and 95 % of 200 shuffles of the inputs among the values of g stay below `chance`. A network that computes g
    as an intermediate result has a large difference.

    `cosine` is the matrix of figure 13.9: successive values of g with all their inputs, named by `groups`, `keys` and
    `anchors`; an input with itself is 1.
    """

    cosine: Float[np.ndarray, "shown shown"]
    groups: Int[np.ndarray, " shown"]
    keys: Int[np.ndarray, " shown"]
    anchors: tuple[str, ...]
    inputs: int
    within: float
    between: float
    chance: float

    @property
    def difference(self) -> float:
        """Similarity within groups of equal g less that between them."""
        return self.within - self.between


def single_anchor_similarity(
    outputs: Float[np.ndarray, "n width"],
    groups: Int[np.ndarray, " n"],
    keys: Int[np.ndarray, " n"],
    anchors: Sequence[str],
    *,
    most: int = 24,
) -> SingleAnchorSimilarity:
    """Compare outputs (figure 13.9: second anchor masked) of rows with key `keys`, first anchor `anchors`, g `groups`.

    The matrix holds at most `most` inputs: as many successive g as fit, where their groups are largest. Raises
    `InputError` for outputs that are not finite, lengths that do not fit, an input with two values of g, fewer than
    two values of g that several inputs share, and `most` too small for one group.
    """
    check_points("outputs", outputs)
    for name, values in (("groups", groups), ("keys", keys), ("anchors", anchors)):
        if len(values) != len(outputs):
            raise InputError(f"{name}: one for every row of outputs needed, got {len(values)} for {len(outputs)}")
    rows = pd.DataFrame({"group": groups, "key": keys, "anchor": list(anchors)})
    cosine, inputs = _between_inputs(outputs.astype(np.float64), rows)
    groups = inputs["group"].to_numpy()
    shown = _shown(groups, most)
    within, between = _means(cosine, groups)
    random = np.random.Generator(np.random.Philox(key=0))
    shuffled = [_means(cosine, random.permutation(groups)) for _ in range(_SHUFFLES)]
    return SingleAnchorSimilarity(
        cosine=cosine[np.ix_(shown, shown)],
        groups=groups[shown],
        keys=inputs["key"].to_numpy()[shown],
        anchors=tuple(inputs["anchor"].iloc[shown]),
        inputs=len(groups),
        within=within,
        between=between,
        chance=float(np.quantile([one - other for one, other in shuffled], _CHANCE)),
    )


def _between_inputs(
    outputs: Float[np.ndarray, "n width"], rows: pd.DataFrame
) -> tuple[Float[np.ndarray, "inputs inputs"], pd.DataFrame]:
    """Mean cosine between rows of every two inputs that share their g with another, and these inputs sorted by g."""
    inputs = rows.drop_duplicates().sort_values(["group", "key", "anchor"], ignore_index=True)
    if (twice := inputs.duplicated(["key", "anchor"])).any():
        key, anchor = inputs.loc[twice, ["key", "anchor"]].iloc[0]
        raise InputError(f"groups: key {key} and anchor {anchor} have more than one value; g(x; a1) must be one")
    sharing = inputs.duplicated("group", keep=False).to_numpy()
    if inputs["group"][sharing].nunique() < 2:
        raise InputError("groups: at least two values needed that different (key, anchor) share")
    # The product of the mean unit vectors is the mean cosine over all pairs of rows.
    means = pd.DataFrame(unit_rows(outputs)).groupby([rows[name].to_numpy() for name in rows]).mean().to_numpy()
    cosine = means[sharing] @ means[sharing].T
    np.fill_diagonal(cosine, 1.0)
    return cosine, inputs[sharing]


def _means(cosine: Float[np.ndarray, "inputs inputs"], groups: Int[np.ndarray, " inputs"]) -> tuple[float, float]:
    """Mean over pairs of different inputs with equal g, and with different g."""
    above = np.triu_indices(len(cosine), k=1)
    equal = groups[above[0]] == groups[above[1]]
    return float(cosine[above][equal].mean()), float(cosine[above][~equal].mean())


def _shown(groups: Int[np.ndarray, " inputs"], most: int) -> Int[np.ndarray, " shown"]:
    """Indices of the inputs of as many successive g as fit into `most`, where these have most inputs."""
    values, sizes = np.unique(groups, return_counts=True)
    if most < sizes.max():
        raise InputError(f"most={most}: must be at least {sizes.max()}, the inputs of one value of g")
    count = min(most // int(sizes.max()), len(values))
    totals = np.convolve(sizes, np.ones(count, int), "valid")
    start = int(totals.argmax())
    return np.flatnonzero(np.isin(groups, values[start : start + count]))
