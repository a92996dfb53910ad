import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from attention_patterns import broadcast_from, keys, scored, shifted
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from anchorlab.analysis import HeadScores
from anchorlab.errors import InputError
from anchorlab.pretrained_probe.depth import DepthTrend, claim, depth_trend, strongest_patterns


def random(seed: int, *shape: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(seed)).random(shape)


def made(
    strengths: dict[str, np.ndarray], *, observations: int = 100, kinds: Sequence[Sequence[str]] = ()
) -> HeadScores:
    """Scores with chosen strengths [layer, head], over ten sequences, and each layer's kinds of heads."""
    parts = []
    for score, grid in strengths.items():
        layer, head = np.indices(grid.shape).reshape(2, -1) + 1
        parts.append(pd.DataFrame({"layer": layer, "head": head, "score": score, "strength": grid.ravel()}))
    table = pd.concat(parts, ignore_index=True).assign(sequences=10, observations=observations)
    found = [(layer, head, kind) for layer, row in enumerate(kinds, 1) for head, kind in enumerate(row, 1)]
    return HeadScores(
        table, *[pd.DataFrame()] * 5, kinds=pd.DataFrame(found, columns=["layer", "head", "kind"]).astype({"kind": str})
    )


def correlation(trend: DepthTrend, score: str) -> pd.Series:
    (row,) = trend.correlations[trend.correlations["score"] == score].iloc
    return row


def over_depth(layers: int, slope: float, *, heads: int = 6, seed: int = 0) -> np.ndarray:
    return random(seed, layers, heads) + slope * np.arange(layers)[:, None] / layers


@pytest.fixture(scope="module")
def book() -> DepthTrend:
    """As the book has it: shifts in shallow layers, broadcasts in deep ones."""
    return depth_trend(made({"shift 1": over_depth(12, -1.5), "broadcast": over_depth(12, 1.5, seed=1)}))


def test_planted_trends_are_found_and_the_claim_holds(book: DepthTrend) -> None:
    assert book.correlations["verdict"].tolist() == ["falls", "rises"]
    for row in book.correlations.itertuples():
        assert 0.5 < abs(row.correlation) < 1
        assert row.low < row.correlation < row.high
        assert row.low * row.high > 0
        assert row.p == pytest.approx(1e-4)
        assert (row.layers, row.heads) == (12, 72)
    found = claim(book)
    assert found.verdict == "holds"
    assert [(part.score, part.expected, part.verdict) for part in found.tendencies] == [
        ("shift", "falls", "holds"),
        ("broadcast", "rises", "holds"),
    ]
    assert found.tendencies[0].correlation == correlation(book, "shift")["correlation"]


@pytest.mark.parametrize(
    ("shift", "broadcast", "verdict"),
    [(-1.5, 1.5, "holds"), (1.5, 1.5, "fails"), (-1.5, -1.5, "fails"), (0, 1.5, "undecided"), (0, -1.5, "fails")],
)
def test_the_claim_is_decided_by_both_halves(shift: float, broadcast: float, verdict: str) -> None:
    strengths = {"shift 1": over_depth(12, shift, seed=3), "broadcast": over_depth(12, broadcast, seed=1)}
    assert claim(depth_trend(made(strengths))).verdict == verdict


def test_a_score_that_no_head_has_leaves_the_claim_undecided() -> None:
    found = claim(depth_trend(made({"shift 1": over_depth(12, -1.5)})))
    assert found.verdict == "undecided"
    assert [part.verdict for part in found.tendencies] == ["holds", "undecided"]
    assert math.isnan(found.tendencies[1].correlation)


@pytest.mark.parametrize(
    ("alike", "count"),
    [(2.0, 50), pytest.param(0.0, 250, marks=pytest.mark.slow), pytest.param(2.0, 250, marks=pytest.mark.slow)],
)
def test_without_trend_at_most_one_in_twenty_gets_a_verdict(alike: float, count: int) -> None:
    """Also where the heads of a layer have much in common: `alike` is the weight of what they share."""
    layers, heads = 8, 4
    grids = {f"score{n}": random(n, layers, heads) + alike * random(n + count, layers, 1) for n in range(count)}
    found = depth_trend(made(grids)).correlations
    # Two standard deviations of so many draws.
    assert (found["p"] < 0.05).mean() <= 0.05 + 2 * (0.05 * 0.95 / count) ** 0.5
    assert (found["p"] < 0.5).mean() == pytest.approx(0.5, abs=2.2 * (0.25 / count) ** 0.5)
    assert (found["verdict"] != "undecided").sum() <= (found["p"] < 0.05).sum()


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_few_layers_are_never_decided(layers: int) -> None:
    row = correlation(depth_trend(made({"broadcast": np.arange(5.0 * layers).reshape(layers, 5)})), "broadcast")
    assert row["verdict"] == "undecided"
    assert np.isnan([row["low"], row["high"]]).all()
    assert row["p"] == pytest.approx(2 / math.factorial(layers), nan_ok=True) or layers == 1


