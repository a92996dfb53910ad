"""How identity learning works in two layers: shift and broadcast (section 12.7, figures 12.15 and 12.16)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anchorlab import tasks
from anchorlab.analysis import HeadScores, explain
from anchorlab.analysis.attention import attention_maps, record_attention
from anchorlab.engine import Run
from anchorlab.experiments import Experiment
from anchorlab.report.style import BLACK, BLUE, GREY, SMALL, TEXT, VERMILLION, finish, new_figure
from anchorlab.tasks import Task

from ..claims import Claim, Condition, Value
from ..reproduction import Measured, Reproduction
from ..study import Study
from .book import TRANSFORMER

Maps = Float[np.ndarray, "rows length length"]
"""Attention of one layer: how much each position reads from each."""


def _train(study: Study) -> dict[int, Run]:
    training = study.settings["training"]
    return study.train({seed: Experiment(seed=seed, data_seed=seed, **training) for seed in study.seeds})


def _task(settings: Mapping[str, Any]) -> Task:
    training = settings["training"]
    return tasks.create(training["task"], **training.get("task_fields", {}))


def example_maps(task: Task, run: Run, row: Int[np.ndarray, " length"]) -> pd.DataFrame:
    """The attention maps of one row with its tokens and roles: columns layer, position, token, role, source, weight."""
    maps = attention_maps(run.model(), row)[:, 0]
    found = task.locate(row[None])
    roles = np.full(len(row), "", dtype=object)
    roles[found.anchor_positions[0]] = "anchor"
    roles[found.key_position[0]] = "key"
    layer, position, source = np.indices(maps.shape)
    columns = {"layer": layer + 1, "position": position, "source": source, "weight": maps}
    table = pd.DataFrame({name: np.asarray(column).ravel() for name, column in columns.items()})
    return table.assign(token=row[table["position"]], role=roles[table["position"]])


# -- shift and broadcast heads (figure 12.15) --------------------------------------------------------------------------


def _measure_heads(study: Study) -> Measured:
    settings = study.settings
    runs, tables, values = _train(study), [], []
    with study.working("scoring heads"):
        for seed, run in runs.items():
            heads = explain(run, only=["heads"], samples=settings["rows"], seed=settings["rows_seed"]).heads
            assert heads is not None
            tables.append(head_strengths(heads).assign(seed=seed))
            values += [Value(seed, "accuracy", run.final("test")), *head_values(seed, heads.kinds)]
    task = _task(settings)
    row = task.sample("test", settings["rows"], settings["rows_seed"]).tokens[settings["example"]]
    return Measured(
        values=values,
        tables={"heads": pd.concat(tables, ignore_index=True), "example": example_maps(task, runs[0], row)},
    )


def head_values(seed: int, kinds: pd.DataFrame) -> list[Value]:
    """How many heads of layer 1 shift by one, and how many of layer 2 broadcast anchor or key (`HeadScores.kinds`)."""
    shifts = kinds[(kinds["layer"] == 1) & (kinds["kind"] == "shift 1")]
    broadcasts = kinds[(kinds["layer"] == 2) & (kinds["kind"] == "broadcast") & kinds["role"].isin(("anchor", "key"))]
    return [Value(seed, "shift_heads", len(shifts)), Value(seed, "broadcast_heads", len(broadcasts))]


def head_strengths(heads: HeadScores) -> pd.DataFrame:
    """How strongly every head shifts by one and broadcasts, with its kind: columns layer, head, kind, role, … ."""
    wanted = heads.scores[heads.scores["score"].isin(("shift 1", "broadcast"))]
    wide = wanted.pivot(index=["layer", "head"], columns="score", values="strength").reset_index()
    return heads.kinds[["layer", "head", "kind", "role"]].merge(wide, on=["layer", "head"])


def _heads_figure(tables: Mapping[str, pd.DataFrame]) -> Figure:
    heads = tables["heads"]
    figure = new_figure(10.8, 3.7)
    first, second, strengths = figure.subplots(1, 3, width_ratios=(1, 1, 1.05))
    for layer, axes in ((1, first), (2, second)):
        _draw_map(axes, tables["example"][tables["example"]["layer"] == layer])
        axes.set_title(f"attention of layer {layer}", fontsize=TEXT)
    figure.colorbar(first.images[0], ax=[first, second], location="bottom", shrink=0.4, label="attention weight")
    own = [
        heads.loc[heads["layer"] == 1, "shift 1"],
        heads.loc[heads["layer"] == 2, "shift 1"],
        heads.loc[heads["layer"] == 1, "broadcast"],
        heads.loc[heads["layer"] == 2, "broadcast"],
    ]
    _draw_dots(strengths, own, ["shift\nlayer 1", "shift\nlayer 2", "broadcast\nlayer 1", "broadcast\nlayer 2"])
    finish(strengths, y="strength (0 uniform, 1 perfect)", title="all networks")
    return figure


def _draw_map(axes: Axes, cells: pd.DataFrame) -> None:
    """A map of the tokens of one row; anchor and key are in colour."""
    grid = cells.pivot(index="position", columns="source", values="weight")
    axes.imshow(grid, cmap="viridis", vmin=0, vmax=1)
    tokens = cells.drop_duplicates("position").sort_values("position")
    for axis, labels in ((axes.xaxis, axes.get_xticklabels), (axes.yaxis, axes.get_yticklabels)):
        axis.set_ticks(range(len(tokens)), tokens["token"].astype(str).tolist(), fontsize=SMALL)
        for label, role in zip(labels(), tokens["role"], strict=True):
            if role:
                label.set(color=_ROLE_COLOURS[role], fontweight="bold")
    axes.tick_params(length=0)
    axes.set_xlabel("read from", fontsize=TEXT)
    axes.set_ylabel("position", fontsize=TEXT)
    axes.spines[:].set_visible(False)


_ROLE_COLOURS = {"anchor": VERMILLION, "key": BLUE}


def _draw_dots(axes: Axes, values: list["pd.Series[float]"], names: list[str]) -> None:
    """A column of dots, one for every network, for each quantity; the bar is their mean."""
    for place, own in enumerate(values):
        axes.bar(place, own.mean(), width=0.6, color=GREY, alpha=0.35)
        spread = np.linspace(-0.15, 0.15, len(own)) if len(own) > 1 else np.zeros(1)
        axes.plot(place + spread, own, "o", color=BLACK, markersize=4, clip_on=False)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylim(min(0, *(own.min() for own in values)), 1.03)


# -- the simplified model (figure 12.16) -------------------------------------------------------------------------------


def _measure_simplified(study: Study) -> Measured:
    settings, runs, task = study.settings, _train(study), _task(study.settings)
    tokens = task.sample("test", settings["rows"], settings["rows_seed"]).tokens
    found = task.locate(tokens)
    shares, values = [], []
    for seed, run in runs.items():
        first, second = layer_maps(run, tokens)
        share = position_shares(first, second, found.anchor_positions[:, 0], found.key_position)
        shares.append({"seed": seed, "accuracy": run.final("test")} | share)
        values += [Value(seed, quantity, value) for quantity, value in shares[-1].items() if quantity != "seed"]
    example = example_maps(task, runs[0], tokens[settings["example"]])
    return Measured(values=values, tables={"shares": pd.DataFrame(shares), "example": with_product(example)})


def layer_maps(run: Run, tokens: Int[np.ndarray, "rows length"]) -> tuple[Maps, Maps]:
    """The attention of both layers of a model with one head."""
    batches = [batch.weights[:, :, 0].numpy() for batch in record_attention(run.model(), tokens)]
    first, second = np.moveaxis(np.concatenate(batches), 1, 0)
    return first, second


def position_shares(
    first: Maps, second: Maps, anchor: Int[np.ndarray, " rows"], key: Int[np.ndarray, " rows"]
) -> dict[str, float]:
    """What the rows of X_2 and of the output are made of, as shares of all positions of all rows.

    - `two_kinds`: more than half of what enters layer 2 there is the anchor's vector, or more than half the key's;
    - `anchor_reads_key`: of the anchor's positions, where more than half is the key's vector;
    - `output_is_key`: more than half of the output there, by the weights Attn_2 Attn_1, is the key's vector;
    - `last_is_key`: the same, of the last position alone, where the answer is read.
    """
    rows = np.arange(len(first))
    of_anchor, of_key = first[rows, :, anchor], first[rows, :, key]
    output = (second @ first)[rows, :, key]
    return {
        "two_kinds": float(((of_anchor > 0.5) | (of_key > 0.5)).mean()),
        "anchor_reads_key": float((of_key[rows, anchor] > 0.5).mean()),
        "output_is_key": float((output > 0.5).mean()),
        "last_is_key": float((output[:, -1] > 0.5).mean()),
    }


def with_product(example: pd.DataFrame) -> pd.DataFrame:
    """The example's two layers and, as layer 0, what both do together: Attn_2 Attn_1."""
    grids = {
        layer: cells.pivot(index="position", columns="source", values="weight").to_numpy()
        for layer, cells in example.groupby("layer")
    }
    product = example[example["layer"] == 1].assign(layer=0)
    together = grids[2] @ grids[1]
    return pd.concat(
        [example, product.assign(weight=together[product["position"], product["source"]])], ignore_index=True
    )


