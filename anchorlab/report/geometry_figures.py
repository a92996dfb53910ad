"""Geometry of embeddings (figs 12.7, 13.12) and of masked outputs (figs 13.8, 13.9): figures, sentences, tables."""

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from anchorlab.analysis import EmbeddingPCA
from anchorlab.analysis.embedding import CurveOrder, EmbeddingGeometry, StepLattice
from anchorlab.analysis.output_space import PairClusters, SingleAnchorSimilarity
from anchorlab.analysis.pairs import swapped_name, unordered_name
from anchorlab.analysis.projection import Projection

from .style import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, SMALL, VERMILLION, WIDTH, finish, new_figure

_HUES = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, GREY)
_MARKERS = (("o", "^"), ("s", "v"), ("D", "P"))  # of the two orders; the next two once all hues are used
_LONGEST_STEP = 2.0  # in median lengths: longer ones are folds and would cross the figure


def geometry_plot(found: EmbeddingGeometry) -> Figure:
    """Number tokens in the plane of two principal components and by t-SNE, joined by the steps that span their lattice.

    Steps of more than twice their median length are not drawn. Below, the steps' scores.
    """
    figure = new_figure(WIDTH, 9.2)
    plane, tsne, below = figure.subplots(3, 1, height_ratios=(4, 4, 1))
    if found.lattice.kind == "lattice":
        for axes, places in ((plane, found.pca.coordinates), (tsne, found.tsne.coordinates)):
            _lattice_steps(axes, places, found.lattice.best_pair)
        plane.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, fontsize=SMALL, frameon=False)
    points = _named_points(plane, found.pca.coordinates, found.pca.values)
    finish(plane, **_component_names(found.pca.explained_variance))
    _named_points(tsne, found.tsne.coordinates, found.pca.values)
    finish(tsne, **_axis_names(found.tsne))
    figure.colorbar(points, ax=[plane, tsne], shrink=0.5, aspect=30).set_label("number", fontsize=SMALL)
    _step_scores(below, found.pca)
    return figure


def _named_points(axes: Axes, coordinates: Float[np.ndarray, "n 2"], values: Int[np.ndarray, " n"]) -> PathCollection:
    points = axes.scatter(coordinates[:, 0], coordinates[:, 1], c=values, cmap="cividis", s=14, zorder=2)
    for value, place in zip(values, coordinates, strict=True):
        axes.annotate(str(value), place, xytext=(2.5, 2.5), textcoords="offset points", fontsize=7.5, color=BLACK)
    axes.set_xticks([])
    axes.set_yticks([])
    return points


def _lattice_steps(axes: Axes, places: Float[np.ndarray, "n 2"], pair: tuple[int, int]) -> None:
    for step, colour in zip(pair, (GREEN, BLUE), strict=True):
        steps = places[step:] - places[:-step]
        lengths = np.linalg.norm(steps, axis=1)
        drawn = lengths <= _LONGEST_STEP * np.median(lengths)
        axes.quiver(
            *places[:-step][drawn].T,
            *steps[drawn].T,
            angles="xy",
            scale_units="xy",
            scale=1,
            width=0.003,
            headwidth=5,
            zorder=1,
            color=colour,
            alpha=0.55,
            label=f"x → x + {step}",
        )


def _step_scores(axes: Axes, pca: EmbeddingPCA) -> None:
    steps, scores = np.arange(1, len(pca.step_scores) + 1), pca.step_scores
    axes.bar(steps, scores, width=0.7, color=[BLUE if score > pca.step_chance else GREY for score in scores])
    axes.axhline(pca.step_chance, color=BLACK, linewidth=1, linestyle=(0, (4, 2)), label="by chance")
    axes.axhline(0, color=BLACK, linewidth=0.6)
    axes.set_ylim(min(-0.1, 1.1 * float(scores.min())), 1)
    axes.set_xticks(steps, [f"+{step}" for step in steps])
    finish(axes, x="step", y="score")
    axes.legend(loc="upper right", bbox_to_anchor=(1, 1.35), fontsize=SMALL, frameon=False)


def about_geometry(found: EmbeddingGeometry) -> str:
    """Lattice, order in steps, order by size, and order along the curve."""
    return f"{_about_lattice(found)} {about_embedding(found.pca)} {_about_curves(found.curve, found.tsne_curve)}"


