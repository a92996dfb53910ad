"""What a probe of one pretrained model found."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from anchorlab.analysis.head_kinds import HeadScores

from .depth import DepthTrend
from .knockouts import Knockouts
from .prompts import Prompt, PromptSet


@dataclass(frozen=True)
class ShownAttention:
    """Attention weights of the first tokens of one prompt: a prefix of a causal prompt has exactly the same attention.

    Entry [l, h, i, j] of `weights` is how much position i reads from position j.
    """

    prompt: Prompt
    weights: Float[np.ndarray, "layers heads query source"]


@dataclass(frozen=True)
class Probe:
    """Everything measured about one model; a field that is None was not, for the reason in `absent` under its name.

    `chosen` are heads that the user wants to see, as (layer, head) from 1.
    """

    name: str
    source: Mapping[str, Any]
    prompts: PromptSet
    scores: HeadScores
    trend: DepthTrend
    knockouts: Knockouts | None
    attention: ShownAttention | None
    absent: Mapping[str, str]
    chosen: tuple[tuple[int, int], ...] = ()
