import itertools
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from anchorlab.analysis.head_evidence import MeanAttention, largest_evidence, weight_evidence
from anchorlab.analysis.head_scores import Sight
from anchorlab.analysis.heads import HeadBatch, HeadScores, causal, join_scores, score_heads, sliding
from anchorlab.errors import InputError

LENGTH = 9
EVERYTHING = torch.ones(1, LENGTH, LENGTH, dtype=torch.bool)
MASKS = {"causal": causal(LENGTH), "sliding": sliding(LENGTH, 7), "everything": EVERYTHING}


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_attention(shape: Sequence[int], visible: torch.Tensor, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    logits = scale * torch.randn(*shape, generator=generator(seed))
    return logits.masked_fill(~visible, -torch.inf).softmax(-1)


def uniform(visible: torch.Tensor) -> torch.Tensor:
    return visible / visible.sum(-1, keepdim=True)


def reads(targets: torch.Tensor, length: int = LENGTH) -> torch.Tensor:
    """Attention [rows, 1, 1, query, source] of a head that reads one source; a query without one reads all evenly."""
    chosen = torch.eye(length)[targets.clamp(min=0)]
    return torch.where((targets >= 0)[..., None], chosen, uniform(causal(length)))[:, None, None]


def shifted(rows: int, offset: int, length: int = LENGTH) -> torch.Tensor:
    targets = torch.arange(length) - offset
    return reads(torch.where(targets < length, targets, -1).expand(rows, length), length)


def broadcast_from(positions: torch.Tensor, length: int = LENGTH) -> torch.Tensor:
    at = positions[:, None].expand(-1, length)
    return reads(torch.where(torch.arange(length) >= at, at, -1), length)


def scored(weights: torch.Tensor, visible: torch.Tensor | None = None, **fields: Any) -> HeadScores:
    options = {name: fields.pop(name) for name in ("offsets", "moved", "first_layer") if name in fields}
    mask = causal(weights.shape[-1]) if visible is None else visible
    return score_heads(lambda: [HeadBatch(weights, **fields)], visible=mask, **options)


def score(scores: HeadScores, name: str, *, layer: int = 1, head: int = 1) -> Any:
    table = scores.scores
    return table[(table["layer"] == layer) & (table["head"] == head) & (table["score"] == name)].iloc[0]


def kinds(scores: HeadScores) -> list[str]:
    return scores.kinds["kind"].tolist()


def tokens_of(rows: int, length: int = LENGTH, values: int = 4, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, values, (rows, length), generator=generator(seed))


def keys(rows: int, seed: int = 2) -> torch.Tensor:
    return torch.randint(0, 5, (rows,), generator=generator(seed))


# The definitions, one number at a time


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
        earlier = {
            "duplicate": lambda row, q: [s for s in range(q) if tokens[row, s] == tokens[row, q]],
            "induction": lambda row, q: [s for s in range(1, q) if tokens[row, s - 1] == tokens[row, q]],
        }
        found = {name: self.over_queries(sources) for name, sources in earlier.items()}
        for d in (0, *offsets):
            name = f"shift {d}" if d else "self"
            found[name] = self.over_queries(lambda _, q, d=d: [q - d] if 0 <= q - d < self.length else [])
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


def test_value_weighted_scores_are_what_plain_loops_give() -> None:
    rows, visible = 12, causal(LENGTH)
    weights = random_attention((rows, 1, 2, LENGTH, LENGTH), visible, scale=2)
    norms = torch.rand(rows, 1, 2, LENGTH, generator=generator(5))
    scores = scored(weights, value_norms=norms)
    for head in range(2):
        values = []
        for row in range(rows):
            moved, even = np.zeros((2, LENGTH, LENGTH))
            for q in range(LENGTH):
                length = norms[row, 0, head, : q + 1].double().numpy()
                product = weights[row, 0, head, q, : q + 1].double().numpy() * length
                moved[q, : q + 1], even[q, : q + 1] = product / product.sum(), length / length.sum()
            columns = [(moved[s + 1 :, s].mean(), even[s + 1 :, s].mean()) for s in range(LENGTH - 3)]
            values.append(max(columns, key=lambda column: column[0] - column[1]))
        found = score(scores, "value-weighted broadcast", head=head + 1)
        assert found["mean"] == pytest.approx(np.subtract(*np.transpose(values)).mean(), abs=1e-6)
        assert found["baseline"] == pytest.approx(np.mean(values, axis=0)[1], abs=1e-6)


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


# Planted patterns


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
    assert scores.scores["mean"].abs().max() < 1e-6
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


# Chance


@pytest.mark.parametrize("law", ["normal 1", "normal 4", "dirichlet 0.1", "one-hot"])
def test_random_attention_hardly_ever_gets_a_kind(law: str) -> None:
    found, heads = 0, 0
    for length, rows, many in ((9, 1, 1500), (9, 2, 1500), (9, 3, 800), (9, 40, 100), (20, 1, 400), (64, 1, 60)):
        shape, seed = (rows, 1, many, length, length), 100 * length + rows
        if law.startswith("normal"):
            logits = float(law.split()[1]) * torch.randn(*shape, generator=generator(seed))
        elif law == "one-hot":
            logits = 1e6 * torch.rand(*shape, generator=generator(seed))
        else:
            random = np.random.default_rng(seed).standard_gamma(0.1, size=shape)
            logits = torch.from_numpy(random).clamp(min=1e-30).log().float()
        weights = logits.masked_fill(~causal(length), -torch.inf).softmax(-1)
        labels = kinds(scored(weights, tokens=tokens_of(rows, length)))
        found, heads = found + sum(label != "none" for label in labels), heads + many
    assert found / heads < 0.01


def test_one_attention_in_all_rows_is_no_more_evidence_than_one_row() -> None:
    found, shape = 0, (1, 1, 1500, LENGTH, LENGTH)
    for scale in (1, 4, 1e6):
        weights = random_attention(shape, causal(LENGTH), seed=3, scale=scale).expand(30, -1, -1, -1, -1)
        found += sum(label != "none" for label in kinds(scored(weights, tokens=tokens_of(30))))
    assert found / 4500 < 0.01


@pytest.mark.parametrize("scale", [0.5, 3, 1e6])
def test_evidence_of_places_bounds_the_share_of_exchanged_sources_that_reach_it(scale: float) -> None:
    """All ways to pick one source for each query of a row of 6, with a sink that is not picked from."""
    length, heads = 6, 40
    weights = random_attention((1, 1, heads, length, length), causal(length), seed=8, scale=scale)
    attention = MeanAttention(Sight.of(causal(length)))
    attention.add(weights)
    columns = attention.columns()[0]
    sinks = torch.zeros(1, heads, length, dtype=torch.bool)
    sinks[..., 1] = True
    shifts = attention.shifts([1], sinks)[1][0]
    for head in range(heads):
        rows = weights[0, 0, head].double().numpy()
        to_first = exchanged([rows[q, : q + 1] for q in range(1, length)])
        assert np.mean(to_first >= rows[1:, 0].sum() - 1e-6) <= 1.0001 * np.exp(-float(columns[head, 0]))
        one_back = exchanged([np.delete(rows[q, : q + 1], 1) for q in (1, 3, 4, 5)])
        observed = sum(rows[q, q - 1] for q in (1, 3, 4, 5))
        assert np.mean(one_back >= observed - 1e-6) <= 1.0001 * np.exp(-float(shifts[head]))


def exchanged(choices: list[np.ndarray]) -> np.ndarray:
    """The sum of one weight of each query, for all ways to choose."""
    return np.array([sum(picked) for picked in itertools.product(*choices)])


def test_evidence_of_a_perfect_pattern_is_that_of_its_only_way() -> None:
    attention = MeanAttention(Sight.of(causal(LENGTH)))
    attention.add(torch.cat([shifted(5, 2), broadcast_from(torch.full((5,), 3))], dim=2))
    nothing = torch.zeros(1, 2, LENGTH, dtype=torch.bool)
    ways = np.log(np.arange(1, LENGTH + 1))
    assert attention.shifts([2], nothing)[2][0, 0] == pytest.approx(ways[2:].sum(), rel=1e-4)
    assert attention.columns()[0, 1, 3] == pytest.approx(ways[4:].sum(), rel=1e-4)


@pytest.mark.parametrize(("n", "chance"), [(1, 0.5), (8, 0.2), (40, 0.02), (300, 0.11)])
def test_evidence_bounds_the_binomial_tail(n: int, chance: float) -> None:
    hits = np.arange(n + 1)
    bound = np.exp(-weight_evidence(*(torch.tensor(part).double() for part in (hits / n, chance, n))).numpy())
    tail = stats.binom.sf(hits - 1, n, chance)
    assert (tail <= bound * (1 + 1e-5)).all()
    assert (bound[hits < n * chance] == 1).all()
    assert -np.log(bound[-1]) == pytest.approx(-n * np.log(chance), rel=1e-5)


def test_evidence_of_picked_columns_is_a_gamma_tail() -> None:
    total, choices, rows = torch.tensor([9.0, 20.0, 2.0]).double(), torch.tensor([6, 6, 6]), torch.tensor([1, 5, 5])
    beyond = np.clip(total.numpy() - rows.numpy() * np.log(6), 0, None)
    found = largest_evidence(total, choices.double(), rows.double())
    assert found.numpy() == pytest.approx(-stats.gamma.logsf(beyond, rows.numpy()))


# Order and batches


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(4)), st.integers(0, 2**20))
def test_permuted_heads_have_permuted_scores(order: list[int], seed: int) -> None:
    weights = random_attention((6, 2, 4, LENGTH, LENGTH), causal(LENGTH), seed=seed, scale=4)
    weights[:, 0, 1, :, 0] += 2
    weights = weights / weights.sum(-1, keepdim=True)
    norms = torch.rand(6, 2, 4, LENGTH, generator=generator(seed))
    more: dict[str, Any] = {"tokens": tokens_of(6), "places": {"key": keys(6)}}
    one = scored(weights, value_norms=norms, **more)
    other = scored(weights[:, :, order], value_norms=norms[:, :, order], **more)
    for name in ("scores", "sinks", "columns", "followed", "role_attention", "kinds"):
        table = getattr(other, name)
        table = table.assign(head=table["head"].map(lambda head: order[head - 1] + 1))
        labels = table.columns.intersection(["layer", "head", "score", "role", "position", "reader", "source"]).tolist()
        expected = getattr(one, name).sort_values(labels, ignore_index=True)
        pd.testing.assert_frame_equal(table.sort_values(labels, ignore_index=True), expected, rtol=1e-5, atol=1e-5)


