from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anchorlab.analysis import PhaseGrid, RunCollection, Thresholds, collect_runs, phase_grid
from anchorlab.errors import InputError


def cell(grid: PhaseGrid, gamma: float, decay: float) -> "pd.Series":
    cells = grid.cells
    (row,) = cells[(cells["initialization_rate"] == gamma) & (cells["weight_decay"] == decay)].index
    return cells.loc[row]


def test_cells_against_numbers_worked_out_by_hand(plane: Path) -> None:
    grid = phase_grid(collect_runs(plane))
    assert (grid.facets, grid.rates, grid.decays) == ((), [0.3, 0.6, 0.9], [0.0, 0.1])
    assert len(grid.cells) == 5
    low = cell(grid, 0.3, 0.0)
    assert (low["members"], low["seeds"], low["phase"], low["best_phase"]) == (3, 3, 1, 1)
    assert low["seed_phases"] == "1 2 1"
    assert (low["id_accuracy_mean"], low["id_accuracy_min"], low["id_accuracy_max"]) == (pytest.approx(0.8), 0.7, 0.9)
    assert low["ood_accuracy_mean"] == pytest.approx(0.05)
    assert low["commutativity_mean"] == pytest.approx(0.3)
    high = cell(grid, 0.6, 0.1)
    assert (high["phase"], high["seed_phases"], high["median_member"]) == (3, "3 2 3", "gamma0.6-decay0.1-seed2")
    assert high["ood_accuracy_mean"] == pytest.approx(0.91)
    assert high["best_ood_accuracy_mean"] == pytest.approx(0.93)
    assert high["best_id_accuracy_mean"] == pytest.approx(1.0)
    assert high["best_id_accuracy_min"] == pytest.approx(1.0)


def test_members_that_have_not_finished_count_nowhere(plane: Path) -> None:
    grid = phase_grid(collect_runs(plane))
    empty = cell(grid, 0.9, 0.0)
    assert (empty["members"], empty["seeds"], empty["seed_phases"]) == (3, 0, "")
    assert empty[["phase", "best_phase", "median_member", "ood_accuracy_mean", "id_accuracy_max"]].isna().all()
    assert list(grid.unfinished["member"]) == ["last/a", "last/b", "last/c"]


def test_thresholds_decide_the_phase_of_a_cell(plane: Path) -> None:
    grid = phase_grid(collect_runs(plane, Thresholds(id=0.8, ood=0.05)))
    assert cell(grid, 0.3, 0.0)["phase"] == 3
    assert cell(phase_grid(collect_runs(plane, Thresholds(ood=0.92))), 0.6, 0.1)[["phase", "best_phase"]].tolist() == [
        2,
        3,
    ]


def test_a_mean_equal_to_its_threshold_is_good(tmp_path: Path, write_run) -> None:
    for seed in range(3):
        write_run(tmp_path / str(seed), {"id": (0.9,), "ood": (0.9,)}, seed=seed)
    assert phase_grid(collect_runs(tmp_path)).cells["phase"].tolist() == [3]


def test_other_varied_settings_make_panels(tmp_path: Path, write_run) -> None:
    for layers, model in ((10, "gpt2"), (2, "gpt2"), (2, "post_ln")):
        for seed in range(2):
            scores = {"id": (1.0,), "ood": (0.1 * layers / 2,)}
            folder = tmp_path / f"{model}{layers}{seed}"
            write_run(folder, scores, model=model, layers=layers, seed=seed, data_seed=seed)
    grid = phase_grid(collect_runs(tmp_path))
    assert grid.facets == ("model", "layers")
    panels = grid.panels
    assert [panel.label for panel in panels] == [
        "model gpt2, layers 2",
        "model gpt2, layers 10",
        "model post_ln, layers 2",
    ]
    assert [panel.cells["ood_accuracy_mean"].item() for panel in panels] == pytest.approx([0.1, 0.5, 0.1])
    assert [sorted(panel.members["member"]) for panel in panels][1] == ["gpt2100", "gpt2101"]


def test_a_setting_that_only_some_runs_have_makes_a_panel(tmp_path: Path, write_run) -> None:
    write_run(tmp_path / "a", {"id": (1.0,), "ood": (0.1,)}, model_options={"activation": "relu"})
    write_run(tmp_path / "b", {"id": (1.0,), "ood": (0.2,)}, model_options={})
    panels = phase_grid(collect_runs(tmp_path)).panels
    assert [(panel.label, list(panel.members["member"])) for panel in panels] == [
        ("model options.activation relu", ["a"]),
        ("model options.activation –", ["b"]),
    ]


def test_folders_that_are_no_phase_diagram(tmp_path: Path, write_run) -> None:
    def refused(name: str, message: str) -> None:
        with pytest.raises(InputError, match=message):
            phase_grid(collect_runs(tmp_path / name))

    good = {"id": (0.5,), "ood": (0.5,)}
    write_run(tmp_path / "data/run", {"id": (0.5,)}, task=None)
    refused(
        "data", "the run 'run' has no accuracy on seen and on unseen anchor pairs .* keeps anchor pairs out of training"
    )
    write_run(tmp_path / "rate/run", good, gamma=None)
    refused("rate", "the run 'run' has no initialization rate")
    write_run(tmp_path / "early/run", good, status="running")
    write_run(tmp_path / "early/other", good, status="diverged", seed=1)
    refused("early", r"none of its runs has finished \(.*1 running")
    write_run(tmp_path / "twice/a", good)
    write_run(tmp_path / "twice/b", good, device="cuda")
    refused("twice", "the runs 'a' and 'b' have the same settings")
    write_run(tmp_path / "twice/c", good, seed=1)
    refused("twice", "the runs 'a' and 'b' have the same settings")


ACCURACY = st.floats(0, 1, width=32)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.3, 0.5, 0.7]), st.sampled_from([0.0, 1.0]), ACCURACY, ACCURACY, st.booleans()),
        min_size=1,
        max_size=20,
    )
)
def test_cells_hold_the_statistics_of_their_finished_members(
    rows: list[tuple[float, float, float, float, bool]],
) -> None:
    members = pd.DataFrame(
        [
            {
                **{"member": f"m{number}", "initialization_rate": gamma, "weight_decay": decay, "seed": number},
                **{"status": "finished" if done else "running", "id_accuracy": id_, "ood_accuracy": ood, "phase": 1},
                **{"best_id_accuracy": id_, "best_ood_accuracy": ood, "commutativity": np.nan},
            }
            for number, (gamma, decay, id_, ood, done) in enumerate(rows)
        ]
    )
    runs = RunCollection(Path("x"), members, ("initialization_rate", "weight_decay", "seed"), {}, Thresholds())
    if not any(row[4] for row in rows):
        with pytest.raises(InputError, match="none of its runs has finished"):
            phase_grid(runs)
        return
    cells = phase_grid(runs).cells
    assert len(cells) == len({row[:2] for row in rows})
    for _, found in cells.iterrows():
        here = [row for row in rows if row[:2] == (found["initialization_rate"], found["weight_decay"])]
        done = [row[3] for row in here if row[4]]
        assert (found["members"], found["seeds"]) == (len(here), len(done))
        if done:
            assert found["ood_accuracy_mean"] == pytest.approx(np.mean(done))
            assert (found["ood_accuracy_min"], found["ood_accuracy_max"]) == (min(done), max(done))
            assert (
                members.set_index("member").loc[found["median_member"], "ood_accuracy"]
                == sorted(done)[(len(done) - 1) // 2]
            )
