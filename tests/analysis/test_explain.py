import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anchorlab import models, tasks
from anchorlab.analysis import analyses, explain, fresh_row_seed
from anchorlab.analysis.commutativity import overall
from anchorlab.analysis.pairs import TaskPairs, task_pairs
from anchorlab.errors import InputError

pytestmark = pytest.mark.usefixtures("brief")
SAMPLES = 300
NO_HISTORY = {"learning_speed", "condensation_history"}  # of runs that exist in memory only
CAUSAL = {"patching", "ablation", "path"}  # of a network that answers nothing right
ATTENTION = {"attention", "heads", "key_masked", "second_anchor_masked", "condensation"}


@pytest.mark.parametrize(
    ("rule", "phase", "classes", "commutes"),
    [
        ("rule", 3, (1, 0, 0), 1),
        ("symmetric", 2, (0, 1, 0), 1),
        ("per order", 2, (0, 0, 1), 0),
    ],
)
def test_known_answers_are_explained_rightly(composite, planned, held_run, rules, rule, phase, classes, commutes):
    found = explain(held_run(planned(composite, rules[rule]), composite), samples=SAMPLES)
    assert found.phase.number == phase
    assert found.phase.id_accuracy == 1
    total = found.answer_classes.iloc[-1]
    assert (total["inferential"], total["symmetric"], total["other"]) == classes
    assert overall(found.commutativity, unseen_only=True) == commutes
    assert found.pair_matrix.mean(unseen=False) == 1
    assert found.pair_matrix.mean(unseen=True) == classes[0]
    assert found.pair_matrix.unseen.sum() == 2
    assert set(found.absent) == NO_HISTORY


def test_deviation_of_a_systematic_error(composite, planned, held_run, rules):
    found = explain(held_run(planned(composite, rules["symmetric"]), composite), only=["deviations"], samples=SAMPLES)
    assert found.deviations["deviation"].tolist() == [3]
    assert found.deviations["fraction"].tolist() == [1]


def test_random_answers_are_phase_one(composite, planned, held_run, rules):
    only = ["phase", "answer_classes", "commutativity"]
    found = explain(held_run(planned(composite, rules["random"]), composite), only=only, samples=SAMPLES)
    assert found.phase.number == 1
    assert found.answer_classes.iloc[-1]["other"] > 0.9
    assert overall(found.commutativity, unseen_only=False) < 0.1


def test_answer_trained_for_the_other_order_is_symmetric(planned, held_run):
    task = tasks.create("composite", preset="arxiv-2405.05409")
    first, second = task.vocabulary.anchors["4"], task.vocabulary.anchors["3"]

    def merges_the_orders(tokens: np.ndarray) -> np.ndarray:
        located = task.locate(tokens)
        unseen = (located.anchors == [first, second]).all(axis=1)
        return np.where(unseen, located.key - 6, task.solve(tokens))

    only = ["answer_classes", "commutativity"]
    found = explain(held_run(planned(task, merges_the_orders), task), only=only, samples=SAMPLES)
    assert found.answer_classes["pair"].tolist() == ["4,3", "all"]
    assert found.answer_classes["symmetric"].tolist() == [1, 1]
    follows = explain(held_run(planned(task, task.solve), task), only=only, samples=SAMPLES)
    assert follows.answer_classes["inferential"].tolist() == [1, 1]
    assert follows.commutativity.set_index("pair").loc["3,4", "fraction"] == 0


def test_examples_show_key_anchors_and_answer(composite, planned, held_run, rules):
    only = ["examples", "attention"]
    found = explain(held_run(planned(composite, rules["rule"]), composite), only=only, samples=10)
    assert [example.split for example in found.examples] == ["test", "ood"]
    for example in found.examples:
        marked = {role: token for token, role in zip(example.tokens, example.roles, strict=True) if role}
        assert set(marked) == {"key", "anchor 1", "anchor 2"}
        shift = {"a": 5, "b": 1, "c": -2, "d": -8}
        assert int(example.label) == int(marked["key"]) + shift[marked["anchor 1"]] + shift[marked["anchor 2"]]
        assert example.group == f"{marked['anchor 1']},{marked['anchor 2']}"
        assert example.correct
        assert example.probability == example.label_probability > 0.5
    assert found.attention.example == found.examples[-1]
    assert found.attention.weights.shape == (1, 2, 1, 9, 9)
    assert found.attention.steps == (0,)
    assert found.attention.masked
    assert np.allclose(found.attention.trained.sum(axis=-1), 1, atol=1e-5)


def test_heads_are_tested_by_moving_the_anchors(composite, held_run):
    model = models.build("post_ln", composite.vocabulary.size, composite.length, layers=1, heads=1, width=8)
    assert len(explain(held_run(model, composite), only=["heads"], samples=50).heads.moving)
    fixed = tasks.create("classification")
    model = models.build("post_ln", fixed.vocabulary.size, fixed.length, layers=1, heads=1, width=8)
    assert not len(explain(held_run(model, fixed), only=["heads"], samples=50).heads.moving)


def test_run_whose_model_does_not_fit_its_task_is_refused(composite, held_run):
    for size, length in ((20, composite.length), (composite.vocabulary.size, 4)):
        model = models.build("post_ln", size, length, layers=1, heads=1, width=8)
        with pytest.raises(InputError, match="do not belong together"):
            explain(held_run(model, composite))


@pytest.mark.parametrize("samples", [0, -1, 10**9])
def test_number_of_samples_is_checked(samples, composite, held_run):
    model = models.build("post_ln", composite.vocabulary.size, composite.length, layers=1, heads=1, width=8)
    with pytest.raises(InputError, match="must be 1 to 1,000,000"):
        explain(held_run(model, composite), samples=samples)


