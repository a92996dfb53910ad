"""More points where the residual is large, for networks that are trained further (RAR-D of Wu et al. 2023)."""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from anchorlab.models.mlp import MLP

from .checks import check_residual
from .collocation import Collocation
from .equation import PDE
from .problem import COEFFICIENTS
from .trial import Trial, Wrapping

_ADDED = 5  # the first points are so many times more than those of every refinement
_POOL = 10  # candidates, as multiple of the first points


def refined_points(
    pde: PDE,
    network: MLP,
    parameters: Mapping[str, Tensor],
    points: Collocation,
    seed: int,
    refinement: int,
    before: Float[np.ndarray, "before axes"] | None = None,
) -> Float[np.ndarray, "n axes"]:
    """The points `before` (None: the first of all) and new ones with the density 1 + |residual| / its mean.

    The residual is that of these parameters. Earlier points stay: where all are drawn anew, those that hold a front in
    its place leave it, as its residual is small by then. Raises InputError where the residual is not finite.
    """
    if before is None:
        before, _ = points.interior_points(pde.domain, seed, 0)
    random = points.stream(seed, refinement, "refinement")
    pools = [pde.domain.interior(points.interior, random) for _ in range(_POOL)]
    # In parts: all candidates at once would need far more memory than training does.
    sizes = np.concatenate([_sizes(pde, network, parameters, pool) for pool in pools])
    density = sizes + (sizes.mean() or 1.0)
    count = max(1, points.interior // _ADDED)
    chosen = random.choice(len(sizes), count, replace=False, p=density / density.sum())
    return np.concatenate([before, np.concatenate(pools)[chosen]])


def _sizes(
    pde: PDE, network: MLP, parameters: Mapping[str, Tensor], points: Float[np.ndarray, "n axes"]
) -> Float[np.ndarray, " n"]:
    """The residual's size at every point; of a system the root of its squares."""
    trial = Trial(network, pde.domain, pde.conditions, pde.keys(pde.equation))
    own = {name: tensor[None] for name, tensor in parameters.items()}
    dtype = own["layers.0.weight"].dtype
    placed = torch.as_tensor(points)
    wrapping = Wrapping(*(part[None].to(dtype) for part in trial.wrapping(placed))) if trial.wrapped else None
    placed = placed.to(dtype)[None]
    with torch.no_grad():
        residuals = pde.evaluate(pde.equation, placed, trial(own, placed, wrapping), own.get(COEFFICIENTS))
        for residual in residuals:
            check_residual("equation", residual, placed, pde.domain)
        found: np.ndarray = torch.stack(residuals).square().sum(0).sqrt()[0].double().numpy()
    return found
