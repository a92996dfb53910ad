import importlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
import ray
import torch
from ray.cluster_utils import Cluster

from anchorlab.engine import (
    Evaluation,
    Measurement,
    MemberRecord,
    Monitor,
    OptimizerSettings,
    Population,
    Progress,
    Run,
    RunWriter,
    Schedule,
    TrainingPlan,
    ray_driver,
    ray_worker,
    train_population,
)
from anchorlab.engine.ray_launcher import train_on_ray
from anchorlab.errors import InputError, Interrupted

pytestmark = pytest.mark.slow  # Ray takes seconds to start, and to notice that a process is gone

SETTINGS = OptimizerSettings("adamw", Schedule(1e-3, 1e-2, 1e-3, 5, 30), weight_decay=0.1, clip_norm=1.0)
STORE_BYTES = 80 * 2**20
NOT_NICE = {"RAY_worker_niceness": "0"}  # Ray's processes would wait for those of tests that run beside these


class Hold:
    """An observer that evaluates; when a training first comes to a step, it waits there until it is told to stop."""

    def __init__(self, step: int, marker: Path, monitor: Monitor):
        self.step, self.marker, self.monitor = step, marker, monitor

    def observe(self, population: Population, step: int) -> list[Measurement]:
        if step == self.step and not self.marker.exists():
            self.marker.write_text(str(os.getpid()))
            self.monitor.report(Progress(self.marker.stem, step, 30, 0.0, {}, "held"))
            while not self.monitor.should_stop() and self.marker.read_text() != "go on":
                time.sleep(0.02)
        return population.evaluate()


class Item(NamedTuple):
    """A population of two members, and the step at which its first training is held."""

    problem: Any
    folder: Path
    hold: int | None = None


def train(item: Item, monitor: Monitor) -> None:
    observer = Evaluation() if item.hold is None else Hold(item.hold, marker(item), monitor)
    plan = TrainingPlan(steps=30, evaluate_every=5, checkpoint_every=10, observers=(observer,))
    records = [MemberRecord(item.folder / f"m{seed}", {"seed": seed}) for seed in range(2)]
    train_population(Population(item.problem, [SETTINGS] * 2), records, plan, monitor=monitor)


def work(item: Item, monitor: Monitor) -> None:
    item.folder.mkdir(exist_ok=True)
    saved = ",".join(path.stem for path in item.folder.glob("m0/checkpoints/*[0-9].safetensors")) or "nothing"
    with open(item.folder / "begun.txt", "a") as file:
        print(ray.get_runtime_context().get_node_id(), torch.get_num_threads(), saved, file=file)
    train(item, monitor)


def marker(item: Item) -> Path:
    return item.folder.with_suffix(".held")


def begun(item: Item) -> list[list[str]]:
    """The node, number of threads and saved steps of every attempt at `item`."""
    return [line.split() for line in (item.folder / "begun.txt").read_text().splitlines()]


def assert_as_undisturbed(item: Item, local: Item) -> None:
    for seed in range(2):
        found, expected = (Run.open(i.folder / f"m{seed}") for i in (item, local))
        assert found.status == "finished"
        pd.testing.assert_frame_equal(found.metrics(), expected.metrics(), check_exact=True)
        weights = found.model().state_dict()
        for name, value in expected.model().state_dict().items():
            assert torch.equal(value, weights[name])


