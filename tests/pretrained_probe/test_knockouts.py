from copy import deepcopy
from itertools import product
from math import comb

import numpy as np
import pandas as pd
import pytest
import torch
from answered_prompts import IDENTITY, MANY, WORKING, identity_prompts, prompt, random_prompts, scores
from hand_built import LOGIT, identity_gpt2
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_1samp
from small_models import VOCABULARY, small_model

from anchorlab import models
from anchorlab.analysis import NoAttentionError
from anchorlab.errors import InputError
from anchorlab.pretrained_probe.knockouts import LEAST_SETS, _compared, _other_heads, _Plan, _random_sets, knock_out
from anchorlab.pretrained_probe.trials import Trials


@pytest.fixture(scope="module")
def mechanism():
    return identity_gpt2(IDENTITY, heads=MANY, working=(2, 1))


@pytest.fixture(scope="module")
def found(mechanism):
    idle = [(1, 7), (2, 9), (2, 24)]
    return knock_out(
        mechanism, identity_prompts(10), scores(WORKING, heads=MANY), groups={"idle": idle}, single_heads=48
    )


@pytest.fixture(scope="module")
def rows(found):
    return found.table.set_index("what")


def test_working_heads_and_edges_matter(found, rows):
    assert rows.index.tolist() == [
        "shift heads",
        "broadcast heads",
        "shift and broadcast heads",
        "idle",
        "edges from key",
        "edges from key to last",
        "edges from key in broadcast heads",
        "edges from key to last in broadcast heads",
    ]
    assert found.intact_accuracy == found.choice_accuracy == 1
    assert found.better_than_chance
    assert found.intact_log_probability == pytest.approx(-np.log1p(11 * np.exp(-LOGIT)), rel=0.1)
    working = rows.drop("idle")
    assert (working["verdict"] == "matters").all()
    assert (working["change"] < -1).all()
    assert (working["accuracy"] < 0.7).all()
    assert working["random_mean"].drop(["edges from key", "edges from key to last"]).abs().max() < 1e-3
    assert (working["p"] == 1 / 21).all()
    assert (rows["random_sets"] == 20).all()
    assert not rows.drop(columns="note").isna().to_numpy().any()


def test_idle_heads_do_not_matter(rows):
    idle = rows.loc["idle"]
    assert idle["verdict"] == "no more than random heads"
    assert idle["change"] == pytest.approx(0, abs=1e-6)
    assert idle["accuracy"] == 1


def test_what_a_row_touches(rows):
    assert rows["heads"].tolist() == [1, 1, 2, 3, 2 * MANY, 2 * MANY, 1, 1]
    assert rows["control"].tolist() == ["heads"] * 4 + ["tokens"] * 2 + ["heads"] * 2


def test_single_heads_are_those_of_the_mechanism(found):
    table = found.single_heads.set_index(["layer", "head"])
    assert len(table) == 2 * MANY
    working = list(WORKING.values())
    assert table.loc[working, "kind"].tolist() == list(WORKING)
    assert (table.loc[working, "change"] < -1).all()
    assert table["change"].drop(working).abs().max() < 1e-6
    change = found.table.set_index("what").loc["shift heads", "change"]
    assert table.loc[working[0], "change"] == pytest.approx(change)


def test_of_many_heads_the_strongest_that_shift_or_broadcast_are_knocked_out_alone(mechanism):
    kinds = WORKING | {"sink": (1, 1)}
    found = knock_out(mechanism, identity_prompts(4), scores(kinds, heads=MANY), random_sets=1, single_heads=47)
    assert found.single_heads[["layer", "head", "kind"]].to_numpy().tolist() == [[1, 3, "shift 1"], [2, 2, "broadcast"]]


def test_model_whose_weights_are_elsewhere_is_probed_all_the_same():
    accelerate = pytest.importorskip("accelerate")
    prompts, kinds = random_prompts(key=1), scores({"shift 1": (1, 2), "broadcast": (2, 1)})
    expected = knock_out(small_model("llama"), prompts, kinds, random_sets=2)
    offloaded = accelerate.cpu_offload(small_model("llama"), execution_device=torch.device("cpu"))
    assert {parameter.device.type for parameter in offloaded.parameters()} == {"meta"}
    found = knock_out(offloaded, prompts, kinds, random_sets=2)
    pd.testing.assert_frame_equal(found.table, expected.table)


