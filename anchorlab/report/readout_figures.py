"""The positional read-out: what every layer and place would answer."""

import pandas as pd
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from anchorlab.analysis import Readout
from anchorlab.analysis.readout import NONE
from anchorlab.analysis.run_table import row_dicts

from .style import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, SMALL, TEXT, VERMILLION, WIDTH, YELLOW, new_figure

_COLOURS = (BLUE, YELLOW, ORANGE, VERMILLION, SKY, GREEN, PURPLE)  # the answer first
_SPLITS = {"test": "trained pairs, new rows", "ood": "pairs never trained"}
_LEAST = 0.5  # share of positions from which on a place has a reading


def readout_map(readouts: dict[str, Readout]) -> Figure:
    """For every split layers upwards by places: the most frequent reading and its share; grey where none leads."""
    tallest = max(found.layers for found in readouts.values())
    figure = new_figure(WIDTH, len(readouts) * (1.0 + 0.36 * (tallest + 1)) + 0.3)
    panels = figure.subplots(len(readouts), 1, squeeze=False)[:, 0]
    for axes, (split, found) in zip(panels, readouts.items(), strict=True):
        colours = {name: _COLOURS[place % len(_COLOURS)] for place, name in enumerate(found.hypotheses)}
        for row in row_dicts(found.table):
            x, y = found.places.index(str(row["place"])), int(row["layer"])
            name = found.label(y, str(row["place"]), least=_LEAST)
            share = float(row[name])
            tint = _tinted(colours[name], share) if name in colours else _tinted(GREY, 0.25)
            axes.fill([x - 0.48, x + 0.48, x + 0.48, x - 0.48], [y - 0.46, y - 0.46, y + 0.46, y + 0.46], color=tint)
            text = f"{_short(name)}\n{share:.0%}" if name in colours else "–" if row[NONE] >= _LEAST else "mixed"
            axes.text(x, y, text, ha="center", va="center", fontsize=6.5, color=BLACK, linespacing=1.0)
        axes.set_xlim(-0.55, len(found.places) - 0.45)
        axes.set_ylim(-0.55, found.layers + 0.55)
        axes.set_xticks(range(len(found.places)), found.places, fontsize=SMALL - 1)
        axes.set_yticks(range(found.layers + 1), ["embedding", *(f"layer {n + 1}" for n in range(found.layers))])
        axes.tick_params(length=0, labelsize=SMALL - 1)
        axes.spines[:].set_visible(False)
        axes.set_title(_SPLITS.get(split, split) if len(readouts) > 1 else "", fontsize=TEXT - 1, loc="left")
    return figure


def _tinted(colour: str, share: float) -> tuple[float, float, float]:
    """The colour mixed with white: black text stays legible on it."""
    strength = 0.65 * share
    red, green, blue = (strength * part + 1 - strength for part in to_rgb(colour))
    return red, green, blue


def _short(name: str) -> str:
    return name.split(" = ", maxsplit=1)[0]


def about_readout(readouts: dict[str, Readout]) -> str:
    """Where the answer stands in the last layer, and the places that hold a part of the rule instead."""
    parts = [
        f"{_SPLITS.get(split, split)}: {_about(found)}" if len(readouts) > 1 else _about(found)
        for split, found in readouts.items()
    ]
    return " ".join(f"{part[0].upper()}{part[1:]}" for part in parts)


def _about(found: Readout) -> str:
    shares = {(int(row["layer"]), str(row["place"])): row for row in row_dicts(found.table)}
    readings = {(layer, place): found.label(layer, place, least=_LEAST) for layer, place in shares}
    holding = [
        f"{place} ({shares[found.layers, place][found.hypotheses[0]]:.0%})"
        for place in found.places
        if readings[found.layers, place].startswith("answer")
    ]
    where = f"in the last layer the answer stands at {', '.join(holding)}" if holding else "the answer stands nowhere"
    parts = [
        f"{place} of layer {layer} holds {name} ({shares[layer, place][name]:.0%})"
        for (layer, place), name in readings.items()
        if "f_a" in name and not name.startswith("answer") and layer > 0
    ]
    return f"{'; '.join([where, *parts[:3]])} ({found.rows:,} of {found.drawn:,} rows)."


def readout_table(readouts: dict[str, Readout]) -> pd.DataFrame:
    """The shares of all splits, with the most frequent difference to each anchor's function and its share."""
    tables = []
    for split, found in readouts.items():
        table = found.table.copy()
        table.insert(0, "split", split)
        for function in found.offsets["function"].unique():
            offsets = found.offsets[found.offsets["function"] == function]
            named = {"offset": f"offset from {function}", "share": f"share of that offset from {function}"}
            columns = offsets.rename(columns=named).drop(columns="function")
            table = table.merge(columns, on=["layer", "place"], how="left")
        tables.append(table)
    return pd.concat(tables, ignore_index=True)
