import numpy as np
import pytest
import torch
from hand_built import identity_gpt2, identity_simplified
from small_models import FAMILIES, LAYERS, random_rows, small_model
from torch import nn

from anchorlab import models, tasks
from anchorlab.analysis.parts import parts, residual_stream
from anchorlab.analysis.places import find_places, move_rows, name_positions, ordered_names
from anchorlab.analysis.readout import hypotheses, read_out
from anchorlab.errors import InputError


@pytest.mark.parametrize("family", FAMILIES)
def test_lens_of_the_last_layer_is_the_model(family):
    model, rows = small_model(family), random_rows(5)
    known = parts(model)
    with torch.no_grad():
        stream = residual_stream(model, rows, known)
        expected = model(input_ids=rows)
        logits = known.unembed(stream[-1], LAYERS)
    if family != "gemma2":  # which bends its logits behind the head
        assert torch.allclose(logits, expected.logits, atol=1e-5)
    assert (logits.argmax(-1) == expected.logits.argmax(-1)).all()
    assert len(stream) == LAYERS + 1


@pytest.mark.parametrize("family", FAMILIES)
def test_stream_is_what_hugging_face_returns_as_hidden_states(family):
    model, rows = small_model(family), random_rows(5)
    with torch.no_grad():
        states = model(input_ids=rows, output_hidden_states=True).hidden_states
    for found, expected in zip(residual_stream(model, rows)[:-1], states[:-1], strict=True):
        assert torch.allclose(found, expected, atol=1e-6)


def test_streams_leave_no_hook_behind():
    model = small_model("gpt2")
    residual_stream(model, random_rows(2))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_unknown_parts_are_refused():
    with pytest.raises(InputError, match="the parts of 'anchorlab_lstm' are not known; known: gpt2"):
        parts(models.build("lstm", 30, 9, layers=1, width=8))
    with pytest.raises(InputError, match="'Linear'"):
        parts(nn.Linear(2, 2))


class TestHypotheses:
    def test_composite(self):
        task = tasks.create("composite")  # a: +5, b: +1, c: -2, d: -8
        ids = task.vocabulary.anchors
        row = np.array([[30, 31, 50, ids["a"], ids["c"], 32, 33, 34, 35]], np.int16)
        found = {name: int(values[0]) for name, values in hypotheses(task, row).items()}
        assert found == {"answer": 53, "key": 50, "f_a1": 55, "f_a1∘f_a1": 60, "f_a2": 48, "f_a2∘f_a2": 46}

    def test_anchors_are_numbered_as_they_act(self):
        task = tasks.create("composite", order="right_to_left")
        ids = task.vocabulary.anchors
        row = np.array([[30, 31, 50, ids["a"], ids["c"], 32, 33, 34, 35]], np.int16)
        assert int(hypotheses(task, row)["f_a1"][0]) == 48

    def test_what_the_first_of_three_anchors_give(self):
        task = tasks.create("chain")  # a: +5, b: +1, c: -2
        ids = task.vocabulary.anchors
        row = np.array([[30, 31, 50, ids["a"], ids["b"], ids["c"], 33, 34, 35]], np.int16)
        found = hypotheses(task, row)
        assert int(found["f_a2∘f_a1"][0]) == 56
        assert int(found["answer"][0]) == 54

    def test_no_rows_are_refused(self):
        task = tasks.create("composite")
        with pytest.raises(InputError, match="no rows given"):
            hypotheses(task, np.empty((0, 9), np.int16))

    def test_those_that_coincide_everywhere_are_joined(self):
        task = tasks.create("multi_anchor")
        found = hypotheses(task, task.sample("test", 50, 0).tokens)
        assert list(found) == ["answer = f_a", "key", "f_a∘f_a"]

    @pytest.mark.parametrize("name", ["reading_comprehension", "classification", "recitation"])
    def test_task_without_single_anchors_is_refused(self, name):
        task = tasks.create(name)
        with pytest.raises(InputError, match="no composition of single anchors"):
            hypotheses(task, task.sample("test", 5, 0).tokens)


@pytest.fixture
def planted(monkeypatch):
    def plant(task, answers_of):
        monkeypatch.setattr(
            "anchorlab.analysis.readout._answers", lambda model, rows: [answers_of(rows.numpy().astype(np.int16))]
        )
        return models.build("post_ln", task.vocabulary.size, task.length, layers=1, heads=1, width=8)

    return plant


