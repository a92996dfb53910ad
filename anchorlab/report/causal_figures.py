"""Causal checks as figures: the path to the answer, activation patching, ablated heads."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from anchorlab.analysis import COMPONENTS, Effects, PathGraph
from anchorlab.analysis.run_table import row_dicts

from .style import BLACK, GREY, SMALL, TEXT, VERMILLION, WIDTH, finish, new_figure

_MOST_NUMBERED = 60  # cells of a map that have their number written in
_COSTLY = 0.3  # share of the logit difference that an edge beside the path must cost to be told
_LEAST = 0.1  # share of the logit difference that is worth a word
_LABELS = (0.3, 0.6, 0.45)  # where along their arrows numbers stand, in turn: those of neighbours do not touch


def path_drawing(graph: PathGraph) -> Figure:
    """Places across, layers upwards; an arrow is attention that the answer depends on, with the share lost without."""
    figure = new_figure(WIDTH, 1.3 + 0.95 * graph.layers)
    axes = figure.subplots()
    at = {place: x for x, place in enumerate(graph.places)}
    for x in at.values():
        axes.plot([x, x], [0, graph.layers], color=GREY, linewidth=0.6, linestyle=":", zorder=0)
        axes.plot([x] * (graph.layers + 1), range(graph.layers + 1), "o", color=GREY, markersize=4, zorder=1)
    drawn = [edge for edge in row_dicts(graph.edges) if edge["effect"] >= graph.least]
    for number, edge in enumerate(drawn):
        _arrow(axes, edge, at[edge["source"]], at[edge["target"]], along=_LABELS[number % len(_LABELS)])
    axes.set_xticks(list(at.values()), list(at), fontsize=SMALL)
    axes.set_yticks(range(graph.layers + 1), ["tokens", *(f"layer {layer}" for layer in range(1, graph.layers + 1))])
    axes.set_xlim(-0.5, len(at) - 0.5)
    axes.set_ylim(-0.25, graph.layers + 0.25)
    finish(axes)
    axes.tick_params(length=0, labelsize=SMALL)
    axes.spines[:].set_visible(False)
    return figure


def _arrow(axes: Axes, edge: dict[str, Any], source: int, target: int, *, along: float) -> None:
    layer, effect = edge["layer"], edge["effect"]
    colour, style = (VERMILLION, "-") if edge["on_path"] else (GREY, "--")
    arrow = {"arrowstyle": "-|>", "color": colour, "linestyle": style, "linewidth": 0.8 + 2.2 * min(effect, 1.0)}
    arrow |= {"shrinkA": 3, "shrinkB": 3, "connectionstyle": "arc3,rad=0.5" if source == target else "arc3,rad=0"}
    axes.annotate("", (target, layer), (source, layer - 1), arrowprops=arrow, zorder=2)
    x, y = source + along * (target - source), layer - 1 + along
    box = {"boxstyle": "round,pad=0.12", "facecolor": "white", "edgecolor": "none"}
    axes.text(x, y, f"{effect:.2f}", fontsize=SMALL - 1, color=BLACK, ha="center", va="center", bbox=box, zorder=3)


def about_path(graph: PathGraph) -> str:
    """The edges on the way to the answer, layer by layer."""
    steps = [
        f"in layer {edge['layer']}, {edge['target']} reads {edge['source']} ({edge['effect']:.2f})"
        for edge in row_dicts(graph.path.sort_values(["layer", "effect"], ascending=[True, False]))
    ]
    if not steps:
        return (
            f"No single connection costs {graph.least:.0%} of the logit difference and lies on a way from key or "
            f"anchors to the answer: the information takes several ways at once{_counted(graph)}."
        )
    return (
        f"The answer depends on these connections: {'; '.join(steps)}. In brackets, the share of the logit difference "
        f"that is lost without the connection{_counted(graph)}.{_aside(graph)}"
    )


def _aside(graph: PathGraph) -> str:
    others = graph.edges[~graph.edges["on_path"] & (graph.edges["effect"] >= _COSTLY)].nlargest(2, "effect")
    named = [
        f"{edge['target']} reads {edge['source']} in layer {edge['layer']} ({edge['effect']:.2f})"
        for edge in row_dicts(others)
    ]
    return f" Not on such a way, but costly to cut: {'; '.join(named)}." if named else ""


def patching_maps(found: Effects) -> Figure:
    """For every component layers upwards by places: the share of the logit difference that its activation restores."""
    table = found.table
    components = [name for name in COMPONENTS if name in set(table["component"])]
    places, layers = list(dict.fromkeys(table["place"])), int(table["layer"].max())
    figure = new_figure(WIDTH, len(components) * (0.75 + 0.32 * layers) + 0.5)
    panels = figure.subplots(len(components), 1, squeeze=False, sharex=True)[:, 0]
    for axes, component in zip(panels, components, strict=True):
        rows = table[table["component"] == component]
        grid = rows.pivot_table(index="layer", columns="place", values="effect")[places].to_numpy(float)
        image = _effects(axes, grid, places, [f"layer {layer}" for layer in range(1, layers + 1)])
        axes.set_title(component, fontsize=TEXT - 1, loc="left")
    figure.colorbar(image, ax=panels, shrink=0.8).set_label("share restored", fontsize=SMALL)
    return figure


def _effects(axes: Axes, grid: np.ndarray, columns: list[str], rows: list[str]) -> AxesImage:
    image = axes.imshow(grid, cmap="cividis", vmin=0, vmax=1, aspect="auto", origin="lower")
    for row, column in np.argwhere(~np.isnan(grid)) if grid.size <= _MOST_NUMBERED else ():
        value = grid[row, column]
        colour = "white" if value < 0.55 else "black"
        axes.text(column, row, f"{round(value, 2) + 0.0:.2f}", ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(len(columns)), columns, fontsize=SMALL - 1)
    axes.set_yticks(range(len(rows)), rows, fontsize=SMALL - 1)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return image


def about_patching(found: Effects) -> str:
    """Where the key's information stands, layer by layer, and which sublayer writes it there."""
    table = found.table
    stream = table[table["component"] == "residual stream"]
    best = stream.loc[stream.groupby("layer")["effect"].idxmax()]
    moves = ", ".join(f"at {row['place']} behind layer {row['layer']} ({row['effect']:.2f})" for row in row_dicts(best))
    text = f"The information about the key stands {moves}{_counted(found)}."
    sublayers = table[(table["component"] != "residual stream") & (table["effect"] >= _LEAST)]
    if sublayers.empty:
        return text
    written = sublayers.nlargest(2, "effect")
    writers = " and ".join(
        f"the {row['component']} of layer {row['layer']} at {row['place']} ({row['effect']:.2f})"
        for row in row_dicts(written)
    )
    return f"{text} Of the sublayers' outputs, {writers} matter{'s' if len(written) == 1 else ''} most."


