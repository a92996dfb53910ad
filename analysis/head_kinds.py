"""The scores of attention heads as tables, and the one kind that describes each head best."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from .attention_sums import MOST
from .head_evidence import largest_evidence, weight_evidence
from .head_scores import SINK_READERS, ColumnSurvey, Totals
from .sight import Sight

CHANCE = 0.01  # at most this share of heads without any preference gets a kind
LEAST_STRENGTH = 0.3  # a head that does two things equally well has 0.35 of each in rows of 9 tokens, 0.5 in long ones
SHIFT_QUERIES = 3  # fewer are no pattern of places

_KINDS = ("shift", "self", "duplicate", "induction", "sink", "broadcast")

_Numbers = dict[str, Float[Tensor, "layers heads"]]
_Names = Shaped[np.ndarray, "layers heads"]


@dataclass(frozen=True)
class HeadScores:
    """What every head of a model does, in tables; layers, heads and positions are numbered from 1.

    `scores` has one row a layer, head and score: `mean` and `spread` (standard deviation) over `sequences` of the
    weight above the uniform `baseline`, 1 / (number of visible sources) for each source, which has been subtracted and
    is never divided out. `strength` = mean / (1 − baseline) is 0 for uniform attention and 1 for a perfect pattern.
    `observations` counts queries in all sequences. Chance, attention that prefers no source whatever its law, reaches
    `evidence` (nats; see `head_evidence`) with probability at most exp(−evidence): for shift, self and sink even if
    it is the same attention in all sequences. A score that no query has is NaN. Scores:

    - `shift d`: weight d positions back, over queries whose target is not a sink of the head; `self`: the same for d=0;
    - `duplicate`: weight on earlier positions with the query's token, `induction`: on earlier positions right after
      such, over queries that have some; sinks of the head are not among them;
    - `sink`: mean weight that the later queries give to the strongest column (of the sinks, if the head has some);
    - `broadcast`: the same for the column, other than the sinks, that is best in the sequence; `coverage`: share of its
      later queries that give it more than half of their attention;
    - `entropy`: of a query's weights, as a share of the largest possible: 0 for one source, 1 for uniform attention;
    - `value-weighted …`: the same of weight · |v|, made to sum to 1 for each query, above what uniform attention gives.
      Columns that only take attention, and pass nothing on, have little of it.

    Without causal mask, all other queries are "later" ones.

    The other tables:

    - `sinks`: the columns that take more than 0.3 (`weight` on average) of their later queries' attention in more than
      half of the sequences (`share`), whichever token stands there, and more than chance does. They have at least 4
      later queries. If the moving-anchor test was made, a sink must be one in the moved rows as well;
    - `columns`: share of sequences whose broadcast column is at `position`;
    - `followed`: share of sequences whose broadcast column is at `role`, of those where the role has enough later
      queries; `chance` is the share that follows from how often each of them is at each position;
    - `moving` (empty without the test): of the sequences in which the role moved, the share in which the broadcast
      column was at the old place and is at the new one (`followed`), and in which the strongest column, sink or not,
      was at the old place and still is (`stayed`);
    - `role_attention`: mean `weight` that one role reads from another, where it sees it, and the uniform `baseline`;
    - `kinds`: one row a head, with the `kind` that has the largest strength of those that qualify, or `none`. All need
      `evidence` that by chance at most 1 % of heads reach for any kind; a strength of at least 0.3; broadcast also a
      coverage of 0.5, and shift 3 queries in each row. Few places therefore give `none`: in rows of 9 tokens shifts by
      more than 5 and sinks beyond position 5 do not qualify. Of equals, the first of shift, self, duplicate,
      induction, sink, broadcast. `weight` (uniform part included) and `spread` are those of the kind's score. `role` is
      where the broadcast column, or the strongest sink, is in most of the sequences. `decided_by` tells how sink and
      broadcast were told apart: `moving test`; `varied positions` (the roles stand elsewhere in other rows); or
      `undecided`, where the role, or the column, is at one position in most rows. A broadcast column that stays when
      the role moves is a sink.
    """

    scores: pd.DataFrame
    sinks: pd.DataFrame
    columns: pd.DataFrame
    followed: pd.DataFrame
    moving: pd.DataFrame
    role_attention: pd.DataFrame
    kinds: pd.DataFrame


def join_scores(parts: Sequence[HeadScores]) -> HeadScores:
    """One result of several layers' results, for a model that was scored a few layers at a time."""
    names = [table.name for table in fields(HeadScores)]
    return HeadScores(**{name: pd.concat([getattr(part, name) for part in parts], ignore_index=True) for name in names})


