"""Condensation: do the input weights of a matrix's neurons point in few directions? (sections 8.1.2 and 13.5.1)

Every function takes neurons as the *rows* of a matrix, W[i, :] = neuron i; `neuron_weights` brings the matrices of a
model or a checkpoint into that form.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import starmap
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.sparse.linalg import LinearOperator, eigsh

from anchorlab.errors import InputError

from .neurons import layer_and_matrix

THRESHOLD = 0.7  # the cosine above which figure 13.11 puts neurons into one group
_PICTURE_SIDE = 64


@dataclass(frozen=True)
class Condensation:
    """Cosine similarities of a matrix's neurons and what they add up to.

    - `groups[i]` numbers the group of neuron i (0 is the largest): greedily, the neuron with most still ungrouped
      neighbours at a cosine above `threshold` takes all of them, so none is further from its group's centre;
    - `stable_rank` = ‖W‖_F² / ‖W‖₂²;
    - `directions` = n² / Σ cosine², the participation ratio of the cosine matrix: k equally used orthogonal directions
      give k, whatever the neurons' lengths; `random_directions` = n / (1 + (n − 1) / inputs) is what independent
      directions give, since the mean of cosine² is 1 / inputs between two of them;
    - `mean_absolute_cosine` is over pairs of different neurons; `random_absolute_cosine` = √(2/(π·inputs)) is what
      independent directions give.
    """

    cosine: Float[np.ndarray, "neuron neuron"]
    groups: Int[np.ndarray, " neuron"]
    threshold: float
    stable_rank: float
    directions: float
    random_directions: float
    mean_absolute_cosine: float
    random_absolute_cosine: float

    @property
    def group_sizes(self) -> Int[np.ndarray, " group"]:
        """Number of neurons in each group, the largest first."""
        return np.bincount(self.groups)

    @cached_property
    def order(self) -> Int[np.ndarray, " neuron"]:
        """The neurons by group, as in figure 13.11.

        Groups follow their mean entry in the leading eigenvector of `cosine`, and neurons of a group their own entry.
        """
        entries = self._leading_entries
        means = np.bincount(self.groups, weights=entries) / self.group_sizes
        return np.lexsort((-entries, self.groups, -means[self.groups]))

    @cached_property
    def eigenvector_order(self) -> Int[np.ndarray, " neuron"]:
        """The neurons by their entry in the leading eigenvector of `cosine` alone, as in section 8.1.2."""
        return np.argsort(-self._leading_entries, kind="stable")

    @cached_property
    def _leading_entries(self) -> Float[np.ndarray, " neuron"]:
        entries = _leading(self.cosine)[1]
        return entries * (1.0 if entries.sum() >= 0 else -1.0)


@dataclass(frozen=True)
class CondensationSurvey:
    """Condensation of all matrices of a network.

    `table` is that of `condensation_table`. `pictures` holds, by the same names, the cosine matrices in the order of
    their groups; more than 64 neurons are averaged over blocks of neighbours, so that a picture stays small.
    """

    table: pd.DataFrame
    pictures: dict[str, Float[np.ndarray, "side side"]]


def measure_condensation(weights: Float[np.ndarray, "neuron input"], *, threshold: float = THRESHOLD) -> Condensation:
    """Measure condensation of neurons given as rows; a neuron of zero weights is orthogonal to all others.

    Time and memory grow with the square of the number of neurons, as the cosine matrix does.

    Raises `InputError` if there are fewer than two neurons, a weight is not finite, or the threshold is not between
    0 and 1.
    """
    if len(weights) < 2 or not np.isfinite(weights).all():
        raise InputError(f"weights of shape {weights.shape}: at least two neurons with finite weights needed")
    if not 0 < threshold < 1:
        raise InputError(f"threshold={threshold}: must be between 0 and 1, a cosine")
    weights = weights.astype(np.float64)
    cosine = cosine_matrix(weights)
    neurons, inputs = weights.shape
    return Condensation(
        cosine=cosine,
        groups=group_neurons(cosine, threshold),
        threshold=threshold,
        stable_rank=_stable_rank(weights),
        directions=float(neurons**2 / np.vdot(cosine, cosine)),
        random_directions=neurons / (1 + (neurons - 1) / inputs),
        mean_absolute_cosine=float((np.abs(cosine).sum() - neurons) / (neurons * (neurons - 1))),
        random_absolute_cosine=float(np.sqrt(2 / (np.pi * inputs))),
    )


def condensation_table(
    weights: Mapping[str, Float[np.ndarray, "neuron input"]], *, threshold: float = THRESHOLD
) -> pd.DataFrame:
    """Condensation of every matrix, one a row, measured one after another.

    Columns: weight (its name), layer (from 1; missing for a matrix outside of the layers), matrix, neurons, inputs,
    directions, random_directions, stable_rank, mean_absolute_cosine, random_absolute_cosine, groups (how many at the
    threshold) and largest_group (its share of the neurons); see `Condensation`.

    Raises `InputError` as `measure_condensation` does, with the matrix's name, or if there is no matrix.
    """
    return _as_table([_row(name, rows, _measure_named(name, rows, threshold)) for name, rows in weights.items()])


def condensation_along_training(
    checkpoints: Iterable[tuple[int, Mapping[str, Float[np.ndarray, "neuron input"]]]], *, threshold: float = THRESHOLD
) -> pd.DataFrame:
    """`condensation_table` of every checkpoint (step and weights), below one another behind a column `step`.

    One checkpoint is held at a time, so a generator that loads them needs the memory of one:
    `((step, neuron_weights(run.model(step))) for step in run.checkpoints())`.

    Raises `InputError` as `condensation_table` does, or if there is no checkpoint.
    """

    def at_step(step: int, weights: Mapping[str, Float[np.ndarray, "neuron input"]]) -> pd.DataFrame:
        table = condensation_table(weights, threshold=threshold)
        table.insert(0, "step", step)
        return table

    tables = list(starmap(at_step, checkpoints))  # a loop's variable would hold one checkpoint while the next is loaded
    if not tables:
        raise InputError("checkpoints: there is none; train with keep_checkpoints=true to have some")
    return pd.concat(tables, ignore_index=True)


def survey_condensation(
    weights: Mapping[str, Float[np.ndarray, "neuron input"]], *, threshold: float = THRESHOLD
) -> CondensationSurvey:
    """The table and small pictures of all matrices; raises `InputError` as `condensation_table` does."""
    rows, pictures = [], {}
    for name, matrix in weights.items():
        found = _measure_named(name, matrix, threshold)
        rows.append(_row(name, matrix, found))
        pictures[name] = _picture(found)
    return CondensationSurvey(_as_table(rows), pictures)


def cosine_matrix(weights: Float[np.ndarray, "neuron input"]) -> Float[np.ndarray, "neuron neuron"]:
    """Cosine similarity of every two rows (eq. 8.4, section 13.5.1), with a diagonal of exactly 1."""
    norms = np.linalg.norm(weights, axis=1, keepdims=True)
    unit = np.divide(weights, norms, out=np.zeros_like(weights), where=norms > 0)
    cosine: Float[np.ndarray, "neuron neuron"] = unit @ unit.T
    np.clip(cosine, -1.0, 1.0, out=cosine)
    np.fill_diagonal(cosine, 1.0)
    return cosine


def group_neurons(cosine: Float[np.ndarray, "neuron neuron"], threshold: float) -> Int[np.ndarray, " neuron"]:
    """Number of each neuron's group, as `Condensation.groups` describes."""
    near = cosine > threshold
    groups = np.full(len(cosine), -1)
    neighbours = near.sum(axis=1)
    number = 0
    while (free := groups < 0).any():
        members = near[np.where(free, neighbours, -1).argmax()] & free
        groups[members] = number
        neighbours -= near[members].sum(axis=0)
        number += 1
    return groups