def test_numbers_depend_on_the_seed_and_on_nothing_else():
    def knocked(**settings):
        return knock_out(model, prompts, known, random_sets=2, single_heads=0, **settings).table

    model, prompts, known = small_model("llama"), random_prompts(key=2), scores(WORKING)
    once = knocked(seed=1)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        pd.testing.assert_frame_equal(knocked(seed=1), once)
    more = knocked(seed=1, groups={"more": [(1, 1), (1, 2)]}, progress=True)
    pd.testing.assert_frame_equal(more[more["what"] != "more"].reset_index(drop=True), once)
    assert not knocked(seed=2)["random_mean"].equals(once["random_mean"])


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 5)), min_size=1, unique=True), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_random_sets_are_different_and_of_the_same_layers_or_else_of_all(own, sets):
    control, pools = _other_heads(own, list(product(range(1, 4), range(1, 6))))
    drawn = _random_sets(_Plan("any", len(own), control, pools, own, None), sets, seed=0)
    per_layer = sorted(layer for layer, _ in own)
    assert len({frozenset(one) for one in drawn}) == len(drawn) <= sets
    same = int(np.prod([comb(5 - per_layer.count(layer), per_layer.count(layer)) for layer in set(per_layer)]))
    everywhere = comb(15 - len(own), len(own))
    assert (control == "heads of all layers") == (same < LEAST_SETS <= everywhere)
    for one in drawn:
        assert len(one) == len(own)
        assert control != "heads" or sorted(layer for layer, _ in one) == per_layer
        assert not set(one) & set(own)
    assert len(drawn) == min(sets, same if control == "heads" else everywhere)


def test_random_sets_are_drawn_evenly():
    own = [(1, 1)]
    plan = _Plan("any", 1, *_other_heads(own, [(1, head) for head in range(1, 31)]), own, None)
    counts = np.bincount([head for seed in range(400) for ((_, head),) in _random_sets(plan, 1, seed)], minlength=31)
    assert counts[:2].tolist() == [0, 0]
    assert np.abs(counts[2:] - 400 / 29).max() < 5 * (400 / 29) ** 0.5


def test_random_sets_that_cost_as_much_count():
    found = _compared(-1.0, np.array([-1.0, -2.0, 0.0, 0.5]))
    assert (found["share_below"], found["p"]) == (0.5, 3 / 5)


def test_layer_with_too_few_other_heads_has_no_random_sets():
    model, prompts = small_model("llama"), random_prompts()
    groups = {"most": [(1, 1), (1, 2), (1, 3), (2, 1)], "one": [(2, 1)]}
    table = knock_out(model, prompts, scores(), groups=groups).table.set_index("what")
    assert table["random_sets"].tolist() == [0, 3]
    assert table.loc["most", ["random_mean", "random_low", "random_high", "share_below", "p"]].isna().all()
    assert table["note"].tolist() == ["no random sets: too few other heads", "only 3 random sets"]
    assert table["verdict"].tolist() == ["undecided", "undecided"]
    assert table[["change", "low", "high", "accuracy"]].notna().to_numpy().all()
    assert 1 / 4 <= table.loc["one", "p"] <= 1


def test_numbers_of_a_row_are_those_of_its_trials():
    model, prompts = small_model("llama"), random_prompts()
    row = knock_out(model, prompts, scores({"induction": (2, 1)})).table.iloc[0]
    trials = Trials(model, prompts)
    own, *others = (
        trials.without_heads([(2, head)]).log_probability - trials.intact.log_probability for head in (1, 2, 3, 4)
    )
    assert row["what"] == "induction heads"
    assert row["change"] == pytest.approx(own.mean())
    assert row["log_probability"] == pytest.approx(own.mean() + trials.intact.log_probability.mean())
    assert row["random_mean"] == pytest.approx(np.mean(others))
    assert row["share_below"] == pytest.approx(np.mean([other.mean() <= own.mean() for other in others]))
    assert (row["low"], row["high"]) == pytest.approx(tuple(ttest_1samp(own, 0).confidence_interval()))


def test_model_that_knows_no_answer_gets_no_verdict():
    prompts = random_prompts((9,) * 20, key=3)
    known = scores({"shift 1": (1, 1), "broadcast": (2, 4)})
    found = knock_out(small_model("llama"), prompts, known, groups={"two": [(1, 1), (1, 2)]})
    assert not found.better_than_chance
    assert (found.table["verdict"] == "undecided").all()


def test_saying_one_word_all_the_time_is_not_better_than_chance(mechanism):
    same = [one for one in identity_prompts(80) if one.answer == 7]
    found = knock_out(mechanism, same, scores(WORKING, heads=MANY), random_sets=1, single_heads=0)
    assert (found.answers, found.chance, found.intact_accuracy) == (1, 1, 1)
    assert not found.better_than_chance