@dataclass
class Measured:
    """Sums of the second pass; `picks` are evidence of the broadcast columns, less the logarithm of their choices."""

    rows: int = 0
    scores: dict[str, Totals] = field(default_factory=lambda: defaultdict(Totals))
    picks: Totals = field(default_factory=Totals)
    columns: Totals = field(default_factory=Totals)
    at_role: dict[str, Totals] = field(default_factory=lambda: defaultdict(Totals))
    role_places: dict[str, Totals] = field(default_factory=lambda: defaultdict(Totals))
    followed: dict[str, Totals] = field(default_factory=lambda: defaultdict(Totals))
    stayed: dict[str, Totals] = field(default_factory=lambda: defaultdict(Totals))
    role_attention: dict[tuple[str, str], Totals] = field(default_factory=lambda: defaultdict(Totals))


def evidence_limit(sight: Sight, offsets: Sequence[int]) -> float:
    """Evidence (nats) for which chance reaches any offset, any sink column or another kind with at most `CHANCE`."""
    shifts = sum(bool((sight.reads_back(d).sum(-1) >= SHIFT_QUERIES).any()) for d in offsets)
    sinks = int((sight.reader_counts >= SINK_READERS).sum(-1).max())
    return math.log((shifts + sinks + len(("self", "duplicate", "induction", "broadcast"))) / CHANCE)


def find_sinks(
    survey: ColumnSurvey, moved: ColumnSurvey | None, evidence: Float[Tensor, "layers heads source"], limit: float
) -> Bool[Tensor, "layers heads source"]:
    """Sinks of every head. What is one only as long as the anchor stands there is none."""
    sinks = survey.usual() & (evidence >= limit)
    return sinks if moved is None else sinks & moved.usual()


def strongest_sink(survey: ColumnSurvey, sinks: Bool[Tensor, "layers heads source"]) -> Int[Tensor, "layers heads"]:
    """The column with the largest mean weight: of the sinks, or of all if there is none; −1 where none has readers."""
    among = torch.where(sinks.any(-1, keepdim=True), sinks, survey.columns)
    column = survey.totals.weight().masked_fill(~among, -torch.inf).argmax(-1)
    return column.masked_fill(~among.any(-1), -1)


def summarise(
    measured: Measured,
    survey: ColumnSurvey,
    sinks: Bool[Tensor, "layers heads source"],
    by_place: Mapping[str, Float[Tensor, "layers heads"]],
    limit: float,
    *,
    tested: bool,
    first_layer: int,
) -> HeadScores:
    """The tables of `HeadScores`; `by_place` is the evidence of shift, self and sink."""
    scores = _scores(measured, by_place)
    tables = {
        "scores": _stacked("score", scores),
        "sinks": _sinks(survey, sinks),
        "columns": _columns(measured),
        "followed": _stacked("role", _followed(measured), ("share", "chance", "sequences")),
        "moving": _stacked("role", _moving(measured), ("followed", "stayed", "sequences")),
        "role_attention": _role_attention(measured),
        "kinds": _kinds(measured, scores, survey, sinks, limit, tested=tested),
    }
    for table in tables.values():
        table["layer"] += first_layer - 1
    return HeadScores(**tables)


