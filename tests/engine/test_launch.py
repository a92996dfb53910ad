import importlib
import multiprocessing
from multiprocessing import forkserver
from pathlib import Path
from types import ModuleType

import pytest

from anchorlab.engine import Monitor, Progress, Run, train_in_processes
from anchorlab.errors import Interrupted
from anchorlab.experiments import train

# Workers import the function that they run, hence a module of its own.
WORK = """
import os, signal
from pathlib import Path
import torch
from anchorlab.engine import Monitor, Progress, RunWriter
from anchorlab.engine.store import environment

def work(item, monitor):
    folder, value = item
    if value < 0:
        raise ValueError(f"cannot train {value}")
    if value == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    writer = RunWriter(folder)
    config = {"value": value, "threads": torch.get_num_threads()}
    writer.claim(config)
    writer.start(config, environment("cpu"))
    monitor.report(Progress(folder.name, value, 10, 0.5, {"test": 1.0}))
    writer.note("finished", step=10, seconds=0.0)
    writer.close()
"""


@pytest.fixture(scope="module")
def server() -> None:
    """Start the server that forks all workers of this process, later tests' too, with what those need."""
    multiprocessing.set_forkserver_preload([train.__module__])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONSAFEPATH", "1")
        forkserver.ensure_running()


@pytest.fixture
def pool(server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (tmp_path / "pool_work.py").write_text(WORK)
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module("pool_work")


def test_pool_does_every_item_with_one_thread_each(pool: ModuleType, tmp_path: Path) -> None:
    seen: list[Progress] = []
    items = [(tmp_path / f"run{value}", value) for value in (3, 1, 2)]
    train_in_processes(pool.work, items, processes=2, monitor=Monitor(seen.append))
    assert {Run.open(folder).config["value"] for folder, _ in items} == {3, 1, 2}
    assert {Run.open(folder).config["threads"] for folder, _ in items} == {1}
    assert {progress.member for progress in seen} == {"run1", "run2", "run3"}


def test_an_error_of_a_worker_reaches_the_caller(pool: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot train -1"):
        train_in_processes(pool.work, [(tmp_path / "bad", -1)])


def test_a_killed_worker_ends_in_one_line(pool: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match="a training process was killed; run the same again"):
        train_in_processes(pool.work, [(tmp_path / "killed", 0)])
