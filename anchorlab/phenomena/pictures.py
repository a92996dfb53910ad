"""Pictures as functions of the pixel's place (section 4.1.1)."""

import torch
from jaxtyping import Float
from torch import Tensor

from anchorlab.engine.functions import Points
from anchorlab.errors import InputError


def pixels(picture: Float[Tensor, "side side"]) -> Points:
    """Places (x, y) in [-1, 1]² and the grey there, row by row.

    Raises InputError for a picture that is not square or has less than two pixels a side.
    """
    if picture.ndim != 2 or len(picture) != picture.shape[1] or len(picture) < 2:
        raise InputError(f"picture: has shape {list(picture.shape)}; must be [side, side] with a side of at least 2")
    axis = torch.linspace(-1, 1, len(picture), dtype=torch.float64)
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")
    return Points(torch.stack([columns, rows], -1).view(-1, 2), picture.reshape(-1, 1))


def column_splits(picture: Float[Tensor, "side side"]) -> dict[str, Points]:
    """The first, third, … column to learn from (`train`), the others to test (`test`); raises as `pixels`."""
    whole = pixels(picture)
    odd = torch.arange(len(picture)).remainder(2).eq(0).repeat(len(picture))
    return {name: Points(whole.inputs[at], whole.targets[at]) for name, at in (("train", odd), ("test", ~odd))}
