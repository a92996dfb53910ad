"""Head scores against plain loops, and planted patterns of every kind."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest
import torch
from attention_patterns import (
    EVERYTHING,
    LENGTH,
    MASKS,
    broadcast_from,
    generator,
    keys,
    kinds,
    random_attention,
    reads,
    score,
    scored,
    shifted,
    tokens_of,
    uniform,
)
from scipy import special

from anchorlab.analysis.heads import causal, sliding


class Oracle:
    """Every score of one head from plain loops over its sequences."""

    def __init__(self, weights: np.ndarray, visible: np.ndarray, sinks: set[int] = frozenset()):
        self.weights, self.visible, self.sinks, (self.rows, self.length, _) = weights, visible, sinks, weights.shape
        self.seen = [int(row.sum()) for row in visible]
        columns = range(self.length)
        self.readers = {s: [q for q in columns if q != s and visible[q, s] and self.seen[q] > 1] for s in columns}

    def column(self, row: np.ndarray, source: int) -> tuple[float, float]:
        readers = self.readers[source]
        if not readers:
            return 0.0, 0.0
        return np.mean([row[q, source] for q in readers]), np.mean([1 / self.seen[q] for q in readers])

    def over_queries(self, sources: Callable[[int, int], list[int]]) -> list[tuple[float, float]]:
        """(weight, baseline) of every sequence; `sources(row, query)` are those that count."""
        found = []
        for row in range(self.rows):
            weight, uniform = [], []
            for q in range(self.length):
                own = [s for s in sources(row, q) if self.visible[q, s] and s not in self.sinks]
                if own and self.seen[q] > 1:
                    weight.append(sum(self.weights[row, q, s] for s in own))
                    uniform.append(len(own) / self.seen[q])
            if weight:
                found.append((np.mean(weight), np.mean(uniform)))
        return found

    def best(self, row: int, sources: set[int]) -> int:
        excess = {s: np.subtract(*self.column(self.weights[row], s)) for s in sorted(sources)}
        return max(excess, key=excess.__getitem__)

    def broadcast_columns(self) -> list[int]:
        allowed = {s for s in self.readers if len(self.readers[s]) >= 3} - self.sinks
        return [self.best(row, allowed) for row in range(self.rows)]

    def scores(self, tokens: np.ndarray, offsets: Sequence[int]) -> dict[str, list[tuple[float, float]]]:
        found = {name: self.over_queries(own) for name, own in sources_by_score(tokens, offsets).items()}
        columns = self.broadcast_columns()
        found["broadcast"] = [self.column(self.weights[row], s) for row, s in enumerate(columns)]
        found["coverage"] = [
            (np.mean([self.weights[row, q, s] > 0.5 for q in self.readers[s]]), 0.0) for row, s in enumerate(columns)
        ]
        candidates = self.sinks or {s for s in self.readers if len(self.readers[s]) >= 4}
        mass = {s: np.mean([self.column(row, s)[0] for row in self.weights]) for s in candidates}
        strongest = max(mass, key=mass.__getitem__)
        found["sink"] = [self.column(row, strongest) for row in self.weights]
        return found


def sources_by_score(tokens: np.ndarray, offsets: Sequence[int]) -> dict[str, Callable[[int, int], list[int]]]:
    """The sources that count, by score, row and query."""
    length = tokens.shape[1]
    found = {
        "duplicate": lambda row, q: [s for s in range(q) if tokens[row, s] == tokens[row, q]],
        "induction": lambda row, q: [s for s in range(1, q) if tokens[row, s - 1] == tokens[row, q]],
    }
    for d in (0, *offsets):
        found[f"shift {d}" if d else "self"] = lambda _, q, d=d: [q - d] if 0 <= q - d < length else []
    return found


@pytest.mark.parametrize("mask", MASKS)
def test_every_score_is_what_plain_loops_give(mask: str) -> None:
    visible, rows, offsets = MASKS[mask], 24, (1, 2, -1, 4)
    weights = random_attention((rows, 2, 3, LENGTH, LENGTH), visible, scale=2)
    weights[:, 0, 1] = 0.3 * weights[:, 0, 1]
    weights[:, 0, 1, :, 2] += 0.7 * visible[0, :, 2]  # a sink that is not first, and rows that sum to less than 1
    weights[:, 1, 2] = 0.2 * weights[:, 1, 2] + 0.8 * broadcast_from(keys(rows))[:, 0, 0] * visible
    tokens = tokens_of(rows)
    scores = scored(weights, visible, tokens=tokens, offsets=offsets)
    for layer, head in np.ndindex(2, 3):
        oracle = Oracle(
            weights[:, layer, head].double().numpy(), visible[0].numpy(), {2} if (layer, head) == (0, 1) else set()
        )
        for name, values in oracle.scores(tokens.numpy(), offsets).items():
            found = score(scores, name, layer=layer + 1, head=head + 1)
            assert found["sequences"] == len(values), name
            if values:
                excess = np.subtract(*np.transpose(values))
                assert found["mean"] == pytest.approx(excess.mean(), abs=1e-6), name
                assert found["spread"] == pytest.approx(excess.std(ddof=1), abs=1e-6), name
                assert found["baseline"] == pytest.approx(np.mean(values, axis=0)[1], abs=1e-6), name
        at = scores.columns[(scores.columns["layer"] == layer + 1) & (scores.columns["head"] == head + 1)]
        shares = pd.Series(oracle.broadcast_columns()).value_counts(normalize=True)
        assert dict(zip(at["position"] - 1, at["share"], strict=True)) == pytest.approx(shares.to_dict())
    (sink,) = scores.sinks.itertuples()
    assert (sink.layer, sink.head, sink.position) == (1, 2, 3)
    oracle = Oracle(weights[:, 0, 1].double().numpy(), visible[0].numpy())
    columns = [oracle.column(row, 2)[0] for row in oracle.weights]
    assert [sink.weight, sink.share] == pytest.approx([np.mean(columns), np.mean(np.array(columns) > 0.3)], abs=1e-6)


@pytest.mark.parametrize("mask", MASKS)
def test_value_weighted_scores_and_entropies_are_what_plain_loops_give(mask: str) -> None:
    rows, visible, offsets = 12, MASKS[mask], (1, 2, -1)
    weights = random_attention((rows, 1, 2, LENGTH, LENGTH), visible, scale=2)
    weights[:, 0, 1] = 0.3 * weights[:, 0, 1]
    weights[:, 0, 1, :, 0] += 0.7 * visible[0, :, 0]  # a sink that follows no token
    norms, tokens = torch.rand(rows, 1, 2, LENGTH, generator=generator(5)), tokens_of(rows)
    scores = scored(weights, visible, value_norms=norms, tokens=tokens, offsets=offsets)
    lengths = norms.double().numpy()[:, 0]
    for head, sinks in enumerate((set(), {0})):
        plain = weights[:, 0, head].double().numpy()
        even = np.where(visible[0].numpy(), lengths[:, head, None], 0)
        even = even / even.sum(-1, keepdims=True)
        moved = plain * lengths[:, head, None]
        moved = moved / moved.sum(-1, keepdims=True)
        shares, baselines = (Oracle(found, visible[0].numpy(), sinks) for found in (moved, even))
        for name, sources in sources_by_score(tokens.numpy(), offsets).items():
            found = score(scores, f"value-weighted {name}", head=head + 1)
            values = [
                (weight, baseline)
                for (weight, _), (baseline, _) in zip(
                    shares.over_queries(sources), baselines.over_queries(sources), strict=True
                )
            ]
            assert found["sequences"] == len(values), name
            if not values:
                continue
            assert found["mean"] == pytest.approx(np.subtract(*np.transpose(values)).mean(), abs=1e-6), name
            assert found["baseline"] == pytest.approx(np.mean(values, axis=0)[1], abs=1e-6), name
        allowed = {s for s in shares.readers if len(shares.readers[s]) >= 3} - sinks
        columns = []
        for row in range(rows):
            pairs = [(shares.column(moved[row], s)[0], shares.column(even[row], s)[0]) for s in sorted(allowed)]
            columns.append(max(pairs, key=lambda pair: pair[0] - pair[1]))
        found = score(scores, "value-weighted broadcast", head=head + 1)
        assert found["mean"] == pytest.approx(np.subtract(*np.transpose(columns)).mean(), abs=1e-6)
        assert found["baseline"] == pytest.approx(np.mean(columns, axis=0)[1], abs=1e-6)
        choosing = visible[0].numpy().sum(-1) > 1
        most = np.log(visible[0].numpy().sum(-1)[choosing])
        for name, share in (("entropy", plain), ("value-weighted entropy", moved)):
            found = score(scores, name, head=head + 1)
            entropies = special.entr(share[:, choosing]).sum(-1) / most
            assert found["mean"] == pytest.approx(entropies.mean(), abs=1e-6), name


def test_role_attention_and_followed_roles_are_what_plain_loops_give() -> None:
    rows = 30
    weights = random_attention((rows, 1, 1, LENGTH, LENGTH), causal(LENGTH), scale=3)
    places = {"key": torch.randint(0, 9, (rows,), generator=generator(7)), "last": torch.full((rows,), 8)}
    scores = scored(weights, places=places)
    for reader, source in (("key", "key"), ("last", "key"), ("key", "last")):
        pairs = [(row, int(places[reader][row]), int(places[source][row])) for row in range(rows)]
        seen = [(float(weights[row, 0, 0, q, s]), 1 / (q + 1)) for row, q, s in pairs if s <= q and q > 0]
        table = scores.role_attention
        found = table[(table["reader"] == reader) & (table["source"] == source)].iloc[0]
        assert found["sequences"] == len(seen)
        assert [found["weight"], found["baseline"]] == pytest.approx(np.mean(seen, axis=0), abs=1e-6)
    columns = Oracle(weights[:, 0, 0].numpy(), causal(LENGTH)[0].numpy()).broadcast_columns()
    pairs = [(int(key), column) for key, column in zip(places["key"], columns, strict=True)]
    able = [key == column for key, column in pairs if key < LENGTH - 3]
    found = scores.followed[scores.followed["role"] == "key"].iloc[0]
    assert (found["share"], found["sequences"]) == (pytest.approx(np.mean(able)), len(able))
    by_chance = [key == column for key, _ in pairs for _, column in pairs if key < LENGTH - 3]
    assert found["chance"] == pytest.approx(np.mean(by_chance))


def planted(pattern: str, rows: int, tokens: torch.Tensor) -> torch.Tensor:
    if pattern.startswith("shift"):
        return shifted(rows, int(pattern.split()[1]))
    if pattern == "self":
        return shifted(rows, 0)
    if pattern == "sink":
        return broadcast_from(torch.full((rows,), 2))
    if pattern == "broadcast":
        return broadcast_from(keys(rows))
    after = 1 if pattern == "induction" else 0
    targets = torch.zeros(rows, LENGTH, dtype=torch.long)
    for row, q in np.ndindex(rows, LENGTH):
        sources = [s + after for s in range(q - after) if tokens[row, s] == tokens[row, q]]
        targets[row, q] = sources[-1] if sources else -1
    return reads(targets)


PATTERNS = ("shift 1", "shift 2", "shift 4", "self", "duplicate", "induction", "sink", "broadcast")


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_planted_pattern_is_found(pattern: str, noise: float) -> None:
    rows = 60
    tokens = tokens_of(rows, values=6)
    rest = random_attention((rows, 1, 1, LENGTH, LENGTH), causal(LENGTH), seed=3, scale=2)
    scores = scored((1 - noise) * planted(pattern, rows, tokens) + noise * rest, tokens=tokens)
    assert kinds(scores) == [pattern]
    found = score(scores, pattern)
    if noise == 0 and pattern not in ("duplicate", "induction"):  # of several sources these read the last one
        assert found["strength"] == pytest.approx(1, abs=1e-6)
        assert found["mean"] + found["baseline"] == pytest.approx(1, abs=1e-6)
    weight = scores.kinds["weight"].iloc[0]
    assert weight == pytest.approx(found["mean"] + found["baseline"], abs=1e-6)
    assert weight > 0.999 - noise


def test_one_perfect_row_is_enough_for_a_near_shift_and_three_queries_are_not() -> None:
    assert kinds(scored(shifted(1, 1))) == ["shift 1"]
    assert kinds(scored(shifted(1, 5))) == ["shift 5"]
    assert kinds(scored(shifted(200, 6))) == ["none"]  # however many rows: they may all be the same chance
    assert kinds(scored(shifted(1, 6, 12), offsets=[6])) == ["shift 6"]


def test_a_model_without_mask_can_look_ahead() -> None:
    scores = scored(shifted(10, -2), EVERYTHING)
    assert kinds(scores) == ["shift -2"]
    assert score(scores, "shift -2")["mean"] == pytest.approx(1 - 1 / LENGTH)
    broadcast = reads(keys(20)[:, None].expand(-1, LENGTH))
    assert kinds(scored(broadcast, EVERYTHING)) == ["broadcast"]


@pytest.mark.parametrize(("rows", "first"), [(1, 0.99), (40, 0.99), (40, 0.6)])
def test_a_head_that_reads_the_first_token_is_a_sink_and_shifts_nothing(rows: int, first: float) -> None:
    weights = (1 - first) * random_attention((rows, 1, 1, LENGTH, LENGTH), causal(LENGTH))
    weights[..., 0] += first
    scores = scored(weights, tokens=tokens_of(rows))
    shifts = scores.scores[scores.scores["score"].str.startswith("shift")]
    assert (shifts["mean"].dropna() < 0).all()
    assert kinds(scores) == ["sink"]
    assert scores.sinks["position"].tolist() == [1]
    assert np.isnan(score(scores, "shift 8")["mean"])  # its only target is the sink


def test_half_a_shift_beside_a_sink_is_scored_without_renormalising() -> None:
    weights = 0.4 * shifted(50, 1)
    weights[..., 0] += 0.6
    scores = scored(weights)
    found = score(scores, "shift 1")
    assert found["mean"] + found["baseline"] == pytest.approx(0.4)
    assert found["baseline"] == pytest.approx(np.mean([1 / n for n in range(3, 10)]))
    assert found["observations"] == 50 * 7
    assert kinds(scores) == ["sink"]


def test_a_sliding_window_has_its_own_baseline_and_sinks() -> None:
    length, window = 24, 6
    visible = sliding(length, window)
    weights = 0.9 * shifted(30, 2, length) + 0.1 * uniform(visible)
    weights[..., :2, :] = uniform(visible)[:, :2]
    found = score(scored(weights, visible), "shift 2")
    baseline = np.mean([1 / min(q + 1, window) for q in range(2, length)])
    assert [found["mean"], found["baseline"]] == pytest.approx([0.9 * (1 - baseline), baseline], abs=1e-6)
    sink = torch.where(visible[0, :, [10]], 0.1 * uniform(visible)[0], uniform(visible)[0])
    sink[:, 10] += 0.9 * visible[0, :, 10]
    assert scored(sink.expand(20, 1, 1, -1, -1), visible).sinks["position"].tolist() == [11]


def test_each_layer_may_have_its_own_window() -> None:
    visible = torch.cat([causal(LENGTH), sliding(LENGTH, 3)])
    weights = uniform(visible)[None, :, None].expand(4, -1, 2, -1, -1)
    scores = scored(weights, visible, tokens=tokens_of(4), value_norms=torch.ones(4, 2, 2, LENGTH))
    assert score(scores, "shift 2")["baseline"] == pytest.approx(np.mean([1 / n for n in range(3, 10)]))
    assert score(scores, "shift 2", layer=2)["baseline"] == pytest.approx(1 / 3)
    assert np.isnan(score(scores, "shift 3", layer=2)["mean"])


@pytest.mark.parametrize("mask", [*MASKS, "short"])
def test_uniform_attention_scores_zero_everywhere(mask: str) -> None:
    visible = MASKS.get(mask, causal(5))  # in rows of 5 the first column has 0.32 of uniform attention
    length = visible.shape[-1]
    weights = uniform(visible).expand(50, 2, 2, -1, -1)
    norms = torch.rand(50, 2, 2, length, generator=generator(0))
    scores = scored(weights, visible, tokens=tokens_of(50, length), value_norms=norms)
    entropies = scores.scores["score"].str.endswith("entropy")
    assert scores.scores.loc[~entropies, "mean"].abs().max() < 1e-6
    assert scores.scores.loc[scores.scores["score"] == "entropy", "mean"].tolist() == pytest.approx([1] * 4)
    assert kinds(scores) == ["none"] * 4
    assert scores.sinks.empty


def test_heads_built_from_queries_and_keys_are_recognised() -> None:
    """Softmax of hand-made query and key vectors: by place (one back), and by token (the anchor, id 0)."""
    rows, length, sharp = 80, 12, 12.0
    anchor = torch.randint(0, 8, (rows,), generator=generator(4))
    tokens = torch.randint(1, 30, (rows, length), generator=generator(5)).scatter(1, anchor[:, None], 0)
    place, is_anchor = torch.eye(length), (tokens == 0).float()
    by_place = (place.roll(-1, 1) @ place.T).expand(rows, -1, -1)
    by_token = is_anchor[:, None].expand(-1, length, -1)
    same = torch.nn.functional.one_hot(tokens, 30).float()
    logits = sharp * torch.stack([by_place, by_token, same @ same.mT - torch.eye(length)], dim=1)[:, None]
    scores = scored(
        logits.masked_fill(~causal(length), -torch.inf).softmax(-1), tokens=tokens, places={"anchor": anchor}
    )
    assert kinds(scores) == ["shift 1", "broadcast", "duplicate"]
    assert scores.kinds["role"].tolist() == ["", "anchor", ""]
