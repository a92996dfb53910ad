"""What a report tells about one run: data only, no model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from .accuracy import PairMatrix
from .condensation import Condensation, CondensationSurvey
from .embedding import EmbeddingGeometry
from .example import Example
from .heads import HeadScores
from .interventions import Effects
from .learning_speed import LearningSpeed
from .output_geometry import KeyMasked, SecondAnchorMasked
from .path import PathGraph
from .phases import Phase
from .readout import Readout


@dataclass(frozen=True)
class Attention:
    """Attention maps of one example: `weights[s, l, h, i, j]` is how much position i reads from position j.

    They are those after the training steps `steps`, of which the last is the trained model; `masked` is False for a
    model that sees later positions too.
    """

    example: Example
    steps: tuple[int, ...]
    weights: Float[np.ndarray, "steps layers heads query source"]
    masked: bool

    @property
    def trained(self) -> Float[np.ndarray, "layers heads query source"]:
        """The maps of the trained model."""
        maps: Float[np.ndarray, "layers heads query source"] = self.weights[-1]
        return maps


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
    learning_speed: LearningSpeed | None = None
    attention: Attention | None = None
    heads: HeadScores | None = None
    readout: Mapping[str, Readout] | None = None
    path: PathGraph | None = None
    patching: Effects | None = None
    ablation: Effects | None = None
    key_masked: KeyMasked | None = None
    second_anchor_masked: SecondAnchorMasked | None = None
    embedding: EmbeddingGeometry | None = None
    condensation: Condensation | None = None
    condensation_survey: CondensationSurvey | None = None
    condensation_history: pd.DataFrame | None = None
    absent: dict[str, str] | None = None

    def reason(self, field: str) -> str:
        """Why a field was not measured."""
        return (self.absent or {}).get(field, "not measured")
