"""What a page on probes says in tables and words: verdicts, what was loaded, prompts, and the strongest heads."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from anchorlab.analysis.run_table import row_dicts
from anchorlab.pretrained_probe.depth import EXPECTED, READINGS, claim
from anchorlab.pretrained_probe.knockouts import Knockouts
from anchorlab.pretrained_probe.probe import Probe
from anchorlab.pretrained_probe.prompts import Prompt, PromptSet

from .depth_figures import about_claim, p_text, signed
from .probe_figures import kind_counts, visible

_FIRST_PROMPTS, _FIRST_TOKENS = 3, 96
_TOP = 5  # heads of each kind
_MOST_SINKS = 3


@dataclass(frozen=True)
class Card:
    """The verdict on one model, how it came about, and measured numbers as (name, value) pairs."""

    member: str
    verdict: str
    meanings: tuple[str, ...]
    numbers: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Table:
    """A table as text: the first column names the row; rows of `marked` are what matters most."""

    caption: str
    columns: tuple[str, ...]
    rows: list[list[str]]
    marked: frozenset[str] = frozenset()
    folded: bool = False


@dataclass(frozen=True)
class ShownToken:
    """A token of a prompt with the names of its place, such as `key`."""

    text: str
    roles: tuple[str, ...]


@dataclass(frozen=True)
class ShownPrompt:
    """The first tokens of a prompt, how many more there are, and the answer's text (empty if it has none)."""

    tokens: list[ShownToken]
    more: int
    answer: str


def card(member: str, probe: Probe) -> Card:
    """The claim of section 12.7.3 read in both ways, and how many heads there are of which kind."""
    found = {by: claim(probe.trend, by=by) for by in READINGS}
    verdicts = {by: one.verdict for by, one in found.items()}
    verdict = " and ".join(f"{verdict} by {by}" for by, verdict in verdicts.items())
    if len(set(verdicts.values())) == 1:
        verdict = verdicts["kind"]
    counts = kind_counts(probe.scores)
    numbers = [("layers × heads", _size(probe)), ("prompts", f"{len(probe.prompts.prompts):,}")]
    numbers += [(f"{name} heads", f"{counts[name].sum() if name in counts else 0:,}") for name in (*EXPECTED, "sink")]
    if probe.knockouts is not None:
        numbers.append(("prompts answered rightly", f"{probe.knockouts.intact_accuracy:.0%}"))
    meanings = tuple(f"By {by}: {about_claim(one)}" for by, one in found.items())
    return Card(member, verdict.capitalize(), meanings, tuple(numbers))


def _size(probe: Probe) -> str:
    return f"{probe.scores.kinds['layer'].nunique()} × {probe.scores.kinds['head'].nunique()}"


def loaded(members: Mapping[str, Probe]) -> Table:
    """The models' `source` records side by side."""
    names = dict.fromkeys(name for probe in members.values() for name in probe.source)
    rows = [[name.replace("_", " "), *(_text(probe.source.get(name)) for probe in members.values())] for name in names]
    rows.append(["layers × heads", *map(_size, members.values())])
    return Table("What was loaded", ("", *members), rows)


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_text(part)}" for name, part in value.items())
    return ", ".join(map(_text, value)) if isinstance(value, list | tuple) else str(value)


def first_prompts(prompts: PromptSet) -> list[ShownPrompt]:
    """The first prompts, not chosen for what the model makes of them."""
    texts: dict[int, str] = {}
    for prompt in prompts.prompts:
        texts.update(zip(prompt.tokens.tolist(), prompt.pieces, strict=True))
    return [_shown(prompt, texts) for prompt in prompts.prompts[:_FIRST_PROMPTS]]


def _shown(prompt: Prompt, texts: Mapping[int, str]) -> ShownPrompt:
    tokens = [ShownToken(visible(piece), roles_at(prompt, place)) for place, piece in enumerate(prompt.pieces)]
    answer = ""
    if prompt.answer is not None:
        answer = visible(texts[prompt.answer]) if prompt.answer in texts else f"the token {prompt.answer}"
    return ShownPrompt(tokens[:_FIRST_TOKENS], max(0, len(tokens) - _FIRST_TOKENS), answer)


def roles_at(prompt: Prompt, place: int) -> tuple[str, ...]:
    """The names of a position, from 0."""
    return tuple(role for role, at in prompt.places.items() if at == place)


