"""What the attention heads do: a map of all heads, its caption, and the table to download."""

from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from anchorlab.analysis.head_kinds import SHIFT_QUERIES, HeadScores
from anchorlab.analysis.run_table import row_dicts

from .style import BLACK, SMALL, VERMILLION, WIDTH, finish, new_figure

_NAMES = {
    "shift": ("a shift head", "shift heads"),
    "broadcast": ("a broadcast head", "broadcast heads"),
    "sink": ("a sink head", "sink heads"),
    "induction": ("an induction head", "induction heads"),
    "duplicate": ("a duplicate-token head", "duplicate-token heads"),
    "self": ("a self-reading head", "self-reading heads"),
}
_MOST_WRITTEN = 4  # layers and heads of which each cell has room for a number
_MOST_WITH_OFFSET = 2  # heads of which each cell has room for a shift's offset, too
_MOST_NAMED = 4  # heads that a caption describes one by one
_SCALE = mpl.colormaps["cividis"].with_extremes(bad="#D9D9D9")


def head_map(scores: HeadScores) -> Figure:
    """One panel for each pattern, layers down and heads across; the frame shows the heads that are of this kind.

    Colour is the strength: 0 for uniform attention or less, 1 for a perfect pattern; of the shifts the strongest counts
    and its offset is written beside the number where numbers fit. Grey: no query has the pattern.
    """
    present = set(scores.scores["score"].map(_family))
    families = [family for family in _NAMES if family in present]
    figure = new_figure(WIDTH, 1.7 + 2 * min(0.45 * scores.kinds["layer"].nunique(), 1.6))
    panels = figure.subplots(2, -(-len(families) // 2), sharex=True, sharey=True)
    for axes in panels.flat[len(families) :]:
        axes.set_axis_off()
    for axes, family in zip(panels.flat, families, strict=False):
        image = _draw_family(axes, _strongest(scores, family), scores.kinds, family)
        finish(axes, title=family)
        axes.spines[:].set_visible(False)
    figure.supxlabel("head", fontsize=SMALL)
    figure.supylabel("layer", fontsize=SMALL)
    bar = figure.colorbar(image, ax=panels, location="top", shrink=0.5, aspect=25, ticks=(0, 0.5, 1))
    bar.set_label("strength (0 uniform, 1 perfect)", fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)
    frame = Patch(facecolor="none", edgecolor=VERMILLION, linewidth=1.6, label="kind of the head")
    figure.legend(handles=[frame], loc="outside lower right", fontsize=SMALL, frameon=False, handlelength=1.2)
    return figure


def _strongest(scores: HeadScores, family: str) -> pd.DataFrame:
    """One row a head: its strongest score of the family, of the shifts with enough queries to make up a kind."""
    own = scores.scores[scores.scores["score"].map(_family) == family]
    if family == "shift":
        own = own[own["observations"] >= SHIFT_QUERIES * own["sequences"]]
    ordered = own.sort_values("strength", ascending=False, kind="stable")
    return ordered.drop_duplicates(["layer", "head"]).sort_values(["layer", "head"])


def _family(score: str) -> str:
    return "" if score.startswith("value-weighted") else score.partition(" ")[0]


def _draw_family(axes: Axes, cells: pd.DataFrame, kinds: pd.DataFrame, family: str) -> Any:
    layers, heads = (sorted(kinds[name].unique().tolist()) for name in ("layer", "head"))
    grid = cells.pivot(index="layer", columns="head", values="strength").reindex(index=layers, columns=heads)
    image = axes.imshow(grid.astype(float), cmap=_SCALE, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    if max(len(layers), len(heads)) <= _MOST_WRITTEN:
        for cell in row_dicts(cells.dropna(subset=["strength"])):
            x, y = heads.index(cell["head"]), layers.index(cell["layer"])
            ink = "white" if cell["strength"] < 0.55 else BLACK
            axes.text(x, y, _written(cell, len(heads)), ha="center", va="center", fontsize=SMALL, color=ink)
    width = 2.2 if len(heads) <= _MOST_WRITTEN else min(0.9, 16 / len(heads))
    own = kinds[kinds["kind"].map(_family) == family]
    for layer, head in zip(own["layer"], own["head"], strict=True):
        corner = heads.index(head) - 0.45, layers.index(layer) - 0.45
        axes.add_patch(Rectangle(corner, 0.9, 0.9, fill=False, edgecolor=VERMILLION, linewidth=width))
    across, down = _ticks(len(heads), most=4), _ticks(len(layers), most=8)
    axes.set_xticks(across, [str(heads[place]) for place in across])
    axes.set_yticks(down, [str(layers[place]) for place in down])
    axes.tick_params(length=0)
    return image


def _written(cell: dict[str, Any], heads: int) -> str:
    number = f"{max(cell['strength'], 0):.2f}"
    family, _, offset = cell["score"].partition(" ")
    with_offset = family == "shift" and number != "0.00" and heads <= _MOST_WITH_OFFSET
    return f"{_signed(offset)}: {number}" if with_offset else number


def _signed(offset: str) -> str:
    return offset.replace("-", "−")


def _ticks(count: int, most: int) -> list[int]:
    """The places to label."""
    every = -(-count // most)
    return list(range(every - 1, count, every))


def about_heads(scores: HeadScores) -> str:
    """Which heads are what, with mean weight ± standard deviation over sequences; of many heads the strongest ones."""
    heads = row_dicts(scores.kinds)
    if len(heads) <= _MOST_NAMED:
        text = "; ".join(_described(head, scores) for head in heads)
    else:
        text = f"of {len(heads):,} heads " + "; ".join(_counted(scores))
    return f"{text[0].upper()}{text[1:]}."


def _described(head: dict[str, Any], scores: HeadScores) -> str:
    if head["kind"] == "none":
        return f"{_name(head)} shows none of the patterns"
    return f"{_name(head)} is {_NAMES[_family(head['kind'])][0]} ({_details(head, scores)})"


def _counted(scores: HeadScores) -> list[str]:
    families = scores.kinds["kind"].map(_family)
    parts = []
    for family, (one, several) in _NAMES.items():
        own = row_dicts(scores.kinds[families == family].sort_values("strength", ascending=False, kind="stable"))
        if own:
            count = f"1 is {one} (" if len(own) == 1 else f"{len(own):,} are {several} (the strongest is "
            parts.append(f"{count}{_name(own[0])}: {_details(own[0], scores)})")
    none = int((families == "none").sum())
    return [*parts, f"{none:,} {'shows' if none == 1 else 'show'} none of the patterns"] if none else parts


def _name(head: dict[str, Any]) -> str:
    return f"layer {head['layer']} head {head['head']}"


def _details(head: dict[str, Any], scores: HeadScores) -> str:
    """Where the head reads from, its mean weight, and what is known about sink or broadcast."""
    family, _, offset = head["kind"].partition(" ")
    where = {"shift": f"offset {_signed(offset)}", "broadcast": _role(head["role"]), "sink": _positions(head, scores)}
    weight = f"weight {head['weight']:.2f}" + ("" if np.isnan(head["spread"]) else f" ± {head['spread']:.2f}")
    return ", ".join(part for part in (where.get(family), weight, _told_apart(head, scores)) if part)


def _role(role: str) -> str:
    return f"the {role}" if role == "key" else role


def _positions(head: dict[str, Any], scores: HeadScores) -> str:
    positions = _of_head(scores.sinks, head)["position"].astype(str).tolist()
    return f"position{'s' if len(positions) > 1 else ''} {' and '.join(positions)}" if positions else ""


def _of_head(table: pd.DataFrame, head: dict[str, Any]) -> pd.DataFrame:
    own: pd.DataFrame = table[(table["layer"] == head["layer"]) & (table["head"] == head["head"])]
    return own


def _told_apart(head: dict[str, Any], scores: HeadScores) -> str:
    if head["decided_by"] == "undecided":
        if head["kind"] == "broadcast":
            return "or a sink, its column being at one position in most rows"
        return f"or a broadcast of {_role(head['role'])}, which is there in most rows" if head["role"] else ""
    tests = _of_head(scores.moving, head)
    if head["kind"] == "broadcast":
        followed = tests.loc[tests["role"] == head["role"], "followed"].tolist()
        return f"and follows it in {followed[0]:.0%} of the rows where it moves" if followed else ""
    stays = tests.loc[tests["stayed"] > 0.5, "role"].tolist()
    return f"where it stays when {_role(stays[0])} moves" if head["kind"] == "sink" and stays else ""


def heads_table(scores: HeadScores) -> pd.DataFrame:
    """One row a head: its kind as in `HeadScores.kinds`, its sinks' positions, and the mean of every score."""
    keys = ["layer", "head"]
    means = scores.scores.pivot(index=keys, columns="score", values="mean")[scores.scores["score"].unique().tolist()]
    sinks = scores.sinks.astype({"position": str}).groupby(keys)["position"].agg(" ".join).rename("sinks")
    table = scores.kinds.merge(sinks.reset_index(), on=keys, how="left").fillna({"sinks": ""})
    return table.merge(means.reset_index(), on=keys)
