"""Figures of how a network works: attention maps, token embeddings, cosine similarity of neurons."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from anchorlab.analysis import Attention, Condensation, EmbeddingPCA, Example

from .style import BLACK, BLUE, GREY, SMALL, TEXT, VERMILLION, WIDTH, finish, new_figure

_MOST_LABELLED = 8


def attention_maps(attention: Attention) -> Figure:
    """One panel per layer and head: the row's position reads from the column's; key and anchors are named in colour."""
    layers, heads, *_ = attention.weights.shape
    rows, columns = (1, layers) if heads == 1 and layers <= 3 else (layers, heads)
    figure = new_figure(max(WIDTH, 1.5 * columns), 1.15 + max(4.2 / columns, 1.3) * rows)
    panels = np.atleast_2d(figure.subplots(rows, columns, squeeze=False))
    labelled = layers * heads <= _MOST_LABELLED
    for number, axes in enumerate(panels.flat):
        layer, head = divmod(number, heads)
        image = axes.imshow(attention.weights[layer, head], cmap="viridis", vmin=0, vmax=1)
        axes.set_title(
            f"layer {layer + 1}" + (f", head {head + 1}" if heads > 1 else ""), fontsize=SMALL if labelled else 7
        )
        axes.spines[:].set_visible(False)
        _token_ticks(axes, attention.example, shown=labelled)
    figure.supxlabel("read from", fontsize=TEXT)
    figure.supylabel("position", fontsize=TEXT)
    figure.colorbar(image, ax=panels, location="top", shrink=0.6, aspect=30).set_label(
        "attention weight", fontsize=SMALL
    )
    return figure


def _token_ticks(axes: Axes, example: Example, *, shown: bool) -> None:
    if not shown:
        axes.set_xticks([])
        axes.set_yticks([])
        return
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


def embedding_plot(pca: EmbeddingPCA) -> Figure:
    """Number tokens in the plane of two principal components, named and coloured by value; below, the steps' scores."""
    figure = new_figure(WIDTH, 5.6)
    axes, below = figure.subplots(2, 1, height_ratios=(4, 1))
    _step_scores(below, pca)
    x, y = pca.coordinates[:, 0], pca.coordinates[:, 1]
    points = axes.scatter(x, y, c=pca.values, cmap="cividis", s=14)
    for value, left, bottom in zip(pca.values, x, y, strict=True):
        axes.annotate(
            str(value), (left, bottom), xytext=(2.5, 2.5), textcoords="offset points", fontsize=7.5, color=BLACK
        )
    shares = [f"component {number} ({share:.0%} of variance)" for number, share in enumerate(pca.explained_variance, 1)]
    finish(axes, x=shares[0], y=shares[1])
    axes.set_xticks([])
    axes.set_yticks([])
    figure.colorbar(points, ax=axes, shrink=0.85).set_label("number", fontsize=SMALL)
    return figure


def _step_scores(axes: Axes, pca: EmbeddingPCA) -> None:
    steps, scores = np.arange(1, len(pca.step_scores) + 1), pca.step_scores
    axes.bar(steps, scores, width=0.7, color=[BLUE if score > pca.step_chance else GREY for score in scores])
    axes.axhline(pca.step_chance, color=BLACK, linewidth=1, linestyle=(0, (4, 2)), label="by chance")
    axes.axhline(0, color=BLACK, linewidth=0.6)
    axes.set_ylim(min(-0.1, 1.1 * float(scores.min())), 1)
    axes.set_xticks(steps, [f"+{step}" for step in steps])
    finish(axes, x="step", y="score")
    axes.legend(loc="upper right", bbox_to_anchor=(1, 1.35), fontsize=SMALL, frameon=False)


def cosine_plot(condensation: Condensation) -> Figure:
    """Cosine similarity of neurons, sorted so that groups of one direction lie together."""
    figure = new_figure(WIDTH, 4.1)
    axes = figure.subplots()
    order = condensation.order
    image = axes.imshow(
        condensation.cosine[np.ix_(order, order)], cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest"
    )
    finish(axes, x="neuron (sorted)", y="neuron (sorted)")
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, shrink=0.85).set_label("cosine similarity", fontsize=SMALL)
    return figure
