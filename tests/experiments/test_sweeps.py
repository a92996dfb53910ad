import errno
import gc
import json
import subprocess
import sys
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_experiments import SMALL, small

from anchorlab import Experiment, Run, sweep, train
from anchorlab.corpora import TokenRows, write
from anchorlab.engine import Monitor, Progress
from anchorlab.errors import FolderInUse, InputError
from anchorlab.experiments import placement, populations, sweeps
from anchorlab.experiments.placement import Measured, Speed, measure, read_measured
from anchorlab.experiments.populations import shape_of, train_members

VARIED = {
    "plain": small(seed=1, weight_decay=0.5),
    "rate": small(seed=2, initialization_rate=0.3, learning_rate=3e-3, betas=(0.8, 0.95)),
    "data": small(seed=2, data_seed=7, clip_norm=0.1, schedule="constant"),
    "task": small(seed=4, task_fields={"modulus": 7}, weight_decay=0.0, decay_scope="matrices", warmup=2),
}


def same(run: Run, other: Run, **tolerance: Any) -> None:
    pd.testing.assert_frame_equal(run.metrics(), other.metrics(), **(tolerance or {"check_exact": True}))


def test_members_of_all_kinds_are_the_same_stacked_and_alone(tmp_path: Path) -> None:
    assert len({shape_of(experiment) for experiment in VARIED.values()}) == 1
    stacked = train_members(list(VARIED.values()), [tmp_path / "stacked" / name for name in VARIED], Monitor())
    assert_as_alone(stacked, tmp_path / "alone")


@pytest.mark.slow
def test_members_of_all_kinds_are_the_same_in_a_pool_and_alone(tmp_path: Path) -> None:
    pool = sweep(VARIED, tmp_path / "pool", placement="pool", progress=False)
    assert_as_alone(pool, tmp_path / "alone")


def assert_as_alone(runs: Sequence[Run], folder: Path) -> None:
    for run, (name, experiment) in zip(runs, VARIED.items(), strict=True):
        alone = train(experiment, folder / name, progress=False)
        same(run, alone, rtol=1e-4, atol=1e-5)
        assert run.config == alone.config


@pytest.mark.usefixtures("in_this_process")
def test_different_shapes_in_one_sweep(tmp_path: Path) -> None:
    experiments = {"wide": small(width=24), "narrow": small(), "deep": small(layers=3), "narrow2": small(seed=1)}
    runs = sweep(experiments, tmp_path, placement="stacked", progress=False)
    assert [run.name for run in runs] == list(experiments)
    assert [run.config["width"] for run in runs] == [24, 16, 16, 16]
    assert {run.status for run in runs} == {"finished"}


@pytest.mark.usefixtures("in_this_process")
def test_auto_placement_measures_and_writes_its_numbers(tmp_path: Path) -> None:
    experiments = {f"seed{seed}": small(seed=seed, batch_size=4, steps=4) for seed in range(10)}
    sweep(experiments, tmp_path, progress=False)
    (known,) = json.loads((tmp_path / "sweep.json").read_text())["placement"].values()
    assert known["device"] == "cpu"
    assert [speed["members"] for speed in known["speeds"]][:2] == [1, 4]
    assert all(speed["seconds_per_step"] > 0 for speed in known["speeds"])
    assert known["members"] in (1, 4, 5)
    assert not list(tmp_path.glob("measured*"))


def test_best_size_is_the_fastest_that_fits() -> None:
    speeds = (Speed(1, 1e-3, 100.0), Speed(4, 2e-3, 100.0), Speed(16, 16e-3, 100.0))
    assert Measured("cpu", 10**9, speeds).best(limit=100, processes=2) == 4
    assert Measured("cpu", 10**9, speeds).best(limit=3, processes=2) == 1
    assert Measured("cpu", 750, speeds).best(limit=100, processes=2) == 1
    assert Measured("cuda", 10_000, speeds).best(limit=100, processes=2) == 80
    assert Measured("cuda", 10_000, speeds).best(limit=30, processes=2) == 30
    hardly_faster = (Speed(1, 1e-3, 100.0), Speed(4, 3.6e-3, 100.0))
    assert Measured("cpu", 10**9, hardly_faster).best(limit=100, processes=2) == 1


@pytest.mark.usefixtures("in_this_process")
def test_tasks_of_different_groups_are_measured_each_by_its_own(tmp_path: Path) -> None:
    other = {"operations": {"z": "add:5", "b": "add:1", "c": "add:-2", "d": "add:-8"}}
    experiments = {"a": small(steps=2), "z": small(steps=2, task_fields=other), "b": small(steps=2, seed=1)}
    assert shape_of(experiments["a"]) == shape_of(experiments["b"]) != shape_of(experiments["z"])
    runs = sweep(experiments, tmp_path, placement="stacked", progress=False)
    groups = [{group[0] for group in run.metrics().group if group} for run in runs]
    assert groups == [set("abcd"), set("zbcd"), set("abcd")]


