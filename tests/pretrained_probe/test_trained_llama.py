"""The probe of a Llama that was trained here finds the heads that do the work."""

from dataclasses import replace
from pathlib import Path

import name_retrieval
import numpy as np
import pandas as pd
import pytest
from transformers import LlamaForCausalLM

from anchorlab.analysis import HeadScores
from anchorlab.engine import Run
from anchorlab.pretrained_probe import Knockouts, PromptSet, knock_out, load_pretrained, score_prompts, task_prompts

pytestmark = pytest.mark.slow
LENGTH, PROMPTS = 12, 48


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return name_retrieval.train_llama(tmp_path_factory.mktemp("names"), small=True)


@pytest.fixture(scope="module")
def model(run: Run) -> LlamaForCausalLM:
    return load_pretrained(str(run.folder / "model")).model


@pytest.fixture(scope="module")
def prompts() -> PromptSet:
    return task_prompts(name_retrieval.names(LENGTH), n=PROMPTS)


@pytest.fixture(scope="module")
def scores(model: LlamaForCausalLM, prompts: PromptSet) -> HeadScores:
    return score_prompts(model, prompts)


@pytest.fixture(scope="module")
def knocked_out(model: LlamaForCausalLM, prompts: PromptSet, scores: HeadScores) -> Knockouts:
    kinds = scores.kinds
    ordinary = kinds[~kinds["kind"].str.match("shift|broadcast")]
    groups = {"ordinary heads": list(zip(ordinary["layer"], ordinary["head"], strict=True))}
    return knock_out(model, prompts.prompts, scores, groups=groups)


def test_it_answers_rows_that_it_has_not_seen(run: Run, knocked_out: Knockouts) -> None:
    assert run.final("test") >= 0.98
    assert knocked_out.intact_accuracy >= 0.95
    assert knocked_out.better_than_chance


def test_shallow_heads_shift_and_deeper_ones_broadcast_the_key(scores: HeadScores) -> None:
    kinds = scores.kinds
    shifts, broadcasts = (kinds[kinds["kind"].str.startswith(kind)] for kind in ("shift", "broadcast"))
    assert set(shifts["kind"]) == {"shift 1"}
    assert shifts["layer"].max() == 1
    of_key = broadcasts[broadcasts["role"] == "key"]
    assert of_key["layer"].min() == 2
    followed = scores.moving[scores.moving["role"] == "key"].merge(of_key[["layer", "head"]])
    assert followed["followed"].min() > 0.9
    assert followed["stayed"].max() < 0.1


def test_without_them_the_answer_is_lost_and_without_all_others_it_is_not(knocked_out: Knockouts) -> None:
    table = knocked_out.table.set_index("what")
    for what in ("shift heads", "broadcast heads", "edges from key to last"):
        assert table.loc[what, "high"] < -3, what  # the answer is 20 times less probable
        assert table.loc[what, "accuracy"] < 0.3, what
    assert table.loc["ordinary heads", "low"] > -1
    assert table.loc["ordinary heads", "accuracy"] > 0.8
    assert table.loc["edges from key", "verdict"] == "matters"
    assert table.loc["edges from key", "control"] == "tokens"


def test_only_the_moving_test_tells_a_broadcast_from_a_sink_where_the_key_stands_still(
    model: LlamaForCausalLM, scores: HeadScores
) -> None:
    drawn = task_prompts(name_retrieval.names(LENGTH), n=300)
    places = np.array([prompt.places["key"] for prompt in drawn.prompts])
    still = np.flatnonzero(places == np.bincount(places[places < 6]).argmax())
    tested = replace(
        drawn,
        prompts=tuple(drawn.prompts[at] for at in still),
        moved=tuple(drawn.moved[at] for at in still),
    )
    of_key = scores.kinds[(scores.kinds["kind"] == "broadcast") & (scores.kinds["role"] == "key")][["layer", "head"]]
    before, after = (score_prompts(model, some).kinds.merge(of_key) for some in (replace(tested, moved=()), tested))
    assert set(before["kind"]) == {"sink"}
    assert set(before["decided_by"]) == {"undecided"}
    assert set(after["kind"]) == {"broadcast"}
    assert set(after["decided_by"]) == {"moving test"}
    assert set(after["role"]) == {"key"}


def test_the_trained_model_is_probed_by_one_command(run: Run, tmp_path: Path) -> None:
    import anchorlab

    settings = {"prompts": "task:identity", "length": LENGTH, "count": 16, "knock_outs": False}
    found = anchorlab.probe(run.folder / "model", out=tmp_path / "probe", **settings)
    kinds = pd.read_parquet(found.folder / "tables" / "kinds.parquet")
    assert "shift 1" in set(kinds["kind"])
    assert "broadcast" in set(kinds["kind"])
