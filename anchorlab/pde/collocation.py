"""Where residuals are asked for: points of the inside and of every condition, drawn from streams of their own."""

from typing import Annotated, Literal
from zlib import crc32

import numpy as np
from jaxtyping import Float
from pydantic.dataclasses import dataclass

from anchorlab.setting_types import PositiveWhole, Seed, known
from anchorlab.validation import checked

from .conditions import Condition
from .domains import Boundary, Domain

_INSIDE = ("random", "grid")


@checked
@dataclass(frozen=True, kw_only=True)
class Collocation:
    """How many points, and which.

    - `interior`, `boundary`: points inside, and of each condition;
    - `inside`: `random` draws, or a `grid` with the weights of the midpoint rule (its size is near `interior`);
    - `resample_every`: steps after which new ones are drawn (None: the first are kept);
    - `seed`: of the draws, beside that of the network, so that seeds have points of their own.

    Raises InputError for values that cannot be used.
    """

    interior: PositiveWhole = 1000
    boundary: PositiveWhole = 100
    inside: Annotated[Literal["random", "grid"], known("inside", _INSIDE)] = "random"
    resample_every: PositiveWhole | None = None
    seed: Seed = 0

    def round(self, step: int) -> int:
        """Which drawing of points is used in `step`."""
        return 0 if self.resample_every is None else step // self.resample_every

    def interior_points(
        self, domain: Domain, seed: int, drawing: int
    ) -> tuple[Float[np.ndarray, "n axes"], Float[np.ndarray, " n"]]:
        """Points inside and their weights, which add up to the volume."""
        if self.inside == "grid":
            return domain.grid(self.interior)
        points = domain.interior(self.interior, self.stream(seed, drawing, "interior"))
        return points, np.full(len(points), domain.volume / len(points))

    def condition_points(self, domain: Domain, condition: Condition, seed: int, drawing: int) -> Boundary:
        """Points of one condition and normals there."""
        return condition.places(domain, self.boundary, self.stream(seed, drawing, condition.name))

    def stream(self, seed: int, drawing: int, purpose: str) -> np.random.Generator:
        """Random numbers that belong to this drawing and purpose alone."""
        key = [self.seed, seed, drawing, crc32(purpose.encode())]
        return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