def about_embedding(pca: EmbeddingPCA) -> str:
    """Order in steps, order by size, and explained variance."""
    scores = " and ".join(f"{score:.2f}" for score in pca.order_scores)
    return (
        f"The numbers {_order_in_steps(pca)}: the best step score is {pca.step_score:.2f}, for x → x + "
        f"{pca.best_step} (up to {pca.step_chance:.2f} by chance). Order by size: rank correlations of {scores} for "
        f"components 1 and 2 (about {1 / np.sqrt(len(pca.values)):.2f} by chance). The two components hold "
        f"{pca.explained_variance.sum():.0%} of the variance."
    )


def _order_in_steps(pca: EmbeddingPCA) -> str:
    if pca.step_score <= pca.step_chance:
        return "show no order in steps"
    return "are ordered in steps" if pca.step_score > 0.5 else "show weak order in steps"


def _about_lattice(found: EmbeddingGeometry) -> str:
    lattice, (first, second) = found.lattice, found.lattice.best_pair
    explained = _shares(lattice, lattice.best)
    shares = f"one vector explains {explained} of neighbouring steps ({lattice.chance:.0%} by chance)"
    if lattice.kind == "none":
        return f"No two steps span a lattice; of the best, {first} and {second}, {shares}."
    if lattice.kind == "line":
        return f"The steps that agree lead along one line, such as {first} and {second}: {shares}."
    return (
        f"The steps {first} and {second} span a lattice: {shares}, in directions {lattice.angles[lattice.best]:.0f}° "
        f"apart. In the plane of the figure one explains {_shares(found.plane_lattice, lattice.best)}."
    )


def _shares(lattice: StepLattice, pair: int) -> str:
    return " and ".join(f"{share:.0%}" for share in lattice.explained[pair])


def _about_curves(curve: CurveOrder, tsne: CurveOrder) -> str:
    return (
        f"Order along the curve that the points form: rank correlation {curve.score:.2f} in the whole space and "
        f"{tsne.score:.2f} by t-SNE (up to {max(curve.chance, tsne.chance):.2f} by chance)."
    )


def embedding_table(pca: EmbeddingPCA) -> pd.DataFrame:
    """One row a number: its value, coordinates, and the cosines whose mean in a column is that step's score."""
    columns = {f"component_{number}": column for number, column in enumerate(pca.coordinates.T, 1)}
    steps = {f"step_{step}": column for step, column in enumerate(pca.step_cosines.T, 1)}
    return pd.DataFrame({"value": pca.values, **columns, **steps})


def geometry_table(found: EmbeddingGeometry) -> pd.DataFrame:
    """The columns of `embedding_table`, coordinates by t-SNE, and positions along the two curves."""
    tsne = {f"tsne_{number}": column for number, column in enumerate(found.tsne.coordinates.T, 1)}
    curves = {"curve": found.curve.position, "tsne_curve": found.tsne_curve.position}
    return embedding_table(found.pca).assign(**tsne, **curves)


def lattice_table(lattice: StepLattice) -> pd.DataFrame:
    """One row a pair of steps: the two steps, their explained shares and lengths, and their angle in degrees."""
    columns = {"step": lattice.pairs, "explained": lattice.explained, "length": lattice.lengths}
    both = {f"{name}_{side}": values[:, side - 1] for name, values in columns.items() for side in (1, 2)}
    return pd.DataFrame({**both, "angle": lattice.angles})


def clusters_plot(*projected: PairClusters) -> Figure:
    """Outputs by anchor pair (fig. 13.8), a panel for each projection.

    The two orders of a pair have two shades of a colour and two markers.
    """
    figure = new_figure(WIDTH, 4.8 * len(projected))
    for axes, clusters in zip(figure.subplots(len(projected), 1, squeeze=False)[:, 0], projected, strict=True):
        _draw_clusters(axes, clusters)
    return figure


def _draw_clusters(axes: Axes, clusters: PairClusters) -> None:
    # Pairs of two orders come first: they are to differ by more than the marker.
    distinct = sorted({unordered_name(name) for name in clusters.names})
    unordered = sorted(distinct, key=lambda name: name == swapped_name(name))
    for number, name in enumerate(clusters.names):
        places = clusters.projection.coordinates[clusters.members == number]
        round_, hue = divmod(unordered.index(unordered_name(name)), len(_HUES))
        exchanged = name != unordered_name(name)
        colour = _lighter(_HUES[hue]) if exchanged else _HUES[hue]
        marker = _MARKERS[round_ % len(_MARKERS)][exchanged]
        axes.scatter(
            places[:, 0], places[:, 1], color=colour, marker=marker, s=16, linewidths=0.4, edgecolors=_HUES[hue]
        )
        axes.annotate(
            f"({name})",
            np.median(places, axis=0),
            # The two orders of a pair that merged would write over each other.
            xytext=(0, -7 if exchanged else 7),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=SMALL,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )
    axes.set_xticks([])
    axes.set_yticks([])
    finish(axes, **_axis_names(clusters.projection))


