"""Sink or broadcast, and what is refused."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from attention_patterns import (
    EVERYTHING,
    LENGTH,
    batched,
    broadcast_from,
    keys,
    kinds,
    random_attention,
    score,
    scored,
    shifted,
    tokens_of,
    uniform,
)

from anchorlab.analysis.heads import HeadBatch, HeadScores, causal, score_heads
from anchorlab.errors import InputError


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


@pytest.mark.parametrize(("rows", "found"), [(4, []), (5, []), (6, [3])])
def test_a_sink_is_one_in_most_of_the_rows(rows: int, found: list[int]) -> None:
    weights = torch.cat([broadcast_from(torch.full((rows,), 2), 40), shifted(10 - rows, 1, 40)])
    assert scored(weights).sinks["position"].tolist() == found


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