def batched(batch: HeadBatch, sizes: Sequence[int]) -> list[HeadBatch]:
    edges = np.cumsum([0, *sizes])
    parts = []
    for start, stop in itertools.pairwise(edges):
        part = {name: getattr(batch, name)[start:stop] for name in ("weights", "tokens", "value_norms")}
        parts.append(HeadBatch(**part, places={role: place[start:stop] for role, place in batch.places.items()}))
    return parts


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=5).filter(any), st.integers(0, 2**20))
def test_batch_sizes_change_nothing(sizes: list[int], seed: int) -> None:
    rows = sum(sizes)
    batch, moved = (
        HeadBatch(
            random_attention((rows, 1, 2, LENGTH, LENGTH), causal(LENGTH), seed=seed + number, scale=3),
            tokens_of(rows, seed=seed),
            torch.rand(rows, 1, 2, LENGTH, generator=generator(seed)),
            {"key": (keys(rows, seed) + number) % 6, "last": torch.full((rows,), 8)},
        )
        for number in range(2)
    )
    whole = score_heads(lambda: [batch], visible=causal(LENGTH), moved=lambda: [moved])
    parts = score_heads(lambda: batched(batch, sizes), visible=causal(LENGTH), moved=lambda: batched(moved, sizes))
    for name in vars(whole):
        pd.testing.assert_frame_equal(getattr(parts, name), getattr(whole, name), rtol=1e-5, atol=1e-5)