def test_five_layers_in_perfect_order_are_decided() -> None:
    row = correlation(depth_trend(made({"broadcast": np.arange(25.0).reshape(5, 5)})), "broadcast")
    assert row["p"] == pytest.approx(2 / 120)
    assert row["verdict"] == "rises"


@given(st.integers(2, 6), st.integers(1, 5), st.integers(1, 6), st.floats(0, 0.5), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_correlation_is_scipys_with_ties_and_missing_scores(
    layers: int, heads: int, values: int, missing: float, seed: int
) -> None:
    grid = np.floor(values * random(seed, layers, heads))
    grid[random(seed + 1, layers, heads) < missing] = np.nan
    layer, head = np.nonzero(~np.isnan(grid))
    if len(set(layer)) < 2 or len(set(grid[layer, head])) < 2:
        return
    row = correlation(depth_trend(made({"self": grid})), "self")
    assert row["correlation"] == pytest.approx(spearmanr(layer, grid[layer, head]).statistic)
    assert (row["heads"], row["layers"]) == (len(layer), len(set(layer)))


def test_p_counts_the_orders_of_whole_layers() -> None:
    grid = over_depth(4, 0.5, heads=3)
    observed = spearmanr(np.repeat(range(4), 3), grid.ravel()).statistic
    orders = [[a, b, c, d] for a in range(4) for b in range(4) for c in range(4) for d in range(4)]
    others = [spearmanr(np.repeat(range(4), 3), grid[o].ravel()).statistic for o in orders if len(set(o)) == 4]
    row = correlation(depth_trend(made({"self": grid})), "self")
    assert row["p"] == np.mean(np.abs(others) >= abs(observed) - 1e-9)


def test_the_interval_is_that_of_drawn_layers() -> None:
    grid = over_depth(10, 1.0)
    generator = np.random.Generator(np.random.Philox(5))
    drawn = []
    for _ in range(600):
        layers = generator.integers(10, size=10)
        drawn.append(spearmanr(np.repeat(layers, 6), grid[layers].ravel()).statistic)
    row = correlation(depth_trend(made({"self": grid}), seed=1), "self")
    assert [row["low"], row["high"]] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.05)


def test_heads_that_differ_only_within_layers_leave_a_wide_interval() -> None:
    """Many heads do not make up for few layers."""
    few, many = (
        correlation(depth_trend(made({"self": np.repeat(random(3, 6, 1), heads, axis=1)})), "self") for heads in (2, 50)
    )
    assert many["high"] - many["low"] == pytest.approx(few["high"] - few["low"])
    assert many["p"] == few["p"]


def test_relabelling_the_heads_of_a_layer_changes_nothing(book: DepthTrend) -> None:
    generator = np.random.Generator(np.random.Philox(0))
    strengths = {"shift 1": over_depth(12, -1.5), "broadcast": over_depth(12, 1.5, seed=1)}
    other = depth_trend(made({name: generator.permuted(grid, axis=1) for name, grid in strengths.items()}))
    pd.testing.assert_frame_equal(other.correlations, book.correlations)
    pd.testing.assert_frame_equal(other.by_layer, book.by_layer)


def test_the_seed_decides_and_other_scores_do_not(book: DepthTrend) -> None:
    alone = depth_trend(made({"broadcast": over_depth(12, 1.5, seed=1)}))
    assert correlation(alone, "broadcast").tolist() == correlation(book, "broadcast").tolist()
    other = depth_trend(made({"broadcast": over_depth(12, 1.5, seed=1)}), seed=1)
    assert correlation(other, "broadcast")["low"] != correlation(book, "broadcast")["low"]


