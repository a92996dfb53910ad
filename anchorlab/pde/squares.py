"""The loss of a linear equation as a sum of squares, with its gradient in closed form."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .linear import Linearized
from .trial import Wrapping
from .unknown import Key


class Squares(NamedTuple):
    """Σ over points of `weights` (Σ over parts of `factors` times the net's part + `constant`)²."""

    factors: Float[Tensor, "*member part n"]
    constant: Float[Tensor, "*member n"]
    weights: Float[Tensor, "*member n"]

    def loss(
        self, parts: Float[Tensor, "member part n 1"]
    ) -> tuple[Float[Tensor, " member"], Float[Tensor, "member part n 1"]]:
        """Every member's loss, and its gradient in the parts."""
        residuals = (self.factors * parts[..., 0]).sum(1).add_(self.constant)
        weighted = residuals * self.weights
        losses = (residuals * weighted).sum(1)
        return losses, (self.factors * weighted[:, None]).mul_(2)[..., None]


def squares(
    rows: Sequence[Linearized],
    weights: Sequence[Float[np.ndarray, " n"]],
    keys: Sequence[Key],
    parts: Sequence[Key],
    wrapping: Wrapping | None,
) -> Squares:
    """The squares of several terms, one behind the other; `keys` are those of `wrapping`."""
    constant = torch.tensor(np.concatenate([row.constant for row in rows]))
    wanted = parts if wrapping is None else keys
    factors = torch.tensor(
        np.stack(
            [np.concatenate([row.factors.get(key, np.zeros(len(row.constant))) for row in rows]) for key in wanted]
        )
    )
    if wrapping is not None:
        constant = constant + (factors * wrapping.constant).sum(0)
        factors = (factors[:, None] * wrapping.factors).sum(0)
    return Squares(factors, constant, torch.tensor(np.concatenate(weights)))