def test_no_more_than_two_batches_live_at_a_time() -> None:
    alive: list[weakref.ref[torch.Tensor]] = []

    def stream() -> Any:
        for seed in range(6):
            weights = random_attention((3, 1, 2, LENGTH, LENGTH), causal(LENGTH), seed=seed)
            alive.append(weakref.ref(weights))
            yield HeadBatch(weights)
            del weights
            assert sum(weights() is not None for weights in alive) <= 2

    score_heads(stream, visible=causal(LENGTH))
    assert len(alive) == 12


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16, torch.float64])
def test_stored_precision_hardly_matters(precision: torch.dtype) -> None:
    weights = random_attention((20, 1, 2, LENGTH, LENGTH), causal(LENGTH), scale=2)
    exact, rounded = (scored(stored, tokens=tokens_of(20)).scores for stored in (weights, weights.to(precision)))
    smooth = exact["score"] != "coverage"
    assert rounded["mean"][smooth].tolist() == pytest.approx(exact["mean"][smooth].tolist(), abs=2e-3, nan_ok=True)


def test_layers_scored_one_by_one_are_the_whole_model() -> None:
    weights = random_attention((8, 3, 2, LENGTH, LENGTH), causal(LENGTH), scale=3)
    places = {"key": keys(8)}
    parts = [scored(weights[:, [layer]], places=places, first_layer=layer + 1) for layer in range(3)]
    joined, whole = join_scores(parts), scored(weights, places=places)
    for name in vars(whole):
        pd.testing.assert_frame_equal(getattr(joined, name), getattr(whole, name), rtol=1e-6, check_dtype=False)