def have_two_machines(cluster: Cluster) -> None:
    while len(cluster.worker_nodes) < 2:
        cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    # The driver's machine does not train, and the workers cannot import this module.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("driver"))  # workers import from the driver's folder first
        for name, value in NOT_NICE.items():
            patch.setenv(name, value)
        cluster = Cluster(True, head_node_args={"num_cpus": 0, "object_store_memory": STORE_BYTES})
        have_two_machines(cluster)
        ray.init(cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        yield cluster
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture
def item(sequences: Callable[..., Any], tmp_path: Path) -> Callable[..., Item]:
    return lambda name, hold=None: Item(sequences([0, 1]), tmp_path / name, hold)


@pytest.fixture
def local(item: Callable[..., Item]) -> Iterator[Item]:
    """A population trained in this process, undisturbed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    local = item("local")
    train(local, Monitor())
    yield local
    torch.set_num_threads(threads)


def when_held(action: Callable[[Progress], None]) -> Monitor:
    def report(progress: Progress) -> None:
        if progress.status == "held":
            action(progress)

    return Monitor(report)


def test_every_population_is_trained_as_it_would_be_here(
    cluster: Cluster, item: Callable[..., Item], local: Item
) -> None:
    have_two_machines(cluster)
    items = [item(f"p{index}") for index in range(4)]
    seen: list[Progress] = []
    train_on_ray(work, items, address=cluster.address, monitor=Monitor(seen.append))
    for found in items:
        assert_as_undisturbed(found, local)
        assert [(threads, saved) for _, threads, saved in begun(found)] == [("1", "nothing")]
    assert {begun(found)[0][0] for found in items} <= {node.node_id for node in cluster.worker_nodes}
    assert [p.member for p in seen if p.status == "finished"].count("m1") == 4


def test_a_wish_to_stop_saves_and_the_same_again_continues(
    cluster: Cluster, item: Callable[..., Item], local: Item
) -> None:
    items = [item("held", 15), *(item(f"p{index}", 15) for index in range(3))]
    wishes: list[Progress] = []
    monitor = Monitor(when_held(wishes.append).report, lambda: bool(wishes))
    with pytest.raises(Interrupted, match=r"stopped (after step 15 of 30|before everything had begun); run the same"):
        train_on_ray(work, items, monitor=monitor)
    stopped = [Run.open(i.folder / "m0") for i in items if i.folder.exists()]
    assert 1 <= len(stopped) < len(items)
    assert {run.status for run in stopped} == {"interrupted"}
    assert Run.open(items[0].folder.with_name(wishes[0].member) / "m0").checkpoints() == [15]
    train_on_ray(work, [i._replace(hold=None) for i in items])
    for found in items:
        assert_as_undisturbed(found, local)


def test_an_interrupt_saves_first(cluster: Cluster, item: Callable[..., Item]) -> None:
    held = item("held", 15)
    with pytest.raises(Interrupted, match="stopped after step 15 of 30; run the same again to continue"):
        train_on_ray(work, [held], monitor=when_held(lambda _: signal.raise_signal(signal.SIGINT)))
    assert Run.open(held.folder / "m1").checkpoints() == [15]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def refuse(item: Item, monitor: Monitor) -> None:
    if item.problem is not None:
        return work(item, monitor)
    while not marker(item).exists() and not monitor.should_stop():
        time.sleep(0.02)
    raise {"value": InputError("width=3: must be even"), "bug": ZeroDivisionError("by zero")}[item.folder.stem]


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [("value", InputError, "width=3: must be even"), ("bug", ZeroDivisionError, "by zero")],
)
def test_an_error_reaches_the_caller_after_the_others_have_saved(
    cluster: Cluster, item: Callable[..., Item], tmp_path: Path, name: str, kind: type[Exception], message: str
) -> None:
    have_two_machines(cluster)
    held = item(name, 15)
    with pytest.raises(kind) as caught:
        train_on_ray(refuse, [held, Item(None, tmp_path / name)])
    assert (type(caught.value), str(caught.value)) == (kind, message)
    assert Run.open(held.folder / "m1").status == "interrupted"


def test_a_process_told_to_end_hands_its_population_on(
    cluster: Cluster, item: Callable[..., Item], local: Item, caplog: pytest.LogCaptureFixture
) -> None:
    held = item("held", 15)

    def shut_down(progress: Progress) -> None:
        os.kill(int(marker(held).read_text()), signal.SIGTERM)
        marker(held).write_text("go on")

    train_on_ray(work, [held], monitor=when_held(shut_down))
    assert [saved for _, _, saved in begun(held)] == ["nothing", "step-15"]
    assert_as_undisturbed(held, local)
    assert "population 1 of 1 begins again: the process that trained it was killed" in caplog.messages


def test_populations_of_a_lost_machine_continue_elsewhere(
    cluster: Cluster, item: Callable[..., Item], local: Item, caplog: pytest.LogCaptureFixture
) -> None:
    have_two_machines(cluster)
    items = [item("held", 15), item("p1"), item("p2")]

    def lose_machine(progress: Progress) -> None:
        (lost,) = (node for node in cluster.worker_nodes if node.node_id == begun(items[0])[0][0])
        cluster.remove_node(lost, allow_graceful=False)

    train_on_ray(work, items, monitor=when_held(lose_machine))
    (first, _, _), (second, threads, saved) = begun(items[0])
    assert first != second
    assert (threads, saved) == ("1", "step-10")
    for found in items:
        assert_as_undisturbed(found, local)
    assert "population 1 of 3 begins again: the machine that trained it was lost" in caplog.messages


def test_tasks_too_large_for_every_machine_wait_and_say_so(
    cluster: Cluster, item: Callable[..., Item], caplog: pytest.LogCaptureFixture
) -> None:
    monitor = Monitor(should_stop=lambda: bool(caplog.messages))
    with pytest.raises(Interrupted, match="stopped before everything had begun; run the same again to continue"):
        train_on_ray(work, [item("never")], cpus=2, monitor=monitor)
    assert caplog.messages == [
        "cpus=2, gpus=0: no machine is that large (processors and GPUs: 1 and 0, 0 and 0); "
        "waiting for one to join the cluster"
    ]


def test_a_machine_of_our_own_that_is_too_small(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_driver, "is_own", lambda address: True)
    with pytest.raises(InputError, match="cpus=64, gpus=0: no machine is that large"):
        train_on_ray(work, [1], cpus=64)


def test_another_cluster_than_that_of_this_process_is_refused(cluster: Cluster) -> None:
    with pytest.raises(InputError, match=r"address='10.0.0.1:6379': this process already uses the Ray cluster at"):
        train_on_ray(print, [1], address="10.0.0.1:6379")


def test_work_that_the_machines_cannot_load(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "only_here.py").write_text("def work(item, monitor): ...")
    monkeypatch.syspath_prepend(tmp_path)
    only_here = importlib.import_module("only_here")
    with pytest.raises(InputError, match=r"cannot load the work \(No module named 'only_here'\); install the same on"):
        train_on_ray(only_here.work, [1])


def kill_itself(item: Item, monitor: Monitor) -> None:
    with open(item.folder, "a") as file:
        print("begun", file=file)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_is_always_killed_is_given_up(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_driver, "_MOST_CRASHES", 2)
    with pytest.raises(
        Interrupted,
        match=r"a training process was killed 2 times \(is there enough memory\?\); run the same again to continue",
    ):
        train_on_ray(kill_itself, [Item(None, tmp_path / "log")])
    assert (tmp_path / "log").read_text().split() == ["begun"] * 2


PROGRAM = """
import os, sys, time
from pathlib import Path
from anchorlab.cli import app as module, main
from anchorlab.engine import RunWriter
from anchorlab.engine.ray_launcher import train_on_ray
from anchorlab.engine.store import environment
from anchorlab.errors import Interrupted

def work(folder, monitor):
    writer = RunWriter(folder)
    writer.claim({})
    writer.start({}, environment("cpu"))
    while not monitor.should_stop():
        time.sleep(0.02)
    writer.note("interrupted", step=0, seconds=0.0)
    writer.close()
    raise Interrupted("saved")

@module.app.command("ray")
def ray(out: str, address: str = "") -> None:
    before = dict(os.environ)
    try:
        train_on_ray(work, [Path(out) / "run"], address=address or None)
    finally:
        assert dict(os.environ) == before

main(["ray", *sys.argv[1:]])
"""


def stopped_driver(folder: Path, number: int, *options: str) -> tuple[int, str]:
    """Run PROGRAM, send it a signal when its item has begun, and return its exit code and messages."""
    (folder / "program.py").write_text(PROGRAM)
    command = [sys.executable, str(folder / "program.py"), str(folder), *options]
    environment = os.environ | NOT_NICE | {"HOME": str(folder)}  # Ray keeps a token there
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=folder
    )
    deadline = time.monotonic() + 60
    while not (folder / "run/config.json").exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    messages, _ = process.communicate(timeout=30)
    return process.returncode, messages


def test_a_ray_of_our_own_is_told_to_end(tmp_path: Path) -> None:
    assert stopped_driver(tmp_path, signal.SIGTERM) == (3, "interrupted: saved\n")
    assert Run.open(tmp_path / "run").status == "interrupted"


def test_a_killed_driver_takes_its_tasks_along(cluster: Cluster, tmp_path: Path) -> None:
    stopped_driver(tmp_path, signal.SIGKILL, "--address", cluster.address)

    def claim(folder: Path, monitor: Monitor) -> None:
        RunWriter(folder).claim({})

    ray_worker.call_patiently(claim, tmp_path / "run", Monitor(), patience=30.0)
