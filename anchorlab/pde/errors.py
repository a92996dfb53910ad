"""How far a solution is from another one."""

import numpy as np
from jaxtyping import Float

from .domains import Domain

_LINE, _MORE = 1000, 10_000  # points at which errors are measured


def measured_points(domain: Domain) -> Float[np.ndarray, "n axes"]:
    """The grid inside of a domain at which errors are measured."""
    return domain.grid(_LINE if domain.dimensions == 1 else _MORE)[0]


def errors_of(values: Float[np.ndarray, "n *outputs"], exact: Float[np.ndarray, "n *outputs"]) -> dict[str, float]:
    """`relative_l2`: the root of the summed squared differences over that of the squares; `max_error`: the largest."""
    difference = values - exact
    size = float(np.linalg.norm(exact))
    return {
        "relative_l2": float(np.linalg.norm(difference)) / size if size else float("inf"),
        "max_error": float(np.abs(difference).max()),
    }
