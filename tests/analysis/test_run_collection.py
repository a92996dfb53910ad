import math
from pathlib import Path

import pandas as pd
import pytest

from anchorlab.analysis import Thresholds, collect_runs, run_table
from anchorlab.analysis.run_table import ranks
from anchorlab.errors import InputError


def test_one_row_a_run_with_final_and_best_values(plane: Path) -> None:
    runs = collect_runs(plane)
    assert len(runs.members) == 15
    assert runs.axes == ("initialization_rate", "weight_decay", "seed")
    row = runs.members.set_index("member").loc["gamma0.6-decay0.1-seed1"]
    expected = {
        **{"status": "finished", "initialization_rate": 0.6, "weight_decay": 0.1, "seed": 1, "phase": 2},
        **{"step": 20, "total_steps": 20, "evaluated_step": 20, "wall_time": 2.5, "train_accuracy": 1.0},
        **{"id_accuracy": 0.99, "ood_accuracy": 0.85, "commutativity": 0.9},
        **{"best_id_accuracy": 1.0, "best_ood_accuracy": pytest.approx(0.87)},
    }
    assert {name: row[name] for name in expected} == expected
    assert row["folder"] == str(plane / "gamma0.6-decay0.1-seed1")


def test_what_a_run_lacks_is_missing(plane: Path) -> None:
    members = collect_runs(plane).members.set_index("member")
    interrupted, diverged, running = (members.loc[f"last/{name}"] for name in "abc")
    assert (interrupted["status"], interrupted["ood_accuracy"], interrupted["evaluated_step"]) == (
        "interrupted",
        0.4,
        10,
    )
    assert math.isnan(interrupted["commutativity"])
    assert diverged["reason"] == "loss is not finite in step 11"
    assert diverged["step"] == 10
    for name in ("id_accuracy", "ood_accuracy", "best_id_accuracy", "best_ood_accuracy", "phase"):
        assert pd.isna(diverged[name])
        assert pd.isna(running[name])
    assert running["status"] == "running"


def test_axes_are_the_settings_that_differ(tmp_path: Path, write_run) -> None:
    task = {"name": "composite", "fields": {"length": 9, "operations": {"a": "add:2"}}}
    other = {"name": "identity", "fields": {"length": 5}}
    write_run(tmp_path / "a", gamma=0.1 + 0.2, model_options={}, device="cpu", parameters=10, batch_size="all")
    write_run(tmp_path / "b", gamma=0.3, model_options={"activation": "relu"}, device="cuda", parameters=20, task=task)
    write_run(tmp_path / "c", gamma=0.3, betas=[0.9, 0.99], task=other, batch_size=4, stop_fitted=True)
    runs = collect_runs(tmp_path)
    assert set(runs.axes) == {
        *("task", "task.operations", "model_options.activation", "batch_size", "betas", "stop_fitted")
    }
    assert list(runs.members["task.operations"].dropna()) == ['{"a": "add:1"}', '{"a": "add:2"}']
    assert list(runs.members["betas"].dropna()) == ["[0.9, 0.99]"]
    assert runs.shared["initialization_rate"] == 0.3
    assert "parameters" not in runs.shared


def test_a_run_itself_is_a_folder_of_runs(tmp_path: Path, write_run) -> None:
    folder = write_run(tmp_path / "alone", {"id": (0.5,)})
    assert list(collect_runs(folder).members["member"]) == ["alone"]


@pytest.mark.parametrize("limits", [(1.5, 0.9, 0.7), (0.9, -0.1, 0.7), (0.9, 0.9, math.nan)])
def test_thresholds_lie_between_0_and_1(limits: tuple[float, float, float]) -> None:
    name = ("id", "ood", "commutativity")[[0.0 <= limit <= 1.0 for limit in limits].index(False)]
    with pytest.raises(InputError, match=rf"^{name}_threshold=.*: must be between 0 and 1$"):
        Thresholds(*limits)


def test_thresholds_decide_the_phase_of_a_run(plane: Path) -> None:
    members = collect_runs(plane, Thresholds(id=0.99, ood=0.6)).members.set_index("member")
    found = members.loc[[f"gamma0.6-decay0.0-seed{seed}" for seed in range(3)], "phase"]
    assert list(found) == [3, 1, 3]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", "{"),
        ("environment.json", "no"),
        ("environment.json", "{}"),
        ("metrics.parquet", "x"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, write_run, file: str, content: str) -> None:
    folder = write_run(tmp_path / "run", {"id": (0.5,)})
    (folder / file).write_text(content)
    with pytest.raises(InputError, match=rf"run/{file}: cannot be read"):
        collect_runs(tmp_path)


def test_a_folder_without_runs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no runs"):
        collect_runs(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        collect_runs(tmp_path / "nowhere")


def members_where(folder: Path, *conditions: str) -> set[str]:
    return set(run_table(folder, where=conditions)["member"])


def test_conditions_choose_rows(plane: Path) -> None:
    everything = members_where(plane)
    assert members_where(plane, "initialization_rate = 0.9") == {"last/a", "last/b", "last/c"}
    assert members_where(plane, "status=diverged") == {"last/b"}
    assert members_where(plane, "status != finished", "seed>=1") == {"last/b", "last/c"}
    assert members_where(plane, "ood_accuracy>0.85") == {"gamma0.6-decay0.1-seed0", "gamma0.6-decay0.1-seed2"}
    assert len(members_where(plane, "ood_accuracy >= 0.85")) == 3
    assert members_where(plane, "ood_accuracy<0.05", "weight_decay<=0") == {"gamma0.3-decay0.0-seed0"}
    assert members_where(plane, "phase!=3") == everything - {f"gamma0.6-decay0.1-seed{seed}" for seed in (0, 2)}
    assert members_where(plane, "reason = loss is not finite in step 11") == {"last/b"}
    assert not members_where(plane, "seed > 2")


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("ood", "is no condition; allowed: COLUMN OP VALUE"),
        ("seed=", "is no condition"),
        ("seed ~ 1", "is no condition"),
        ("sed=1", "where: unknown value 'sed'; did you mean 'seed'"),
        ("seed = one", "'one' is not a number"),
        ("seed < nan", "'nan' is not a number"),
        ("status < finished", "'status' holds text; allowed: = and !="),
    ],
)
def test_bad_conditions(plane: Path, condition: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        run_table(plane, where=[condition])


def test_sorting_puts_missing_values_last(plane: Path) -> None:
    up, down = (run_table(plane, sort="ood_accuracy", reverse=reverse) for reverse in (False, True))
    values = up["ood_accuracy"].dropna().tolist()
    assert values == sorted(values)
    assert down["ood_accuracy"].dropna().tolist() == values[::-1]
    assert up["ood_accuracy"].isna().tolist() == down["ood_accuracy"].isna().tolist() == [False] * 13 + [True] * 2
    by_path = run_table(plane)["member"].tolist()
    assert by_path == sorted(by_path)
    assert run_table(plane, reverse=True)["member"].tolist() == by_path[::-1]
    with pytest.raises(InputError, match="sort: unknown value 'ood'"):
        run_table(plane, sort="ood")


def test_ranks_order_numbers_before_text() -> None:
    assert ranks(pd.Series([10, "all", 9.5, None, 10], dtype=object)).tolist()[:3] == [1, 2, 0]
    assert math.isnan(ranks(pd.Series(["b", None, "a"], dtype=object))[1])
