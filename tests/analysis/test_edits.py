import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import FAMILIES, HEADS, LAYERS, LENGTH, OWN, random_rows, small_model

from anchorlab import models, tasks
from anchorlab.analysis.attention import record_attention, visible_sources
from anchorlab.analysis.attention_hooks import AttentionHook, NoAttentionError, hooked_attention
from anchorlab.analysis.edits import AttentionEdit, NeverFired, edited_attention, outputs, select_edges
from anchorlab.analysis.places import find_places
from anchorlab.errors import InputError

ROWS = 6
WINDOW = 3  # of the mistral and gemma2 models


def logits(model, rows):
    with torch.no_grad():
        return model(input_ids=rows).logits


def from_position(position):
    edges = np.zeros((1, LENGTH, LENGTH), bool)
    edges[:, position + 1 :, position] = True
    return edges


@pytest.mark.parametrize("family", FAMILIES)
def test_hooked_attention_is_eager_attention(family):
    model, rows = small_model(family), random_rows(ROWS)
    before = logits(model, rows)
    with hooked_attention(model, AttentionHook()):
        assert torch.allclose(logits(model, rows), before, atol=2e-5, rtol=1e-5)
    assert model.config._attn_implementation == "eager"
    assert torch.equal(logits(model, rows), before)


@pytest.mark.parametrize("family", FAMILIES)
def test_hooks_see_the_weights_that_the_model_returns(family):
    class Keep(AttentionHook):
        def __init__(self):
            self.kept = {}

        def weights(self, layer, value, weights):
            self.kept[layer] = weights
            return weights

    model, rows = small_model(family), random_rows(ROWS)
    with torch.no_grad():
        returned = model(input_ids=rows, output_attentions=True).attentions
        with hooked_attention(model, keep := Keep()):
            model(input_ids=rows)
    assert len(keep.kept) == LAYERS
    for layer, weights in keep.kept.items():
        assert torch.allclose(weights, returned[layer], atol=1e-6)


def test_model_whose_source_cannot_be_read_is_hooked():
    """As in a notebook, where transformers refuses to set an attention implementation, and only warns."""
    namespace = {}
    exec("class FromNowhere(base):\n    pass", {"base": models.PostLNForCausalLM, "__name__": "nowhere"}, namespace)
    model = namespace["FromNowhere"](small_model("post_ln").config).eval()
    with edited_attention(model, AttentionEdit(from_position(1))) as record:
        logits(model, random_rows(2))
    assert record.fired > 0


def test_attention_that_ignores_the_interface_is_refused():
    model = small_model("post_ln")
    for layer in model.layers:
        layer.self_attn.forward = lambda hidden, mask, **kwargs: (hidden, None)
    with pytest.raises(NoAttentionError, match="does not use Hugging Face's AttentionInterface"):
        next(record_attention(model, random_rows(2).numpy()))
    with pytest.raises(NeverFired):
        outputs(model, random_rows(2).numpy(), AttentionEdit(from_position(1)))


def test_attention_implementation_is_restored_after_an_error():
    model = small_model("gpt2")
    with pytest.raises(RuntimeError, match="stop"), hooked_attention(model, AttentionHook()):
        raise RuntimeError("stop")
    assert model.config._attn_implementation == "eager"


@pytest.mark.parametrize("family", FAMILIES)
@given(position=st.integers(0, LENGTH - 2), seed=st.integers(0, 50), data=st.data())
@settings(max_examples=8, deadline=None)
def test_output_does_not_depend_on_a_token_that_is_masked_everywhere(family, position, seed, data):
    model, rows = small_model(family, seed), random_rows(ROWS, seed)
    others = rows.clone()
    others[:, position] = data.draw(st.integers(0, 39))
    edges = from_position(position) if family != "simplified" else np.arange(LENGTH)[None] == position
    edges = np.broadcast_to(edges, (1, LENGTH, LENGTH)) & ~np.eye(LENGTH, dtype=bool)
    found = [outputs(model, tokens.numpy(), AttentionEdit(edges, renormalise=True))[0] for tokens in (rows, others)]
    assert torch.allclose(found[0], found[1], atol=1e-4, rtol=1e-4)


