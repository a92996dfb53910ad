"""How the number tokens' embeddings are arranged: by size, along a curve, in steps, on a lattice (figs 12.7, 13.12)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.sparse.csgraph import connected_components, laplacian
from scipy.spatial.distance import pdist, squareform
from sklearn.neighbors import kneighbors_graph

from anchorlab.errors import InputError

from .projection import Projection, check_points, principal_components, project, unit_rows

FEWEST_NUMBERS = 4
FEWEST_FOR_LATTICE = 6
_MOST_STEPS = 8
_SHUFFLES = 200
_MOST_DISTANCES = 10**6  # in memory at once
_CHANCE = 0.95  # quantile of the shuffles
_LEAST_SINE = 0.5  # of 30°


@dataclass(frozen=True)
class EmbeddingPCA:
    """PCA of token embeddings, and two kinds of order that they can have.

    *By size*: `order_scores[k]` is the absolute Spearman rank correlation of component k with the numbers' values: 1 if
    the component sorts the numbers, about 1/√n for n numbers in random places. `order_score` is the largest of them.

    *In steps*: a lattice, such as the one with steps 3 and 4 along two directions in section 13.5.2, sorts nothing by
    size, but equal steps lead the same way in it. `step_cosines[i, s − 1]` is the cosine between e(x+s) − e(x), for
    x = `values[i]`, and the same difference at the next number that shares neither end with it (x+1, or x+2 for s = 1);
    NaN beyond the last number. It is measured in the whole embedding space, not in the components. A column's mean is
    the step's score: 1 if steps of s all lead the same way or turn slowly, 0 for numbers in random places.
    `step_chance` is the best step's score that 95 % of shuffles of the numbers stay below.
    """

    values: Int[np.ndarray, " n"]
    coordinates: Float[np.ndarray, "n components"]
    explained_variance: Float[np.ndarray, " components"]
    order_scores: Float[np.ndarray, " components"]
    step_cosines: Float[np.ndarray, "n steps"]
    step_chance: float

    @property
    def order_score(self) -> float:
        """Order score of the component that follows the values best."""
        return float(self.order_scores.max())

    @property
    def step_scores(self) -> Float[np.ndarray, " steps"]:
        """Score of the steps 1, 2, …"""
        scores: Float[np.ndarray, " steps"] = np.nanmean(self.step_cosines, axis=0)
        return scores

    @property
    def best_step(self) -> int:
        """The step with the largest score; the smallest of equal ones."""
        return int(self.step_scores.argmax()) + 1

    @property
    def step_score(self) -> float:
        """Score of the best step."""
        return float(self.step_scores.max())


@dataclass(frozen=True)
class CurveOrder:
    """Order of points along the curve that they form.

    `position` is the Fiedler vector of the nearest-neighbour graph (spectral seriation: Atkins, Boman and Hendrickson,
    1998), which grows from one end of a curve to the other however the curve bends; a closed curve has no ends and is
    not sorted by it. `score` is the absolute Spearman rank correlation of `position` with the values; 95 % of shuffles
    of the values stay below `chance`, about 1.96/√(n − 1) for n points. `neighbours` is the number of nearest
    neighbours that each point is joined with: the smallest, from 2, that leaves the graph in one piece.
    """

    position: Float[np.ndarray, " n"]
    score: float
    chance: float
    neighbours: int


@dataclass(frozen=True)
class StepLattice:
    """Which two steps span a lattice, as 3 and 4 do in figure 13.12: the parallelograms x, x+s, x+t, x+s+t.

    On a lattice e(x) = i·u + j·v with x = s·i + t·j all steps of s are u and all steps of t are v. That cannot hold for
    every number: t steps of s lead from x to the same x + s·t as s steps of t, so t·u = s·v, and all would be one line.
    Lattices of numbers have to *turn* slowly with x or to *fold*: the rows end, and the next number stands at the start
    of another row. Neither keeps directions constant over all numbers, and a few folds are longer than all other steps
    together. What remains of a lattice everywhere is that neighbouring steps agree. For one of `pairs`, s < t,

    - `explained[:, 0]` is how much of the steps of s one common vector explains in each parallelogram: the mean over x
      of 2·p·q / (|p|² + |q|²), where p = e(x+s) − e(x) and q = e(x+s+t) − e(x+t) are opposite sides: 1 if they are
      equal, 0 for unrelated ones; every number counts the same, so a fold is one number and no more. `explained[:, 1]`
      is the same for the steps of t. A pair is explained as well as the worse of its two steps (`pair_explained`);
      95 % of 200 shuffles of the numbers have no pair above `chance`;
    - `lengths` are those of the steps (square roots of medians of squares);
    - `angles` are between the vectors that opposite sides have in common, u and v, in degrees from 0 to 180: near 0 on
      a line, also on a bent one; from medians of u·v and p·q, which noise does not change. NaN if there are none.

    Many pairs span the same lattice: 1 and 3 as well as 3 and 4, since there v − u is the step of 1. `best_pair` is the
    one that joins nearest neighbours, as a figure shows them: of the pairs above chance that with the largest
    sin(angle) / (length of s · length of t), the shortest and most nearly orthogonal (a reduced basis, whose vectors
    are at least 60° apart). Directions less than 30° from one line count as one.
    """

    pairs: Int[np.ndarray, "pairs 2"]
    explained: Float[np.ndarray, "pairs 2"]
    lengths: Float[np.ndarray, "pairs 2"]
    angles: Float[np.ndarray, " pairs"]
    chance: float

    @property
    def pair_explained(self) -> Float[np.ndarray, " pairs"]:
        """Explained share of the worse of the two steps."""
        worse: Float[np.ndarray, " pairs"] = self.explained.min(axis=1)
        return worse

    @property
    def best(self) -> int:
        """Index of the best pair; without pairs above chance, that of the best explained one."""
        above = self.pair_explained > self.chance
        if not above.any():
            return int(self.pair_explained.argmax())
        sizes = self.lengths.prod(axis=1)
        quality = np.divide(_sines(self.angles), sizes, out=np.zeros_like(sizes), where=sizes > 0)
        return int(np.where(above, quality, -1.0).argmax())

    @property
    def best_pair(self) -> tuple[int, int]:
        """The two steps of the best pair, the smaller first."""
        first, second = self.pairs[self.best]
        return int(first), int(second)

    @property
    def kind(self) -> str:
        """`none` if no pair is above chance, `line` if those that are lead in one direction, `lattice` otherwise."""
        if self.pair_explained[self.best] <= self.chance:
            return "none"
        return "lattice" if _sines(self.angles)[self.best] >= _LEAST_SINE else "line"


@dataclass(frozen=True)
class EmbeddingGeometry:
    """Everything that is measured of number tokens' embeddings.

    `curve` is the order along the curve in the whole embedding space, `tsne_curve` along the one in the t-SNE plane
    (fig. 12.7); `lattice` is the lattice in the whole space, `plane_lattice` in the plane of the two first principal
    components, where figure 13.12 shows it.
    """

    pca: EmbeddingPCA
    tsne: Projection
    curve: CurveOrder
    tsne_curve: CurveOrder
    lattice: StepLattice
    plane_lattice: StepLattice


def embedding_geometry(
    embeddings: Float[np.ndarray, "n width"],
    values: Int[np.ndarray, " n"],
    *,
    perplexity: float | None = None,
    seed: int = 0,
) -> EmbeddingGeometry:
    """Measure embeddings of consecutive numbers; `perplexity` and `seed` are those of `project` for t-SNE.

    Raises `InputError` if embeddings are fewer than six, not finite or all equal, if `values` are not consecutive
    numbers, one a row, and for a perplexity that `project` refuses.
    """
    check_points("embeddings", embeddings, least=FEWEST_FOR_LATTICE)
    pca = embedding_pca(embeddings, values)
    tsne = project(embeddings, "tsne", perplexity=perplexity, seed=seed)
    return EmbeddingGeometry(
        pca=pca,
        tsne=tsne,
        curve=curve_order(embeddings, values),
        tsne_curve=curve_order(tsne.coordinates, values),
        lattice=step_lattice(embeddings),
        plane_lattice=step_lattice(pca.coordinates),
    )


def embedding_pca(
    embeddings: Float[np.ndarray, "n width"], values: Int[np.ndarray, " n"], *, components: int = 2
) -> EmbeddingPCA:
    """Project embeddings on their first components (centred, not rescaled); `explained_variance` holds fractions.

    A component's sign is arbitrary; it is chosen so that the component grows with the value. Raises `InputError` if
    there are fewer than four tokens or fewer dimensions than components, or if `values` are not consecutive numbers,
    one a token.
    """
    if len(embeddings) < FEWEST_NUMBERS or min(embeddings.shape) < components:
        least = f"at least {FEWEST_NUMBERS} tokens and {components} dimensions needed"
        raise InputError(f"embeddings: {least}, got shape {embeddings.shape}")
    if len(values) != len(embeddings) or (np.diff(values) != 1).any():
        raise InputError(f"values: must be consecutive numbers, one for each of {len(embeddings)} embeddings")
    embeddings = embeddings.astype(np.float64)
    pca = principal_components(embeddings, components)
    coordinates = pca.transform(embeddings)
    correlations = np.array([_rank_correlation(column, values) for column in coordinates.T])
    coordinates = coordinates * np.where(correlations < 0, -1.0, 1.0)
    return EmbeddingPCA(
        values=values,
        coordinates=coordinates,
        explained_variance=pca.explained_variance_ratio_,
        order_scores=np.abs(correlations),
        step_cosines=step_cosines(embeddings),
        step_chance=_step_chance(embeddings),
    )


def step_cosines(embeddings: Float[np.ndarray, "n width"]) -> Float[np.ndarray, "n steps"]:
    """Cosine between each number's step and the next one's, as `EmbeddingPCA.step_cosines` describes."""
    count = len(embeddings)
    cosines = np.full((count, min(_MOST_STEPS, count - 2)), np.nan)
    for step in range(1, cosines.shape[1] + 1):
        apart = 2 if step == 1 else 1  # steps that share a number are correlated by chance already
        differences = embeddings[step:] - embeddings[:-step]
        unit = unit_rows(differences)
        cosines[: len(unit) - apart, step - 1] = (unit[apart:] * unit[:-apart]).sum(axis=1)
    return cosines


def _step_chance(embeddings: Float[np.ndarray, "n width"]) -> float:
    best = [np.nanmean(step_cosines(shuffled), axis=0).max() for shuffled in _shuffles(embeddings)]
    return float(np.quantile(best, _CHANCE))


def _shuffles(embeddings: Float[np.ndarray, "n width"]) -> Iterator[Float[np.ndarray, "n width"]]:
    random = np.random.Generator(np.random.Philox(key=0))
    return (random.permutation(embeddings) for _ in range(_SHUFFLES))


def curve_order(points: Float[np.ndarray, "n width"], values: Int[np.ndarray, " n"]) -> CurveOrder:
    """Sort points along the curve that they form and compare with `values`, as `CurveOrder` describes.

    Raises `InputError` if points are fewer than four, not finite or all equal, or if `values` are not as many.
    """
    check_points("points", points, least=FEWEST_NUMBERS)
    if len(values) != len(points):
        raise InputError(f"values: one for every point needed, got {len(values)} for {len(points)}")
    neighbours, graph = _connected_neighbours(points)
    matrix, degrees = laplacian(graph, normed=True, return_diag=True)
    position = np.linalg.eigh(matrix).eigenvectors[:, 1] / degrees
    random = np.random.Generator(np.random.Philox(key=0))
    shuffled = [abs(_rank_correlation(position, random.permutation(values))) for _ in range(_SHUFFLES)]
    correlation = _rank_correlation(position, values)
    return CurveOrder(
        position=position * (-1.0 if correlation < 0 else 1.0),
        score=abs(correlation),
        chance=float(np.quantile(shuffled, _CHANCE)),
        neighbours=neighbours,
    )


def _connected_neighbours(points: Float[np.ndarray, "n width"]) -> tuple[int, Float[np.ndarray, "n n"]]:
    for neighbours in range(2, len(points)):
        directed = kneighbors_graph(points, neighbours).toarray()
        graph = np.maximum(directed, directed.T)
        if connected_components(graph)[0] == 1:
            break
    return neighbours, graph


def step_lattice(points: Float[np.ndarray, "n width"]) -> StepLattice:
    """Parallelograms of every two steps up to 8 (or n/3) between points of consecutive numbers; see `StepLattice`.

    Raises `InputError` if points are fewer than six, not finite or all equal.
    """
    check_points("points", points, least=FEWEST_FOR_LATTICE)
    squared = squareform(pdist(points.astype(np.float64), "sqeuclidean"))
    pairs = np.stack(np.triu_indices(min(_MOST_STEPS, len(points) // 3), k=1), axis=1) + 1
    sides = [_Sides.of(squared, *pair) for pair in pairs]
    random = np.random.Generator(np.random.Philox(key=0))
    orders = np.stack([random.permutation(len(points)) for _ in range(_SHUFFLES)])
    at_once = max(1, _MOST_DISTANCES // squared.size)
    parts = [orders[first : first + at_once] for first in range(0, _SHUFFLES, at_once)]
    best = [_explained(squared[part[:, :, None], part[:, None]], pairs).min(axis=-1).max(axis=-1) for part in parts]
    return StepLattice(
        pairs=pairs,
        explained=_explained(squared, pairs),
        lengths=np.array([np.sqrt(np.median(both.squares, axis=1)) for both in sides]),
        angles=np.array([both.angle for both in sides]),
        chance=float(np.quantile(np.concatenate(best), _CHANCE)),
    )


@dataclass(frozen=True)
class _Sides:
    """Of all parallelograms of one pair of steps: p·q and (|p|² + |q|²)/2 of opposite sides, u·v of their means."""

    common: Float[np.ndarray, "*shuffles 2 n"]
    squares: Float[np.ndarray, "*shuffles 2 n"]
    between: Float[np.ndarray, "*shuffles n"]

    @classmethod
    def of(cls, squared: Float[np.ndarray, "*shuffles n n"], s: int, t: int) -> "_Sides":
        """Parallelograms x, x+s, x+t, x+s+t, from all squared distances."""
        x = np.arange(squared.shape[-1] - s - t)
        diagonals = squared[..., x, x + s + t], squared[..., x + s, x + t]
        along_s = squared[..., x, x + s] + squared[..., x + t, x + s + t]
        along_t = squared[..., x, x + t] + squared[..., x + s, x + s + t]
        return cls(
            common=np.stack([sum(diagonals) - along_t, sum(diagonals) - along_s], axis=-2) / 2,
            squares=np.stack([along_s, along_t], axis=-2) / 2,
            between=(diagonals[0] - diagonals[1]) / 4,
        )

    @property
    def angle(self) -> float:
        """Angle between u and v in degrees; NaN if opposite sides have nothing in common."""
        lengths = np.maximum(np.median(self.common, axis=1), 0).prod() ** 0.5
        if lengths == 0:
            return float("nan")
        return float(np.degrees(np.arccos(np.clip(np.median(self.between) / lengths, -1, 1))))

    @property
    def explained(self) -> Float[np.ndarray, "*shuffles 2"]:
        """Mean share of the sides' squared length that opposite sides have in common."""
        shares = np.divide(self.common, self.squares, out=np.zeros(self.common.shape), where=self.squares > 0)
        mean: Float[np.ndarray, "*shuffles 2"] = shares.mean(axis=-1)
        return mean


def _explained(
    squared: Float[np.ndarray, "*shuffles n n"], pairs: Int[np.ndarray, "pairs 2"]
) -> Float[np.ndarray, "*shuffles pairs 2"]:
    return np.stack([_Sides.of(squared, *pair).explained for pair in pairs], axis=-2)


def _sines(degrees: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    # On a line all angles are 0 or 180 but for rounding; without an angle there are no two directions.
    sines: Float[np.ndarray, " n"] = np.nan_to_num(np.sin(np.radians(degrees))).round(6)
    return sines


def _rank_correlation(column: Float[np.ndarray, " n"], values: Int[np.ndarray, " n"]) -> float:
    # Without variance there is no order, and the correlation would be NaN with a warning.
    if np.ptp(column) == 0:
        return 0.0
    return float(np.corrcoef(pd.Series(column).rank(), pd.Series(values).rank())[0, 1])
