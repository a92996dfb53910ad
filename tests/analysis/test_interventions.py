import numpy as np
import pandas as pd
import pytest
import torch
from hand_built import identity_gpt2, identity_simplified
from small_models import FAMILIES, HEADS, LAYERS, small_model

from anchorlab import models, tasks
from anchorlab.analysis.edits import AttentionEdit, outputs
from anchorlab.analysis.interventions import COMPONENTS, Counterparts, ablate_heads, ablate_neurons, counterparts, patch
from anchorlab.analysis.path import _on_path, path_graph
from anchorlab.errors import InputError

IDENTITY = tasks.create("identity")
ROOMY = tasks.create("identity", vocabulary_size=201)


@pytest.fixture(scope="module")
def shifting():
    model = identity_gpt2(IDENTITY, heads=3, working=(2, 1))
    return model, counterparts(model, IDENTITY, IDENTITY.sample("test", 60, 0).tokens)


@pytest.fixture(scope="module")
def simplified():
    model = identity_simplified(ROOMY)
    return model, counterparts(model, ROOMY, ROOMY.sample("test", 60, 0).tokens)


@pytest.fixture(scope="module")
def graph(shifting):
    return path_graph(*shifting)


@pytest.fixture(scope="module")
def effects(shifting):
    return patch(*shifting).table.set_index(["component", "layer", "place"])["effect"]


def random_pairs(rows=6):
    """Pairs for a model that knows no task: what counts is how the numbers come about."""
    generator = np.random.Generator(np.random.Philox(key=0))
    tokens, others = generator.integers(0, 40, (2, rows, 9))
    answers = generator.integers(0, 20, rows)
    return Counterparts(tokens, others, answers, answers + 10, np.array([["key"] * 8 + ["last"]] * rows, object), rows)


def test_counterparts_differ_in_the_key_alone(shifting):
    model, pairs = shifting
    found = IDENTITY.locate(pairs.tokens)
    rows = np.arange(len(pairs.tokens))
    changed = pairs.tokens != pairs.others
    assert (changed.sum(axis=1) == 1).all()
    assert changed[rows, found.key_position].all()
    assert (IDENTITY.solve(pairs.tokens) == pairs.answers).all()
    assert (IDENTITY.solve(pairs.others) == pairs.other_answers).all()
    assert (pairs.names[:, -1] == "last").all()
    with torch.no_grad():
        logits = model(input_ids=torch.from_numpy(pairs.tokens.astype(int))).logits[:, -1]
    numbers = zip(logits, pairs.answers, pairs.other_answers, strict=True)
    expected = [float(row[one] - row[other]) for row, one, other in numbers]
    assert pairs.difference(logits) == pytest.approx(expected)
    assert (pairs.difference(logits) > 9).all()


def test_the_key_carries_the_answer_until_layer_two_moves_it(effects):
    assert effects["residual stream", 1, "key"] == pytest.approx(1, abs=0.01)
    assert effects["attention output", 2, "last"] == pytest.approx(1, abs=0.01)
    assert effects["residual stream", 2, "last"] == pytest.approx(1, abs=0.01)
    assert set(effects.index.get_level_values("component")) == set(COMPONENTS)
    others = effects.drop(
        [("residual stream", 1, "key"), ("attention output", 2, "last"), ("residual stream", 2, "last")]
    )
    assert (others.abs() < 0.01).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_patching_every_position_of_a_stream_restores_everything(family):
    model, pairs = small_model(family), random_pairs()
    found = patch(model, pairs).table
    last = found[(found["component"] == "residual stream") & (found["layer"] == LAYERS)].set_index("place")["effect"]
    assert last["last"] == pytest.approx(1, abs=1e-4)
    assert last["key"] == pytest.approx(0, abs=1e-4)


