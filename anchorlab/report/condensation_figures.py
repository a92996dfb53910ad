"""Condensation of neurons in figures, sentences and tables: one matrix, all of them, several networks, training."""

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from anchorlab.analysis import Condensation
from anchorlab.analysis.condensation import CondensationSurvey
from anchorlab.analysis.neurons import layer_and_matrix
from anchorlab.analysis.run_table import row_dicts
from anchorlab.errors import InputError

from .style import BLACK, GREY, SMALL, TEXT, WIDTH, finish, new_figure

_CELL = 1.0  # inches, a small cosine matrix with its title
_TITLE = 8  # points
_MOST_ACROSS = 6
_MOST_PANELS_ACROSS = 3
_MARKERS = "osD^v"
_WEAK, _CLEAR = 0.9, 0.5  # shares of the random number of directions


def cosine_plot(condensation: Condensation) -> Figure:
    """Cosine similarity of neurons, sorted so that groups of one direction lie together."""
    figure = new_figure(WIDTH, 4.1)
    axes = figure.subplots()
    order = condensation.order
    image = _draw_cosine(axes, condensation.cosine[np.ix_(order, order)])
    finish(axes, x="neuron (sorted)", y="neuron (sorted)")
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, shrink=0.85).set_label("cosine similarity", fontsize=SMALL)
    return figure


def condensation_overview(survey: CondensationSurvey) -> Figure:
    """The cosine matrix of every weight, layers down and matrices across, each in the order of its groups.

    Above each stands its number of directions as a share of that of random weights. Matrices outside of the layers
    follow in rows of their own.
    """
    table = survey.table
    layered, others = table[table["layer"].notna()], table.loc[table["layer"].isna(), "weight"].tolist()
    matrices = list(dict.fromkeys(layered["matrix"]))
    rows = {
        f"layer {layer}": [f"layer {layer} {matrix}" for matrix in matrices] for layer in sorted(set(layered["layer"]))
    }
    across = max(len(matrices), min(len(others), _MOST_ACROSS))
    rows |= {" " * start: others[start : start + across] for start in range(0, len(others), across)}
    return _draw_grid(
        {row: [(survey, name, layer_and_matrix(name)[1]) for name in names] for row, names in rows.items()}
    )


def condensation_by_member(members: Mapping[str, CondensationSurvey], *, matrix: str = "W_Q") -> Figure:
    """The cosine matrices of one weight in several networks, networks down and layers across (compare figure 13.11).

    Raises InputError if no network has this matrix in a layer.
    """
    return _draw_grid(
        {
            member: [(members[member], f"layer {layer} {matrix}", f"layer {layer}") for layer in layers]
            for member, layers in _layers_by_member(members, matrix).items()
        }
    )


