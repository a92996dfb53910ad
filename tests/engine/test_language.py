"""Rows with labels inside: loss, measurements and batches against plain Hugging Face code."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from anchorlab import models
from anchorlab.engine import NOT_COUNTED, LanguageProblem, Rows, SequenceMember, SequenceProblem
from anchorlab.engine.language import _check_causal as check_causal
from anchorlab.errors import InputError

VOCABULARY, LENGTH = 12, 7


def made_rows() -> Rows:
    """Prompts of three tokens, answers of one to four; the first three labels do not count, nor does padding."""
    random = np.random.default_rng(0)
    tokens = torch.from_numpy(random.integers(1, VOCABULARY, (40, LENGTH)))
    ends = torch.from_numpy(random.integers(4, LENGTH + 1, 40))
    places = torch.arange(LENGTH)
    labels = torch.where((places >= 3) & (places < ends[:, None]), tokens, NOT_COUNTED)
    return Rows(tokens, labels, torch.from_numpy(random.integers(0, 2, 40)), ("even", "odd", "never"))


ROWS = made_rows()


def made_problem(name: str, problem: Any = LanguageProblem, rows: Rows = ROWS, **settings: Any) -> Any:
    def member(seed: int) -> SequenceMember:
        def initialize(module: Any) -> None:
            generator = torch.Generator().manual_seed(seed)
            models.initialize(module, rule="arxiv-2405.05409", rate=0.5, generator=generator)

        return SequenceMember({"train": rows, "test": rows.head(11)}, initialize, order_seed=5)

    model = models.build(name, VOCABULARY, LENGTH, layers=2, heads=1, width=12)
    return problem(model, [member(0), member(1)], **({"batch_size": 8} | settings))


def stacked(problem: Any) -> dict[str, torch.Tensor]:
    members = [problem.initialize(member) for member in range(problem.members)]
    return {name: torch.stack([m[name] for m in members]).requires_grad_() for name in members[0]}


@pytest.mark.parametrize("name", ["gpt2", "llama", "post_ln", "lstm"])
def test_loss_and_gradients_are_those_of_hugging_face(name: str) -> None:
    problem = made_problem(name)
    parameters, batch = stacked(problem), problem.batch([0, 1], 3)
    losses = problem.loss(parameters, batch)
    gradients = torch.autograd.grad(losses.sum(), list(parameters.values()))
    module = models.build(name, VOCABULARY, LENGTH, layers=2, heads=1, width=12)
    for member in (0, 1):
        module.load_state_dict({n: p[member].detach() for n, p in parameters.items()}, strict=False)
        module.zero_grad()
        logits = module(batch.tokens[member]).logits
        expected = F.cross_entropy(logits[:, :-1].flatten(0, 1), batch.labels[member, :, 1:].flatten())
        expected.backward()
        torch.testing.assert_close(losses[member], expected, rtol=0, atol=1e-5)
        for (parameter_name, parameter), gradient in zip(module.named_parameters(), gradients, strict=True):
            torch.testing.assert_close(gradient[member], parameter.grad, rtol=0, atol=1e-5, msg=parameter_name)


def test_loss_is_the_one_that_gpt2_computes_from_labels() -> None:
    problem = made_problem("gpt2")
    parameters, batch = stacked(problem), problem.batch([0, 1], 0)
    module = models.build("gpt2", VOCABULARY, LENGTH, layers=2, heads=1, width=12)
    module.load_state_dict({n: p[1].detach() for n, p in parameters.items()}, strict=False)
    expected = module(batch.tokens[1], labels=batch.labels[1]).loss
    torch.testing.assert_close(problem.loss(parameters, batch)[1], expected, rtol=0, atol=1e-5)


def test_what_does_not_count_changes_nothing() -> None:
    """Neither tokens behind the last that counts nor the label of the first token."""
    counted = (ROWS.labels != NOT_COUNTED) | (torch.arange(LENGTH) < 3)
    labels = ROWS.labels.clone()
    labels[:, 0] = ROWS.tokens[:, 0]
    other = Rows(torch.where(counted, ROWS.tokens, 0), labels, ROWS.groups, ROWS.group_names)
    first, second = made_problem("gpt2"), made_problem("gpt2", rows=other)
    parameters = stacked(first)
    with torch.no_grad():
        losses = [problem.loss(parameters, problem.batch([0, 1], 2)) for problem in (first, second)]
        found = [problem.evaluate(parameters, [0, 1]) for problem in (first, second)]
    assert torch.equal(*losses)
    assert found[0] == found[1]


def test_evaluation_by_group_against_greedy_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anchorlab.engine.language._EVALUATION_LOGITS", 1)  # batches of 8: the last one is incomplete
    problem = made_problem("post_ln", evaluation_rows=30)
    parameters = stacked(problem)
    with torch.no_grad():
        parameters["lm_head.bias"][1, :] = 4 * torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(1))
        found = {(m.member, m.split, m.group, m.metric): m.value for m in problem.evaluate(parameters, [0, 1])}
    module = models.build("post_ln", VOCABULARY, LENGTH, layers=2, heads=1, width=12)
    module.load_state_dict({n: p[1].detach() for n, p in parameters.items()})
    rows = []
    for tokens, labels, group in zip(ROWS.tokens[:30], ROWS.labels[:30], ROWS.groups[:30], strict=True):
        places = [place for place in range(1, LENGTH) if labels[place] != NOT_COUNTED]
        with torch.no_grad():
            logits = [module(tokens[None, :place]).logits[0, -1] for place in places]
            written = tokens[:3].tolist()
            while len(written) < 3 + len(places):
                written.append(int(module(torch.tensor([written])).logits[0, -1].argmax()))
        loss = [F.cross_entropy(row, labels[place]).item() for row, place in zip(logits, places, strict=True)]
        hits = [int(row.argmax()) == labels[place] for row, place in zip(logits, places, strict=True)]
        rows.append((int(group), loss, hits, written == tokens[: len(written)].tolist()))
    for name, chosen in (("", rows), ("even", [r for r in rows if not r[0]]), ("odd", [r for r in rows if r[0]])):
        losses, hits = [x for row in chosen for x in row[1]], [x for row in chosen for x in row[2]]
        assert found[1, "train", name, "loss"] == pytest.approx(np.mean(losses), abs=1e-5)
        assert found[1, "train", name, "token_accuracy"] == pytest.approx(np.mean(hits))
        assert found[1, "train", name, "accuracy"] == pytest.approx(np.mean([row[3] for row in chosen]))
    assert 0 < found[1, "train", "", "accuracy"] < 1
    assert 0 < found[1, "train", "", "token_accuracy"] < 1
    assert not any(group == "never" for _, _, group, _ in found)


def test_batches_are_those_of_the_same_rows_with_one_label() -> None:
    single = Rows(ROWS.tokens, ROWS.tokens[:, 2], ROWS.groups, ROWS.group_names)
    inside, behind = made_problem("gpt2"), made_problem("gpt2", SequenceProblem, single)
    assert inside.steps_per_epoch == behind.steps_per_epoch == 5
    for step in (0, 3, 7, 12):
        assert torch.equal(inside.batch([0, 1], step).tokens, behind.batch([0, 1], step).tokens)


def test_uniform_predictions_cost_the_logarithm_of_the_vocabulary() -> None:
    problem = made_problem("gpt2")
    parameters = {name: torch.zeros_like(tensor) for name, tensor in stacked(problem).items()}
    assert problem.loss(parameters, problem.batch([0, 1], 0)).tolist() == pytest.approx([math.log(VOCABULARY)] * 2)


@pytest.mark.parametrize("name", ["fnn", "simplified"])
def test_models_that_do_not_predict_every_token_are_refused(name: str) -> None:
    model = models.build(name, VOCABULARY, LENGTH)
    message = rf"model: {type(model).__name__} does not predict every token from those before it, so it cannot learn"
    with pytest.raises(InputError, match=message):
        LanguageProblem(model, [SequenceMember({"train": ROWS}, lambda module: None, 0)], batch_size=8)


class Peeking(nn.Module):
    """Adds the tokens that `others` mixes into each place, times a parameter that starts at zero."""

    def __init__(self, others: Callable[[torch.Tensor], torch.Tensor]):
        super().__init__()
        self.config = SimpleNamespace(vocab_size=VOCABULARY)
        self.table, self.head = nn.Embedding(VOCABULARY, 6), nn.Linear(6, VOCABULARY)
        self.gate, self.others = nn.Parameter(torch.zeros(())), others

    def forward(self, tokens: torch.Tensor) -> SimpleNamespace:
        states = self.table(tokens)
        return SimpleNamespace(logits=self.head(states.cumsum(1) + self.gate * self.others(states)))


def within_blocks(size: int, shift: int) -> Callable[[torch.Tensor], torch.Tensor]:
    places = (torch.arange(50) + shift) // size
    return lambda states: (places[: states.shape[1], None] == places[: states.shape[1]]).float() @ states


@pytest.mark.parametrize(
    ("others", "fits"),
    [
        (lambda states: states.cumsum(1), True),
        (lambda states: states.sum(1, keepdim=True), False),
        (lambda states: states.roll(-3, 1), False),
        (within_blocks(2, 0), False),
        (within_blocks(2, 1), False),
        (within_blocks(4, 0), False),
    ],
)
@pytest.mark.parametrize("length", [LENGTH, 8, 20])
def test_networks_that_see_later_tokens_are_refused(others: Any, fits: bool, length: int) -> None:
    module, before = Peeking(others), torch.get_rng_state()
    kept = {name: value.clone() for name, value in module.state_dict().items()}
    with nullcontext() if fits else pytest.raises(InputError, match="does not predict every token from those before"):
        check_causal(module, [length])
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, kept[name]) for name, value in module.state_dict().items())


def test_a_network_for_rows_of_one_length_is_refused_in_one_line() -> None:
    module: Any = Peeking(torch.zeros_like)
    module.others, module.places = lambda states: states + module.places, nn.Parameter(torch.ones(LENGTH, 6))
    message = rf"^model: Peeking cannot read rows of {LENGTH - 1} tokens, [^\n]* \(RuntimeError: The size [^\n]*$"
    with pytest.raises(InputError, match=message):
        LanguageProblem(module, [SequenceMember({"train": ROWS}, lambda module: None, 0)], batch_size=8)


def test_evaluation_takes_no_more_rows_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anchorlab.engine.language._EVALUATION_ROWS", 20)  # of two members
    problem, sizes = made_problem("gpt2"), []
    forward = problem._forward
    problem._forward = lambda weights, tokens: sizes.append(tokens.shape[1]) or forward(weights, tokens)
    with torch.no_grad():
        problem.evaluate(stacked(problem), [0, 1])
    assert sizes == [10, 10, 10, 10, 10, 1]
