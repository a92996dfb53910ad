"""Weight decay that is on during a part of training, against torch's optimizers with the decay switched by hand."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anchorlab import Experiment, sweep, train
from anchorlab.cli.settings import parse_settings
from anchorlab.engine import OptimizerSettings, Population, Schedule
from anchorlab.errors import InputError
from anchorlab.experiments.populations import shape_of

STEPS = 12
WINDOWS = {(0.0, 4.0): range(4), (4.0, 8.0): range(4, 8), None: range(STEPS), (11.0, 12.0): range(11, 12)}
"""Windows in steps, and the steps in which the weights decay."""
RULES: dict[str, tuple[Any, dict[str, Any]]] = {
    "adamw": (torch.optim.AdamW, {"betas": (0.8, 0.9)}),
    "adam": (torch.optim.Adam, {"betas": (0.8, 0.9)}),
    "sgd": (torch.optim.SGD, {"momentum": 0.5}),
}
BAD = {
    (0.5, 0.5): r"weight_decay_window=\(0.5, 0.5\): must start before it ends, such as \(0.25, 0.5\)",
    (0.6, 0.4): r"weight_decay_window=\(0.6, 0.4\): must start before it ends",
    (-0.1, 0.5): r"weight_decay_window.0=-0.1: input should be greater than or equal to 0",
    (0.5, 1.5): r"weight_decay_window.1=1.5: input should be less than or equal to 1",
    (0.5, True): r"weight_decay_window.1=True: must be a number, not true or false",
    "early": r"weight_decay_window='early': input should be a valid tuple",
}


def settings(name: Any, window: tuple[float, float] | None) -> OptimizerSettings:
    _, extra = RULES[name]
    return OptimizerSettings(name, Schedule(0.01, 0.05, 0.01, 3, STEPS), 0.4, "matrices", window, **extra)


def switched_by_hand(problem: Any, member: int, name: str, on: range) -> dict[str, torch.Tensor]:
    kind, extra = RULES[name]
    parameters = {key: value.requires_grad_() for key, value in problem.initialize(member).items()}
    matrices, vectors = ([p for p in parameters.values() if (p.ndim >= 2) == wanted] for wanted in (True, False))
    optimizer = kind([{"params": matrices}, {"params": vectors, "weight_decay": 0.0}], lr=1.0, **extra)
    schedule = settings(name, None).schedule
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step, 1)
        optimizer.param_groups[0]["weight_decay"] = 0.4 if step in on else 0.0
        optimizer.zero_grad()
        problem.loss({key: p[None] for key, p in parameters.items()}, problem.batch([member], step)).sum().backward()
        optimizer.step()
    return {key: value.detach() for key, value in parameters.items()}


@pytest.mark.parametrize("name", RULES)
def test_members_of_one_population_decay_in_windows_of_their_own(linear: Callable[..., Any], name: str) -> None:
    problem = linear(seeds=[3, 1, 4, 3])
    population = Population(problem, [settings(name, window) for window in WINDOWS])
    for first, steps in ((0, 3), (3, 6), (9, 3)):
        population.advance(first, steps)
    for member, on in enumerate(WINDOWS.values()):
        expected = switched_by_hand(problem, member, name, on)
        for key, value in population.member_parameters(member).items():
            torch.testing.assert_close(value, expected[key], rtol=1e-12, atol=1e-12)


def test_a_window_continues_exactly_where_training_was_stopped_inside_it(linear: Callable[..., Any]) -> None:
    chosen = [settings("adamw", (4.0, 8.0)), settings("adamw", (0.0, 5.0))]
    whole, first, second = (Population(linear([1, 2]), chosen) for _ in range(3))
    whole.advance(0, STEPS)
    first.advance(0, 6)
    second.load([first.member_parameters(m) for m in (0, 1)], [first.optimizer_state(m) for m in (0, 1)])
    second.advance(6, STEPS - 6)
    for name, value in whole.parameters.items():
        assert torch.equal(value, second.parameters[name])


@given(edges=st.lists(st.integers(0, 20), min_size=3, max_size=3, unique=True).map(sorted), steps=st.integers(20, 300))
def test_neighbouring_windows_share_no_step_and_leave_none_out(edges: list[int], steps: int) -> None:
    def decayed(start: int, end: int) -> list[int]:
        found = Experiment(weight_decay=0.5, weight_decay_window=(start / 20, end / 20)).optimizer_settings(steps)
        return [step for step in range(steps) if found.decay(step, steps_per_epoch=7)]

    first, middle, last = edges
    assert decayed(first, middle) + decayed(middle, last) == decayed(first, last)
    assert len(decayed(first, last)) == pytest.approx((last - first) / 20 * steps, abs=1)
    assert decayed(0, 20) == list(range(steps))


@pytest.mark.parametrize("schedule", ["warmup_cosine", "constant"])
def test_a_window_is_a_part_of_training_also_when_the_schedule_moves_by_epochs(schedule: Any) -> None:
    experiment = Experiment(
        weight_decay=0.5, weight_decay_window=(0.25, 0.5), schedule=schedule, schedule_unit="epoch", epochs=10
    )
    found = experiment.optimizer_settings(10)
    assert [step for step in range(80) if found.decay(step, steps_per_epoch=8)] == list(range(20, 40))


def test_a_window_without_a_step_is_refused() -> None:
    none = "^weight_decay_window: [^\n]* no step; must have at least one$"
    with pytest.raises(InputError, match=none):
        Experiment(weight_decay_window=(0.5, 0.51)).optimizer_settings(10)
    by_epoch = Experiment(weight_decay_window=(0.5, 0.51), schedule_unit="epoch").optimizer_settings(10)
    assert [step for step in range(200) if by_epoch.decay(step, 20)] == [100, 101]
    with pytest.raises(InputError, match=none):
        by_epoch.decay(0, 4)


@pytest.mark.parametrize("window", BAD)
def test_a_wrong_window_is_named_in_one_line(window: Any) -> None:
    with pytest.raises(InputError, match=f"^{BAD[window]}[^\n]*$"):
        Experiment(weight_decay_window=window)


def small(**changed: Any) -> Experiment:
    sizes = {"layers": 1, "heads": 1, "width": 8, "train_rows": 64, "test_rows": 8, "ood_rows": 8, "batch_size": 16}
    return replace(Experiment(model="post_ln", steps=8, weight_decay=1.0, seed=1, **sizes), **changed)


@pytest.mark.usefixtures("in_this_process")
def test_runs_say_their_window_and_only_a_window_that_is_open_changes_the_weights(tmp_path: Any) -> None:
    always = small()
    given_on_the_command_line = parse_settings(["weight_decay_window=[0.5, 1]"])
    members = {"always": always, "whole": small(weight_decay_window=(0, 1)), "late": small(**given_on_the_command_line)}
    assert len({shape_of(member) for member in members.values()}) == 1
    runs = sweep(members, tmp_path, placement="stacked", progress=False)
    weights = [run.model().state_dict() for run in runs]
    key = "lm_head.weight"
    assert torch.equal(weights[0][key], weights[1][key])
    assert weights[2][key].norm() > weights[0][key].norm()
    record = json.loads((runs[2].folder / "config.json").read_text())
    assert record["weight_decay_window"] == [0.5, 1.0]
    assert Experiment.from_record(record).record() == members["late"].record()


def test_a_run_from_before_there_were_windows_is_still_known(tmp_path: Any) -> None:
    run = train(small(), tmp_path / "run", progress=False)
    path = run.folder / "config.json"
    record = json.loads(path.read_text())
    del record["weight_decay_window"]
    path.write_text(json.dumps(record))
    assert train(small(), tmp_path / "run", progress=False).metrics().equals(run.metrics())
