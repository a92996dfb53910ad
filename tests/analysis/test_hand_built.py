"""The hand-built models do what their descriptions say; other tests rely on it."""

import numpy as np
import pytest
from hand_built import LOGIT, identity_gpt2, identity_simplified

from anchorlab import tasks
from anchorlab.analysis import attention_maps
from anchorlab.analysis.predictions import logits

ROWS = 500
TASKS = {
    "book": tasks.create("identity"),
    "wide vocabulary": tasks.create("identity", preset="arxiv-2401.08309"),
    "long rows": tasks.create("identity", length=15, anchor_id=105),
}


@pytest.fixture(params=TASKS)
def task(request):
    return TASKS[request.param]


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("built", [identity_gpt2, identity_simplified])
def test_every_answer_is_right_by_a_wide_margin(task, built, split):
    rows = task.sample(split, ROWS, seed=1)
    assert set(rows.key_position) == set(range(1, task.length))
    found = logits(built(task), rows.tokens).numpy()
    right = found[np.arange(ROWS), rows.label]
    found[np.arange(ROWS), rows.label] = -np.inf
    assert right - found.max(axis=1) == pytest.approx(np.full(ROWS, LOGIT), abs=0.01)


def test_idle_heads_change_no_logit():
    task = TASKS["book"]
    tokens = task.sample("test", 50, seed=3).tokens
    alone, among_others = identity_gpt2(task, heads=1), identity_gpt2(task, heads=4, working=(2, 3))
    assert logits(among_others, tokens).numpy() == pytest.approx(logits(alone, tokens).numpy(), abs=1e-4)


def one_row_per_key_position(task):
    rows = task.sample("test", ROWS, seed=2)
    _, chosen = np.unique(rows.key_position, return_index=True)
    return zip(rows.tokens[chosen], rows.key_position[chosen], strict=True)


def causal_average(length):
    return np.tril(np.ones((length, length))) / np.arange(1, length + 1)[:, None]


@pytest.mark.parametrize(("heads", "working"), [(1, (0, 0)), (2, (0, 0)), (4, (2, 3))])
def test_gpt2_shifts_then_broadcasts(task, heads, working):
    model, length = identity_gpt2(task, heads=heads, working=working), task.length
    shift = np.eye(length)[[0, *range(length - 1)]]
    for tokens, key in one_row_per_key_position(task):
        broadcast = causal_average(length)
        broadcast[key - 1 : key, : key - 1] = 1 / max(key - 1, 1)
        broadcast[key - 1, key - 1] = key == 1
        broadcast[key:] = np.eye(length)[key]
        expected = np.tile(causal_average(length), (2, heads, 1, 1))
        expected[0, working[0]], expected[1, working[1]] = shift, broadcast
        assert np.abs(attention_maps(model, tokens) - expected).max() < 0.01


def test_simplified_attends_as_in_figure_12_16(task):
    model = identity_simplified(task)
    for tokens, key in one_row_per_key_position(task):
        expected = np.zeros((2, 1, task.length, task.length))
        expected[:, 0, :, key - 1] = 1
        expected[0, 0, key - 1] = np.eye(task.length)[key]
        assert np.abs(attention_maps(model, tokens) - expected).max() < 0.01
