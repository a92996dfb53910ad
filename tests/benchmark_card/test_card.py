"""Cards measured from planted histories, where every number can be worked out by hand."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from planted_sweeps import History, planted_run

from anchorlab.benchmark_card import PROTOCOLS, TASKS, Card, Comparison, Spread, read_card
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
    assert (score.parameters, score.diverged, composite.seeds) == (1234, {}, 2)


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
    assert (score.diverged, score.steps) == ({MANY: 1}, None)


def test_diverged_trainings_are_counted_beside_what_they_lower(tmp_path: Path) -> None:
    fine, lost = history({0: 0.0, 20: 0.95}), (history({0: 0.0, 10: 0.1}), "diverged")
    found = card(tmp_path, "identity", {(FEW, 0): lost, (FEW, 1): lost, (MANY, 0): lost, (MANY, 1): fine})
    assert found.scores["identity"].diverged == {FEW: 2, MANY: 1}
    (row,) = Comparison((found,), (), tmp_path).rows()
    assert row.data_generalization == "0.47 (0.00-0.95), 1 diverged"
    assert row.rows == f"more than {MANY}, 2 diverged"
    write_card(found, tmp_path / "card.json")
    assert read_card(tmp_path / "card.json", SMOKE) == found
    few_alone = card(tmp_path / "few", "identity", {(FEW, 0): lost, (FEW, 1): fine, (MANY, 0): fine, (MANY, 1): fine})
    (row,) = Comparison((few_alone,), (), tmp_path).rows()
    assert (row.data_generalization, row.rows) == ("0.95", f"{MANY}, 1 diverged")


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
        ({"schema_version": "1\n"}, "has schema version '1.*n', this anchorlab reads 1"),
        ({"tasks": 3}, "is no card"),
        ({"tasks": {}}, "is no card"),
        ({"tasks": {"identity": {"test": {"many": 1}}}}, "is no card"),
        ({"network": None}, r"is no card of a benchmark \(network=None: input should be a valid string\)"),
        ({"network": ""}, "name='': must be one line of printable characters"),
        ({"network": "a\nb"}, "must be one line of printable characters, without spaces around them"),
        ({"scale": "a\x1b[31m"}, "must be one line of printable characters"),
        ({"settings": []}, "settings="),
        ({"seeds": None}, "seeds=None: input should be a valid integer"),
        ({"seeds": 0}, "seeds=0: input should be greater than or equal to 1"),
        ({"steps": "x"}, "steps='x': input should be a valid integer"),
        ({"steps": True}, "steps=True: input should be a valid integer"),
    ],
)
def test_other_cards_are_refused(composite: Card, tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = tmp_path / "card.json"
    path.write_text(json.dumps(composite.record() | change))
    with pytest.raises(InputError, match=said) as caught:
        read_card(path, SMOKE)
    assert str(caught.value).startswith(f"card={str(path)!r}: ")
    assert len(str(caught.value).splitlines()) == 1


GOOD = {"mean": 0.5, "lowest": 0.5, "highest": 0.5}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"test": None}, "tasks.composite.test=None: input should be a valid dictionary"),
        ({"test": {}}, f"tasks.composite.test: is of no training rows; the protocol has {FEW}, {MANY}"),
        ({"test": {MANY: GOOD}}, f"test: is of {MANY} training rows; the protocol has {FEW}, {MANY}"),
        ({"test": {FEW: GOOD, MANY: GOOD, 7: GOOD}}, f"test: is of 7, {FEW}, {MANY} training rows"),
        ({"test": {FEW: GOOD, MANY: {"mean": 0.5}}}, "tasks.composite.test.lowest"),
        ({"test": {FEW: GOOD, MANY: 0.5}}, "tasks.composite.test"),
        ({"ood": GOOD | {"mean": float("nan")}}, "tasks.composite.ood.mean=nan: input should be a finite number"),
        ({"ood": GOOD | {"mean": 1.5}}, "ood.mean=1.5: input should be less than or equal to 1"),
        ({"ood": GOOD | {"mean": "0.5"}}, "ood.mean='0.5': input should be a valid number"),
        ({"steps": "x"}, "tasks.composite.steps='x': input should be a valid integer"),
        ({"parameters": None}, "tasks.composite.parameters=None"),
        ({"diverged": 2}, "tasks.composite.diverged=2: input should be a valid dictionary"),
        ({"diverged": {FEW: "2"}}, "tasks.composite.diverged"),
        ({"diverged": {7: 1}}, f"diverged: is of 7 training rows; the protocol has {FEW}, {MANY}"),
    ],
)
def test_cards_with_values_that_no_benchmark_gives_are_refused(
    composite: Card, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    path, content = tmp_path / "card.json", composite.record()
    content["tasks"]["composite"] |= change
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        read_card(path, SMOKE)
    assert str(caught.value).startswith(f"card={str(path)!r}: ")
    assert len(str(caught.value).splitlines()) == 1


def test_card_of_an_unknown_task_or_without_a_field_is_refused(composite: Card, tmp_path: Path) -> None:
    path, content = tmp_path / "card.json", composite.record()
    path.write_text(json.dumps(content | {"tasks": {"compostie": content["tasks"]["composite"]}}))
    with pytest.raises(InputError, match="tasks: unknown value 'compostie'; did you mean 'composite'"):
        read_card(path, SMOKE)
    del content["tasks"]["composite"]["parameters"]
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"is no card of a benchmark \(tasks.composite.parameters=.*: field required"):
        read_card(path, SMOKE)


def test_older_cards_have_one_number_of_diverged_trainings(composite: Card, tmp_path: Path) -> None:
    path, content = tmp_path / "card.json", composite.record()
    content["tasks"]["composite"]["diverged"] = 0
    path.write_text(json.dumps(content))
    assert read_card(path, SMOKE) == composite


@pytest.mark.parametrize("content", ["", "[]", "{}", "3", "[" * 100_000, None])
def test_files_without_a_card_are_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "card.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match="is no card of a benchmark"):
        read_card(path, SMOKE)
