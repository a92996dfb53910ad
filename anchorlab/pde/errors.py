"""How far a solution is from another one."""

import numpy as np
from jaxtyping import Float


def errors_of(values: Float[np.ndarray, " n"], exact: Float[np.ndarray, " n"]) -> dict[str, float]:
    """`relative_l2`: the root of the summed squared differences over that of the squares; `max_error`: the largest."""
    difference = values - exact
    size = float(np.linalg.norm(exact))
    return {
        "relative_l2": float(np.linalg.norm(difference)) / size if size else float("inf"),
        "max_error": float(np.abs(difference).max()),
    }