def test_ablation_finds_the_working_heads(shifting):
    found = ablate_heads(*shifting).table.set_index(["layer", "head"])
    working = [(1, 3), (2, 2)]
    assert (found.loc[working, "effect"] > 0.5).all()
    assert (found.loc[working, "accuracy"] < 0.4).all()
    idle = found.drop(working)
    assert idle["effect"].to_numpy() == pytest.approx(0, abs=1e-6)
    assert (idle["accuracy"] == 1).all()


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "simplified"])
def test_ablated_head_is_its_part_of_the_output_projection(family):
    """The oracle puts the mean into the input of the matrix behind the heads, found in the family's own module."""
    model, pairs = small_model(family), random_pairs()
    found = ablate_heads(model, pairs).table
    assert len(found) == LAYERS * HEADS
    names = ("c_proj", "o_proj", "dense")
    (matrix,) = [m for n, m in model.named_modules() if n.split(".")[-1] in names and ".1." in n and "mlp" not in n]
    tokens = torch.from_numpy(pairs.tokens)

    def ablate(module, inputs):
        width = inputs[0].shape[-1] // HEADS
        changed = inputs[0].clone()
        changed[..., 2 * width : 3 * width] = changed[..., 2 * width : 3 * width].mean(dim=0)
        return (changed,)

    with torch.no_grad():
        intact = pairs.difference(model(input_ids=tokens).logits[:, -1]).mean()
        handle = matrix.register_forward_pre_hook(ablate)
        ablated = pairs.difference(model(input_ids=tokens).logits[:, -1]).mean()
        handle.remove()
    effect = found.set_index(["layer", "head"]).loc[(2, 3), "effect"]
    assert effect == pytest.approx(1 - ablated / intact, abs=2e-4, rel=1e-3)


def test_ablated_neurons_are_their_part_of_the_matrix_behind_them():
    model, pairs = small_model("post_ln"), random_pairs()
    tokens = torch.from_numpy(pairs.tokens)
    group = [(2, 0), (2, 5), (1, 3)]
    found = ablate_neurons(model, pairs, {"some": group, "none": []}).table.set_index("group")
    assert found.loc["none", "effect"] == pytest.approx(0, abs=1e-6)
    means = []

    def keep_mean(module, inputs):
        means.append(torch.relu(module.up_proj(inputs[0])).mean(0))

    handles = [block.mlp.register_forward_pre_hook(keep_mean) for block in model.layers]
    with torch.no_grad():
        intact = pairs.difference(model(input_ids=tokens).logits[:, -1]).mean()
        for handle in handles:
            handle.remove()
        for layer, number in group:
            mlp = model.layers[layer - 1].mlp

            def replace(module, inputs, output, layer=layer, number=number, mlp=mlp):
                neuron = torch.relu(mlp.up_proj(inputs[0]))[..., number]
                change = means[layer - 1][:, number] - neuron
                return output + change[..., None] * mlp.down_proj.weight[:, number]

            mlp.register_forward_hook(replace)
        ablated = pairs.difference(model(input_ids=tokens).logits[:, -1]).mean()
    assert found.loc["some", "effect"] == pytest.approx(1 - ablated / intact, abs=1e-4)
    assert found.loc["some", "neurons"] == 3


def test_path_of_the_hand_built_gpt2_is_shift_then_broadcast(graph):
    assert graph.path[["layer", "source", "target"]].to_numpy().tolist() == [[1, "anchor", "key"], [2, "key", "last"]]
    assert (graph.path["effect"] > 0.5).all()
    assert (graph.edges.loc[~graph.edges["on_path"], "effect"] < 0.01).all()


def test_path_of_the_simplified_model_goes_by_the_anchor(simplified):
    path = path_graph(*simplified).path
    edges = path[["layer", "source", "target"]].to_numpy().tolist()
    assert [1, "key", "anchor"] in edges
    assert [2, "anchor", "last"] in edges
    assert [2, "key", "last"] not in edges


def test_model_that_answers_nothing_right_is_refused():
    model = models.build("gpt2", IDENTITY.vocabulary.size, IDENTITY.length, layers=1, heads=1, width=8)
    with pytest.raises(InputError, match=r"answers 0 of \d+ pairs of rows right; at least 20 are needed"):
        counterparts(model, IDENTITY, IDENTITY.sample("test", 50, 0).tokens)


