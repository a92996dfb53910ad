"""How the number tokens' embeddings are arranged: principal components, order by size, order in steps (fig. 13.12)."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from sklearn.decomposition import PCA

FEWEST_NUMBERS = 4
_MOST_STEPS = 8
_SHUFFLES = 200


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


def embedding_pca(
    embeddings: Float[np.ndarray, "n width"], values: Int[np.ndarray, " n"], *, components: int = 2
) -> EmbeddingPCA:
    """Project embeddings on their first components (centred, not rescaled); `explained_variance` holds fractions.

    A component's sign is arbitrary; it is chosen so that the component grows with the value. Raises `ValueError` if
    there are fewer than four tokens or fewer dimensions than components, or if `values` are not consecutive.
    """
    if len(embeddings) < FEWEST_NUMBERS or min(embeddings.shape) < components:
        least = f"at least {FEWEST_NUMBERS} tokens and {components} dimensions needed"
        raise ValueError(f"embeddings of shape {embeddings.shape}: {least}")
    if (np.diff(values) != 1).any():
        raise ValueError(f"values: must be consecutive numbers, got {values}")
    embeddings = embeddings.astype(np.float64)
    pca = PCA(n_components=components, svd_solver="full")
    coordinates = pca.fit_transform(embeddings)
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
        lengths = np.linalg.norm(differences, axis=1, keepdims=True)
        unit = np.divide(differences, lengths, out=np.zeros_like(differences), where=lengths > 0)
        cosines[: len(unit) - apart, step - 1] = (unit[apart:] * unit[:-apart]).sum(axis=1)
    return cosines


def _step_chance(embeddings: Float[np.ndarray, "n width"]) -> float:
    random = np.random.Generator(np.random.Philox(key=0))
    best = [np.nanmean(step_cosines(random.permutation(embeddings)), axis=0).max() for _ in range(_SHUFFLES)]
    return float(np.quantile(best, 0.95))


def _rank_correlation(column: Float[np.ndarray, " n"], values: Int[np.ndarray, " n"]) -> float:
    # Without variance there is no order, and the correlation would be NaN with a warning.
    if np.ptp(column) == 0:
        return 0.0
    return float(np.corrcoef(pd.Series(column).rank(), pd.Series(values).rank())[0, 1])