def test_members_with_and_without_commutativity_in_one_population(tmp_path: Path) -> None:
    experiments = [small(steps=2), small(steps=2, task_fields={"held_out": (("a", "a"),)})]
    runs = train_members(experiments, [tmp_path / "0", tmp_path / "1"], Monitor())
    assert ["commutativity" in set(run.metrics().metric) for run in runs] == [True, False]


def test_attempt_that_did_not_fit_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    plenty, sizes = populations.assemble, []

    def assembled(part: Sequence[Experiment]) -> Any:
        gc.collect()
        sizes.append((len(part), len(alive)))
        assembly = plenty(part)
        alive.add(assembly.population)
        if len(part) > 1:
            assembly.population.advance = raise_out_of_memory
        return assembly

    monkeypatch.setattr(populations, "assemble", assembled)
    train_members([small(seed=seed, steps=2) for seed in range(4)], [tmp_path / str(k) for k in range(4)], Monitor())
    assert sizes == [(4, 0), (2, 0), (1, 0), (1, 0), (2, 0), (1, 0), (1, 0)]


def raise_out_of_memory(*arguments: Any) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


@given(st.integers(1, 300), st.integers(1, 80), st.integers(1, 16))
def test_populations_hold_every_member_once_and_keep_all_places_busy(members: int, size: int, places: int) -> None:
    group = [(str(index), Path(str(index))) for index in range(members)]
    cut = sweeps._cut(group, size, places)
    assert [member for population in cut for member in population] == group
    sizes = [len(population) for population in cut]
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1
    assert size == 1 or len(cut) % places == 0 or len(cut) == members


def test_measurement_stops_growing_when_memory_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "assemble", too_large(more_than=4, assemble=placement.assemble))
    measure(([small(seed=seed) for seed in range(20)], 20, tmp_path / "m.json"), Monitor())
    assert [speed.members for speed in read_measured(tmp_path / "m.json").speeds] in ([1], [1, 4])


def too_large(more_than: int, assemble: Any) -> Any:
    def refuse(experiments: Sequence[Experiment]) -> Any:
        if len(experiments) > more_than:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 TB")
        return assemble(experiments)

    return refuse


def test_population_that_does_not_fit_is_halved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiments = [small(seed=seed, steps=3) for seed in range(5)]
    sizes = []
    plenty = populations.assemble
    monkeypatch.setattr(populations, "assemble", too_large(2, lambda part: sizes.append(len(part)) or plenty(part)))
    runs = train_members(experiments, [tmp_path / str(seed) for seed in range(5)], Monitor())
    assert sizes == [2, 1, 2]
    assert [run.config["seed"] for run in runs] == [0, 1, 2, 3, 4]
    assert {run.status for run in runs} == {"finished"}


def test_member_that_never_fits_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(populations, "assemble", too_large(0, None))
    with pytest.raises(InputError, match="batch_size=32: one member alone needs too much memory"):
        train_members([small()], [tmp_path / "m"], Monitor())


def test_other_runtime_errors_are_not_taken_for_a_lack_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(experiments: Sequence[Experiment]) -> Any:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(populations, "assemble", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        train_members([small()], [tmp_path / "m"], Monitor())


@pytest.mark.usefixtures("in_this_process")
def test_ended_members_are_reported_and_not_trained_again(tmp_path: Path) -> None:
    experiments = {"a": small(seed=0), "b": small(seed=1)}
    sweep(experiments, tmp_path, progress=False)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*.json")}
    (tmp_path / "c").mkdir()
    seen: list[Progress] = []
    runs = sweep(experiments | {"c": small(seed=2)}, tmp_path, progress=False)
    assert [run.status for run in runs] == ["finished"] * 3
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())
    train_members(list(experiments.values()), [tmp_path / name for name in experiments], Monitor(seen.append))
    assert [(p.member, p.step, p.status) for p in seen] == [("a", 10, "finished"), ("b", 10, "finished")]
    assert seen[0].accuracies["test"] == runs[0].final("test")


@pytest.mark.usefixtures("in_this_process")
def test_ended_members_are_not_returned_for_rows_that_have_changed(tmp_path: Path) -> None:
    rows = write(tmp_path / "rows", {"train": TokenRows([[1, 2, 3]] * 40)})
    members = {name: small(data=str(rows), seed=seed) for seed, name in enumerate("ab")}
    runs = sweep(members, tmp_path / "sweep", progress=False)
    assert [run.status for run in sweep(members, tmp_path / "sweep", progress=False)] == ["finished"] * 2
    write(rows, {"train": TokenRows([[1, 3, 2]] * 40)})
    with pytest.raises(InputError) as of_train:
        train(members["a"], runs[0].folder, progress=False)
    with pytest.raises(InputError, match=r"run with other settings \(data_hash: ") as of_sweep:
        sweep(members, tmp_path / "sweep", progress=False)
    assert str(of_sweep.value) == str(of_train.value)