def test_same_seed_same_explanation(composite, held_run):
    model = models.build("post_ln", composite.vocabulary.size, composite.length, layers=1, heads=1, width=8)
    only = ["accuracy", "commutativity", "examples"]
    one, two = (explain(held_run(model, composite), only=only, samples=50, seed=4) for _ in range(2))
    assert one.accuracy.equals(two.accuracy)
    assert one.commutativity.equals(two.commutativity)
    assert one.examples == two.examples
    assert one.parameters == model.num_parameters()


@pytest.mark.parametrize("name", tasks.names())
def test_every_task_is_explained_or_says_what_is_absent(name, held_run):
    task = tasks.create(name)
    model = models.build("post_ln", task.vocabulary.size, task.length, layers=1, heads=1, width=8)
    found = explain(held_run(model, task), samples=40)
    assert set(found.accuracy["split"]) == set(task.splits) - {"train"}
    for section in set(analyses()) - {"examples"}:
        assert (getattr(found, section) is None) == (section in found.absent)
    assert (found.phase is not None) == ("ood" in task.splits)


@pytest.mark.parametrize("name", models.names())
def test_every_architecture_is_explained(name, composite, held_run):
    shape = {} if name == "simplified" else {"layers": 2, "width": 16}
    model = models.build(name, composite.vocabulary.size, composite.length, **shape)
    found = explain(held_run(model, composite), samples=40)
    has_attention = name not in ("lstm", "fnn")
    assert (found.attention is not None) == has_attention
    assert (found.condensation is not None) == has_attention
    assert set(found.absent) - {"readout"} == NO_HISTORY | CAUSAL | (set() if has_attention else ATTENTION)
    assert ("readout" in found.absent) == (not has_attention)
    assert len(found.embedding.pca.values) == 81
    assert found.condensation_survey is not None


MANY = tuple("abcdefghij")
MANY_FIELDS = {
    "operations": {name: f"add:{shift}" for shift, name in enumerate(MANY, 1)},
    "held_out": [
        [first, second] for first in MANY for second in MANY if abs(MANY.index(first) - MANY.index(second)) == 2
    ],
}


@pytest.mark.parametrize("samples", [3, 50])
def test_pairs_come_from_the_task_and_not_from_the_rows_drawn(samples, planned, held_run):
    task = tasks.create("composite", **MANY_FIELDS)
    only = ["pair_matrix", "answer_classes", "deviations", "commutativity"]
    found = explain(held_run(planned(task, task.solve), task), only=only, samples=samples)
    matrix = found.pair_matrix
    assert matrix.anchors == MANY
    held_out = {tuple(pair) for pair in MANY_FIELDS["held_out"]}
    assert {(MANY[i], MANY[j]) for i, j in np.argwhere(matrix.unseen)} == held_out
    assert (matrix.seen == ~matrix.unseen).all()
    assert 0 < matrix.undrawn == np.isnan(matrix.accuracy).sum()
    # Every pair has its exchange in the task, whether or not that was drawn too.
    assert found.commutativity is not None
    assert set(found.commutativity["unseen"]) == {"no", "both"}


def test_pairs_of_a_task_whose_exchanges_are_no_pairs():
    assert not TaskPairs(frozenset({"a,a", "a,b"})).exchangeable
    assert TaskPairs(frozenset({"a,a", "a,b"}), frozenset({"b,a"})).exchangeable
    assert task_pairs(tasks.create("identity")) is None


def test_rows_are_not_those_of_the_learning_curves(composite, held_run):
    model = models.build("post_ln", composite.vocabulary.size, composite.length, layers=1, heads=1, width=8)
    run = held_run(model, composite)
    run.config["data_seed"] = 0
    found = explain(run, only=["examples"], samples=50, seed=0)
    own = composite.sample("ood", 50, seed=0).tokens
    fresh = composite.sample("ood", 50, seed=found.row_seed).tokens
    assert not (own[:, None] == fresh[None]).all(axis=2).any()
    shown = [composite.vocabulary.token_id(token) for token in found.examples[-1].tokens]
    assert shown == fresh[0].tolist()


@given(st.integers(0, 2**64), st.integers(0, 2**64))
def test_fresh_rows_never_have_the_seed_of_the_data(seed, data_seed):
    drawn = fresh_row_seed(seed, data_seed)
    assert drawn != data_seed
    assert fresh_row_seed(seed, drawn) != drawn
    assert fresh_row_seed(seed, None) == drawn
    assert fresh_row_seed(seed + 1, None) != drawn


def test_a_net_on_one_hot_codes_is_explained_without_embeddings(composite, held_run):
    shape = {"layers": 1, "width": 8, "input_code": "one_hot"}
    model = models.build("fnn", composite.vocabulary.size, composite.length, **shape)
    found = explain(held_run(model, composite), samples=20)
    assert found.embedding is None
    assert "no token embedding" in found.reason("embedding")


def test_a_task_of_few_numbers_has_no_order_to_show(held_run):
    task = tasks.create("identity", numbers=(20, 22), noise=(20, 22), modulus=2)
    model = models.build("post_ln", task.vocabulary.size, task.length, layers=1, heads=1, width=8)
    assert "at least 6 points needed" in explain(held_run(model, task), samples=20).reason("embedding")


def test_user_data_leave_curves_and_weights_only(composite, held_run):
    model = models.build("post_ln", composite.vocabulary.size, composite.length, layers=1, heads=1, width=8)
    found = explain(held_run(model, None))
    assert found.condensation is not None
    assert found.accuracy is None
    assert found.examples == ()
    assert "own data" in found.reason("phase")
    assert len(found.metrics) == 1