def _stable_rank(weights: Float[np.ndarray, "neuron input"]) -> float:
    if not weights.any():
        return 0.0
    scaled = weights / np.abs(weights).max()  # the iterations take tiny eigenvalues for converged
    gram = LinearOperator((len(scaled),) * 2, matvec=lambda x: scaled @ (scaled.T @ x), dtype=scaled.dtype)
    return float(np.vdot(scaled, scaled) / _leading(gram)[0])


def _leading(
    symmetric: Float[np.ndarray, "n n"] | LinearOperator,
) -> tuple[float, Float[np.ndarray, " n"]]:
    """The largest eigenvalue and its eigenvector, by Lanczos iterations from a fixed random start."""
    start = np.random.Generator(np.random.Philox(0)).normal(size=symmetric.shape[0])
    values, vectors = eigsh(symmetric, k=1, which="LA", v0=start)
    return float(values[0]), vectors[:, 0]


def _measure_named(name: str, weights: Float[np.ndarray, "neuron input"], threshold: float) -> Condensation:
    try:
        return measure_condensation(weights, threshold=threshold)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def _row(name: str, weights: Float[np.ndarray, "neuron input"], found: Condensation) -> dict[str, Any]:
    layer, matrix = layer_and_matrix(name)
    neurons, inputs = weights.shape
    sizes = found.group_sizes
    return {
        "weight": name,
        "layer": layer,
        "matrix": matrix,
        "neurons": neurons,
        "inputs": inputs,
        "directions": found.directions,
        "random_directions": found.random_directions,
        "stable_rank": found.stable_rank,
        "mean_absolute_cosine": found.mean_absolute_cosine,
        "random_absolute_cosine": found.random_absolute_cosine,
        "groups": len(sizes),
        "largest_group": sizes[0] / neurons,
    }


def _as_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    if not rows:
        raise InputError("weights: there is no weight matrix to measure")
    return pd.DataFrame(rows).astype({"layer": "Int64"})


def _picture(found: Condensation) -> Float[np.ndarray, "side side"]:
    ordered = found.cosine[np.ix_(found.order, found.order)]
    starts = np.linspace(0, len(ordered), min(len(ordered), _PICTURE_SIDE), endpoint=False).astype(int)
    sizes = np.diff(starts, append=len(ordered))
    sums = np.add.reduceat(np.add.reduceat(ordered, starts, axis=0), starts, axis=1)
    means: Float[np.ndarray, "side side"] = (sums / np.outer(sizes, sizes)).astype(np.float32)
    return means