def test_zeroing_without_renormalising_lets_the_masked_token_be_felt():
    model, rows = small_model("gpt2"), random_rows(ROWS)
    others = rows.clone()
    others[:, 3] = (rows[:, 3] + 1) % 40
    found = [outputs(model, tokens.numpy(), AttentionEdit(from_position(3)))[0] for tokens in (rows, others)]
    assert (found[0] - found[1]).abs().max() > 0.01


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("renormalise", [False, True])
def test_one_layer_edit_is_arithmetic_on_its_weights(family, renormalise):
    model, rows = small_model(family), random_rows(ROWS)

    class Keep(AttentionHook):
        def weights(self, layer, value, weights):
            self.kept = getattr(self, "kept", {}) | {layer: weights}
            return weights

    before, after = Keep(), Keep()
    edit = AttentionEdit(from_position(2), layers=(1,), heads=(1,), renormalise=renormalise)
    with torch.no_grad(), hooked_attention(model, before):
        model(input_ids=rows)
    with torch.no_grad(), edited_attention(model, edit) as record, hooked_attention(model, after):
        model(input_ids=rows)
    expected = before.kept[0].clone()
    expected[:, 0, 3:, 2] = 0
    if renormalise:
        expected[:, 0, 3:] /= expected[:, 0, 3:].sum(-1, keepdim=True)
    assert torch.allclose(after.kept[0], expected, atol=1e-6)
    removed = before.kept[0][:, 0, 3:, 2]
    assert record.fired == int((removed > 0).sum())
    assert record.mass == pytest.approx(float(removed.sum()), rel=1e-5)
    assert record.table()[["layer", "head"]].to_numpy().tolist() == [[1, 1]]


@pytest.mark.parametrize("family", ["mistral", "gemma2"])
def test_edges_outside_of_a_sliding_window_are_not_counted(family):
    model, rows = small_model(family), random_rows(ROWS)
    with edited_attention(model, AttentionEdit(from_position(0), layers=(1,))) as record:
        logits(model, rows)
    assert record.fired == ROWS * HEADS * (WINDOW - 1)


def test_outputs_do_not_depend_on_the_batch():
    task = tasks.create("composite")
    rows = task.sample("test", 50, 0)
    model = models.build("post_ln", task.vocabulary.size, task.length, layers=2, heads=2, width=16)
    edit = AttentionEdit(select_edges(find_places(task, rows.tokens), task.length, "from key"))
    whole, record = outputs(model, rows.tokens, edit)
    parts, again = outputs(model, rows.tokens, edit, batch=7)
    assert torch.allclose(whole, parts, atol=1e-5)
    assert again.fired == record.fired
    assert again.mass == pytest.approx(record.mass, rel=1e-5)


def test_words_select_the_edges_of_their_roles():
    task = tasks.create("composite")
    tokens = task.sample("test", 30, 0).tokens
    places = find_places(task, tokens)
    rows = np.arange(len(tokens))
    from_key = select_edges(places, task.length, "from key")
    assert (from_key.sum(axis=(1, 2)) == task.length - 1).all()
    assert not from_key[rows, places["key"], places["key"]].any()
    one = select_edges(places, task.length, "from key to second anchor")
    assert (one.sum(axis=(1, 2)) == 1).all()
    assert one[rows, places["anchor 2"], places["key"]].all()
    assert (select_edges(places, task.length, "to last") == select_edges(places, task.length, " to last ")).all()
    assert select_edges(places, task.length, "to last")[:, -1, :-1].all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("from fifth anchor", "edges='from fifth anchor': the rows have no 'fifth anchor'; known: key, anchor 1"),
        ("key", "must read `from ROLE`"),
        ("", "must read `from ROLE`"),
        ("from key into last", "the rows have no 'key into last'"),
    ],
)
def test_wrong_words_are_refused(words, message):
    task = tasks.create("composite")
    with pytest.raises(InputError, match=message):
        select_edges(find_places(task, task.sample("test", 3, 0).tokens), task.length, words)


