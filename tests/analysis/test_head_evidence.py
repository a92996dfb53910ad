"""What chance gives, and that order and batches change nothing."""

import itertools
import weakref
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from attention_patterns import (
    LENGTH,
    batched,
    broadcast_from,
    generator,
    keys,
    kinds,
    random_attention,
    scored,
    shifted,
    tokens_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from anchorlab.analysis.head_batch import summed
from anchorlab.analysis.head_evidence import ColumnEvidence, ShiftEvidence, largest_evidence, weight_evidence
from anchorlab.analysis.heads import HeadBatch, causal, join_scores, score_heads
from anchorlab.analysis.sight import Sight


def evidence(weights: torch.Tensor, offset: int, sinks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of every column, and of a shift."""
    length = weights.shape[-1]
    sums = summed(HeadBatch(weights), Sight.causal(length), (offset,), "batch")
    columns, shifts = ColumnEvidence(length), ShiftEvidence(sinks)
    columns.add(sums)
    shifts.add(sums, sinks)
    return columns.found()[0], shifts.found()[offset][0]


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
    sinks = torch.zeros(1, heads, length, dtype=torch.bool)
    sinks[..., 1] = True
    columns, shifts = evidence(weights, 1, sinks)
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
    weights = torch.cat([shifted(5, 2), broadcast_from(torch.full((5,), 3))], dim=2)
    columns, shifts = evidence(weights, 2, torch.zeros(1, 2, LENGTH, dtype=torch.bool))
    ways = np.log(np.arange(1, LENGTH + 1))
    assert shifts[0] == pytest.approx(ways[2:].sum(), rel=1e-4)
    assert columns[1, 3] == pytest.approx(ways[4:].sum(), rel=1e-4)


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
    found = largest_evidence(total - rows * choices.double().log(), rows.double())
    assert found.numpy() == pytest.approx(-stats.gamma.logsf(beyond, rows.numpy()))


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