def _simplified_figure(tables: Mapping[str, pd.DataFrame]) -> Figure:
    figure = new_figure(12.6, 3.7)
    *panels, shares = figure.subplots(1, 4, width_ratios=(1, 1, 1, 0.9))
    for axes, layer, title in zip(panels, (1, 2, 0), ("Attn 1", "Attn 2", "Attn 2 · Attn 1"), strict=True):
        _draw_map(axes, tables["example"][tables["example"]["layer"] == layer])
        axes.set_title(title, fontsize=TEXT)
    figure.colorbar(panels[0].images[0], ax=panels, location="bottom", shrink=0.3, label="weight")
    names = {
        "two_kinds": "anchor or\nkey enters\nlayer 2",
        "anchor_reads_key": "key at\nanchor,\nlayer 2",
        "output_is_key": "key\nis put\nout",
        "accuracy": "test\naccuracy",
    }
    _draw_dots(shares, [tables["shares"][name] for name in names], list(names.values()))
    finish(shares, y="share of positions, or of rows", title="all networks")
    return figure


_LAPTOP: dict[str, Any] = {
    "task": "identity",
    "initialization_rule": "pytorch",
    "train_rows": 2_000,
    "test_rows": 1_000,
    "evaluate_every": 500,
    "checkpoint_every": 100_000,
}
_SMOKE = {"train_rows": 200, "test_rows": 50, "batch_size": 20, "steps": 20, "evaluate_every": 20}
_SIZES = ("layers", "heads", "width", "head_width", "feed_forward_width")
_MEASURED = {"rows": 500, "rows_seed": 1, "example": 0}

