"""Figures of a probe: the maps of a shift head and a broadcast head (figure 12.17), and the kinds of heads by layer."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from anchorlab.analysis.head_kinds import HeadScores
from anchorlab.analysis.run_table import row_dicts
from anchorlab.errors import InputError
from anchorlab.pretrained_probe.depth import strongest_patterns
from anchorlab.pretrained_probe.probe import ShownAttention

from .style import BLUE, GREEN, ORANGE, PURPLE, SKY, SMALL, TEXT, VERMILLION, WIDTH, finish, new_figure

_MOST_LABELLED, _FEW_LABELS = 32, 16
_LONGEST = 14  # characters of a token's label
_INK = {"key": BLUE, "anchor": VERMILLION}
_BARS = {
    "shift": (BLUE, ""),
    "broadcast": (VERMILLION, "///"),
    "sink": (GREEN, ".."),
    "induction": (PURPLE, "\\\\\\"),
    "duplicate": (ORANGE, "xx"),
    "self": (SKY, "---"),
    "none": ("#E6E6E6", ""),
}


@dataclass(frozen=True)
class ShownHead:
    """A head, numbered from 1, its `score` (such as `shift 2`) with its strength, and whether it is of that kind."""

    layer: int
    head: int
    score: str
    strength: float
    of_kind: bool

    @property
    def place(self) -> tuple[int, int]:
        """Layer and head."""
        return self.layer, self.head


def strongest_head(scores: HeadScores, family: str) -> ShownHead | None:
    """The strongest head of the kind `family`; if none is, the one in which the pattern is strongest.

    None if no head has the score.
    """
    patterns = strongest_patterns(scores)
    kinds = scores.kinds.assign(of_kind=scores.kinds["kind"].str.split(" ").str[0] == family)
    own = patterns[patterns["family"] == family].merge(kinds[["layer", "head", "of_kind"]], on=["layer", "head"])
    first = row_dicts(own.sort_values(["of_kind", "strength"], ascending=False, kind="stable").head(1))
    return ShownHead(**{name: first[0][name] for name in ShownHead.__annotations__}) if first else None


def attention_pair(shown: ShownAttention, shift: tuple[int, int], broadcast: tuple[int, int]) -> Figure:
    """Figure 12.17: the maps of two heads, each (layer, head) from 1; the row's token reads from the column's.

    Of more than 32 tokens only every second, third, … is named. Raises `InputError` for a head that there is not.
    """
    figure = new_figure(2 * WIDTH, WIDTH)
    panels = figure.subplots(1, 2)
    for axes, (name, head) in zip(panels, {"shift": shift, "broadcast": broadcast}.items(), strict=True):
        image = _draw_map(axes, shown, head)
        axes.set_title(f"{name}: layer {head[0]}, head {head[1]}", fontsize=TEXT)
        axes.set_xlabel("read from", fontsize=TEXT)
    panels[0].set_ylabel("token", fontsize=TEXT)
    figure.colorbar(image, ax=panels, shrink=0.8, aspect=30).set_label("attention weight", fontsize=SMALL)
    return figure


def _draw_map(axes: Axes, shown: ShownAttention, head: tuple[int, int]) -> AxesImage:
    image = axes.imshow(_map(shown, head), cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
    length = shown.weights.shape[-1]
    every = -(-length // _MOST_LABELLED)
    places = range(0, length, every)
    roles = {place: role.partition(" ")[0] for role, place in shown.prompt.places.items()}
    names = [token_label(shown.prompt.pieces[place], place) for place in places]
    axes.set_xticks(places, names, rotation=90)
    axes.set_yticks(places, names)
    axes.tick_params(length=0, labelsize=SMALL if len(places) <= _FEW_LABELS else 7.5)
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        for place, label in zip(places, labels, strict=True):
            label.set_parse_math(False)
            if ink := _INK.get(roles.get(place, "")):
                label.set(color=ink, fontweight="bold")
    axes.spines[:].set_visible(False)
    return image


def _map(shown: ShownAttention, head: tuple[int, int]) -> Float[np.ndarray, "query source"]:
    layers, heads = shown.weights.shape[:2]
    if not (1 <= head[0] <= layers and 1 <= head[1] <= heads):
        raise InputError(f"head={head}: a layer from 1 to {layers} and a head from 1 to {heads}")
    weights: Float[np.ndarray, "query source"] = shown.weights[head[0] - 1, head[1] - 1]
    return weights


def token_label(piece: str, place: int) -> str:
    """A token as a figure can write it; one of signs that the font lacks is shown as its position, from 1."""
    text = visible(piece)
    font = get_font(findfont("DejaVu Sans"))
    if not all(font.get_char_index(ord(sign)) for sign in text):
        return f"({place + 1})"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def visible(piece: str) -> str:
    """A token without the space before it; line ends and tabs as signs, and a token of spaces alone as `␣`."""
    return piece.replace("\r", "").replace("\n", "↵").replace("\t", "⇥").strip() or "␣"


def kind_counts(scores: HeadScores) -> pd.DataFrame:
    """Heads of each kind, by layer: one column a kind that some head has, and `none`."""
    families = scores.kinds["kind"].str.split(" ").str[0]
    counts = pd.crosstab(scores.kinds["layer"], families)
    return counts[[name for name in _BARS if name in counts]]


def kinds_by_layer(scores: HeadScores) -> Figure:
    """Stacked bars: how many heads of each layer are of which kind."""
    counts = kind_counts(scores)
    figure = new_figure(WIDTH, 3.4)
    axes = figure.subplots()
    below = np.zeros(len(counts))
    for name in counts:
        colour, hatch = _BARS[str(name)]
        heights = counts[name].to_numpy()
        axes.bar(
            counts.index,
            heights,
            0.85,
            bottom=below,
            color=colour,
            hatch=hatch,
            edgecolor="white",
            linewidth=0.3,
            label=name,
        )
        below = below + heights
    finish(axes, x="layer", y="heads")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside upper left", ncols=4, fontsize=SMALL, frameon=False)
    return figure


def about_kinds(scores: HeadScores) -> str:
    """How many heads are of which kind, and in which layer there are most shift and broadcast heads."""
    counts = kind_counts(scores)
    total = int(counts.to_numpy().sum())
    parts = [f"{counts[name].sum():,} {name}" for name in counts]
    most = [
        f"most {name} heads ({counts[name].max()}) are in layer {counts[name].idxmax()}"
        for name in ("shift", "broadcast")
        if name in counts
    ]
    return f"Of {total:,} heads: {', '.join(parts)}{''.join(f'; {part}' for part in most)}."


def about_pair(shift: ShownHead, broadcast: ShownHead) -> str:
    """Which heads are shown, and how strong their patterns are over all prompts."""
    left, right = _described(shift, "shift"), _described(broadcast, "broadcast")
    return f"Left, {left}; right, {right}. Strength is that over all prompts."


def _described(head: ShownHead, family: str) -> str:
    what = (
        f"the strongest {family} head" if head.of_kind else f"the largest {family} score (no head is a {family} head)"
    )
    offset = head.score.partition(" ")[2].replace("-", "−")
    details = ", ".join(
        part for part in (f"offset {offset}" if offset else "", f"strength {head.strength:.2f}") if part
    )
    return f"layer {head.layer} head {head.head}: {what}, {details}"
