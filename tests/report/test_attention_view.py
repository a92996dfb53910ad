import base64
import json
from dataclasses import dataclass
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import Environment, FunctionLoader

from anchorlab.analysis import Example
from anchorlab.errors import InputError
from anchorlab.report.attention_view import attention_view, pack_attention
from anchorlab.report.templates import resource


@dataclass(frozen=True)
class History:
    example: Example
    steps: tuple[int, ...]
    weights: np.ndarray
    masked: bool = True


def history(steps=1, layers=1, heads=1, tokens=4, *, masked=True, seed=0, names=None):
    """Rows that sum to 1, in float32; a few weights of a row hold most of it."""
    shape = (steps, layers, heads, tokens, tokens)
    weights = (0.01 + np.random.Generator(np.random.Philox(seed)).random(shape, dtype=np.float32)) ** 8
    if masked:
        weights *= np.tri(tokens, dtype=np.float32)
    weights /= weights.sum(-1, keepdims=True)
    names = names or tuple(str(number) for number in range(tokens))
    example = Example("ood", "a,b", tuple(names), ("key",) + ("",) * (tokens - 1), "1", "1", 0.9, 0.9)
    return History(example, tuple(range(0, 10 * steps, 10)), weights, masked)


def unpacked(view):
    """The weights that a reader of the page's data gets, 0 where an edge was left out."""
    data = json.loads(str(view.data))
    tokens = len(data["tokens"])
    shape = (len(data["steps"]), data["layers"], data["heads"], tokens, data["edges"])
    held = np.frombuffer(base64.b64decode(data["weights"]), np.uint8).reshape(shape) / 255
    if data["sources"] is None:
        return held
    sources = np.frombuffer(base64.b64decode(data["sources"]), f"<u{data['source_bytes']}").reshape(shape)
    weights = np.zeros((*shape[:-1], tokens))
    np.put_along_axis(weights, sources.astype(int), held, axis=-1)
    return weights


@given(
    st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(1, 12), st.booleans(), st.integers(0, 2**32)
)
@settings(max_examples=50, deadline=None)
def test_weights_come_back_within_half_a_level(steps, layers, heads, tokens, masked, seed):
    recorded = history(steps, layers, heads, tokens, masked=masked, seed=seed)
    assert unpacked(attention_view(recorded)) == pytest.approx(recorded.weights, abs=1 / 510 + 1e-7, rel=0)


def test_small_networks_keep_everything():
    recorded = history(20, 2, 1, 9)
    packed = pack_attention(recorded, budget=5_000_000, most_checkpoints=60)
    assert packed.weights.shape == recorded.weights.shape
    assert packed.sources is None
    assert packed.steps == recorded.steps
    assert packed.left_out == 0
    note = attention_view(recorded).note
    assert "at most 1/510 off" in note
    assert "largest" not in note
    assert "checkpoints" not in note


@pytest.mark.parametrize(("tokens", "budget"), [(40, 4_000), (300, 20_000)])
def test_what_is_kept_are_the_largest_edges(tokens, budget):
    recorded = history(1, 2, 2, tokens)
    packed = pack_attention(recorded, budget=budget, most_checkpoints=60)
    edges = packed.weights.shape[-1]
    assert 0 < edges < tokens
    descending = -np.sort(-recorded.weights, axis=-1)
    assert -np.sort(-packed.weights.astype(int)) == pytest.approx(255 * descending[..., :edges], abs=0.5 + 1e-4)
    assert packed.left_out == pytest.approx(descending[..., edges:].sum(-1).max(), rel=1e-4)
    rebuilt = unpacked(attention_view(recorded, budget=budget))
    kept = rebuilt > 0
    assert rebuilt[kept] == pytest.approx(recorded.weights[kept], abs=1 / 510 + 1e-6, rel=0)
    note = attention_view(recorded, budget=budget).note
    assert f"only the {edges} largest of {tokens} weights" in note
    assert f"sum to at most {packed.left_out:.2g}." in note


@given(st.integers(1, 12), st.integers(1, 3), st.integers(1, 40), st.integers(2_000, 60_000))
@settings(max_examples=60, deadline=None)
def test_budget_is_met_and_used(steps, layers, tokens, budget):
    recorded = history(steps, layers, 2, tokens)
    data = json.loads(str(attention_view(recorded, budget=budget).data))
    used = len(data["weights"]) + len(data["sources"] or "")
    assert used <= budget
    queries = len(data["steps"]) * layers * 2 * tokens
    if data["edges"] < tokens:
        assert 4 / 3 * 2 * queries * (data["edges"] + 1) + 20 > budget  # one edge more would be too much
        assert data["edges"] >= min(8, tokens) or len(data["steps"]) <= 2
    else:
        assert data["sources"] is None


