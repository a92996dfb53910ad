"""What a report tells about one run: data only, no model."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from .accuracy import PairMatrix
from .condensation import Condensation
from .embedding import EmbeddingPCA
from .example import Example
from .phases import Phase


@dataclass(frozen=True)
class Attention:
    """Attention maps of one example: `weights[l, h, i, j]` is how much position i reads from position j."""

    example: Example
    weights: Float[np.ndarray, "layers heads query source"]


@dataclass(frozen=True)
class Explanation:
    """Everything measured about one run.

    A field that is None was not measured; `absent` gives the reason under the field's name. `metrics` is the history
    recorded while training; all other numbers come from `samples` fresh rows a split, which are
    `task.sample(split, samples, row_seed)`; `row_seed` follows from `seed` and is None without a task.
    """

    name: str
    status: str
    config: dict[str, Any]
    environment: dict[str, Any]
    metrics: pd.DataFrame
    samples: int
    seed: int
    row_seed: int | None = None
    parameters: int | None = None
    accuracy: pd.DataFrame | None = None
    pair_matrix: PairMatrix | None = None
    answer_classes: pd.DataFrame | None = None
    deviations: pd.DataFrame | None = None
    commutativity: pd.DataFrame | None = None
    phase: Phase | None = None
    examples: tuple[Example, ...] = ()
    attention: Attention | None = None
    embedding: EmbeddingPCA | None = None
    condensation: Condensation | None = None
    absent: dict[str, str] | None = None

    def reason(self, field: str) -> str:
        """Why a field was not measured."""
        return (self.absent or {}).get(field, "not measured")