def _scores(measured: Measured, by_place: Mapping[str, Float[Tensor, "layers heads"]]) -> dict[str, _Numbers]:
    return {
        name: {
            "mean": totals.excess(),
            "spread": totals.excess_spread(),
            "baseline": totals.baseline(),
            "strength": totals.excess() / (1 - totals.baseline()),
            "evidence": by_place[name] if name in by_place else _evidence(name, measured),
            "sequences": totals.sequences,
            "observations": totals.queries.long(),
        }
        for name, totals in measured.scores.items()
    }


def _evidence(name: str, measured: Measured) -> Float[Tensor, "layers heads"]:
    totals = measured.scores[name]
    if name in ("duplicate", "induction"):
        return weight_evidence(totals.mass / totals.queries, totals.uniform / totals.queries, totals.queries)
    if name == "broadcast":
        # A column that never moves may be one and the same chance in all rows.
        follows = _main_role(_shares(measured.followed), totals.mass.shape) != ""
        rows = torch.where(~_one_place(measured) | torch.from_numpy(follows), measured.picks.sequences, 1.0)
        return largest_evidence(rows * measured.picks.weight().nan_to_num(), rows)
    return torch.full_like(totals.mass, torch.nan)


def _one_place(measured: Measured) -> Bool[Tensor, "layers heads"]:
    return measured.columns.weight().amax(-1) > MOST


def _followed(measured: Measured) -> dict[str, _Numbers]:
    column = measured.columns.weight().nan_to_num()
    return {
        role: {
            "share": totals.weight(),
            "chance": (column * measured.role_places[role].weight()[:, None]).sum(-1),
            "sequences": totals.sequences,
        }
        for role, totals in measured.at_role.items()
    }


def _moving(measured: Measured) -> dict[str, _Numbers]:
    return {
        role: {"followed": totals.weight(), "stayed": measured.stayed[role].weight(), "sequences": totals.sequences}
        for role, totals in measured.followed.items()
    }


def _role_attention(measured: Measured) -> pd.DataFrame:
    parts = {
        pair: {"weight": totals.weight(), "baseline": totals.baseline(), "sequences": totals.sequences}
        for pair, totals in measured.role_attention.items()
        if totals.sequences.any()
    }
    table = _stacked("pair", parts, ("weight", "baseline", "sequences"))
    pairs = table.pop("pair")
    for place, name in enumerate(("reader", "source")):
        table.insert(2 + place, name, [pair[place] for pair in pairs])
    return table


def _sinks(survey: ColumnSurvey, sinks: Bool[Tensor, "layers heads source"]) -> pd.DataFrame:
    layer, head, source = sinks.numpy().nonzero()
    weight, baseline = survey.totals.weight(), survey.totals.baseline()
    return pd.DataFrame(
        {
            "layer": layer + 1,
            "head": head + 1,
            "position": source + 1,
            "weight": weight[sinks].numpy(),
            "baseline": baseline[sinks].numpy(),
            "share": (survey.above[sinks] / survey.rows).numpy(),
        }
    )


def _columns(measured: Measured) -> pd.DataFrame:
    shares = measured.columns.weight().nan_to_num().numpy()
    layer, head, source = shares.nonzero()
    return pd.DataFrame(
        {"layer": layer + 1, "head": head + 1, "position": source + 1, "share": shares[layer, head, source]}
    )


def _stacked(key: str, entries: Mapping[Any, _Numbers], columns: Sequence[str] = ()) -> pd.DataFrame:
    """One row a layer, head and entry, whose name is in the column `key`; `columns` are those of an empty table."""
    parts = [pd.DataFrame({name: [] for name in ("layer", "head", key, *columns)})]
    for name, numbers in entries.items():
        shape = next(iter(numbers.values())).shape
        layer, head = np.indices(shape).reshape(2, -1) + 1
        values = {column: tensor.flatten().numpy() for column, tensor in numbers.items()}
        parts.append(pd.DataFrame({"layer": layer, "head": head, key: [name] * layer.size, **values}))
    return pd.concat(parts[1:] or parts).sort_values(["layer", "head"], kind="stable", ignore_index=True)