def _axis_names(projection: Projection) -> dict[str, str]:
    if projection.explained_variance is None:
        return {"x": f"t-SNE (perplexity {projection.perplexity:.0f})"}
    return _component_names(projection.explained_variance)


def _component_names(shares: Float[np.ndarray, " 2"]) -> dict[str, str]:
    first, second = (f"component {number} ({share:.0%} of variance)" for number, share in enumerate(shares, 1))
    return {"x": first, "y": second}


def _lighter(colour: str) -> tuple[float, float, float]:
    red, green, blue = (0.45 + 0.55 * part for part in to_rgb(colour))
    return red, green, blue


def about_clusters(clusters: PairClusters) -> str:
    """Separation of the pairs' clusters, and how far the two orders of a pair are merged."""
    text = f"The clusters of {len(clusters.names)} anchor pairs have a mean silhouette of {clusters.separation:.2f}"
    if not np.isnan(clusters.unordered_separation):
        text += f" ({clusters.unordered_separation:.2f} with the two orders of a pair as one cluster)"
    if clusters.reason:
        return f"{text}. Merging of the two orders of a pair: not measured, since {clusters.reason}."
    parts = ", ".join(f"({pair}) {value:.2f}" for pair, value in clusters.merging.items() if not np.isnan(value))
    return (
        f"{text}. Merging of the two orders is {clusters.symmetric_merging:.2f} on average, where 1 is one cluster and "
        f"0 as far apart as different pairs: {parts}."
    )


def clusters_table(clusters: PairClusters) -> pd.DataFrame:
    """One row an output: its pair, its coordinates, and the merging of its pair with the exchanged one, if known."""
    names = np.array(clusters.names)[clusters.members]
    columns = {f"component_{number}": column for number, column in enumerate(clusters.projection.coordinates.T, 1)}
    merging = [clusters.merging.get(unordered_name(name), np.nan) for name in names]
    return pd.DataFrame({"pair": names, **columns, "merging": merging})


def similarity_plot(similarity: SingleAnchorSimilarity) -> Figure:
    """Cosine similarity of outputs sorted by g(x; a1), one block on the diagonal a value of g (fig. 13.9)."""
    figure = new_figure(WIDTH, 4.0)
    axes = figure.subplots()
    image = axes.imshow(similarity.cosine, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    values, starts = np.unique(similarity.groups, return_index=True)
    ends = np.append(starts[1:], len(similarity.groups))
    for edge in starts[1:] - 0.5:
        axes.axhline(edge, color=BLACK, linewidth=0.8)
        axes.axvline(edge, color=BLACK, linewidth=0.8)
    axes.set_xticks((starts + ends - 1) / 2, [str(value) for value in values])
    inputs = [f"{key}, {anchor}" for key, anchor in zip(similarity.keys, similarity.anchors, strict=True)]
    axes.set_yticks(range(len(inputs)), inputs)
    finish(axes, x="g(x; a₁)", y="key x, first anchor a₁")
    axes.tick_params(length=0)
    axes.tick_params(axis="y", labelsize=min(SMALL, 190 / len(inputs)))
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, shrink=0.85).set_label("cosine similarity", fontsize=SMALL)
    return figure


def about_similarity(similarity: SingleAnchorSimilarity) -> str:
    """Similarity inside and between values of g, and their difference beside chance."""
    more = "more" if similarity.difference > similarity.chance else "not clearly more"
    return (
        f"Outputs of equal g(x; a₁) are {more} similar than others: mean cosine {similarity.within:.2f} between "
        f"different inputs of equal g, {similarity.between:.2f} between those of different g (difference "
        f"{similarity.difference:.2f}, up to {similarity.chance:.2f} by chance; {similarity.inputs} inputs)."
    )


def similarity_table(similarity: SingleAnchorSimilarity) -> pd.DataFrame:
    """The matrix to 3 digits in the figure's order; the first columns give each row's g, key and first anchor."""
    inputs = [f"{key},{anchor}" for key, anchor in zip(similarity.keys, similarity.anchors, strict=True)]
    matrix = pd.DataFrame(similarity.cosine.round(3), columns=inputs)
    matrix.insert(0, "g", similarity.groups)
    matrix.insert(1, "key", similarity.keys)
    matrix.insert(2, "anchor", similarity.anchors)
    return matrix
