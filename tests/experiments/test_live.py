import io
import threading
from collections.abc import Mapping
from functools import cache

import pytest
from rich.console import Console

from anchorlab.engine import Progress
from anchorlab.experiments import Experiment, grid, live_grid
from anchorlab.experiments.live import HEARTBEAT_SECONDS, SweepView, heartbeat
from anchorlab.experiments.sweep_progress import SweepProgress


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@cache
def swept(rates: str = "0.3:0.5:0.1", *, seeds: int = 1) -> dict[str, Experiment]:
    return grid({"steps": 100}, {"initialization_rate": rates, "weight_decay": [0, 0.1]}, seeds=seeds)


def ended(name: str, ood: float, status: str = "finished") -> Progress:
    return Progress(name, 100 if status == "finished" else 40, 100, 0.5, {"train": 1.0, "ood": ood}, status)


def drawn(view: SweepView, width: int = 80, height: int = 24) -> list[str]:
    console = Console(file=io.StringIO(), record=True, width=width, height=height, color_system="truecolor")
    console.print(view)
    return console.export_text().splitlines()


def cells(lines: list[str]) -> dict[str, list[str]]:
    """The rows of a grid without its caption and header, by their labels."""
    return {line.split()[0]: line.replace("✗", "✗ ").split()[1:] for line in lines[2:4]}


def test_cells_go_from_empty_over_a_bar_to_the_accuracy() -> None:
    view = SweepView(swept())
    assert cells(drawn(view)) == {"0": ["·", "·", "·"], "0.1": ["·", "·", "·"]}
    view.report(Progress("gamma0.3-decay0-seed0", 50, 100, 1.0, {"ood": 0.1}))
    view.report(ended("gamma0.4-decay0.1-seed0", 0.875))
    view.report(ended("gamma0.5-decay0-seed0", 0.3, "diverged"))
    lines = drawn(view)
    assert lines[0].strip() == "ood accuracy: γ across, λ down"
    assert lines[1].split() == ["0.3", "0.4", "0.5"]
    assert cells(lines) == {"0": ["██░░", "·", "✗"], "0.1": ["·", "0.88", "·"]}
    assert "1 of 6 finished, 1 diverged, 1 running" in lines[4]
    assert "gamma0.3-decay0-seed0  50/100  loss 1  ood 0.10" in lines[6]


def test_a_cell_shows_the_mean_of_its_finished_seeds() -> None:
    view = SweepView(swept(seeds=3))
    for seed, ood in enumerate((0.2, 0.6)):
        view.report(ended(f"gamma0.3-decay0-seed{seed}", ood))
        view.report(ended(f"gamma0.4-decay0-seed{seed}", 0.2 + ood))
    view.report(ended("gamma0.4-decay0-seed2", 0.0, "diverged"))
    assert cells(drawn(view))["0"] == ["0.40", "0.60✗", "·"]


def test_colours_tell_low_from_high_accuracy() -> None:
    view = SweepView(swept())
    view.report(ended("gamma0.3-decay0-seed0", 0.0))
    view.report(ended("gamma0.4-decay0-seed0", 1.0))
    console = Console(file=io.StringIO(), width=80, height=24, force_terminal=True, color_system="truecolor")
    console.print(view)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "48;2;236;140;80m0.00" in printed
    assert "48;2;80;195;175m1.00" in printed


@pytest.mark.parametrize("size", [(80, 24), (60, 15), (30, 10), (20, 6), (10, 4)])
@pytest.mark.parametrize("rates", ["0.3:0.9:0.05", "0.01:1.5:0.01"])
def test_the_view_fits_its_terminal(size: tuple[int, int], rates: str) -> None:
    width, height = size
    experiments = swept(rates, seeds=2)
    view = SweepView(experiments)
    for index, name in enumerate(experiments):
        view.report(ended(name, 0.5) if index % 3 else Progress(name, index % 100, 100, 0.1, {"ood": 0.25}))
    lines = drawn(view, width, height)
    assert len(lines) <= height - 1
    assert max(map(len, lines)) <= width


def test_wide_grids_shrink_to_a_digit_a_column_and_then_say_what_is_hidden() -> None:
    experiments = swept("0.01:1.5:0.01")
    view = SweepView(experiments)
    for name in experiments:
        view.report(ended(name, 0.73 if "decay0-" in name else 0.97))
    whole = drawn(view, 160)
    assert whole[0].strip().endswith("ood accuracy: γ across, λ down; digits: tenths")
    assert whole[1].strip() == "0.01…1.5"
    assert cells(whole) == {"0": ["7" * 150], "0.1": ["9" * 150]}
    part = drawn(view, 80)
    assert "74 more columns" in part[0]
    assert cells(part) == {"0": ["7" * 76], "0.1": ["9" * 76]}