def test_means_and_their_bands_by_layer() -> None:
    grid = random(0, 3, 40)
    grid[1, :5] = np.nan
    grid[2, 1:] = np.nan
    table = depth_trend(made({"sink": grid})).by_layer.set_index("layer")
    assert table["heads"].tolist() == [40, 35, 1]
    assert table["mean"].to_numpy() == pytest.approx(np.nanmean(grid, axis=1))
    error = np.nanstd(grid[:2], axis=1, ddof=1) / np.sqrt([40, 35])
    assert (table["high"] - table["low"]).to_numpy()[:2] == pytest.approx(2 * 1.96 * error, rel=0.12)
    assert np.isnan(table.loc[3, ["low", "high"]].astype(float)).all()


def test_layers_without_the_score_are_left_out() -> None:
    grid = over_depth(8, 1.5)
    grid[3] = np.nan
    trend = depth_trend(made({"induction": grid}))
    assert trend.by_layer["layer"].tolist() == [1, 2, 3, 5, 6, 7, 8]
    assert correlation(trend, "induction")["layers"] == 7


def test_heads_of_a_kind_are_counted() -> None:
    kinds = [["shift 1", "shift 2", "none"]] * 3 + [["shift 1", "none", "none"]] * 2 + [["none", "sink", "none"]] * 3
    trend = depth_trend(made({"self": random(0, 8, 3)}, kinds=kinds))
    shares = trend.by_layer[trend.by_layer["score"] == "shift heads"]["mean"]
    assert shares.to_numpy() == pytest.approx([2 / 3] * 3 + [1 / 3] * 2 + [0] * 3)
    assert trend.correlations["score"].tolist() == ["self", "shift heads", "sink heads"]
    assert correlation(trend, "shift heads")["verdict"] == "falls"
    is_shift = [kind.startswith("shift") for row in kinds for kind in row]
    expected = spearmanr(np.repeat(range(8), 3), is_shift).statistic
    assert correlation(trend, "shift heads")["correlation"] == pytest.approx(expected)


def test_the_claim_can_be_read_by_kind() -> None:
    kinds = [["shift 1" if layer < 5 else "broadcast", "none", "none"] for layer in range(10)]
    trend = depth_trend(made({"shift 1": random(0, 10, 3), "broadcast": random(1, 10, 3)}, kinds=kinds))
    assert claim(trend).verdict == claim(trend, by="strength").verdict == "undecided"
    found = claim(trend, by="kind")
    assert found.verdict == "holds"
    assert [part.score for part in found.tendencies] == ["shift heads", "broadcast heads"]
    with pytest.raises(InputError, match="by='weight': must be one of strength, kind"):
        claim(trend, by="weight")


def test_constant_strength_has_no_correlation() -> None:
    row = correlation(depth_trend(made({"self": np.full((8, 3), 0.4)})), "self")
    assert np.isnan([row["correlation"], row["low"], row["high"], row["p"]]).all()
    assert row["verdict"] == "undecided"


def test_of_the_shifts_only_the_strongest_counts() -> None:
    strengths = {"shift 1": [[0.1, 0.5]], "shift -2": [[0.3, np.nan]], "value-weighted shift 1": [[0.2, 0.4]]}
    table = strongest_patterns(made({score: np.array(grid) for score, grid in strengths.items()}))
    assert table.sort_values(["family", "head"])[["head", "family", "score", "strength"]].to_numpy().tolist() == [
        [1, "shift", "shift -2", 0.3],
        [2, "shift", "shift 1", 0.5],
        [1, "value-weighted shift", "value-weighted shift 1", 0.2],
        [2, "value-weighted shift", "value-weighted shift 1", 0.4],
    ]


def test_shifts_of_fewer_than_three_queries_do_not_count() -> None:
    few, enough = (
        made({name: np.array([[0.9]])}, observations=count) for name, count in (("shift 8", 29), ("shift 7", 30))
    )
    joined = replace(few, scores=pd.concat([few.scores, enough.scores]))
    assert strongest_patterns(joined)["score"].tolist() == ["shift 7"]


def test_trends_of_measured_attention() -> None:
    rows = 20
    shift, broadcast = shifted(rows, 1), broadcast_from(keys(rows))
    shares = torch.linspace(0, 1, 6)[:, None, None, None]
    weights = (1 - shares) * shift + shares * broadcast
    assert claim(depth_trend(scored(weights))).verdict == "holds"