def _kinds(
    measured: Measured,
    scores: Mapping[str, _Numbers],
    survey: ColumnSurvey,
    sinks: Bool[Tensor, "layers heads source"],
    limit: float,
    *,
    tested: bool,
) -> pd.DataFrame:
    candidates = [name for name in scores if name.startswith(_KINDS)]
    strength = torch.stack([scores[name]["strength"] for name in candidates])
    qualifies = torch.stack([_qualifies(name, scores, sinks, limit) for name in candidates])
    best, which = strength.masked_fill(~qualifies, -torch.inf).max(0)
    none = best.isinf().numpy()
    totals = [measured.scores[name] for name in candidates]
    found = {
        "weight": torch.stack([one.weight() for one in totals]),
        "spread": torch.stack([one.weight_spread() for one in totals]),
        "baseline": torch.stack([one.baseline() for one in totals]),
        "strength": strength,
    }
    numbers = {name: np.where(none, np.nan, each.gather(0, which[None])[0].numpy()) for name, each in found.items()}
    kind = np.where(none, "none", np.array(candidates)[which.numpy()])
    names = _tell_apart(kind, measured, strongest_sink(survey, sinks), tested=tested)
    layer, head = np.indices(kind.shape).reshape(2, -1) + 1
    columns = {"kind": names.pop("kind"), **numbers, **names}
    return pd.DataFrame({"layer": layer, "head": head, **{name: values.ravel() for name, values in columns.items()}})


def _qualifies(
    name: str, scores: Mapping[str, _Numbers], sinks: Bool[Tensor, "layers heads source"], limit: float
) -> Bool[Tensor, "layers heads"]:
    numbers = scores[name]
    enough = (numbers["strength"] >= LEAST_STRENGTH) & (numbers["evidence"] >= limit)
    if name == "sink":
        return enough & sinks.any(-1)
    if name == "broadcast":
        return enough & (scores["coverage"]["mean"] >= MOST)
    if name.startswith("shift"):
        return enough & (numbers["observations"] >= SHIFT_QUERIES * numbers["sequences"])
    return enough


def _tell_apart(
    kind: _Names, measured: Measured, sink_column: Int[Tensor, "layers heads"], *, tested: bool
) -> dict[str, _Names]:
    """The roles of sink and broadcast columns, and how the two were told apart."""
    broadcast, sink = kind == "broadcast", kind == "sink"
    roles = measured.role_places
    at_sink = _main_role({role: _at(roles[role].weight(), sink_column) for role in roles}, kind.shape)
    at_broadcast = _main_role(_shares(measured.at_role), kind.shape)
    unclear = np.where(broadcast, _one_place(measured), (at_sink != "") | (not roles))
    decided = np.where(tested, "moving test", np.where(unclear, "undecided", "varied positions"))
    stays = _main_role(_shares(measured.stayed), kind.shape) != ""
    return {
        "kind": np.where(broadcast & stays, "sink", kind),
        "role": np.select([broadcast, sink], [at_broadcast, at_sink], ""),
        "decided_by": np.where(broadcast | sink, decided, ""),
    }


def _shares(totals: Mapping[str, Totals]) -> _Numbers:
    return {role: share.weight() for role, share in totals.items()}


def _at(shares: Float[Tensor, "#layers source"], column: Int[Tensor, "layers heads"]) -> Float[Tensor, "layers heads"]:
    return shares.expand(len(column), -1).gather(1, column.clamp(min=0))


def _main_role(shares: Mapping[str, Float[Tensor, "layers heads"]], shape: tuple[int, ...]) -> _Names:
    """The role with most of the sequences, or an empty name."""
    most = [share.numpy() > MOST for share in shares.values()]
    return np.select([np.zeros(shape, bool), *most], ["", *shares], "")