def test_low_terminals_leave_rows_out() -> None:
    experiments = grid({"steps": 3}, {"initialization_rate": [0.3, 0.4], "weight_decay": "0:1:0.05"})
    lines = drawn(SweepView(experiments), 80, 12)
    assert "14 more rows" in lines[0]
    assert len(lines) == 11


def test_without_two_axes_there_is_a_bar() -> None:
    experiments = grid({"steps": 100}, {"weight_decay": [0, 1]})
    view = SweepView(experiments)
    view.report(Progress("decay0-seed0", 30, 100, 0.1, {}))
    lines = drawn(view)
    assert lines[0].strip() == "0 of 2 finished, 1 running"
    assert "15%" in lines[1]
    assert "━" in lines[1]


def test_few_running_members_are_listed_and_many_are_counted() -> None:
    experiments = swept(seeds=4)
    view = SweepView(experiments)
    for index, name in enumerate(experiments):
        view.report(Progress(name, index + 1, 100, 0.1, {}))
    lines = drawn(view)
    assert sum("loss" in line for line in lines) == 5
    assert lines[-1].strip() == "… and 19 more"


def test_throughput_and_time_left_count_what_was_done_now() -> None:
    clock = Clock()
    state = SweepProgress(swept(), clock)
    assert (state.total_steps, state.remaining_steps, state.time_left) == (600, 600, None)
    state.update(Progress("gamma0.3-decay0-seed0", 60, 100, 1.0, {}))  # continues from step 60
    state.update(ended("gamma0.4-decay0-seed0", 0.5))  # had finished before
    assert (state.steps_per_second, state.time_left) == (0, None)
    state.update(Progress("gamma0.5-decay0-seed0", 0, 100, 1.0, {}))
    clock.seconds += 10
    state.update(Progress("gamma0.3-decay0-seed0", 80, 100, 1.0, {}))
    state.update(Progress("gamma0.5-decay0-seed0", 30, 100, 1.0, {}))
    assert state.steps_per_second == pytest.approx((20 + 30) / 10)
    assert state.remaining_steps == 20 + 70 + 300
    assert state.time_left is not None
    assert state.time_left.total_seconds() == round((20 + 70 + 300) / 5)
    state.update(ended("gamma0.5-decay0-seed0", 0.5, "diverged"))
    assert state.remaining_steps == 20 + 300  # what a diverged member did not do is not left to do


def test_steps_of_epochs_are_learned_from_the_members() -> None:
    state = SweepProgress(grid({"epochs": 2}, {"weight_decay": [0, 1, 2]}), Clock())
    assert (state.total_steps, state.remaining_steps) == (None, None)
    assert "0%" in state.pace()
    state.update(Progress("decay1-seed0", 10, 40, 1.0, {}))
    assert (state.total_steps, state.remaining_steps) == (120, 110)


def test_a_log_gets_a_line_every_five_minutes() -> None:
    clock, lines = Clock(), list[str]()
    report = heartbeat(swept(), lines.append, clock=clock)
    for step in range(0, 100, 10):
        report(Progress("gamma0.3-decay0-seed0", step, 100, 1.0, {}))
        clock.seconds += HEARTBEAT_SECONDS / 4
    assert len(lines) == 2
    assert lines[0].startswith("sweep: 0 of 6 finished, 1 running; 7%")


@pytest.mark.parametrize("enabled", [None, False])
def test_nothing_is_shown_when_it_is_not_wanted(enabled: bool | None, capfd: pytest.CaptureFixture[str]) -> None:
    with live_grid(swept(), enabled=enabled) as monitor:
        monitor.report(ended("gamma0.3-decay0-seed0", 0.5))
    assert capfd.readouterr() == ("", "")
    assert not monitor.should_stop()


def test_the_terminal_gets_the_grid_while_reports_come_from_other_threads(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    experiments = swept(seeds=3)
    failed = []

    def train(names: Mapping[str, Experiment]) -> None:
        try:
            for name in names:
                for step in range(50):
                    monitor.report(Progress(name, step, 100, 0.1, {"ood": 0.5}))
                monitor.report(ended(name, 0.5))
        except BaseException as error:
            failed.append(error)

    with live_grid(experiments, enabled=True) as monitor:
        threads = [threading.Thread(target=train, args=(experiments,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    printed = capfd.readouterr()
    assert not failed
    assert printed.out == ""
    assert "18 of 18 finished" in printed.err
    assert "γ across, λ down" in printed.err
