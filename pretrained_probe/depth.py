"""How the strength of attention patterns changes with depth: the claim of section 12.7.3 of the book, measured."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from anchorlab.analysis.head_kinds import SHIFT_QUERIES, HeadScores
from anchorlab.analysis.run_table import row_dicts
from anchorlab.errors import InputError

EXPECTED = {"shift": "falls", "broadcast": "rises"}
"""Section 12.7.3: shallow attention tends to shift, deep attention tends to broadcast."""

READINGS = {"strength": "", "kind": " heads"}
"""Two ways to read that, and how the scores of a family are called then."""

_LEVEL = 0.05  # of the two-sided test; intervals hold the rest
_RESAMPLES = 1_000
_MOST_ORDERS = 10_000  # all orders of up to seven layers
_FEWEST_LAYERS = 5  # two of the 24 orders of four layers are already more than the level
_SAME = 1e-9  # correlations that differ by less are equal

_BY_LAYER = ("score", "layer", "mean", "low", "high", "heads")
_CORRELATIONS = ("score", "correlation", "low", "high", "p", "layers", "heads", "verdict")


@dataclass(frozen=True)
class DepthTrend:
    """How strong the patterns of `strongest_patterns` are at each depth, and how many heads are of which kind.

    A score is a family of patterns, such as "shift", or the heads of a kind, such as "shift heads", whose strength is 1
    for a head of this kind and else 0. The latter are unmoved by what the many heads without a clear pattern do.

    - `by_layer`: score, layer (from 1), `mean` strength of the layer's `heads`, and its 95 % bootstrap interval over
      these heads, `low` to `high` (NaN for a single head);
    - `correlations`: score, Spearman `correlation` of strength and layer over all heads, its 95 % interval `low` to
      `high`, `p`, number of `layers` and `heads`, and `verdict`: "falls", "rises" or "undecided".

    Heads of one layer are alike for other reasons than depth, so it is whole layers that are drawn. `p` is the share of
    the orders of the layers, each with all its heads, in which the correlation is at least as far from 0: exact if
    layers could as well stand in any other order, whatever their heads have in common. The interval is that of a
    bootstrap that draws layers. A verdict needs p below 0.05 and an interval without 0. Fewer than five layers have too
    few orders: no interval and no verdict. Each score is tested by itself, so one in 20 without a trend gets a verdict.
    """

    by_layer: pd.DataFrame
    correlations: pd.DataFrame


@dataclass(frozen=True)
class Tendency:
    """One half of the claim: that `score` does what `expected` says; numbers as in `DepthTrend.correlations`.

    `found` is the verdict on the score; `verdict` is "holds" if it is the expected one, "fails" if it is the opposite,
    else "undecided". The numbers of a score that no head has are NaN.
    """

    score: str
    expected: str
    found: str
    verdict: str
    correlation: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class DepthClaim:
    """The claim of section 12.7.3: `verdict` is "holds" if both tendencies do, "fails" if one of them does."""

    verdict: str
    tendencies: tuple[Tendency, ...]


def strongest_patterns(scores: HeadScores) -> pd.DataFrame:
    """The rows of `scores.scores` that are not NaN, of each head's shifts only the strongest; adds `family`.

    The family is the score without a shift's distance. Shifts of fewer than three queries a row are left out: every
    column that is read looks like one.
    """
    table = scores.scores.reset_index(drop=True)
    table["family"] = table["score"].str.replace(r" -?\d+$", "", regex=True)
    enough = table["observations"] >= SHIFT_QUERIES * table["sequences"]
    table = table[(enough | (table["family"] == table["score"])) & table["strength"].notna()]
    ordered = table.sort_values("strength", ascending=False, kind="stable")
    return ordered.drop_duplicates(["layer", "head", "family"]).sort_index()


def depth_trend(scores: HeadScores, *, seed: int = 0) -> DepthTrend:
    """Strength over depth for every family of patterns and kind of head; `seed` draws heads, layers and orders."""
    patterns = pd.concat([strongest_patterns(scores), _members(scores.kinds)])
    tables = {name: patterns[patterns["family"] == name] for name in patterns["family"].unique()}
    by_layer = [
        (name, layer, *_mean(heads["strength"].to_numpy(float), seed), len(heads))
        for name, table in tables.items()
        for layer, heads in table.groupby("layer")
    ]
    correlations = [(name, *_correlated(table, seed)) for name, table in tables.items()]
    return DepthTrend(
        pd.DataFrame(by_layer, columns=list(_BY_LAYER)), pd.DataFrame(correlations, columns=list(_CORRELATIONS))
    )


def claim(trend: DepthTrend, *, by: str = "strength") -> DepthClaim:
    """Whether shift falls and broadcast rises with depth, by the verdicts of `trend`.

    `by` is "strength", that of all heads, or "kind": the number of heads of the kind. Raises `InputError` for others.
    """
    if by not in READINGS:
        raise InputError(f"by={by!r}: must be one of {', '.join(READINGS)}")
    rows = {row["score"]: row for row in row_dicts(trend.correlations)}
    names = {f"{family}{READINGS[by]}": expected for family, expected in EXPECTED.items()}
    tendencies = tuple(_tendency(score, expected, rows.get(score)) for score, expected in names.items())
    verdicts = {tendency.verdict for tendency in tendencies}
    verdict = "fails" if "fails" in verdicts else "undecided" if "undecided" in verdicts else "holds"
    return DepthClaim(verdict, tendencies)


def _members(kinds: pd.DataFrame) -> pd.DataFrame:
    """For every kind that some head has, whether each head is of it."""
    own = kinds["kind"].str.split(" ").str[0]
    heads = kinds[["layer", "head"]]
    members = [
        heads.assign(family=f"{kind} heads", strength=(own == kind).astype(float))
        for kind in own.unique()
        if kind != "none"
    ]
    return pd.concat(members) if members else heads.iloc[:0]


def _tendency(score: str, expected: str, row: Mapping[str, Any] | None) -> Tendency:
    numbers = {name: math.nan if row is None else row[name] for name in ("correlation", "low", "high", "p")}
    found = "undecided" if row is None else row["verdict"]
    verdict = {expected: "holds", "undecided": "undecided"}.get(found, "fails")
    return Tendency(score, expected, found, verdict, **numbers)


def _generator(seed: int) -> np.random.Generator:
    """The same draws for every score, so that none depends on which others there are."""
    return np.random.Generator(np.random.Philox(seed))


def _mean(strengths: Float[np.ndarray, " heads"], seed: int) -> tuple[float, float, float]:
    """Mean with its bootstrap interval; sorted, for the heads of a layer have no order."""
    if len(strengths) == 1:
        return float(strengths[0]), math.nan, math.nan
    drawn = _generator(seed).integers(len(strengths), size=(_RESAMPLES, len(strengths)))
    low, high = _interval(np.sort(strengths)[drawn].mean(-1))
    return float(strengths.mean()), low, high


def _interval(values: Float[np.ndarray, " draws"]) -> tuple[float, float]:
    low, high = np.quantile(values, [_LEVEL / 2, 1 - _LEVEL / 2])
    return float(low), float(high)


def _correlated(table: pd.DataFrame, seed: int) -> tuple[float, float, float, float, int, int, str]:
    """The numbers of a row of `DepthTrend.correlations`."""
    counts = pd.crosstab(table["layer"], table["strength"]).to_numpy(float)
    layers = len(counts)
    once, as_they_are = np.ones((1, layers)), np.arange(layers)[None]
    correlation = float(_spearman(counts, once, as_they_are)[0])
    low, high, p = math.nan, math.nan, math.nan
    if not math.isnan(correlation):
        others = _spearman(counts, once, _orders(layers, seed))
        p = float((np.abs(others) >= abs(correlation) - _SAME).mean())
    if not math.isnan(correlation) and layers >= _FEWEST_LAYERS:
        times = _generator(seed).multinomial(layers, [1 / layers] * layers, _RESAMPLES).astype(float)
        drawn = _spearman(counts, times, as_they_are)
        low, high = _interval(drawn[~np.isnan(drawn)])
    decided = p < _LEVEL and (low > 0 or high < 0)
    verdict = ("rises" if correlation > 0 else "falls") if decided else "undecided"
    return correlation, low, high, p, layers, len(table), verdict


def _orders(layers: int, seed: int) -> Int[np.ndarray, "orders layers"]:
    """All orders of the layers, or their own one with many random ones."""
    if math.factorial(layers) <= _MOST_ORDERS:
        return np.array(list(itertools.permutations(range(layers))))
    own = np.arange(layers)[None]
    return np.concatenate([own, _generator(seed).permuted(np.repeat(own, _MOST_ORDERS - 1, axis=0), axis=1)])


def _spearman(
    counts: Float[np.ndarray, "layers values"],
    times: Float[np.ndarray, "#draws layers"],
    orders: Int[np.ndarray, "#draws layers"],
) -> Float[np.ndarray, " draws"]:
    """Spearman correlation of depth and strength, each layer taken some `times` and put at the place in `orders`.

    `counts` tells how many heads of a layer have each of the ascending strengths. NaN where all strengths, or all
    layers, are one.
    """
    heads = times @ counts
    strength = _ranks(heads)
    sums = np.take_along_axis(times * (strength @ counts.T), orders, axis=-1)
    sizes = np.take_along_axis(times * counts.sum(-1), orders, axis=-1)
    depth = _ranks(sizes)
    scale = np.sqrt((heads * strength**2).sum(-1) * (sizes * depth**2).sum(-1))
    found: Float[np.ndarray, " draws"] = np.full(scale.shape, np.nan)
    np.divide((sums * depth).sum(-1), scale, out=found, where=scale > 0)
    return found


def _ranks(counts: Float[np.ndarray, "draws groups"]) -> Float[np.ndarray, "draws groups"]:
    """The rank of each of the ascending groups, equals in the middle of their places; the mean of all is 0."""
    ends = counts.cumsum(-1)
    return ends - counts / 2 - ends[:, -1:] / 2
