"""The interactive view of attention: weights of one example, small enough to lie inside a page."""

import base64
import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, UInt, UInt8
from markupsafe import Markup

from anchorlab.errors import InputError

LEVELS = 255
"""A weight w is held as round(255 w), hence at most 1/510 off."""

LEAST = 0.005
"""Smaller weights, which are 0.00 in two digits, are not drawn."""

_FEWEST_EDGES = 8  # below that, checkpoints are given up before edges
_ROUNDING = 1e-6  # of a softmax in float32


class MarkedTokens(Protocol):
    """The tokens of a row, such as an `Example`: a name and a role for each, which may be empty."""

    @property
    def tokens(self) -> tuple[str, ...]:
        """What each token is called."""

    @property
    def roles(self) -> tuple[str, ...]:
        """`key`, `anchor 1`, …"""


class AttentionHistory(Protocol):
    """Attention of one example at training steps in ascending order; the last one is the trained model.

    `weights[s, l, h, i, j]` is how much position i reads from position j. `masked`: no position reads from later ones.
    """

    @property
    def example(self) -> MarkedTokens:
        """The row."""

    @property
    def steps(self) -> tuple[int, ...]:
        """Training steps, one or more."""

    @property
    def weights(self) -> Float[np.ndarray, "steps layers heads query source"]:
        """Between 0 and 1."""

    @property
    def masked(self) -> bool:
        """False for a model in which a position sees later ones."""


@dataclass(frozen=True)
class PackedAttention:
    """Weights in 8 bits at the steps and edges that are kept.

    `sources` names the position that each edge reads from; None means that all are kept, in order. `left_out` is the
    largest sum of weights that one query loses by it.
    """

    steps: tuple[int, ...]
    weights: UInt8[np.ndarray, "steps layers heads query edges"]
    sources: UInt[np.ndarray, "steps layers heads query edges"] | None
    left_out: float


@dataclass(frozen=True)
class AttentionView:
    """What the macro of `attention.html` needs: `data` goes into a script block as it is, `note` says what is shown."""

    data: Markup
    note: str


def attention_view(
    history: AttentionHistory,
    *,
    first: tuple[int, int] | None = None,
    budget: int = 5_000_000,
    most_checkpoints: int = 60,
) -> AttentionView:
    """The view of `history`, whose weights take at most `budget` bytes of the page.

    It opens on the head `first` (layer and head, from 1), or on all heads of the last layer. Raises `InputError` for a
    head that there is not, and otherwise as `pack_attention`.
    """
    packed = pack_attention(history, budget=budget, most_checkpoints=most_checkpoints)
    _, layers, heads, _, edges = packed.weights.shape
    if first is not None and not (1 <= first[0] <= layers and 1 <= first[1] <= heads):
        raise InputError(f"first={first}: a layer from 1 to {layers} and a head from 1 to {heads}")
    values: dict[str, Any] = {
        "tokens": history.example.tokens,
        "roles": history.example.roles,
        "steps": packed.steps,
        "layers": layers,
        "heads": heads,
        "first": None if first is None else [first[0] - 1, first[1] - 1],
        "edges": edges,
        "least": LEAST,
        "weights": _text(packed.weights),
        "sources": None if packed.sources is None else _text(packed.sources),
        "source_bytes": 1 if packed.sources is None else packed.sources.itemsize,
    }
    # Token names may hold "</script>"; inside JSON strings these characters can be written as escapes.
    escapes = {ord(character): f"\\u{ord(character):04x}" for character in "<>&"}
    return AttentionView(Markup(json.dumps(values).translate(escapes)), _note(history, packed))


