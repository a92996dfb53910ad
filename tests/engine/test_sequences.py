from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from anchorlab import models
from anchorlab.engine import Rows, SequenceMember, SequenceProblem
from anchorlab.errors import InputError


def stacked(problem: Any) -> dict[str, torch.Tensor]:
    members = [problem.initialize(member) for member in range(problem.members)]
    return {name: torch.stack([m[name] for m in members]).requires_grad_() for name in members[0]}


@pytest.mark.parametrize("name", ["gpt2", "post_ln", "simplified", "lstm", "fnn"])
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
    orders = [problem._order(0, epoch).tolist() for epoch in (0, 1, 0)]
    assert sorted(orders[0]) == list(range(70))
    assert orders[0] == orders[2] != orders[1]
    later = problem.batch([0], 6).tokens[0]
    assert torch.equal(later, rows.tokens[orders[1][32:48]])


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
    with pytest.raises(InputError, match=r"equally many training rows, got \[60, 70\]"):
        SequenceProblem(model, [member, other], batch_size=4)