# Sink or broadcast


def test_a_broadcast_follows_the_key_where_the_keys_stand_at_different_places() -> None:
    rows = 60
    scores = scored(broadcast_from(keys(rows)), places={"key": keys(rows), "last": torch.full((rows,), 8)})
    row = scores.kinds.iloc[0]
    assert [row["kind"], row["role"], row["decided_by"]] == ["broadcast", "key", "varied positions"]
    followed = scores.followed.set_index("role")
    assert followed.loc["key", "share"] == 1
    assert followed.loc["key", "chance"] < 0.35
    assert followed.loc["last", "sequences"] == 0  # nobody reads the last position


def test_a_sink_beside_varied_keys_is_decided_and_without_roles_it_is_not() -> None:
    weights = broadcast_from(torch.full((30,), 3))
    known = scored(weights, places={"key": keys(30)}).kinds.iloc[0]
    assert [known["kind"], known["role"], known["decided_by"]] == ["sink", "", "varied positions"]
    assert scored(weights).kinds["decided_by"].tolist() == ["undecided"]


def moved_set(before: torch.Tensor, after: torch.Tensor, places: tuple[int, int], rows: int = 30) -> HeadScores:
    key = [{"key": torch.full((rows,), place)} for place in places]
    return scored(before, places=key[0], moved=lambda: [HeadBatch(after, places=key[1])])


def test_only_the_moving_test_tells_a_fixed_anchor_from_a_sink() -> None:
    at = {place: broadcast_from(torch.full((30,), place)) for place in (2, 4)}
    untested = scored(at[2], places={"key": torch.full((30,), 2)})
    row = untested.kinds.iloc[0]
    assert [row["kind"], row["role"], row["decided_by"]] == ["sink", "key", "undecided"]
    assert untested.moving.empty

    follows = moved_set(at[2], at[4], (2, 4))
    row = follows.kinds.iloc[0]
    assert [row["kind"], row["role"], row["decided_by"]] == ["broadcast", "key", "moving test"]
    assert follows.sinks.empty
    assert follows.moving[["followed", "stayed", "sequences"]].to_numpy().tolist() == [[1, 0, 30]]

    stays = moved_set(at[2], at[2], (2, 4))
    row = stays.kinds.iloc[0]
    assert [row["kind"], row["decided_by"]] == ["sink", "moving test"]
    assert stays.sinks["position"].tolist() == [3]
    assert stays.moving[["followed", "stayed", "sequences"]].to_numpy().tolist() == [[0, 1, 30]]