class Perfect(models.PostLNForCausalLM):
    """Answers every row of a task right."""

    def __init__(self, task):
        super().__init__(models.build("post_ln", task.vocabulary.size, task.length, layers=1, heads=1, width=8).config)
        self.task = task

    def forward(self, input_ids, **options):
        output = super().forward(input_ids, **options)
        answers = torch.from_numpy(self.task.solve(input_ids.numpy().astype(np.int16)).astype(np.int64))
        output.logits = torch.nn.functional.one_hot(answers, output.logits.shape[-1]).float()[:, None]
        return output


@pytest.mark.parametrize("name", tasks.names())
@pytest.mark.parametrize("seed", [0, 1])
def test_every_task_has_counterparts(name, seed):
    task = tasks.create(name)
    tokens = task.sample("test", 200, seed).tokens
    pairs = counterparts(Perfect(task), task, tokens)
    assert len(pairs.tokens) == pairs.drawn > 100
    assert (task.solve(pairs.tokens) == pairs.answers).all()
    assert (task.solve(pairs.others) == pairs.other_answers).all()
    assert (pairs.answers != pairs.other_answers).all()
    assert ((pairs.tokens != pairs.others).sum(axis=1) == 1).all()


def test_effects_tell_how_many_pairs_count(shifting):
    model, pairs = shifting
    found = ablate_heads(model, pairs)
    assert (found.pairs, found.drawn) == (len(pairs.tokens), pairs.drawn)


class TestPath:
    """Rows of the table are (layer, source, target, effect)."""

    @pytest.mark.parametrize(
        ("rows", "expected"),
        [
            ([(1, "key", "after", 1.0), (2, "after", "last", 1.0)], [True, True]),
            ([(2, "key", "after", 1.0), (1, "after", "last", 1.0)], [False, False]),
            ([(1, "key", "after", 1.0), (1, "after", "last", 1.0)], [False, False]),
            ([(1, "key", "last", 1.0), (2, "anchor 1", "key", 1.0)], [True, False]),
            ([(1, "before", "last", 1.0)], [False]),
            ([(1, "key", "anchor 2", 1.0)], [False]),
            ([(1, "key", "last", 0.09)], [False]),
            ([(1, "anchor 1", "key", 0.2), (2, "key", "last", 0.1)], [True, True]),
        ],
    )
    def test_an_edge_is_on_it_if_it_comes_from_a_role_and_leads_to_the_end(self, rows, expected):
        table = pd.DataFrame(rows, columns=["layer", "source", "target", "effect"])
        assert _on_path(table, 0.1, {"last"}) == expected

    def test_cut_edges_are_renormalised(self, shifting, graph):
        """An even head has two sources left of three: nothing changes but through the one that is cut."""
        model, pairs = shifting
        edges = (pairs.names == "key")[:, :, None] & (pairs.names == "anchor")[:, None, :]
        logits, _ = outputs(model, pairs.tokens, AttentionEdit(edges, (1,), renormalise=True))
        found = graph.edges.set_index(["layer", "source", "target"])["effect"]
        assert found[1, "anchor", "key"] == pytest.approx(pairs.lost(pairs.difference(plain(model, pairs)), logits)[0])


def plain(model, pairs):
    return outputs(model, pairs.tokens)[0]


def test_task_whose_answer_does_not_change_is_refused():
    task = tasks.create("multi_anchor")
    tokens = np.repeat(task.sample("test", 1, 0).tokens, 4, axis=0)
    model = models.build("gpt2", task.vocabulary.size, task.length, layers=1, heads=1, width=8)
    with pytest.raises(InputError, match="in 4 rows no other key makes a row with another answer"):
        counterparts(model, task, tokens)


def test_neurons_that_do_not_exist_are_refused(simplified):
    with pytest.raises(InputError, match="has no feed-forward neurons"):
        ablate_neurons(*simplified, {"one": [(1, 0)]})
    with pytest.raises(InputError, match="'one' has neuron 3 of layer 9, which the model does not have"):
        ablate_neurons(small_model("gpt2"), random_pairs(), {"one": [(9, 3)]})