REPRODUCTIONS = (
    Reproduction(
        id="fig12.15",
        title="Two layers learn identity with a shift head and a broadcast head",
        source="section 12.7.1, figure 12.15; arXiv 2401.08309",
        claim=Claim(
            text="In a trained two-layer model, attention of layer 1 shifts by one position, and attention of layer 2 "
            "broadcasts the position of key and anchor.",
            conditions=(
                Condition(quantity="accuracy", text="test accuracy", at_least=0.9),
                Condition(quantity="shift_heads", text="heads of layer 1 that shift by one", at_least=1, source="1"),
                Condition(
                    quantity="broadcast_heads",
                    text="heads of layer 2 that broadcast key or anchor",
                    at_least=1,
                    source="1",
                ),
            ),
            seeds=5,
        ),
        scales={
            "smoke": {
                "seeds": 1,
                "training": _LAPTOP
                | _SMOKE
                | {"model": "post_ln", "layers": 2, "heads": 1, "width": 16, "feed_forward_width": 32},
                **_MEASURED,
                "rows": 50,
            },
            "laptop": {
                "seeds": 5,
                "training": _LAPTOP
                | {
                    "model": "post_ln",
                    "layers": 2,
                    "heads": 1,
                    "width": 64,
                    "feed_forward_width": 192,
                    "learning_rate": 2e-3,
                    "batch_size": 64,
                    "steps": 1_500,
                },
                **_MEASURED,
            },
            "paper": {
                "seeds": 10,
                "training": {**TRANSFORMER, "task": "identity", "layers": 2, "heads": 1, "train_rows": 2_000},
                **_MEASURED,
            },
        },
        measure=_measure_heads,
        figure=_heads_figure,
        notes="Laptop: width 64 and 1,500 steps instead of width 400 and 4,000 epochs.",
    ),
    Reproduction(
        id="fig12.16",
        title="The simplified two-layer model moves the key to every position",
        source="section 12.7.2, figure 12.16; arXiv 2401.08309",
        claim=Claim(
            text="The simplified model learns identity: its first attention brings the key to the anchor's position "
            "and leaves only two kinds of rows, the anchor's and the key's; the second broadcasts the key.",
            conditions=(
                Condition(quantity="accuracy", text="test accuracy", at_least=0.9),
                Condition(
                    quantity="two_kinds",
                    text="share of the rows entering layer 2 that are mostly the anchor's or mostly the key's vector",
                    at_least=0.9,
                    source="all",
                ),
                Condition(
                    quantity="anchor_reads_key",
                    text="share of rows in which the anchor's position holds mostly the key's vector",
                    at_least=0.9,
                    source="all",
                ),
                Condition(
                    quantity="output_is_key",
                    text="share of positions whose output is made mostly of the key's vector",
                    at_least=0.9,
                    source="all",
                ),
            ),
            seeds=5,
        ),
        scales={
            "smoke": {
                "seeds": 1,
                "training": _LAPTOP | _SMOKE | {"model": "simplified"},
                **_MEASURED,
                "rows": 50,
            },
            "laptop": {
                "seeds": 5,
                "training": _LAPTOP
                | {
                    "model": "simplified",
                    "initialization_rule": "arxiv-2405.05409",
                    "initialization_rate": 0.5,
                    "train_rows": 20_000,
                    "learning_rate": 2e-3,
                    "batch_size": 50,
                    "steps": 3_000,
                },
                **_MEASURED,
            },
            "paper": {
                "seeds": 10,
                "training": {
                    **{name: value for name, value in TRANSFORMER.items() if name not in _SIZES},
                    "task": "identity",
                    "model": "simplified",
                    "train_rows": 2_000,
                },
                **_MEASURED,
            },
        },
        measure=_measure_simplified,
        figure=_simplified_figure,
        notes="Laptop: 20,000 rows, γ = 0.5 and 3,000 steps. Where identity is learned, the key takes the book's "
        "path: the anchor's position reads it and Attn 2 puts that out at all positions. The other positions do "
        "not all read the anchor: many read a place that is the same in all rows, such as the first. Tried, one "
        "seed each, with shares of anchor or key of 0.23 to 0.60: 600 to 6,000 steps, rates 3e-4 to 1e-2, γ 0.4 "
        "and 0.5 (0.25 for embeddings), the framework's initialization, λ 0.5, 2,000 rows. With γ = 0.6 (4,000 "
        "steps), λ = 1, or γ = 0.7 for Q and K or V alone (600 steps), identity is not learned; at γ = 0.5 one "
        "of five seeds is stuck, too.",
    ),
)
