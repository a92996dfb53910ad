from collections import Counter

import numpy as np
import pytest
import torch
from small_models import small_model

from anchorlab import models, tasks
from anchorlab.analysis import NoAttentionError, find_places, mask_key, mask_second_anchor
from anchorlab.analysis.edits import EditRecord
from anchorlab.errors import InputError

pytestmark = pytest.mark.usefixtures("brief")
COMPOSITE = tasks.create("composite")


def built(task, kind="post_ln"):
    return models.build(kind, task.vocabulary.size, task.length, layers=2, width=16)


@pytest.fixture
def planted(monkeypatch):
    """Outputs under masking that are a function of the row; what was cut is kept."""
    cut = []

    def plant(of_rows):
        def outputs(model, tokens, edit, *, hidden):
            cut.append((tokens, edit, hidden))
            return torch.from_numpy(of_rows(tokens)).float(), EditRecord({(1, 1): (len(tokens), 1.0)})

        monkeypatch.setattr("anchorlab.analysis.output_geometry.outputs", outputs)
        return cut

    return plant


def one_hot(values, size=200):
    return np.eye(size)[values]


def noise(tokens):
    return np.random.Generator(np.random.Philox(key=0)).normal(scale=0.01, size=(len(tokens), 200))


def test_network_of_unordered_pairs_is_seen_as_such(planted):
    def of_rows(tokens):
        anchors = COMPOSITE.locate(tokens).anchors.astype(int)
        return one_hot(anchors.sum(axis=1) % 200) + one_hot(anchors.prod(axis=1) % 199) + noise(tokens)

    cut = planted(of_rows)
    found = mask_key(built(COMPOSITE), COMPOSITE, 3).clusters
    assert found.symmetric_merging == pytest.approx(1, abs=0.05)
    assert found.unordered_separation > 0.8
    assert len(found.names) == 16
    ((tokens, edit, hidden),) = cut
    places = find_places(COMPOSITE, tokens)
    assert hidden
    assert not edit.renormalise
    assert edit.layers is None
    rows = np.arange(len(tokens))
    assert edit.edges.sum() == edit.edges[rows, :, places["key"]].sum() == len(tokens) * (COMPOSITE.length - 1)


def test_network_of_ordered_pairs_is_seen_as_such(planted):
    planted(lambda tokens: one_hot(COMPOSITE.locate(tokens).anchors.astype(int) @ [7, 31] % 200) + noise(tokens))
    found = mask_key(built(COMPOSITE), COMPOSITE, 3).clusters
    assert found.symmetric_merging < 0.2
    assert found.separation > 0.8


@pytest.mark.parametrize("order", ["left_to_right", "right_to_left"])
def test_first_result_is_seen_where_it_is_worked_out(planted, order):
    task = tasks.create("composite", order=order)
    first, last = (0, 1) if order == "left_to_right" else (1, 0)
    shifts = {task.vocabulary.anchors[name]: shift for name, shift in {"a": 5, "b": 1, "c": -2, "d": -8}.items()}

    def of_rows(tokens):
        found = task.locate(tokens)
        return one_hot([key + shifts[a] for key, a in zip(found.key.tolist(), found.anchors[:, first], strict=True)])

    cut = planted(of_rows)
    similarity = mask_second_anchor(built(task), task, 3).similarity
    assert similarity.within == pytest.approx(1)
    assert similarity.between == pytest.approx(0)
    ((tokens, edit, _),) = cut
    hidden = find_places(task, tokens)[f"anchor {last + 1}"]
    assert (hidden < task.length - 1).all()
    assert edit.edges[np.arange(len(tokens)), -1, hidden].all()
    found = task.locate(tokens)
    assert len(set(zip(found.key.tolist(), found.anchors[:, first].tolist(), strict=True))) == len(tokens)


def test_pairs_looked_up_as_a_whole_show_no_first_result(planted):
    planted(lambda tokens: np.random.Generator(np.random.Philox(key=1)).normal(size=(len(tokens), 50)))
    similarity = mask_second_anchor(built(COMPOSITE), COMPOSITE, 3).similarity
    assert abs(similarity.within - similarity.between) <= similarity.chance


@pytest.mark.parametrize("kind", ["gpt2", "post_ln"])
def test_real_masking_removes_weight_and_repeats(kind):
    one, two = (mask_key(built(COMPOSITE, kind), COMPOSITE, 3, per_pair=6) for _ in range(2))
    assert one.record.mass > 0
    assert one.record.table().equals(two.record.table())
    assert np.array_equal(one.clusters.projection.coordinates, two.clusters.projection.coordinates)


@pytest.mark.parametrize(
    ("settings", "mask", "role"),
    [
        ({"key_positions": (6, 6)}, mask_second_anchor, "anchor 2"),
        ({"length": 3}, mask_second_anchor, "anchor 2"),
        ({"key_side": "after", "key_positions": (8, 8)}, mask_key, "key"),
    ],
)
def test_token_that_always_stands_last_cannot_be_hidden(settings, mask, role):
    task = tasks.create("composite", **settings)
    with pytest.raises(InputError, match=f"the {role} is always the last token, where nothing hides it"):
        mask(built(task), task, 0)


def test_pairs_keep_their_names_where_some_rows_cannot_be_used(planted):
    """With the key behind the anchors it stands last in some rows, which are left out."""
    task = tasks.create("composite", key_side="after")
    planted(lambda tokens: one_hot(task.locate(tokens).anchors.astype(int) @ [7, 31] % 200) + noise(tokens))
    found = mask_key(built(task), task, 3).clusters
    assert found.separation > 0.8
    assert len(found.members) < 16 * 50


def test_of_many_pairs_fewer_rows_each_are_taken(planted, monkeypatch):
    monkeypatch.setattr("anchorlab.analysis.output_geometry.pair_clusters", lambda outputs, pairs, **_: Counter(pairs))
    planted(lambda tokens: np.zeros((len(tokens), 2)))
    anchors = "abcdefghijkl"
    task = tasks.create("composite", operations={name: f"add:{n}" for n, name in enumerate(anchors)}, held_out=())
    found = mask_key(built(task), task, 0)
    assert len(found.clusters) == 144
    assert max(found.clusters.values()) == 1000 // 144
    assert set(found.by_tsne.values()) == {5}


def test_tsne_shows_rows_of_every_pair(planted):
    planted(lambda tokens: one_hot(COMPOSITE.locate(tokens).anchors.astype(int) @ [7, 31] % 200) + noise(tokens))
    found = mask_key(built(COMPOSITE), COMPOSITE, 3).by_tsne
    assert found.projection.method == "tsne"
    assert np.bincount(found.members).tolist() == [300 // 16] * 16


def test_tasks_and_models_without_what_is_needed_are_refused():
    identity = tasks.create("identity")
    for mask in (mask_key, mask_second_anchor):
        with pytest.raises(InputError, match="its rows do not hold two anchors"):
            mask(small_model("gpt2"), identity, 0)
    several = tasks.create("composite", offsets=(-1, 2), overrides={"a,b": "sum"})
    with pytest.raises(InputError, match=r"there is no g\(x; a1\)"):
        mask_second_anchor(built(several), several, 0)
    lstm = models.build("lstm", COMPOSITE.vocabulary.size, COMPOSITE.length, layers=1, width=8)
    for mask in (mask_key, mask_second_anchor):
        with pytest.raises(NoAttentionError):
            mask(lstm, COMPOSITE, 0)