def test_edges_without_weight_are_left_out():
    """The window of three tokens hides the key from the last token."""
    found = knock_out(small_model("mistral"), random_prompts((9, 8, 7), key=1), scores({"broadcast": (2, 1)}))
    assert found.table["what"].tolist() == ["broadcast heads", "edges from key", "edges from key in broadcast heads"]


def test_random_tokens_that_no_window_shows_change_nothing():
    model, prompts = small_model("mistral"), random_prompts((5, 5), key=3)
    trials = Trials(model, prompts)
    assert trials.without_edges("from source to last", [1, 1]) is None
    left = [trials.without_edges("from source to last", tokens).log_probability for tokens in ((1, 2), (2, 1), (2, 2))]
    changes = [0, *(found.mean() - trials.intact.log_probability.mean() for found in left)]
    row = knock_out(model, prompts, scores()).table.set_index("what").loc["edges from key to last"]
    assert row["random_sets"] == 4
    assert row["random_mean"] == pytest.approx(np.mean(changes))


def test_prompts_without_key_have_no_edges_to_cut():
    prompts = [*random_prompts(key=1), prompt([1, 2, 3], 4)]
    table = knock_out(small_model("llama"), prompts, scores({"self": (1, 1)})).table
    assert table["what"].tolist() == ["self heads"]


def test_prompts_without_answer_are_left_out():
    prompts = random_prompts()
    kinds = scores({"duplicate": (1, 1)})
    found = knock_out(small_model("llama"), [*prompts, prompt([1, 2], None)], kinds)
    assert found.prompts == len(prompts)
    pd.testing.assert_frame_equal(found.table, knock_out(small_model("llama"), prompts, kinds).table)


def test_model_is_left_as_it_was():
    model, prompts = small_model("llama").train(), random_prompts(key=1)
    before = deepcopy(model.state_dict())
    knock_out(model, prompts, scores({"broadcast": (2, 1)}), random_sets=1)
    assert model.training
    assert model.config._attn_implementation == "eager"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ablation": "noise"}, "ablation: unknown value 'noise'"),
        ({"random_sets": 0}, "random_sets=0: must be at least 1"),
        ({"single_heads": -1}, "single_heads=-1: must be at least 0"),
        ({"seed": -1}, "seed=-1: must be at least 0"),
        ({"groups": {"mine": [(3, 1)]}}, "mine: layer 3 head 1 is not allowed; the model has layers 1 to 2"),
        ({"groups": {"mine": [(1, 0)]}}, "mine: layer 1 head 0 is not allowed"),
        ({"groups": {"mine": []}}, "groups: 'mine' must have a name of its own, at least one head"),
        ({"groups": {"mine": [(1, 1), (1, 1)]}}, "none twice"),
        ({"groups": {"shift heads": [(1, 2)]}}, "a name of its own"),
        ({"prompts": []}, "prompts: 0 of 0 have an answer; two or more are needed"),
        ({"prompts": [*random_prompts((5,)), prompt([1, 2], None)]}, "prompts: 1 of 2 have an answer"),
        ({"prompts": [*random_prompts((5,)), prompt([], 2)]}, "prompt 2 has 0 tokens"),
        (
            {"prompts": [*random_prompts((5,)), prompt([1, 40], 2)]},
            "prompt 2 has the token id 40; the model has 0 to 39",
        ),
        ({"prompts": [*random_prompts((5,)), prompt([1, 3], -1)]}, "prompt 2 has the token id -1"),
        ({"prompts": random_prompts(key=9)}, "prompt 1 has 'key' at position 9; it has 0 to 8"),
        ({"prompts": random_prompts((9, 33))}, "prompt 2 has 33 tokens and the model reads at most 32"),
        ({"scores": scores({"shift 1": (3, 1)}, layers=3)}, "scores: layer 3 head 1 is not allowed"),
        ({"scores": scores()}, "nothing to knock out"),
    ],
)
def test_what_is_not_allowed_is_said_in_one_line(settings, message):
    arguments = {"prompts": random_prompts(), "scores": scores({"shift 1": (1, 1)})} | settings
    with pytest.raises(InputError) as raised:
        knock_out(small_model("llama"), **arguments)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_model_without_attention_is_refused():
    lstm = models.build("lstm", VOCABULARY, 9, layers=1, width=8)
    with pytest.raises(NoAttentionError):
        knock_out(lstm, random_prompts(), scores({"shift 1": (1, 1)}))


def test_attention_that_ignores_the_interface_is_refused():
    model = small_model("post_ln")
    for layer in model.layers:
        layer.self_attn.forward = lambda hidden, mask, **kwargs: (hidden, None)
    with pytest.raises(NoAttentionError, match="does not use Hugging Face's AttentionInterface"):
        knock_out(model, random_prompts((9, 9)), scores({"shift 1": (1, 1)}))
