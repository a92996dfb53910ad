"""Condensation of a layer's neurons: do their input weights point in few directions? (section 13.5.1, figure 13.10)

A neuron here is one output coordinate of the query projection of the first block, and its input weights are the numbers
it multiplies the block's input with. Every function takes them as the *rows* of a matrix, W[i, :] = neuron i.
`query_weights` brings each architecture into that form:

- GPT-2: `attn.c_attn` is a Conv1D that computes x @ weight with weight [width, 3 * width], the queries first, so the
  rows are `weight[:, :width].T`;
- the other models (post-LN and simplified here, Llama's family outside): `q_proj` is a `torch.nn.Linear`, whose weight
  is already [neuron, input].
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from .attention import NoAttentionError


@dataclass(frozen=True)
class Condensation:
    """Cosine similarities of a layer's neurons and what they add up to.

    - `order` sorts the neurons for display: groups by their mean entry in the leading eigenvector of `cosine`, and
      neurons inside a group by their own entry;
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
    order: Int[np.ndarray, " neuron"]
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


def query_weights(model: nn.Module) -> Float[np.ndarray, "neuron input"]:
    """Query projection of the first block, W_Q(1), one neuron a row; raises `NoAttentionError` if there is none."""
    for name, module in model.named_modules():
        kind = name.rpartition(".")[-1]
        if kind == "q_proj" and isinstance(module, nn.Linear):
            return _rows(module.weight)
        if kind == "c_attn" and isinstance(module, Conv1D):
            return _rows(module.weight[:, : module.nf // 3].T)
    raise NoAttentionError(f"model: {type(model).__name__} has no query projection")


def _rows(weights: Tensor) -> Float[np.ndarray, "neuron input"]:
    rows: Float[np.ndarray, "neuron input"] = weights.detach().float().cpu().numpy()
    return rows


def measure_condensation(weights: Float[np.ndarray, "neuron input"], *, threshold: float = 0.7) -> Condensation:
    """Measure condensation of neurons given as rows; a neuron of zero weights is orthogonal to all others.

    Raises `ValueError` if there are fewer than two neurons or a weight is not finite.
    """
    if len(weights) < 2 or not np.isfinite(weights).all():
        raise ValueError(f"weights of shape {weights.shape}: at least two neurons with finite weights needed")
    weights = weights.astype(np.float64)
    cosine = cosine_matrix(weights)
    groups = group_neurons(cosine, threshold)
    neurons, inputs = weights.shape
    norms = np.linalg.svd(weights, compute_uv=False)
    return Condensation(
        cosine=cosine,
        order=_display_order(cosine, groups),
        groups=groups,
        threshold=threshold,
        stable_rank=float((norms**2).sum() / norms[0] ** 2) if norms[0] > 0 else 0.0,
        directions=float(neurons**2 / (cosine**2).sum()),
        random_directions=neurons / (1 + (neurons - 1) / inputs),
        mean_absolute_cosine=float((np.abs(cosine).sum() - neurons) / (neurons * (neurons - 1))),
        random_absolute_cosine=float(np.sqrt(2 / (np.pi * inputs))),
    )


def cosine_matrix(weights: Float[np.ndarray, "neuron input"]) -> Float[np.ndarray, "neuron neuron"]:
    """Cosine similarity of every two rows (the formula of section 13.5.1), with a diagonal of exactly 1."""
    norms = np.linalg.norm(weights, axis=1, keepdims=True)
    unit = np.divide(weights, norms, out=np.zeros_like(weights), where=norms > 0)
    cosine: Float[np.ndarray, "neuron neuron"] = np.clip(unit @ unit.T, -1.0, 1.0)
    np.fill_diagonal(cosine, 1.0)
    return cosine


def group_neurons(cosine: Float[np.ndarray, "neuron neuron"], threshold: float) -> Int[np.ndarray, " neuron"]:
    """Number of each neuron's group, as `Condensation.groups` describes."""
    near = cosine > threshold
    groups = np.full(len(cosine), -1)
    number = 0
    while (free := groups < 0).any():
        neighbours = np.where(free, (near & free).sum(axis=1), -1)
        groups[near[neighbours.argmax()] & free] = number
        number += 1
    return groups


def _display_order(
    cosine: Float[np.ndarray, "neuron neuron"], groups: Int[np.ndarray, " neuron"]
) -> Int[np.ndarray, " neuron"]:
    leading = np.linalg.eigh(cosine).eigenvectors[:, -1]
    leading = leading * (1.0 if leading.sum() >= 0 else -1.0)
    means = np.bincount(groups, weights=leading) / np.bincount(groups)
    return np.lexsort((-leading, groups, -means[groups]))