def test_rows_whose_anchor_did_not_move_say_nothing() -> None:
    rows, key = 30, torch.full((30,), 2)
    new = torch.where(torch.arange(rows) < 6, 4, 2)
    scores = scored(
        broadcast_from(key), places={"key": key}, moved=lambda: [HeadBatch(broadcast_from(new), places={"key": new})]
    )
    assert kinds(scores) == ["broadcast"]
    assert scores.moving[["followed", "stayed", "sequences"]].to_numpy().tolist() == [[1, 0, 6]]


def test_a_column_that_stays_at_each_rows_old_place_is_a_sink() -> None:
    rows, old = 60, keys(60)
    new = (old + 1) % 5
    scores = scored(
        broadcast_from(old), places={"key": old}, moved=lambda: [HeadBatch(broadcast_from(old), places={"key": new})]
    )
    assert kinds(scored(broadcast_from(old), places={"key": old})) == ["broadcast"]
    assert kinds(scores) == ["sink"]
    assert len(scores.columns) == 5
    assert scores.moving["sequences"].tolist() == [rows]


def test_share_of_rows_in_which_the_column_follows() -> None:
    at = {place: broadcast_from(torch.full((30,), place)) for place in (1, 2, 4)}
    after = torch.where((torch.arange(30) < 24)[:, None, None, None, None], at[4], at[1])
    scores = moved_set(at[2], after, (2, 4))
    assert scores.moving["followed"].tolist() == pytest.approx([0.8])
    assert kinds(scores) == ["broadcast"]


def test_value_weights_tell_what_takes_attention_from_what_passes_something_on() -> None:
    rows, key = 40, keys(40) // 2 + 2
    weights = 0.35 * broadcast_from(key) + 0.05 * uniform(causal(LENGTH))
    weights[..., 0] += 0.6
    norms = torch.ones(rows, 1, 1, LENGTH)
    norms[..., 0] = 0.001
    scores = scored(weights, value_norms=norms, places={"key": key})
    assert kinds(scores) == ["sink"]
    assert score(scores, "value-weighted sink")["mean"] < 0.02
    assert score(scores, "value-weighted broadcast")["strength"] > 0.8
    assert score(scores, "broadcast")["strength"] < 0.4


def test_coverage_counts_queries_that_give_more_than_half() -> None:
    weights = uniform(causal(LENGTH))[0]
    weights[3:7] = 0
    weights[3:7, 2], weights[3:7, 0] = 0.5, 0.5  # half is not most
    weights[7:] = 0
    weights[7:, 2] = 1
    other = shifted(2, 1)[0]
    scores = scored(torch.stack([weights[None, None], other, other]))  # in one row of three, so it is no sink
    per_row = [2 / 6, 1 / 3, 1 / 3]
    assert score(scores, "coverage")["mean"] == pytest.approx(np.mean(per_row))


@pytest.mark.parametrize("length", [1, 2, 3])
def test_rows_too_short_for_columns_have_no_such_score(length: int) -> None:
    scores = scored(random_attention((5, 1, 1, length, length), causal(length)), tokens=tokens_of(5, length))
    assert kinds(scores) == ["none"]
    assert np.isnan(score(scores, "broadcast")["mean"])
    assert score(scores, "sink")["sequences"] == 0


def test_a_score_that_no_query_has_is_nan() -> None:
    different = torch.arange(LENGTH).expand(4, -1)
    scores = scored(random_attention((4, 1, 1, LENGTH, LENGTH), causal(LENGTH)), tokens=different)
    for name in ("duplicate", "induction"):
        assert np.isnan(score(scores, name)["mean"])
        assert score(scores, name)["sequences"] == 0


# Bad input