def test_row_without_an_anchor_is_refused():
    task = tasks.create("composite")
    tokens = task.sample("test", 3, 0).tokens
    tokens[1] = 50
    with pytest.raises(InputError, match="row 1 does not have exactly 2 anchor"):
        find_places(task, tokens)


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "simplified"])
def test_edit_that_never_fires_raises(family):
    edges = np.zeros((1, LENGTH, LENGTH), bool)
    edges[:, 2, 5] = True  # a later position, which the mask hides
    with pytest.raises(NeverFired, match="none of them carries weight"):
        outputs(small_model(family), random_rows(2).numpy(), AttentionEdit(edges))


def test_one_of_two_edits_that_never_fires_raises():
    never = AttentionEdit(np.zeros((1, LENGTH, LENGTH), bool), layers=(2,))
    with pytest.raises(NeverFired, match="layers \\(2,\\)"):
        outputs(small_model("gpt2"), random_rows(2).numpy(), AttentionEdit(from_position(1)), never)


@pytest.mark.parametrize(("name", "value"), [("layers", (3,)), ("layers", (0,)), ("heads", (5,))])
def test_unknown_layers_and_heads_are_refused(name, value):
    with pytest.raises(InputError, match=f"{name}=\\({value[0]},\\): {value[0]} is not allowed; the model has 1 to"):
        outputs(small_model("gpt2"), random_rows(2).numpy(), AttentionEdit(from_position(1), **{name: value}))


@pytest.mark.parametrize("name", ["layers", "heads"])
@pytest.mark.parametrize("value", [(), (1, 1)])
def test_no_layers_or_heads_and_those_given_twice_are_refused(name, value):
    with pytest.raises(InputError, match="must name at least one, and none twice; None means all"):
        outputs(small_model("gpt2"), random_rows(2).numpy(), AttentionEdit(from_position(1), **{name: value}))


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_are_those_behind_the_last_layer(family):
    model, rows = small_model(family), random_rows(ROWS)
    with torch.no_grad():
        expected = model(input_ids=rows, output_hidden_states=True).hidden_states[-1][:, -1]
    assert torch.allclose(outputs(model, rows.numpy(), hidden=True)[0], expected, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_visible_sources_are_those_that_can_have_weight(family):
    model = small_model(family)
    (found,) = record_attention(model, random_rows(ROWS).numpy())
    seen = (found.weights > 0).any(dim=0).any(dim=1)
    assert torch.equal(seen, visible_sources(model, LENGTH).expand(LAYERS, -1, -1))


def test_edges_of_another_shape_are_refused():
    with pytest.raises(InputError, match="does not fit"):
        outputs(small_model("gpt2"), random_rows(2).numpy(), AttentionEdit(np.ones((1, 4, 4), bool)))
    with pytest.raises(InputError, match="edges: 2 rows given for 3 rows of tokens"):
        outputs(small_model("gpt2"), random_rows(3).numpy(), AttentionEdit(np.ones((2, LENGTH, LENGTH), bool)))
    model = small_model("gpt2")
    with (
        pytest.raises(InputError, match="does not fit"),
        edited_attention(model, AttentionEdit(np.ones((2, LENGTH, LENGTH), bool))),
    ):
        logits(model, random_rows(3))


@pytest.mark.parametrize("name", ["lstm", "fnn"])
def test_model_without_attention_is_refused(name):
    model = models.build(name, 40, LENGTH, layers=1, width=8)
    with pytest.raises(NoAttentionError, match="has no attention"):
        outputs(model, random_rows(2).numpy(), AttentionEdit(from_position(1)))


@pytest.mark.parametrize("family", OWN)
def test_unedited_outputs_are_the_models(family):
    model, rows = small_model(family), random_rows(ROWS)
    found, record = outputs(model, rows.numpy())
    assert torch.equal(found, logits(model, rows)[:, -1])
    assert record.fired == 0