def test_planted_readouts_are_labelled(planted):
    task = tasks.create("composite")
    tokens = task.sample("test", 400, 0).tokens

    def answers_of(rows):
        places, values = find_places(task, rows), hypotheses(task, rows)
        found = np.tile(values["answer"][:, None], (1, task.length))
        everywhere = np.arange(task.length)
        found = np.where(everywhere < places["anchor 1"][:, None], 3, found)  # 3 is no hypothesis
        return np.where(everywhere == places["anchor 1"][:, None], values["f_a1∘f_a1"][:, None], found)

    found = read_out(planted(task, answers_of), task, tokens)
    labels = {place: found.label(0, place) for place in found.places}
    assert labels == {
        "before": "none",
        "key": "none",
        "anchor 1": "f_a1∘f_a1",
        "anchor 2": "answer",
        "after": "answer",
        "last": "answer",
    }
    table = found.table.set_index("place")
    assert table.loc["anchor 1", "f_a1∘f_a1"] == table.loc["after", "answer"] == table.loc["before", "none"] == 1
    assert 0 < found.rows < found.drawn == 400
    assert table["positions"].sum() == found.rows * task.length


def test_intermediate_result_up_to_a_constant_is_found(planted):
    task = tasks.create("working_memory", first={"1": "add:3", "2": "add:1"}, second={"3": "add:5", "4": "add:-2"})

    def answers_of(rows):
        return np.tile(hypotheses(task, rows)["f_a1"][:, None] + 7, (1, task.length))

    tokens = task.sample("test", 300, 0).tokens
    offsets = read_out(planted(task, answers_of), task, tokens).offsets.set_index(["place", "function"])
    assert offsets.loc[("between", "f_a1"), "offset"] == 7
    assert offsets.loc[("between", "f_a1"), "share"] == 1
    assert offsets.loc[("between", "f_a2"), "share"] < 1


def test_rows_that_tell_nothing_apart_are_refused():
    task = tasks.create("composite", operations={"a": "add:1", "b": "identity"}, held_out=())
    same = task.vocabulary.anchors["a"]
    tokens = np.array([[30, 31, 50, same, same, 32, 33, 34, 35], [30, 31, 50, same, same + 1, 32, 33, 34, 35]])
    model = models.build("post_ln", task.vocabulary.size, task.length, layers=1, heads=1, width=8)
    with pytest.raises(InputError, match="in every row two of"):
        read_out(model, task, tokens.astype(np.int16))


def test_hand_built_gpt2_holds_the_answer_from_the_key_on():
    task = tasks.create("identity")
    found = read_out(identity_gpt2(task), task, task.sample("test", 200, 0).tokens)
    (answer,) = found.hypotheses
    assert [found.label(2, place) for place in ("key", "after", "last")] == [answer] * 3
    assert [found.label(2, place) for place in ("before", "anchor")] == ["none"] * 2
    assert all(found.label(layer, place) == "none" for layer in (0, 1) for place in found.places)


def test_hand_built_simplified_model_moves_the_answer_to_the_anchor_and_then_everywhere():
    task = tasks.create("identity", vocabulary_size=201)
    found = read_out(identity_simplified(task), task, task.sample("test", 200, 0).tokens)
    holding = [{place for place in found.places if found.label(layer, place) != "none"} for layer in range(3)]
    assert holding == [{"key"}, {"anchor"}, set(found.places)]


class TestPlaces:
    def test_names_of_positions(self):
        task = tasks.create("working_memory", length=8)
        row = np.array([[30, 50, 1, 31, 32, 4, 33, 34]], np.int16)
        names = name_positions(find_places(task, row), 8)
        assert names.tolist() == [["before", "key", "anchor 1", "between", "between", "anchor 2", "after", "last"]]
        assert ordered_names(names) == ["before", "key", "anchor 1", "between", "anchor 2", "after", "last"]

    def test_a_role_at_the_last_position_keeps_its_name(self):
        task = tasks.create("identity")
        row = np.array([[30, 31, 32, 33, 34, 35, 36, 3, 50]], np.int16)
        assert name_positions(find_places(task, row), 9)[0].tolist() == ["before"] * 7 + ["anchor", "key"]

    @pytest.mark.parametrize("name", ["identity", "composite", "working_memory", "multi_anchor", "chain", "synonym"])
    def test_moved_rows_hold_the_same_tokens_and_roles_elsewhere(self, name):
        task = tasks.create(name)
        tokens = task.sample("test", 100, 0).tokens
        kept, moved = move_rows(task, tokens)
        assert len(kept) == len(moved) > 50
        assert (np.sort(moved, axis=1) == np.sort(tokens[kept], axis=1)).all()
        before, after = find_places(task, tokens[kept]), find_places(task, moved)
        assert (before["key"] != after["key"]).all()
        assert (task.locate(moved).key == task.locate(tokens[kept]).key).all()
        for role in set(before) - {"last"}:
            assert (after[role] - before[role] == after["key"] - before["key"]).all()

    @pytest.mark.parametrize("name", ["reading_comprehension", "classification"])
    def test_tasks_with_fixed_places_cannot_be_moved(self, name):
        task = tasks.create(name)
        with pytest.raises(InputError, match="fixes where anchors stand"):
            move_rows(task, task.sample("test", 20, 0).tokens)