def pack_attention(history: AttentionHistory, *, budget: int, most_checkpoints: int) -> PackedAttention:
    """The weights in 8 bits, at most `budget` bytes as base64.

    Of more than `most_checkpoints` steps, that many evenly spaced ones are kept, with the first and the last. What is
    still too large keeps only the largest edges of every query, and fewer steps if these would be fewer than eight.
    Raises `InputError` for steps that do not ascend, for weights of another shape, outside [0, 1] or, in a masked
    model, on later positions, and for a budget in which two checkpoints of one edge a query do not fit.
    """
    _check(history, most_checkpoints)
    recorded, layers, heads, length, _ = history.weights.shape
    queries = layers * heads * length
    kept = min(recorded, most_checkpoints)
    while kept > 2 and _edges_that_fit(kept * queries, length, budget) < min(_FEWEST_EDGES, length):
        kept -= 1
    edges = _edges_that_fit(kept * queries, length, budget)
    if edges == 0:
        raise InputError(
            f"budget={budget}: too few bytes for {kept * queries} queries (checkpoints × layers × heads × tokens); "
            "give more, or fewer layers"
        )
    chosen = np.linspace(0, recorded - 1, kept).round().astype(int)
    steps = tuple(history.steps[index] for index in chosen)
    weights = history.weights[chosen]
    if edges == length:
        return PackedAttention(steps, _quantised(weights), None, 0.0)
    flat = [_largest(maps, edges) for maps in weights.reshape(-1, heads, length, length)]
    shape = (kept, layers, heads, length, edges)
    return PackedAttention(
        steps,
        np.concatenate([values for values, _, _ in flat]).reshape(shape),
        np.concatenate([sources for _, sources, _ in flat]).reshape(shape),
        max(left_out for _, _, left_out in flat),
    )


def _check(history: AttentionHistory, most_checkpoints: int) -> None:
    weights, steps, length = history.weights, history.steps, len(history.example.tokens)
    if most_checkpoints < 2:
        raise InputError(f"most_checkpoints={most_checkpoints}: must be at least 2, for the first and the last")
    if not steps or any(later <= earlier for earlier, later in pairwise(steps)):
        raise InputError(f"steps={steps}: must be one or more training steps in ascending order")
    if weights.ndim != 5 or 0 in weights.shape or weights.shape != (len(steps), *weights.shape[1:3], length, length):
        raise InputError(
            f"weights={weights.shape}: the shape must be ({len(steps)}, layers, heads, {length}, {length}), which is "
            "steps, layers, heads and twice the tokens of the example"
        )
    if not (weights.min() >= 0 and weights.max() <= 1 + _ROUNDING):
        raise InputError(f"weights={weights.min():g} to {weights.max():g}: attention weights lie between 0 and 1")
    if history.masked and any(np.triu(maps, 1).any() for maps in weights):
        raise InputError("masked=True: some weights on later positions are not 0; masked=False shows them")


def _edges_that_fit(queries: int, length: int, budget: int) -> int:
    """How many edges of every query fit: all `length` without their positions, or fewer with them."""
    held = budget // 4 * 3 - 6  # four characters hold three bytes; two texts end in up to two bytes of padding each
    return length if queries * length <= held else max(0, held // (queries * (1 + _source_type(length).itemsize)))


def _source_type(length: int) -> np.dtype[Any]:
    return np.dtype("u1" if length <= 256 else "<u2")


def _quantised(weights: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    levels: UInt8[np.ndarray, "*shape"] = np.rint(np.minimum(weights, 1) * LEVELS).astype(np.uint8)
    return levels


def _largest(
    maps: Float[np.ndarray, "heads query source"], edges: int
) -> tuple[UInt8[np.ndarray, "heads query edges"], UInt[np.ndarray, "heads query edges"], float]:
    """The largest edges of every query: weights, positions read from, and the largest sum left out."""
    order = np.argpartition(-maps, edges - 1, axis=-1)
    kept, rest = order[..., :edges], order[..., edges:]
    left_out = float(np.take_along_axis(maps, rest, axis=-1).sum(axis=-1).max())
    return _quantised(np.take_along_axis(maps, kept, axis=-1)), kept.astype(_source_type(maps.shape[-1])), left_out


def _text(array: UInt[np.ndarray, "..."]) -> str:
    return base64.b64encode(array.tobytes()).decode()


def _note(history: AttentionHistory, packed: PackedAttention) -> str:
    length, edges = packed.weights.shape[-2:]
    sight = "itself and earlier positions" if history.masked else "all positions, later ones too"
    parts = [
        f"A position reads from {sight}. Weights are rounded to 1/{LEVELS}, hence at most 1/{2 * LEVELS} off; "
        f"those below {LEAST} are not drawn."
    ]
    if edges < length:
        parts.append(
            f"Of each position only the {edges} largest of {length} weights are held; those left out sum to at most "
            f"{packed.left_out:.2g}."
        )
    if len(packed.steps) < len(history.steps):
        parts.append(f"{len(packed.steps)} of {len(history.steps)} recorded checkpoints are held, evenly spaced.")
    return " ".join(parts)