def test_checkpoints_are_thinned_evenly_with_first_and_last():
    recorded = history(500, tokens=3)
    packed = pack_attention(recorded, budget=5_000_000, most_checkpoints=60)
    places = [recorded.steps.index(step) for step in packed.steps]
    assert len(places) == 60
    assert (places[0], places[-1]) == (0, 499)
    assert set(np.diff(places)) == {8, 9}
    for index, place in enumerate(places):
        assert packed.weights[index] == pytest.approx(255 * recorded.weights[place], abs=0.501)
    assert "60 of 500 recorded checkpoints" in attention_view(recorded).note


def test_checkpoints_are_recordedup_before_edges():
    recorded = history(40, 2, 2, 30)
    packed = pack_attention(recorded, budget=30_000, most_checkpoints=60)
    assert packed.weights.shape[-1] >= 8
    assert 2 <= len(packed.steps) < 40
    assert (packed.steps[0], packed.steps[-1]) == (recorded.steps[0], recorded.steps[-1])
    tighter = pack_attention(recorded, budget=2_000, most_checkpoints=60)
    assert len(tighter.steps) == 2
    assert 1 <= tighter.weights.shape[-1] < 8


def test_large_network_fits_into_a_page():
    view = attention_view(history(1, 32, 32, 128))
    macro = Environment(loader=FunctionLoader(resource), autoescape=True).get_template("attention.html").module
    part = macro.attention_view(view, "data:,", "Attention.")
    assert len(part) + len(resource("attention.js")) + len(resource("attention.css")) < 5_100_000
    assert json.loads(str(view.data))["edges"] >= 8


class Elements(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found, self.texts, self.inside = [], {}, ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)
        self.inside = tag

    def handle_data(self, data):
        self.texts[self.inside] = self.texts.get(self.inside, "") + data


def test_token_names_cannot_leave_their_script_block():
    names = ("</script><img src=x>", "<!--<script>", '"&amp;\\', "\u2028▁é")
    view = attention_view(history(tokens=4, names=names))
    elements = Elements(f"<script>{view.data}</script>")
    assert elements.found == ["script"]
    assert tuple(json.loads(elements.texts["script"])["tokens"]) == names


def test_note_tells_what_a_position_sees():
    assert "itself and earlier positions" in attention_view(history()).note
    assert "later ones too" in attention_view(history(masked=False)).note


def changed(**fields):
    return History(**(vars(history(2)) | fields))


@pytest.mark.parametrize(
    ("recorded", "match"),
    [
        (changed(steps=(0,)), r"weights=\(2, 1, 1, 4, 4\): the shape must be \(1, layers, heads, 4, 4\)"),
        (changed(weights=history(2, tokens=5).weights), r"weights=\(2, 1, 1, 5, 5\)"),
        (changed(weights=np.zeros((2, 1, 4, 4))), r"weights=\(2, 1, 4, 4\)"),
        (changed(weights=np.zeros((2, 0, 1, 4, 4))), r"weights=\(2, 0, 1, 4, 4\)"),
        (changed(steps=(5, 5)), r"steps=\(5, 5\): must be one or more training steps in ascending order"),
        (changed(steps=()), r"steps=\(\)"),
        (changed(weights=history(2).weights * 2), "weights=0 to 2: attention weights lie between 0 and 1"),
        (changed(weights=-history(2).weights), "weights=-1 to"),
        (changed(weights=history(2).weights * np.nan), "weights=nan"),
        (changed(weights=history(2, masked=False).weights), "masked=True: some weights on later positions"),
    ],
)
def test_wrong_input_is_refused(recorded, match):
    with pytest.raises(InputError, match=match):
        attention_view(recorded)


def test_settings_that_hold_nothing_are_refused():
    with pytest.raises(InputError, match="budget=10: too few bytes for 8 queries"):
        attention_view(history(8), budget=10)
    with pytest.raises(InputError, match="most_checkpoints=1: must be at least 2"):
        attention_view(history(8), most_checkpoints=1)