def correlations(probe: Probe) -> Table:
    """Every score's correlation with depth; those of the claim are marked."""
    rows = []
    for row in row_dicts(probe.trend.correlations):
        span = "–" if pd.isna(row["low"]) else f"{signed(row['low'])} to {signed(row['high'])}"
        rows.append([row["score"], signed(row["correlation"]), span, p_text(row["p"]), row["verdict"]])
    claimed = frozenset(f"{family}{suffix}" for suffix in READINGS.values() for family in EXPECTED)
    columns = ("score", "ρ", "95 % interval", "p", "with depth it")
    return Table("Correlation of strength, or of being of a kind, with depth", columns, rows, claimed)


def counts_by_layer(probe: Probe) -> Table:
    """Heads of each kind in each layer."""
    counts = kind_counts(probe.scores)
    rows = [[str(layer), *map(str, row)] for layer, row in zip(counts.index, counts.to_numpy(), strict=True)]
    return Table("Heads of each kind, by layer", ("layer", *map(str, counts)), rows, folded=True)


def top_heads(probe: Probe) -> Table:
    """The chosen heads and the strongest of each kind, with their sinks and, if it was made, the moving-anchor test."""
    tested = len(probe.scores.moving) > 0
    heads = {(head["layer"], head["head"]): head for head in row_dicts(probe.scores.kinds)}
    rows = {place: _described(probe, heads[place], tested) for place in probe.chosen}
    marked = frozenset(row[0] for row in rows.values())
    families = probe.scores.kinds["kind"].str.split(" ").str[0]
    for family in kind_counts(probe.scores).columns.drop("none", errors="ignore"):
        strongest = probe.scores.kinds[families == family].nlargest(_TOP, "strength")
        for place in zip(strongest["layer"], strongest["head"], strict=True):
            rows.setdefault(place, _described(probe, heads[place], tested))
    columns = ["head", "kind", "strength", "weight", "reads", "told apart by", "sinks"]
    columns += ["followed the token", "stayed"] if tested else []
    return Table("The strongest heads of each kind", tuple(columns), list(rows.values()), marked)


def _described(probe: Probe, head: Mapping[str, Any], tested: bool) -> list[str]:
    spread = "" if pd.isna(head["spread"]) else f" ± {head['spread']:.2f}"
    return [
        f"layer {head['layer']} head {head['head']}",
        head["kind"].replace("-", "−"),
        signed(head["strength"]),
        f"{signed(head['weight'])}{spread}",
        head["role"] or "–",
        head["decided_by"] or "–",
        _sinks(probe, head),
        *(_moving(probe, head) if tested else []),
    ]


def _of_head(table: pd.DataFrame, head: Mapping[str, Any]) -> list[dict[str, Any]]:
    return row_dicts(table[(table["layer"] == head["layer"]) & (table["head"] == head["head"])])


def _sinks(probe: Probe, head: Mapping[str, Any]) -> str:
    places = [str(row["position"]) for row in _of_head(probe.scores.sinks, head)]
    more = [f"{len(places) - _MOST_SINKS} more"] if len(places) > _MOST_SINKS else []
    return ", ".join(["position " + ", ".join(places[:_MOST_SINKS]), *more]) if places else "–"


def _moving(probe: Probe, head: Mapping[str, Any]) -> list[str]:
    """Of the prompts in which the token moved that the head reads: in how many its column followed it, or stayed."""
    rows = [row for row in _of_head(probe.scores.moving, head) if row["role"] == head["role"]]
    return [f"{rows[0]['followed']:.0%}", f"{rows[0]['stayed']:.0%}"] if rows else ["–", "–"]


def knockout_rows(knockouts: Knockouts) -> Table:
    """Every knock-out with its change and that of random ones."""
    rows = [
        [
            row["what"],
            str(row["heads"]),
            f"{signed(row['change'])} ({signed(row['low'])} to {signed(row['high'])})",
            f"{row['accuracy']:.2f}",
            signed(row["random_mean"]),
            "–" if pd.isna(row["p"]) else p_text(row["p"]),
            row["verdict"],
        ]
        for row in row_dicts(knockouts.table)
    ]
    columns = ("knocked out", "heads", "change (95 %)", "accuracy", "random", "p", "verdict")
    return Table("Every knock-out", columns, rows, folded=True)
