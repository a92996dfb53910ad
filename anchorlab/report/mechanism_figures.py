"""Figures of how a network works: attention maps."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.text import Text

from anchorlab.analysis import Attention, Example

from .style import BLUE, SMALL, TEXT, VERMILLION, WIDTH, finish, new_figure

_MOST_LABELLED = 8


def attention_maps(attention: Attention) -> Figure:
    """Every layer and head: the row's position reads from the column's; of few maps, key and anchors are named."""
    layers, heads, *_ = attention.trained.shape
    return _panels(attention) if layers * heads <= _MOST_LABELLED else _mosaic(attention)


def _panels(attention: Attention) -> Figure:
    layers, heads, *_ = attention.trained.shape
    rows, columns = (1, layers) if heads == 1 and layers <= 3 else (layers, heads)
    figure = new_figure(max(WIDTH, 1.5 * columns), 1.15 + max(4.2 / columns, 1.3) * rows)
    panels = figure.subplots(rows, columns, squeeze=False)
    for number, axes in enumerate(panels.flat):
        layer, head = divmod(number, heads)
        image = axes.imshow(attention.trained[layer, head], cmap="viridis", vmin=0, vmax=1)
        axes.set_title(f"layer {layer + 1}" + (f", head {head + 1}" if heads > 1 else ""), fontsize=SMALL)
        axes.spines[:].set_visible(False)
        _token_ticks(axes, attention.example)
    figure.supxlabel("read from", fontsize=TEXT)
    figure.supylabel("position", fontsize=TEXT)
    _scale(figure, image, panels)
    return figure


def _mosaic(attention: Attention) -> Figure:
    layers, heads, length, _ = attention.trained.shape
    side = length + max(1, length // 16)
    tiles = np.full((layers * side, heads * side), np.nan)
    for layer, head in np.ndindex(layers, heads):
        tiles[layer * side :, head * side :][:length, :length] = attention.trained[layer, head]
    tile = min(max(0.9 * WIDTH / heads, 0.42), 1.2)  # inches
    figure = new_figure(max(WIDTH, 0.6 + tile * heads), 1.2 + tile * layers)
    axes = figure.subplots()
    image = axes.imshow(tiles, cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks(np.arange(heads) * side + length / 2, [str(head + 1) for head in range(heads)])
    axes.set_yticks(np.arange(layers) * side + length / 2, [str(layer + 1) for layer in range(layers)])
    finish(axes, x="head", y="layer")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    _scale(figure, image, axes)
    return figure


def _scale(figure: Figure, image: AxesImage, axes: Any) -> None:
    bar = figure.colorbar(image, ax=axes, location="top", shrink=0.6, aspect=30)
    bar.set_label("attention weight", fontsize=SMALL)


def _token_ticks(axes: Axes, example: Example) -> None:
    positions = range(len(example.tokens))
    axes.set_xticks(positions, example.tokens, fontsize=SMALL, rotation=90 if len(example.tokens) > 12 else 0)
    axes.set_yticks(positions, example.tokens, fontsize=SMALL)
    axes.tick_params(length=0)
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        for label, role in zip(labels, example.roles, strict=True):
            _mark(label, role)


def _mark(label: Text, role: str) -> None:
    if role:
        label.set_color(BLUE if role == "key" else VERMILLION)
        label.set_fontweight("bold")