GOOD = HeadBatch(
    random_attention((4, 2, 3, LENGTH, LENGTH), causal(LENGTH)),
    tokens_of(4),
    torch.ones(4, 2, 3, LENGTH),
    {"key": torch.tensor([0, 1, 2, 8])},
)
CHANGES: dict[str, Any] = {
    "sum to": {"weights": 1.01 * GOOD.weights},
    "negative nor NaN": {"weights": GOOD.weights - 0.01},
    "neither negative": {"weights": torch.where(GOOD.weights > 0.5, torch.nan, GOOD.weights)},
    "not in `visible`": {"weights": random_attention((4, 2, 3, LENGTH, LENGTH), EVERYTHING)},
    "weights of shape": {"weights": GOOD.weights[:, 0]},
    "do not fit": {"weights": random_attention((4, 2, 3, 8, 8), causal(8))},
    "floating point": {"weights": GOOD.weights.long()},
    "tokens of shape": {"tokens": GOOD.tokens[:3]},
    "value_norms of shape": {"value_norms": torch.ones(4, 2, 1, LENGTH)},
    "value_norms must be": {"value_norms": -torch.ones(4, 2, 3, LENGTH)},
    "'key'. of shape": {"places": {"key": torch.tensor([1])}},
    "from 0 to 8": {"places": {"key": torch.tensor([0, 1, 2, 9])}},
    "positions from 0": {"places": {"key": torch.tensor([0, 1, 2, -1])}},
}


@pytest.mark.parametrize("message", CHANGES)
def test_what_is_no_attention_of_these_rows_is_refused(message: str) -> None:
    bad = replace(GOOD, **CHANGES[message])
    with pytest.raises(InputError, match=message):
        score_heads(lambda: [bad], visible=causal(LENGTH))
    moved = replace(bad, **({} if "places" in CHANGES[message] else {"places": {"key": torch.tensor([1, 2, 3, 4])}}))
    with pytest.raises(InputError, match=f"moved.*{message}"):
        score_heads(lambda: [GOOD], visible=causal(LENGTH), moved=lambda: [moved])


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"weights": GOOD.weights[:, :1], "value_norms": GOOD.value_norms[:, :1]}, "layers"),
        ({"weights": GOOD.weights[:, :, :1], "value_norms": GOOD.value_norms[:, :, :1]}, "heads"),
        ({"tokens": None}, "tokens"),
        ({"value_norms": None, "places": {}}, "value_norms and places"),
    ],
)
def test_batches_must_be_alike(change: dict[str, Any], what: str) -> None:
    with pytest.raises(InputError, match=f"differs from the first one in {what}$"):
        score_heads(lambda: [GOOD, replace(GOOD, **change)], visible=causal(LENGTH))


def test_no_sequences_are_refused() -> None:
    with pytest.raises(InputError, match="no sequences"):
        score_heads(list, visible=causal(LENGTH))
    with pytest.raises(InputError, match="no sequences"):
        scored(GOOD.weights[:0])


def test_batches_that_run_out_are_refused() -> None:
    stream = iter([GOOD])
    with pytest.raises(InputError, match="4 rows in the first pass and 0 in the second"):
        score_heads(lambda: stream, visible=causal(LENGTH))


def test_a_moving_test_needs_the_same_rows_with_something_moved() -> None:
    visible = causal(LENGTH)
    with pytest.raises(InputError, match="as many batches"):
        score_heads(lambda: [GOOD], visible=visible, moved=list)
    with pytest.raises(InputError, match="same number of rows"):
        score_heads(lambda: [GOOD], visible=visible, moved=lambda: batched(GOOD, [2]))
    with pytest.raises(InputError, match="move the anchor"):
        score_heads(lambda: [GOOD], visible=visible, moved=lambda: [GOOD])
    with pytest.raises(InputError, match="differs from the first one in places"):
        score_heads(lambda: [GOOD], visible=visible, moved=lambda: [replace(GOOD, places={})])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"visible": torch.ones(1, LENGTH, LENGTH)}, "must be boolean"),
        ({"visible": causal(LENGTH)[0]}, "length, length"),
        ({"visible": causal(LENGTH)[:, 1:]}, "length, length"),
        ({"visible": causal(LENGTH).expand(3, -1, -1)}, "do not fit"),
        ({"offsets": [0]}, "offsets=.0.: different whole numbers from 1 to 8"),
        ({"offsets": [9]}, "from 1 to 8"),
        ({"offsets": [1, 1]}, "different"),
        ({"least_readers": 0}, "least_readers=0: at least 1"),
    ],
)
def test_wrong_settings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        score_heads(lambda: [GOOD], **({"visible": causal(LENGTH)} | options))
