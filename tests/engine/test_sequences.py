from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from ray import cloudpickle

from anchorlab import models
from anchorlab.engine import Rows, SequenceMember, SequenceProblem
from anchorlab.errors import InputError


def stacked(problem: Any) -> dict[str, torch.Tensor]:
    members = [problem.initialize(member) for member in range(problem.members)]
    return {name: torch.stack([m[name] for m in members]).requires_grad_() for name in members[0]}


@pytest.mark.parametrize("name", ["gpt2", "llama", "post_ln", "simplified", "lstm", "fnn"])
def test_loss_and_gradients_are_those_of_the_full_forward(sequences: Callable[..., Any], name: str) -> None:
    problem = sequences([0, 1], model=name)
    parameters, batch = stacked(problem), problem.batch([0, 1], 3)
    losses = problem.loss(parameters, batch)
    gradients = torch.autograd.grad(losses.sum(), list(parameters.values()))
    module = models.build(name, 12, 5, layers=2, heads=1, width=12)
    for member in (0, 1):
        module.load_state_dict({n: p[member].detach() for n, p in parameters.items()}, strict=False)
        module.zero_grad()
        expected = F.cross_entropy(module(batch.tokens[member]).logits[:, -1], batch.labels[member])
        expected.backward()
        torch.testing.assert_close(losses[member], expected, rtol=0, atol=1e-5)
        for (parameter_name, parameter), gradient in zip(module.named_parameters(), gradients, strict=True):
            torch.testing.assert_close(gradient[member], parameter.grad, rtol=0, atol=1e-5, msg=parameter_name)


def test_epochs_are_permutations_cut_into_whole_batches(sequences: Callable[..., Any], rows: Rows) -> None:
    problem = sequences([0], batch_size=16)
    assert problem.steps_per_epoch == 4
    first, second, again = (
        torch.cat([problem.batch([0], 4 * epoch + step).tokens[0] for step in range(4)]).tolist() for epoch in (0, 1, 0)
    )
    known = Counter(map(tuple, rows.tokens.tolist()))
    for epoch in (first, second):
        assert len(epoch) == 64
        assert not Counter(map(tuple, epoch)) - known
    assert first == again != second
    assert torch.equal(problem.batch([0], 4).tokens[0], torch.tensor(second[:16]))


def test_order_depends_on_its_own_seed(sequences: Callable[..., Any]) -> None:
    a, b = sequences([0], order_seed=1), sequences([5], order_seed=1)
    assert torch.equal(a.batch([0], 2).tokens, b.batch([0], 2).tokens)
    assert not torch.equal(a.batch([0], 2).tokens, sequences([0], order_seed=2).batch([0], 2).tokens)


def test_full_batch_holds_every_row_once(sequences: Callable[..., Any], rows: Rows) -> None:
    batch = sequences([0], batch_size=None).batch([0], 0)
    assert sorted(map(tuple, batch.tokens[0].tolist())) == sorted(map(tuple, rows.tokens.tolist()))


def test_evaluation_by_group_against_brute_force(sequences: Callable[..., Any], rows: Rows) -> None:
    problem = sequences([0, 1])
    parameters = stacked(problem)
    with torch.no_grad():
        found = {(m.member, m.split, m.group, m.metric): m.value for m in problem.evaluate(parameters, [0, 1])}
    assert not any(key[2] == "never" for key in found)
    module = models.build("post_ln", 12, 5, layers=2, heads=1, width=12)
    module.load_state_dict({n: p[1].detach() for n, p in parameters.items()})
    with torch.no_grad():
        answers = module(rows.tokens[:30]).logits[:, -1].argmax(-1)
    hit = (answers == rows.labels[:30]).double()
    assert found[1, "train", "", "accuracy"] == pytest.approx(hit.mean().item())
    for index, name in enumerate(("even", "odd")):
        expected = hit[rows.groups[:30] == index].mean().item()
        assert found[1, "train", name, "accuracy"] == pytest.approx(expected)


def test_wrong_batch_size_and_unequal_members(rows: Rows) -> None:
    model = models.build("post_ln", 12, 5, layers=1, heads=1, width=8)
    member = SequenceMember({"train": rows}, lambda model: None, 0)
    with pytest.raises(InputError, match=r"batch_size=71: must be between 1 and the 70 training rows"):
        SequenceProblem(model, [member], batch_size=71)
    other = SequenceMember({"train": rows.head(60)}, lambda model: None, 0)
    with pytest.raises(InputError, match=r"splits of the same sizes, got train 60; train 70"):
        SequenceProblem(model, [member, other], batch_size=4)


def test_members_with_data_sets_of_their_own(rows: Rows) -> None:
    model = models.build("post_ln", 12, 5, layers=1, heads=1, width=8)

    def initialize(module: Any) -> None:
        models.initialize(module, rule="arxiv-2405.05409", rate=0.5, generator=torch.Generator().manual_seed(0))

    mirrored = Rows(rows.tokens.flip(1), rows.labels, rows.groups, rows.group_names)
    splits = {"train": rows, "test": rows.head(20)}, {"train": mirrored, "test": mirrored.head(20)}
    members = [SequenceMember(splits[which], initialize, seed) for which, seed in ((0, 1), (1, 1), (0, 2), (1, 1))]
    together = SequenceProblem(model, members, batch_size=16)
    alone = [SequenceProblem(model, [member], batch_size=16) for member in members]
    parameters = stacked(together)
    found = together.evaluate(parameters, [0, 1, 2, 3])
    for member, problem in enumerate(alone):
        for step in (0, 5):
            both = together.batch([3, member, 0], step), problem.batch([0], step)
            assert torch.equal(both[0].tokens[1], both[1].tokens[0])
            assert torch.equal(both[0].labels[1], both[1].labels[0])
        own = problem.evaluate({name: p[member : member + 1] for name, p in parameters.items()}, [0])
        theirs = [m._replace(member=0) for m in found if m.member == member]
        assert [m[:4] for m in own] == [m[:4] for m in theirs]
        assert [m.value for m in own] == pytest.approx([m.value for m in theirs], abs=1e-6)


def test_commutativity_is_the_share_of_rows_answered_alike(rows: Rows) -> None:
    model = models.build("post_ln", 12, 5, layers=1, heads=1, width=8)

    def initialize(module: Any) -> None:
        models.initialize(module, rule="arxiv-2405.05409", rate=0.2, generator=torch.Generator().manual_seed(0))

    swapped = rows.tokens[:, [0, 2, 1, 3, 4]]
    ood = Rows(rows.tokens, rows.labels, rows.groups, (), swapped)
    problem = SequenceProblem(model, [SequenceMember({"train": rows, "ood": ood}, initialize, 0)], batch_size=16)
    with torch.no_grad():
        found = problem.evaluate(stacked(problem), [0])
        answers = [model(tokens).logits[:, -1].argmax(-1) for tokens in (rows.tokens, swapped)]
    expected = (answers[0] == answers[1]).double().mean().item()
    assert 0 < expected < 1
    measured = [m for m in found if m.metric == "commutativity"]
    assert [(m.split, m.group) for m in measured] == [("ood", "")]
    assert measured[0].value == pytest.approx(expected)


def test_problem_travels_to_other_processes(sequences: Callable[..., Any]) -> None:
    problem = sequences([0, 1])
    arrived = cloudpickle.loads(cloudpickle.dumps(problem))
    for name, parameter in problem.initialize(1).items():
        torch.testing.assert_close(arrived.initialize(1)[name], parameter, atol=0, rtol=0)
