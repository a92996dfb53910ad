"""Cards measured from planted histories, where every number can be worked out by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
from planted_sweeps import History, planted_run

from anchorlab.benchmark_card import PROTOCOLS, TASKS, Card, Spread, read_card
from anchorlab.benchmark_card.card import measure, write_card
from anchorlab.errors import InputError

SMOKE = PROTOCOLS["smoke"]
FEW, MANY = SMOKE.rows


def history(test: dict[int, float], **others: float) -> History:
    """Test accuracy by step, other splits constant; `x` is a group of the test split."""
    last = {0: 0.0, max(test): 0.0}
    return {("test", ""): test, ("train", ""): dict.fromkeys(last, 1.0)} | {
        (("test", "x") if name == "x" else (name, "")): dict.fromkeys(last, value) for name, value in others.items()
    }


def card(folder: Path, task: str, histories: dict[tuple[int, int], Any]) -> Card:
    """The card of runs on one task, by number of training rows and seed; one that is a pair has a status too."""
    runs = {}
    experiments = SMOKE.experiments(SMOKE.network("fnn"), [task], seeds=2)
    for (rows, seed), found in histories.items():
        accuracies, status = found if isinstance(found, tuple) else (found, "finished")
        path = folder / f"{task}-{rows}-{seed}"
        runs[task, rows, seed] = planted_run(path, experiments[task, rows, seed], accuracies, status=status)
    return measure(runs, TASKS, "fnn", SMOKE)


@pytest.fixture
def composite(tmp_path: Path) -> Card:
    return card(
        tmp_path,
        "composite",
        {
            (FEW, 0): history({0: 0.0, 10: 0.5, 20: 0.6}, ood=0.9),
            (FEW, 1): history({0: 0.0, 10: 0.5, 20: 1.0}, ood=0.9),
            (MANY, 0): history({0: 0.0, 10: 1.0, 20: 0.96}, ood=0.2),
            (MANY, 1): history({0: 0.0, 10: 0.7, 20: 0.98}, ood=0.4),
        },
    )


def test_generalization_is_that_of_the_most_rows_at_the_end(composite: Card) -> None:
    score = composite.scores["composite"]
    assert score.test == {FEW: Spread(0.8, 0.6, 1.0), MANY: Spread(pytest.approx(0.97), 0.96, 0.98)}
    assert score.final == score.test[MANY]
    assert score.ood == Spread(pytest.approx(0.3), 0.2, 0.4)
    assert (score.parameters, score.diverged, composite.seeds) == (1234, 0, 2)


def test_rows_and_steps_needed_are_decided_by_the_mean(composite: Card, tmp_path: Path) -> None:
    score = composite.scores["composite"]
    assert (score.rows, score.steps) == (MANY, 20)  # at step 10 the mean is 0.85
    weak = {(rows, seed): history({0: 0.0, 20: 0.85 + seed / 10}) for rows in (FEW, MANY) for seed in range(2)}
    assert card(tmp_path / "a", "identity", weak).scores["identity"].rows == FEW  # 0.85 and 0.95
    weak[FEW, 1] = weak[MANY, 1] = history({0: 0.0, 20: 0.94})
    never = card(tmp_path / "b", "identity", weak).scores["identity"]
    assert (never.rows, never.steps, never.ood) == (None, None, None)


def test_training_that_ended_early_stays_as_it_was(tmp_path: Path) -> None:
    found = {(MANY, 0): history({0: 0.0, 10: 1.0}), (MANY, 1): history({0: 0.0, 10: 0.1, 20: 0.9})}
    assert card(tmp_path, "identity", found).scores["identity"].steps == 20


def test_diverged_training_counts_as_zero(tmp_path: Path) -> None:
    found = {
        (MANY, 0): (history({0: 0.0, 10: 1.0}, ood=1.0), "diverged"),
        (MANY, 1): history({0: 0.0, 10: 1.0, 20: 1.0}, ood=1.0),
    }
    score = card(tmp_path, "composite", found).scores["composite"]
    assert score.final == Spread(0.5, 0.0, 1.0)
    assert score.ood == Spread(0.5, 0.0, 1.0)
    assert (score.diverged, score.steps) == (1, None)


def test_statistical_rows_count_by_their_usual_label(tmp_path: Path) -> None:
    found = {(MANY, seed): history({0: 0.0, 20: 0.8}, x=0.97) for seed in range(2)}
    assert card(tmp_path, "statistical", found).scores["statistical"].final.mean == pytest.approx(0.97)


def test_written_card_is_read_again(composite: Card, tmp_path: Path) -> None:
    write_card(composite, tmp_path / "card.json")
    assert read_card(tmp_path / "card.json", SMOKE) == composite
    written = json.loads((tmp_path / "card.json").read_text())
    assert written["tasks"]["composite"]["rows"] == MANY
    assert written["settings"]["model"] == "fnn"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema_version": 2}, "has schema version 2, this anchorlab reads 1; measure anew"),
        ({"protocol": "0" * 12}, f"by protocol {'0' * 12} at scale smoke, not by {SMOKE.key} at smoke"),
        ({"scale": "laptop"}, "at scale laptop"),
        ({"tasks": 3}, "is no card"),
        ({"tasks": {"identity": {"test": {"many": 1}}}}, "is no card"),
    ],
)
def test_other_cards_are_refused(composite: Card, tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = tmp_path / "card.json"
    path.write_text(json.dumps(composite.record() | change))
    with pytest.raises(InputError, match=said) as caught:
        read_card(path, SMOKE)
    assert str(caught.value).startswith(f"card={str(path)!r}: ")


@pytest.mark.parametrize("content", ["", "[]", "{}", None])
def test_files_without_a_card_are_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "card.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match="is no card of a benchmark"):
        read_card(path, SMOKE)
