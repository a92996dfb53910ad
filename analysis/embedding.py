"""Principal components of the number tokens' embeddings, and how well they follow the numbers' order (figure 13.12)."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from sklearn.decomposition import PCA


@dataclass(frozen=True)
class EmbeddingPCA:
    """PCA of token embeddings.

    `order_scores[k]` is the absolute Spearman rank correlation of component k with the numbers' values: 1 if the
    component sorts the numbers, about 1/√n for n numbers in random places. `order_score` is the largest of them.
    """

    values: Int[np.ndarray, " n"]
    coordinates: Float[np.ndarray, "n components"]
    explained_variance: Float[np.ndarray, " components"]
    order_scores: Float[np.ndarray, " components"]

    @property
    def order_score(self) -> float:
        """Order score of the component that follows the values best."""
        return float(self.order_scores.max())


def embedding_pca(
    embeddings: Float[np.ndarray, "n width"], values: Int[np.ndarray, " n"], *, components: int = 2
) -> EmbeddingPCA:
    """Project embeddings on their first components (centred, not rescaled); `explained_variance` holds fractions.

    A component's sign is arbitrary; it is chosen so that the component grows with the value. Raises `ValueError` if
    there are fewer than three tokens or fewer dimensions than components.
    """
    if len(embeddings) < 3 or min(embeddings.shape) < components:
        raise ValueError(
            f"embeddings of shape {embeddings.shape}: at least 3 tokens and {components} dimensions needed"
        )
    pca = PCA(n_components=components, svd_solver="full")
    coordinates = pca.fit_transform(embeddings.astype(np.float64))
    correlations = np.array([_rank_correlation(column, values) for column in coordinates.T])
    coordinates = coordinates * np.where(correlations < 0, -1.0, 1.0)
    return EmbeddingPCA(values, coordinates, pca.explained_variance_ratio_, np.abs(correlations))


def _rank_correlation(column: Float[np.ndarray, " n"], values: Int[np.ndarray, " n"]) -> float:
    # Without variance there is no order, and the correlation would be NaN with a warning.
    if np.ptp(column) == 0:
        return 0.0
    return float(np.corrcoef(pd.Series(column).rank(), pd.Series(values).rank())[0, 1])