@pytest.mark.usefixtures("in_this_process")
def test_other_settings_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    sweep({"b": small(seed=1, steps=2)}, tmp_path, progress=False)
    with pytest.raises(InputError, match=r"other settings \(seed: 1 there, 2 here\)"):
        sweep({"a": small(steps=2), "b": small(seed=2, steps=2)}, tmp_path, progress=False)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("name", ["", "..", "a/b", "/abs"])
def test_names_that_are_no_folder_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="cannot be the name of a folder"):
        sweep({name: small()}, tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 601}, "bad: batch_size=601: must be between 1 and the 600 training rows"),
        ({"heads": 3}, "bad: width: must be divisible by heads=3"),
        ({"task": "identity", "stop_accuracy": {"ood": 0.5}}, "bad: stop_accuracy: unknown value 'ood'"),
    ],
)
def test_one_impossible_member_stops_the_sweep_before_it_begins(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        sweep({"good": small(), "bad": small(**settings)}, tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


def test_wrong_words_and_nothing_to_do(tmp_path: Path) -> None:
    for arguments, message in (
        ({"launcher": "slurm"}, "launcher: unknown value 'slurm'"),
        ({"placement": "stack"}, "placement: unknown value 'stack'; did you mean 'stacked'"),
    ):
        with pytest.raises(InputError, match=message):
            sweep({"a": small()}, tmp_path, **arguments)
    with pytest.raises(InputError, match="experiments: there are none"):
        sweep({}, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"out=.*file'?: cannot be used"):
        sweep({"a": small()}, tmp_path / "file")


def test_second_sweep_in_a_folder_stops(tmp_path: Path) -> None:
    program = "import fcntl, sys, time; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX); "
    program += "print('locked', flush=True); time.sleep(600)"
    command = [sys.executable, "-c", program, str(tmp_path / ".lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:  # as a sweep does that is running
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(FolderInUse, match="another sweep is running in this folder; let it end first"):
            sweep({"a": small()}, tmp_path, progress=False)
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
        other.kill()


def test_machine_without_the_shared_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no such folder; all machines must share its file system"):
        sweeps._train([(small(), tmp_path / "elsewhere/a")], Monitor())
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.slow
def test_killed_sweep_continues_to_the_same_metrics(tmp_path: Path) -> None:
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    experiments = {f"seed{seed}": small(seed=seed, steps=300, checkpoint_every=20) for seed in range(3)}
    program = "import json, sys; from anchorlab import Experiment, sweep; "
    # The measurement behind "auto" may choose another placement, with other rounding, the second time.
    program += "settings = json.loads(sys.argv[1]).items(); "
    program += "sweep({n: Experiment(**s) for n, s in settings}, sys.argv[2], placement='stacked')"
    settings = {name: SMALL | {"seed": e.seed, "steps": 300, "checkpoint_every": 20} for name, e in experiments.items()}
    process = subprocess.Popen([sys.executable, "-P", "-c", program, json.dumps(settings), str(cut)])
    deadline = time.monotonic() + 120
    while not list(cut.glob("*/checkpoints/step-*0.safetensors")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    # The orphaned workers save what they have and leave.
    while any(Run(path.parent).status == "running" for path in cut.glob("*/environment.json")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert any(Run(path.parent).status == "interrupted" for path in cut.glob("*/environment.json"))
    resumed, undisturbed = (sweep(experiments, to, placement="stacked", progress=False) for to in (cut, whole))
    for one, other in zip(resumed, undisturbed, strict=True):
        same(one, other)


def test_full_disk_stops_a_sweep_that_continues_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiments = [small(seed=seed, checkpoint_every=4) for seed in (0, 1)]
    folders = [tmp_path / "cut" / str(seed) for seed in (0, 1)]
    real = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if "step-8" in path.name and path.parent.parent.name == "1":
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        train_members(experiments, folders, Monitor())
    monkeypatch.setattr(Path, "write_bytes", real)
    resumed = train_members(experiments, folders, Monitor())
    whole = train_members(experiments, [tmp_path / "whole" / str(seed) for seed in (0, 1)], Monitor())
    for one, other in zip(resumed, whole, strict=True):
        same(one, other)


def test_commutativity_is_recorded_where_it_exists(tmp_path: Path) -> None:
    composite = train(small(steps=1), tmp_path / "composite", progress=False).metrics()
    found = composite[composite.metric == "commutativity"]
    assert set(found.split) == {"ood"}
    assert found.value.between(0, 1).all()
    identity = train(small(steps=1, task="identity"), tmp_path / "identity", progress=False).metrics()
    assert "commutativity" not in set(identity.metric)
    same_twice = small(steps=1, task_fields={"held_out": (("a", "a"),)})
    assert "commutativity" not in set(train(same_twice, tmp_path / "aa", progress=False).metrics().metric)


def test_gpu_path_has_no_gpu_here(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(InputError, match="device='cuda': this machine has no usable GPU"):
        sweep({"a": small(device="cuda")}, tmp_path)