def condensation_curves(table: pd.DataFrame, *, matrices: Sequence[str] | None = ("W_Q",)) -> Figure:
    """Directions as a share of those of random weights over training: a panel for each matrix, a line for each layer.

    `table` is that of `condensation_along_training`; `matrices` None means all.

    Raises InputError for a matrix that the table does not have.
    """
    shown = list(dict.fromkeys(table["matrix"])) if matrices is None else list(matrices)
    _check_matrices(shown, table)
    across = min(len(shown), _MOST_PANELS_ACROSS)
    down = -(-len(shown) // across)
    figure = new_figure(max(WIDTH, 0.6 + 2.3 * across), 1.0 + 2.3 * down)
    plots = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    shares = table.assign(share=table["directions"] / table["random_directions"])
    layers = sorted(set(table["layer"].dropna()))
    for axes, matrix in zip(plots.flat, shown, strict=False):
        _draw_layers(axes, shares[shares["matrix"] == matrix], layers)
        finish(axes, title=matrix)
    for axes in plots.flat[len(shown) :]:
        axes.set_axis_off()
    for axes in plots.flat[max(0, len(shown) - across) : len(shown)]:
        axes.tick_params(labelbottom=True)
    plots[0, 0].set_ylim(0, 1.08 * max(1.0, float(shares["share"].max())))
    figure.supxlabel("step", fontsize=TEXT)
    figure.supylabel("directions / random", fontsize=TEXT)
    named = {label: line for axes in plots.flat for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(
        named.values(), named.keys(), loc="outside upper center", ncols=4, fontsize=SMALL, frameon=False, handlelength=2
    )
    return figure


def about_condensation(found: Condensation) -> str:
    """Effective number of directions and mean similarity, each beside that of random weights, and groups."""
    neurons, sizes = len(found.groups), found.group_sizes
    return (
        f"The {neurons} neurons use about {found.directions:.1f} directions, where random weights use "
        f"{found.random_directions:.1f}: {_condensed(found.directions / found.random_directions)}. They fall into "
        f"{len(sizes)} {'group' if len(sizes) == 1 else 'groups'} at a cosine above {found.threshold:g} (the largest "
        f"holds {sizes[0]}); the mean absolute cosine is {found.mean_absolute_cosine:.2f} "
        f"({found.random_absolute_cosine:.2f} for random weights); the stable rank is {found.stable_rank:.1f}."
    )


def about_overview(survey: CondensationSurvey) -> str:
    """How many matrices are condensed, and which most and least."""
    shares = _shares(survey)
    clear = sum(share <= _CLEAR for share in shares.values())
    weak = sum(_CLEAR < share <= _WEAK for share in shares.values())
    ordered = sorted(row_dicts(survey.table), key=lambda row: shares[row["weight"]])
    most, least = ordered[0], ordered[-1]
    if clear + weak == 0:
        return (
            f"None of the {len(shares)} weight matrices is condensed: they use {shares[most['weight']]:.0%} "
            f"({most['weight']}) to {shares[least['weight']]:.0%} ({least['weight']}) of the directions of random "
            "weights."
        )
    return (
        f"Of {len(shares)} weight matrices {clear} show clear condensation (at most {_CLEAR:.0%} of the directions of "
        f"random weights) and {weak} weak condensation (at most {_WEAK:.0%}). {_capital(most['weight'])} is condensed "
        f"most, with about {most['directions']:.1f} directions where random weights use "
        f"{most['random_directions']:.1f} and {most['largest_group']:.0%} of its {most['neurons']} neurons in one "
        f"group; {least['weight']} least, with {least['directions']:.1f} of {least['random_directions']:.1f}."
    )


def _capital(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}"


def about_members(members: Mapping[str, CondensationSurvey], *, matrix: str = "W_Q") -> str:
    """The share of the random number of directions in every layer of each network; InputError as for the figure."""
    parts = []
    for member, layers in _layers_by_member(members, matrix).items():
        shares = _shares(members[member])
        found = ", ".join(f"{shares[name]:.0%}" for layer in layers if (name := f"layer {layer} {matrix}") in shares)
        parts.append(f"{member} {found}" if found else f"{member} has none")
    return (
        f"Directions of the neurons of {matrix}, as a share of those of random weights, from the first layer on: "
        f"{'; '.join(parts)}."
    )


def about_training(table: pd.DataFrame, *, matrix: str = "W_Q") -> str:
    """Where the shares of one matrix's layers start and end, and where the smallest is; InputError if there is none."""
    _check_matrices([matrix], table)
    rows = table[table["matrix"] == matrix]
    rows = rows.assign(share=rows["directions"] / rows["random_directions"]).sort_values("step", kind="stable")
    ends = rows.groupby("weight", sort=False)["share"].agg(["first", "last"])
    changes = "; ".join(f"{name} from {first:.0%} to {last:.0%}" for name, first, last in ends.itertuples())
    lowest = min(row_dicts(rows), key=lambda row: row["share"])
    return (
        f"Directions as a share of those of random weights from step {rows['step'].min():,} to step "
        f"{rows['step'].max():,}: {changes}. The smallest is {lowest['share']:.0%}, in {lowest['weight']} at step "
        f"{lowest['step']:,}."
    )


def cosine_table(condensation: Condensation) -> pd.DataFrame:
    """The cosine matrix to 3 digits in the figure's order; the first two columns give each row's neuron and group."""
    order = condensation.order
    matrix = pd.DataFrame(condensation.cosine[np.ix_(order, order)].round(3), columns=[str(neuron) for neuron in order])
    matrix.insert(0, "neuron", order)
    matrix.insert(1, "group", condensation.groups[order])
    return matrix


def members_table(members: Mapping[str, CondensationSurvey]) -> pd.DataFrame:
    """The tables of several networks below one another, behind a column `member`."""
    return pd.concat([survey.table.assign(member=member) for member, survey in members.items()], ignore_index=True)[
        ["member", *next(iter(members.values())).table.columns]
    ]


def _condensed(share: float) -> str:
    if share > _WEAK:
        return "no condensation"
    return f"{'weak' if share > _CLEAR else 'clear'} condensation, {share:.0%} of the random number"


def _shares(survey: CondensationSurvey) -> dict[str, float]:
    """The number of directions of every matrix as a share of that of random weights."""
    table = survey.table
    shares: list[float] = (table["directions"] / table["random_directions"]).tolist()
    return dict(zip(table["weight"], shares, strict=True))


def _layers_by_member(members: Mapping[str, CondensationSurvey], matrix: str) -> dict[str, list[int]]:
    """For each network all layers that any network has, so that the grid's columns are layers."""
    tables = [survey.table for survey in members.values()]
    found = {layer for table in tables for layer in table.loc[table["matrix"] == matrix, "layer"].dropna()}
    if not found:
        raise InputError(f"matrix={matrix!r}: none of the networks has it in a layer")
    return {member: sorted(found) for member in members}


def _check_matrices(matrices: Sequence[str], table: pd.DataFrame) -> None:
    known = list(dict.fromkeys(table["matrix"]))
    for matrix in matrices:
        if matrix not in known:
            raise InputError(f"matrix={matrix!r}: not measured; known: {', '.join(known)}")


def _draw_cosine(axes: Axes, cosine: Float[np.ndarray, "n n"]) -> AxesImage:
    return axes.imshow(cosine, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")


def _draw_grid(rows: Mapping[str, Sequence[tuple[CondensationSurvey, str, str]]]) -> Figure:
    """Small cosine matrices: for every row its name and its cells, each a survey, a matrix in it, and a title."""
    across = max(len(cells) for cells in rows.values())
    figure = new_figure(max(WIDTH, 1.0 + _CELL * across), 0.7 + 1.15 * _CELL * len(rows))
    panels = figure.subplots(len(rows), across, squeeze=False)
    for axes in panels.flat:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    for drawn, (row, cells) in zip(panels, rows.items(), strict=True):
        drawn[0].set_ylabel(textwrap.fill(row, 16), fontsize=SMALL, rotation=0, ha="right", va="center")
        for axes, (survey, name, title) in zip(drawn, cells, strict=False):
            if name in survey.pictures:
                image = _draw_cosine(axes, survey.pictures[name])
                axes.set_title(f"{title}  {_shares(survey)[name]:.0%}", fontsize=_TITLE, pad=3)
    scale = figure.colorbar(image, ax=panels, location="bottom", shrink=0.7, aspect=35)
    scale.set_label("cosine similarity; %: directions, of those of random weights", fontsize=SMALL)
    return figure


def _draw_layers(axes: Axes, rows: pd.DataFrame, layers: Sequence[int]) -> None:
    axes.axhline(1, color=GREY, linewidth=0.9, linestyle=(0, (4, 2)))
    colours = mpl.colormaps["viridis"](np.linspace(0, 0.85, len(layers)))
    for number, (layer, colour) in enumerate(zip(layers, colours, strict=True)):
        history = rows[rows["layer"] == layer].sort_values("step")
        marker = _MARKERS[number % len(_MARKERS)]
        axes.plot(history["step"], history["share"], color=colour, marker=marker, markersize=4, label=f"layer {layer}")
    outside = rows[rows["layer"].isna()].sort_values("step")
    axes.plot(outside["step"], outside["share"], color=BLACK, marker="s", markersize=4)
