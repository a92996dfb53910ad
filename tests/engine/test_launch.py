from collections.abc import Callable
from pathlib import Path

import pytest

from anchorlab.engine import Progress, RunWriter, train_in_processes

OnProgress = Callable[[Progress], None]


def work(item: tuple[Path, int], on_progress: OnProgress) -> Path:
    import torch

    folder, value = item
    if value < 0:
        raise ValueError(f"cannot train {value}")
    writer = RunWriter(folder)
    writer.start({"value": value, "threads": torch.get_num_threads()}, "cpu")
    on_progress(Progress(folder.name, value, 10, 0.5, {"test": 1.0}))
    writer.finish("finished", step=10, wall_time=0.0)
    return folder


def test_pool_returns_runs_in_order_with_one_thread_each(tmp_path: Path) -> None:
    seen: list[Progress] = []
    items = [(tmp_path / f"run{value}", value) for value in (3, 1, 2)]
    runs = train_in_processes(work, items, processes=2, on_progress=seen.append)
    assert [run.config["value"] for run in runs] == [3, 1, 2]
    assert {run.config["threads"] for run in runs} == {1}
    assert {progress.member for progress in seen} == {"run1", "run2", "run3"}


def test_an_error_of_a_worker_reaches_the_caller(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot train -1"):
        train_in_processes(work, [(tmp_path / "bad", -1)])
