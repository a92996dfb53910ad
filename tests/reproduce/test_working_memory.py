import numpy as np
import pandas as pd
import pytest
from small_models import random_rows, small_model

from anchorlab import tasks
from anchorlab.analysis.predictions import answers, position_answers
from anchorlab.reproduce import decide, get
from anchorlab.reproduce.chapter12.working_memory import (
    AFTER,
    BETWEEN,
    choose_examples,
    label_outputs,
    share_table,
    share_values,
)

TASK = tasks.create("working_memory")
ROWS = TASK.sample("test", 200, seed=3).tokens


def planted(*, constant: int, ignores_first: bool = False) -> np.ndarray:
    """What a network outputs that holds the intermediate result plus `constant`, or only the key plus it."""
    found = TASK.locate(ROWS)
    shift = 0 if ignores_first else (found.anchors[:, 0] == TASK.vocabulary.anchors["2"]).astype(int)
    held = found.key.astype(int) + shift + constant
    behind = np.arange(ROWS.shape[1]) >= found.anchor_positions[:, 1:]
    return np.where(behind, TASK.solve(ROWS)[:, None], held[:, None])


def shares(outputs: np.ndarray) -> dict[str, float]:
    return share_table(label_outputs(TASK, ROWS, outputs)).set_index("place")["share"].to_dict()


def test_a_position_answers_as_if_the_row_ended_there():
    model, rows = small_model("gpt2"), random_rows(5).numpy()
    found = position_answers(model, rows, batch=2)
    for length in range(1, rows.shape[1] + 1):
        assert (found[:, length - 1] == answers(model, rows[:, :length])).all()


@pytest.mark.parametrize("constant", [0, 4, -3])
def test_an_intermediate_result_is_found_up_to_any_constant(constant):
    table = share_table(label_outputs(TASK, ROWS, planted(constant=constant)))
    assert table["k"].tolist() == [constant, constant]
    assert table["share"].tolist() == [1, 1]


def test_a_network_that_ignores_the_first_anchor_is_told_apart():
    found = shares(planted(constant=0, ignores_first=True))
    rows = TASK.locate(ROWS)
    gaps = np.diff(rows.anchor_positions)[:, 0] - 1
    one = gaps[rows.anchors[:, 0] == TASK.vocabulary.anchors["1"]].sum() / gaps.sum()
    assert found[BETWEEN] == pytest.approx(max(one, 1 - one))
    assert found[AFTER] == 1


def test_the_trained_position_does_not_count():
    outputs = planted(constant=0)
    outputs[:, -1] = 0
    assert shares(outputs)[AFTER] == 1


def test_outputs_of_noise_are_no_intermediate_result():
    outputs = np.random.default_rng(0).integers(20, 100, ROWS.shape)
    assert max(shares(outputs).values()) < 0.1


def test_a_part_of_the_rows_counts_as_that_part():
    outputs = planted(constant=2)
    outputs[::2] = 7
    found = shares(outputs)
    places = label_outputs(TASK, ROWS, outputs)
    kept = places[places["row"] % 2 == 1].groupby("place").size() / places.groupby("place").size()
    assert found == pytest.approx(kept[[BETWEEN, AFTER]].to_dict())


def test_examples_show_every_pair_once_with_the_longest_gap():
    table = label_outputs(TASK, ROWS, planted(constant=0))
    examples = choose_examples(TASK, ROWS, table)
    assert sorted(set(examples["row"])) == [0, 1, 2, 3]
    gaps = examples[examples["place"] == BETWEEN].groupby("row").size()
    found = TASK.locate(ROWS)
    gap = pd.DataFrame({"pair": map(str, found.anchors), "between": np.diff(found.anchor_positions)[:, 0] - 1})
    assert gaps.tolist() == gap.groupby("pair")["between"].max().tolist()


@pytest.mark.parametrize(("held", "verdict"), [(1.0, "holds"), (0.5, "fails")])
def test_claim_follows_what_is_held(held, verdict):
    table = pd.DataFrame({"seed": [0, 0, 1, 1, 2, 2], "place": [BETWEEN, AFTER] * 3, "k": 1, "share": [held, 1.0] * 3})
    values = share_values(table)
    accuracy = [value._replace(quantity="accuracy", value=1.0) for value in values if value.quantity == "answer"]
    assert decide(get("fig12.10").claim, [*values, *accuracy]).verdict == verdict


def test_figure_shows_the_rows_and_the_shares():
    table = label_outputs(TASK, ROWS, planted(constant=4))
    result = {
        "examples": choose_examples(TASK, ROWS, table).assign(seed=0),
        "shares": share_table(table).assign(seed=0),
    }
    above, below = get("fig12.10").figure(result).axes
    assert len(above.texts) == 2 * 4 * ROWS.shape[1]
    assert "k = 4" in above.get_title(loc="left")
    assert [bar.get_width() for bar in below.patches] == [1, 1]
