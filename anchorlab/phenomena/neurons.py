"""The neurons of a two-layer ReLU net: direction, amplitude, condensation, and how far training moved them.

A neuron k is a_k ReLU(w_k·x) with w_k = (w_k, b_k), one vector of d + 1 numbers. Since ReLU is positively homogeneous,
it is known by the unit vector ŵ_k = w_k / ‖w_k‖ and the amplitude A_k = |a_k| ‖w_k‖ (section 7.2.1).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from torch import Tensor

from anchorlab.analysis.condensation import cosine_matrix, group_neurons
from anchorlab.errors import InputError

SAME_DIRECTION = 0.99
"""The cosine above which two neurons count as one direction, 8 degrees."""


@dataclass(frozen=True)
class Neurons:
    """Hidden neurons of one two-layer net: `weights` are the rows (w_k, b_k), `outputs` the a_k."""

    weights: Float[np.ndarray, "neuron inputs"]
    outputs: Float[np.ndarray, " neuron"]

    @classmethod
    def of(cls, parameters: Mapping[str, Tensor]) -> "Neurons":
        """Those of a net's parameters with a member axis of 1, in float64; without biases, w_k alone.

        Raises InputError for a net with more hidden layers, outputs or members than one.
        """
        if set(parameters) - {"layers.1.bias"} not in (
            {"layers.0.weight", "layers.1.weight"},
            {"layers.0.weight", "layers.0.bias", "layers.1.weight"},
        ):
            raise InputError(f"parameters={sorted(parameters)}: must be those of a net with one hidden layer")
        shape = tuple(parameters["layers.1.weight"].shape)
        if len(shape) != 3 or (shape[0], shape[2]) != (1, 1):
            raise InputError(f"layers.1.weight of shape {shape}: must be of one member and one output, (1, width, 1)")
        arrays = {name: tensor[0].detach().cpu().double().numpy() for name, tensor in parameters.items()}
        rows = arrays["layers.0.weight"].T
        if "layers.0.bias" in arrays:
            rows = np.column_stack([rows, arrays["layers.0.bias"]])
        return cls(np.ascontiguousarray(rows), arrays["layers.1.weight"][:, 0])

    @cached_property
    def amplitudes(self) -> Float[np.ndarray, " neuron"]:
        """A_k = |a_k| ‖w_k‖."""
        lengths: Float[np.ndarray, " neuron"] = np.linalg.norm(self.weights, axis=1)
        amplitudes: Float[np.ndarray, " neuron"] = np.abs(self.outputs) * lengths
        return amplitudes

    @cached_property
    def directions(self) -> Float[np.ndarray, "neuron inputs"]:
        """ŵ_k; a neuron of zero weights has the direction 0."""
        lengths = np.linalg.norm(self.weights, axis=1, keepdims=True)
        return np.divide(self.weights, lengths, out=np.zeros_like(self.weights), where=lengths > 0)  # type: ignore[no-any-return]

    @property
    def angles(self) -> Float[np.ndarray, " neuron"]:
        """The angle of (w_k, b_k) from the w axis, in [-π, π) (figure 7.2); InputError unless the input is a number."""
        if self.weights.shape[1] != 2:
            raise InputError(f"weights of {self.weights.shape[1]} numbers: only (w, b), 2 numbers, has an angle")
        found = np.arctan2(self.weights[:, 1], self.weights[:, 0])
        return np.where(found >= np.pi, -np.pi, found)

    def dead(self, inputs: Float[np.ndarray, "n inputs"]) -> Bool[np.ndarray, " neuron"]:
        """Neurons that are 0 at all points, so that their gradient is 0 and they do not move (section 8.1.1)."""
        inactive: Bool[np.ndarray, " neuron"] = (self._fields(inputs) <= 0).all(0)  # type: ignore[assignment]
        return inactive

    def largest_curvature(self, inputs: Float[np.ndarray, "n inputs"]) -> float:
        """The largest eigenvalue of ∇f ∇fᵀ / n over the points: that of the Hessian of the loss 7.6 at a perfect fit.

        Gradient descent is stable there up to a learning rate of 2 / this.
        """
        fields = self._fields(inputs)
        points = self._points(inputs)
        gates = (fields > 0) * self.outputs
        hidden = np.maximum(fields, 0)
        kernel = hidden @ hidden.T + (points @ points.T) * (gates @ gates.T)
        return float(np.linalg.eigvalsh(kernel)[-1] / len(points))

    def _points(self, inputs: Float[np.ndarray, "n inputs"]) -> Float[np.ndarray, "n _"]:
        missing = self.weights.shape[1] - inputs.shape[1]
        if missing not in (0, 1):
            raise InputError(
                f"inputs of {inputs.shape[1]} numbers: the neurons read {self.weights.shape[1]}, with the bias"
            )
        return np.column_stack([inputs, *[np.ones(len(inputs))] * missing])

    def _fields(self, inputs: Float[np.ndarray, "n inputs"]) -> Float[np.ndarray, "n neuron"]:
        fields: Float[np.ndarray, "n neuron"] = self._points(inputs) @ self.weights.T
        return fields


def relative_distance(start: Neurons, end: Neurons) -> float:
    """RD(θ_w) = ‖θ_w - θ_w(0)‖ / ‖θ_w(0)‖ (eq. 7.3); InputError for nets of different shapes or a start at 0."""
    if start.weights.shape != end.weights.shape:
        raise InputError(f"weights of shapes {start.weights.shape}, {end.weights.shape}: must be equal")
    length = float(np.linalg.norm(start.weights))
    if length == 0:
        raise InputError("weights: the start is 0, so that there is no relative distance")
    return float(np.linalg.norm(end.weights - start.weights)) / length


class Exponent(NamedTuple):
    """A power law fitted in log-log: its exponent, the standard error of that (NaN for two points), and log(factor)."""

    exponent: float
    standard_error: float
    intercept: float


def scaling_exponent(widths: Sequence[float], distances: Sequence[float]) -> Exponent:
    """S_w: the slope of log RD in log m by least squares (eq. 7.13).

    Raises InputError unless there is one distance for each of at least two different widths, all positive and finite.
    """
    values = np.array([widths, distances], dtype=float) if len(widths) == len(distances) else np.zeros((2, 0))
    if len(set(widths)) < 2 or values.shape[1] != len(widths):
        raise InputError(f"widths={list(widths)}: need at least two different ones, and a distance for each")
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise InputError(f"distances={list(distances)}: widths and distances must be positive and finite")
    x, y = np.log(values)
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    intercept = float(y.mean() - slope * x.mean())
    rest = y - intercept - slope * x
    error = math.sqrt(float(rest @ rest) / (len(x) - 2) / float(centred @ centred)) if len(x) > 2 else math.nan
    return Exponent(slope, error, intercept)


def condensed_groups(
    weights: Float[np.ndarray, "neuron inputs"], *, threshold: float = SAME_DIRECTION, lines: bool = False
) -> Int[np.ndarray, " neuron"]:
    """The number of each neuron's direction, that of most neurons first; `lines` takes w and -w for one.

    Greedily, as in `analysis.condensation`: no member is further from its group's centre than the cosine `threshold`.
    Memory grows with the square of the number of neurons. Raises InputError unless the threshold is a cosine in (0, 1).
    """
    if not 0 < threshold < 1:
        raise InputError(f"threshold={threshold}: must be between 0 and 1, a cosine")
    cosine = cosine_matrix(np.asarray(weights, dtype=np.float64))
    return group_neurons(np.abs(cosine) if lines else cosine, threshold)


def active(amplitudes: Float[np.ndarray, " neuron"], share: float) -> Bool[np.ndarray, " neuron"]:
    """Neurons of at least this share of the largest amplitude; InputError unless it is in (0, 1]."""
    if not 0 < share <= 1:
        raise InputError(f"share={share}: must be above 0 and at most 1")
    chosen: Bool[np.ndarray, " neuron"] = amplitudes >= share * amplitudes.max()
    return chosen


def condensed_share(
    positions: Float[np.ndarray, " neuron"],
    amplitudes: Float[np.ndarray, " neuron"],
    *,
    low: float,
    high: float,
    bins: int,
    heaviest: int,
) -> float:
    """The share of all amplitude that is in the `heaviest` of `bins` equal parts of low .. high.

    Of angles (figure 7.3) or projections (figure 7.7). All in few places gives 1, an even spread `heaviest` / `bins`.
    Raises InputError for as many heavy parts as parts, or without any amplitude.
    """
    if not 1 <= heaviest < bins:
        raise InputError(f"heaviest={heaviest}: must be at least 1 and less than bins={bins}")
    heights = np.histogram(positions, bins=bins, range=(low, high), weights=amplitudes)[0]
    total = heights.sum()
    if not total > 0:
        raise InputError("amplitudes: all are 0, or no position is within low .. high")
    return float(np.sort(heights)[-heaviest:].sum() / total)


def theoretical_boundary(rate_ratio: float) -> float:
    """γ of the boundary between the linear and the condensed regime at γ' = `rate_ratio`: 1 + max(γ', 0).

    Luo et al. 2021 (arXiv 2007.07497): linear for γ < 1 or γ' > γ - 1, condensed for γ > 1 and γ' < γ - 1.
    """
    return 1 + max(rate_ratio, 0.0)


def zero_crossings(exponents: pd.DataFrame) -> pd.DataFrame:
    """For every γ' the γ where S_w turns from negative to positive, by linear interpolation (the stars of figure 7.5).

    `exponents` has columns rate (γ), rate_ratio (γ'), exponent (S_w); cells without a value are passed over. Columns
    rate_ratio, rate (NaN where the sign does not change so, or no cell has a value; the first change where there are
    more) and boundary, the theoretical one. Raises InputError without these columns.
    """
    missing = {"rate", "rate_ratio", "exponent"} - set(exponents.columns)
    if missing:
        raise InputError(f"exponents: has no column {', '.join(sorted(missing))}")
    rows = []
    # Grouped first: a γ' without any value has a row, too, without a crossing.
    for ratio, cells in exponents.groupby("rate_ratio"):
        known = cells.dropna(subset=["exponent"]).sort_values("rate")
        rate, value = known[["rate", "exponent"]].to_numpy(dtype=float).T
        found = np.flatnonzero((value[:-1] < 0) & (value[1:] >= 0))
        crossing = math.nan
        if len(found):
            around = slice(found[0], found[0] + 2)
            crossing = float(np.interp(0.0, value[around], rate[around]))
        rows.append((float(ratio), crossing, theoretical_boundary(float(ratio))))  # type: ignore[arg-type]
    return pd.DataFrame(rows, columns=["rate_ratio", "rate", "boundary"])