def _counted(found: Effects | PathGraph) -> str:
    return f" ({found.pairs} of {found.drawn} pairs of rows, those that are answered right)"


def ablation_map(found: Effects) -> Figure:
    """Layers upwards by heads: the share of the logit difference that is lost without the head."""
    table = found.table
    heads, layers = int(table["head"].max()), int(table["layer"].max())
    figure = new_figure(WIDTH, 1.2 + 0.34 * layers)
    axes = figure.subplots()
    grid = table.pivot_table(index="layer", columns="head", values="effect").to_numpy(float)
    names = [f"layer {layer}" for layer in range(1, layers + 1)]
    image = _effects(axes, grid, [f"head {head}" if heads <= 8 else str(head) for head in range(1, heads + 1)], names)
    figure.colorbar(image, ax=axes, shrink=0.9).set_label("share lost", fontsize=SMALL)
    return figure


def about_ablation(found: Effects) -> str:
    """The heads that the answer depends on most."""
    most = found.table.nlargest(3, "effect").query("effect >= @_LEAST")
    if most.empty:
        return "No single head costs a tenth of the logit difference: several do the same work, or none does."
    named = "; ".join(
        f"layer {row['layer']} head {row['head']}: {row['effect']:.2f} lost, accuracy {row['accuracy']:.2f}"
        for row in row_dicts(most)
    )
    return f"The heads that the answer needs most: {named}{_counted(found)}."
