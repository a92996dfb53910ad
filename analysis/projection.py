"""Points in few dimensions, to be looked at: principal components and t-SNE."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from anchorlab.errors import InputError
from anchorlab.validation import check_known

METHODS = ("pca", "tsne")
FEWEST_FOR_TSNE = 5


@dataclass(frozen=True)
class Projection:
    """Coordinates of points in few dimensions, and how they were made.

    `explained_variance` holds fractions of the whole variance, for PCA only; `perplexity` and `seed` belong to t-SNE.
    """

    coordinates: Float[np.ndarray, "n components"]
    method: str
    explained_variance: Float[np.ndarray, " components"] | None = None
    perplexity: float | None = None
    seed: int | None = None


def project(
    points: Float[np.ndarray, "n width"],
    method: str = "pca",
    *,
    components: int = 2,
    perplexity: float | None = None,
    seed: int = 0,
) -> Projection:
    """Project `points` by PCA (centred, not rescaled) or t-SNE (van der Maaten and Hinton, 2008; exact gradients).

    The same arguments give the same coordinates. PCA does not depend on the order of the points. t-SNE starts from the
    principal components; its `perplexity` is 30 unless told, or a third of the other points where these are fewer than
    90. Time and memory of t-SNE grow with the square of the number of points.

    Raises `InputError` for an unknown method, points that are not finite or all equal, fewer than two points (five for
    t-SNE), more components than PCA has, and a perplexity that is below 1 or not below the number of points.
    """
    check_known("method", method, METHODS)
    check_points("points", points, least=FEWEST_FOR_TSNE if method == "tsne" else 2)
    if not 1 <= components <= min(points.shape):
        raise InputError(f"components={components}: must be from 1 to {min(points.shape)}, the smaller side of points")
    points = points.astype(np.float64)
    if method == "pca":
        pca = principal_components(points, components)
        return Projection(pca.transform(points), method, explained_variance=pca.explained_variance_ratio_)
    count = len(points)
    perplexity = min(30.0, (count - 1) / 3) if perplexity is None else perplexity
    if not 1 <= perplexity < count:
        raise InputError(f"perplexity={perplexity:g}: must be at least 1 and below the number of points, {count}")
    random = np.random.RandomState(np.random.Philox(key=seed))  # the one kind of generator that scikit-learn takes
    tsne = TSNE(components, perplexity=perplexity, init="pca", method="exact", random_state=random)
    return Projection(tsne.fit_transform(points).astype(np.float64), method, perplexity=perplexity, seed=seed)


def principal_components(points: Float[np.ndarray, "n width"], components: int) -> PCA:
    """PCA by a full singular value decomposition; the sign of a component does not depend on the points' order."""
    return PCA(n_components=components, svd_solver="full").fit(points)


def check_points(name: str, points: Float[np.ndarray, "n width"], *, least: int = 2) -> None:
    """Raise InputError unless `points` is a matrix of finite numbers with `least` rows that are not all equal."""
    if np.ndim(points) != 2:
        raise InputError(f"{name}: must be a matrix with one point a row, got shape {np.shape(points)}")
    if len(points) < least:
        raise InputError(f"{name}: at least {least} points needed, got {len(points)}")
    broken = ~np.isfinite(points).all(axis=1)
    if broken.any():
        raise InputError(f"{name}: must be finite, row {broken.argmax()} is not")
    if (points == points[0]).all():
        raise InputError(f"{name}: all are equal; at least two different points needed")


def unit_rows(vectors: Float[np.ndarray, "n width"]) -> Float[np.ndarray, "n width"]:
    """Every row divided by its length; rows of zeros stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Float[np.ndarray, "n width"] = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return unit
