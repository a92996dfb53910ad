"""The sections of a page on probes: for each, a panel per model with figure, finding, table and data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure

from anchorlab.pretrained_probe.depth import DepthTrend
from anchorlab.pretrained_probe.knockouts import Knockouts
from anchorlab.pretrained_probe.probe import Probe, ShownAttention

from . import depth_figures, head_figures, knockout_figures, probe_figures, probe_tables
from .attention_view import AttentionView, attention_view
from .downloads import csv_uri, file_name
from .probe_figures import strongest_head
from .probe_tables import Table

_VIEW_BUDGET = 4_000_000  # bytes of a page that all interactive views share


@dataclass(frozen=True)
class Download:
    """A table behind a link: what it holds, its `data:` address and its file name."""

    what: str
    address: str
    file: str


@dataclass(frozen=True)
class Panel:
    """One model's part of a section; `reason` is set where there is nothing to show."""

    member: str
    image: str = ""
    finding: str = ""
    table: Table | None = None
    view: AttentionView | None = None
    downloads: tuple[Download, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Section:
    """A section of the page: how to read it and how it was computed; `wide`: its panels need the whole width."""

    id: str
    title: str
    reading: str
    method: str
    panels: list[Panel]
    wide: bool = False


Encode = Callable[[Figure], str]


def build_sections(members: Mapping[str, Probe], encode: Encode) -> list[Section]:
    """All sections on probes by their names on the page; `encode` makes an address of a figure."""
    sections = [
        Section(
            "depth",
            "Strength over depth",
            "Section 12.7.3 of the book: shallow attention tends to shift, deep attention tends to broadcast. Lines of "
            "shift should fall and lines of broadcast rise.",
            "Strength is the weight above even attention as a share of what is possible; of a head's shifts the "
            "strongest counts, among those that at least three positions of a prompt can do. Lines are means over the "
            "heads of a layer, bands hold 95 % of a bootstrap over these heads. Value-weighted scores count weight "
            "times the length of the value vector. ρ is Spearman's correlation with depth over all heads. Its interval "
            "is that of a bootstrap of whole layers; p is the share of the orders of layers in which ρ is at least as "
            "far from 0. “Rises” and “falls” need p below 0.05 and an interval without 0, which fewer than five layers "
            "never reach. Each score is tested by itself, so one in 20 without a trend is expected to get a verdict. "
            "Strengths of the many heads without a clear pattern take part in ρ; the share of heads of a kind is "
            "unmoved by them.",
            [_depth(name, probe, encode) for name, probe in members.items()],
        )
    ]
    trends = {name: probe.trend for name, probe in members.items() if len(probe.trend.correlations)}
    if len(trends) > 1:
        sections.append(_compared(trends, encode))
    return [
        *sections,
        Section(
            "maps",
            "Every head",
            "One panel for each pattern, layers down and heads across. Shift: a fixed distance back is read. Through a "
            "broadcast head most later positions read one token. A sink takes attention wherever the tokens stand.",
            "Shift: mean weight at a fixed distance. Broadcast: one column, other than a sink, that most of the later "
            "positions read. Sink: a column with more than 0.3 of the weight of later positions. Induction: what "
            "follows an earlier occurrence of the same token; duplicate: that occurrence; self: the position itself.",
            [_maps(name, probe, encode) for name, probe in members.items()],
        ),
        Section(
            "kinds",
            "Kinds of heads by layer",
            "Each head counts once, as what it does most clearly, or as none.",
            "A kind needs a strength of at least 0.3 and more evidence than 1 % of heads without any preference would "
            "have; broadcast also that half of the later positions give the token more than half of their attention.",
            [_kinds(name, probe, encode) for name, probe in members.items()],
        ),
        Section(
            "strongest",
            "The strongest heads",
            "For each kind the heads with the largest strength, after those that were asked for, if any. A broadcast "
            "that follows its token when that stands elsewhere reads the token; one that stays reads the place, and is "
            "a sink.",
            "Weight is the mean over prompts with its standard deviation. The last two columns, if any, are shares of "
            "the prompts in which the named token was moved: in how many the head's column followed it, or stayed.",
            [_strongest(name, probe) for name, probe in members.items()],
            wide=True,
        ),
        Section(
            "attention",
            "Attention in one prompt",
            "As in figure 12.17 of the book: a diagonal below the main one is a shift, a column is a broadcast (or, at "
            "the first token, mostly a sink). The key is blue, the anchor orange.",
            "Attention weights of the first tokens of the prompt whose key comes first, for every layer and head.",
            [_attention(name, probe, encode, _VIEW_BUDGET // len(members)) for name, probe in members.items()],
            wide=True,
        ),
        Section(
            "knockouts",
            "Do the heads matter?",
            "What the model loses of the right answers' log-probability without some of its heads or edges. Only what "
            "costs more than random heads or edges of the same layers matters for these prompts.",
            "What a knocked-out head has read is replaced by its mean over all prompts, or by zero. Bars hold 95 % of "
            "the prompts' mean, those of random sets 95 % of the sets. p = (1 + random sets that cost as much) / (1 + "
            "random sets).",
            [_knockouts(name, probe, encode) for name, probe in members.items()],
        ),
    ]


def _download(member: str, what: str, table: pd.DataFrame) -> Download:
    return Download(what, csv_uri(table), file_name(member, what))


def _depth(member: str, probe: Probe, encode: Encode) -> Panel:
    trend = probe.trend
    if trend.correlations.empty:
        return Panel(member, reason="the prompts are too short for any pattern")
    return Panel(
        member,
        encode(depth_figures.depth_figure(trend)),
        depth_figures.about_trend(trend),
        probe_tables.correlations(probe),
        downloads=(
            _download(member, "strength by layer", trend.by_layer),
            _download(member, "correlations", trend.correlations),
        ),
    )


def _compared(trends: Mapping[str, DepthTrend], encode: Encode) -> Section:
    image, finding = encode(depth_figures.depth_comparison(trends)), depth_figures.about_comparison(trends)
    return Section(
        "compared",
        "The models side by side",
        "The same over relative depth: 0 is the input, 1 the output.",
        "As above. Models have different tokens and lengths of prompts: compare how lines run, not how high they are.",
        [Panel("all models", image, finding)],
    )


def _maps(member: str, probe: Probe, encode: Encode) -> Panel:
    table = _download(member, "heads", head_figures.heads_table(probe.scores))
    image, finding = encode(head_figures.head_map(probe.scores)), head_figures.about_heads(probe.scores)
    return Panel(member, image, finding, downloads=(table,))


def _kinds(member: str, probe: Probe, encode: Encode) -> Panel:
    image, finding = encode(probe_figures.kinds_by_layer(probe.scores)), probe_figures.about_kinds(probe.scores)
    return Panel(member, image, finding, probe_tables.counts_by_layer(probe))


def _strongest(member: str, probe: Probe) -> Panel:
    table = probe_tables.top_heads(probe)
    if not table.rows:
        return Panel(member, reason="no head is of any kind")
    return Panel(member, table=table)


def _attention(member: str, probe: Probe, encode: Encode, budget: int) -> Panel:
    shown = probe.attention
    if shown is None:
        return Panel(member, reason=probe.absent["attention"])
    shift, broadcast = (strongest_head(probe.scores, family) for family in ("shift", "broadcast"))
    known = sorted((head for head in (broadcast, shift) if head is not None), key=lambda head: not head.of_kind)
    first = next(iter((*probe.chosen, *(head.place for head in known))), None)
    view = attention_view(_history(shown), first=first, budget=budget)
    if shift is None or broadcast is None:
        return Panel(member, finding="The prompts are too short for a shift and a broadcast.", view=view)
    image = encode(probe_figures.attention_pair(shown, shift.place, broadcast.place))
    return Panel(member, image, probe_figures.about_pair(shift, broadcast), view=view)


@dataclass(frozen=True)
class _Row:
    tokens: tuple[str, ...]
    roles: tuple[str, ...]


@dataclass(frozen=True)
class _History:
    """One prompt's attention as the interactive view takes it: at a single step."""

    example: _Row
    weights: Float[np.ndarray, "1 layers heads query source"]
    steps: tuple[int, ...] = (0,)
    masked: bool = True


def _history(shown: ShownAttention) -> _History:
    places = range(shown.weights.shape[-1])
    tokens = tuple(probe_figures.visible(shown.prompt.pieces[place]) for place in places)
    roles = tuple(", ".join(probe_tables.roles_at(shown.prompt, place)) for place in places)
    return _History(_Row(tokens, roles), shown.weights[None])


def _knockouts(member: str, probe: Probe, encode: Encode) -> Panel:
    if probe.knockouts is None:
        return Panel(member, reason=probe.absent["knockouts"])
    found: Knockouts = probe.knockouts
    downloads = [_download(member, "knock-outs", found.table)]
    if len(found.single_heads):
        downloads.append(_download(member, "single heads", found.single_heads))
    return Panel(
        member,
        encode(knockout_figures.knockout_figure(found)),
        knockout_figures.about_knockouts(found),
        probe_tables.knockout_rows(found),
        downloads=tuple(downloads),
    )
