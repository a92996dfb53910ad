"""Train many networks: cut into populations, sent to a launcher, every member into a run folder of its own."""

import json
import os
import platform
import sys
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch

from anchorlab.engine import Monitor, Run, train_in_processes
from anchorlab.engine.locks import FolderLock, call_patiently
from anchorlab.engine.progress import working
from anchorlab.engine.ray_launcher import train_on_ray
from anchorlab.engine.store import ENDED, check_folder
from anchorlab.errors import InputError
from anchorlab.files import replacing
from anchorlab.validation import check_known

from .data import load_data
from .experiment import Experiment
from .live import live_grid
from .placement import Measured, Placement, measure, read_measured
from .populations import check_members, device_of, shape_of, train_members

Launcher = Literal["local", "ray"]
Members = Sequence[tuple[Experiment, Path]]

_PLAN = "sweep.json"
_SCHEMA_VERSION = 1
_PATIENCE_SECONDS = 20.0
_POPULATIONS_ON_RAY = 16  # a cluster's size is not known before it is there


def sweep(
    experiments: Mapping[str, Experiment],
    out: Path | str,
    *,
    launcher: Launcher = "local",
    address: str | None = None,
    placement: Placement = "auto",
    progress: bool | None = None,
) -> list[Run]:
    """Train every experiment into the run folder `out/<its name>` and return the runs in the order of `experiments`.

    Members of one shape are trained in populations: `pool` means one member each, `stacked` as many as memory allows,
    `auto` the faster of these by a measurement of some seconds (its numbers are in `out/sweep.json`). On a CPU every
    core trains a population, in one thread; on a machine with GPUs, every GPU. With `launcher="ray"` populations go to
    the cluster at `address` (see `engine.ray_launcher.train_on_ray`), one processor each, or one GPU for experiments
    with `device="cuda"`; `out` must be on a file system that all its machines share.

    The same call on the same folder continues a stopped sweep; ended members are not trained again. Members may be
    added. `progress` as in `live_grid`.

    Raises InputError for a wrong value, a folder that holds something else, or one that another sweep is using;
    Interrupted when stopped.
    """
    check_known("launcher", launcher, ("local", "ray"))
    check_known("placement", placement, ("auto", "pool", "stacked"))
    if not experiments:
        raise InputError("experiments: there are none")
    folder = Path(out)
    for name in experiments:
        if name in ("", ".", "..") or Path(name).name != name:
            raise InputError(f"experiments: {name!r} cannot be the name of a folder")
    check_members(experiments)
    with _claimed(folder):
        _check_folders(experiments, folder)
        groups = _groups(experiments, folder)
        machines = _machines(launcher, address, groups)
        populations = [
            population
            for group in groups
            for population in _cut(group, _size(group, folder, placement, machines, progress), machines.places)
        ]
        order = {folder / name: index for index, name in enumerate(experiments)}
        populations.sort(key=lambda members: order[members[0][1]])
        with live_grid(experiments, enabled=progress) as monitor:
            waiting = [members for members in populations if not _had_ended(members, monitor)]
            machines.launch(_train, waiting, monitor=monitor)
    return [Run.open(folder / name) for name in experiments]


def _train(members: Members, monitor: Monitor) -> None:
    sweep_folder = members[0][1].parent
    if not sweep_folder.is_dir():
        host = platform.node()
        raise InputError(
            f"out={str(sweep_folder)!r}: {host} has no such folder; all machines must share its file system"
        )
    # After a kill the workers of the last sweep may still be saving.
    call_patiently(_train_members, members, monitor, patience=_PATIENCE_SECONDS)


def _train_members(members: Members, monitor: Monitor) -> None:
    train_members([experiment for experiment, _ in members], [folder for _, folder in members], monitor)


@contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """Keep other sweeps out of the folder."""
    lock = FolderLock(folder)
    lock.acquire("sweep is running")
    try:
        yield
    finally:
        lock.release()


def _check_folders(experiments: Mapping[str, Experiment], folder: Path) -> None:
    """Raise InputError for a member's folder that holds something else, or a run on rows that have changed since."""
    hashes: dict[Hashable, str] = {}
    for name, experiment in experiments.items():
        settings = experiment.record()
        if experiment.data and (folder / name / "config.json").is_file():
            rows = experiment.data, experiment.test_rows, experiment.data_seed
            if rows not in hashes:
                hashes[rows] = load_data(experiment).digest()
            settings["data_hash"] = hashes[rows]
        check_folder(folder / name, settings)


def _groups(experiments: Mapping[str, Experiment], folder: Path) -> list[Members]:
    """Members that can be trained together."""
    groups: dict[Any, list[tuple[Experiment, Path]]] = defaultdict(list)
    for name, experiment in experiments.items():
        groups[shape_of(experiment)].append((experiment, folder / name))
    return list(groups.values())


@dataclass(frozen=True)
class _Machines:
    """Where populations are trained: what calls their work, how many at the same time, and a name for the kind."""

    launch: Callable[..., None]
    places: int
    kind: str


def _machines(launcher: Launcher, address: str | None, groups: Sequence[Members]) -> _Machines:
    first = [members[0][0] for members in groups]
    if launcher == "ray":
        on_gpu = any(experiment.device == "cuda" for experiment in first)
        launch = partial(train_on_ray, address=address, gpus=1 if on_gpu else 0)
        return _Machines(launch, _POPULATIONS_ON_RAY, f"ray {'cuda' if on_gpu else 'cpu'}")
    device = max(device_of(experiment).type for experiment in first)  # cuda, if any of them is for a GPU
    places = torch.cuda.device_count() if device == "cuda" else len(os.sched_getaffinity(0))
    return _Machines(partial(train_in_processes, processes=places), places, f"local {device}")


def _size(group: Members, folder: Path, placement: Placement, machines: _Machines, progress: bool | None) -> int:
    """How many members a population of this group has; a measured number is kept for the next time."""
    limit = -(-len(group) // machines.places)
    if placement == "pool" or limit == 1:
        return 1
    key = sha256(repr((machines.kind, machines.places, shape_of(group[0][0]))).encode()).hexdigest()[:16]
    plan = _read_plan(folder)
    known = plan["placement"].get(key)
    if known and placement in ("auto", known["placement"]):
        return int(known["members"])
    with working("measuring how many members to train together", enabled=progress):
        measured = _measure(group, limit, folder, machines.launch)
    size = (
        measured.best(limit, machines.places) if placement == "auto" else min(limit, measured.largest(machines.places))
    )
    plan["placement"][key] = {"placement": placement, "members": size, **asdict(measured)}
    _write_plan(folder, plan)
    if progress is not False:
        print(f"{measured.summary()}; populations of {size}", file=sys.stderr)
    return size


def _measure(group: Members, limit: int, folder: Path, launch: Callable[..., None]) -> Measured:
    path = folder / "measured.json"
    try:
        launch(measure, [([experiment for experiment, _ in group[:limit]], limit, path)])
        return read_measured(path)
    finally:
        path.unlink(missing_ok=True)


def _cut(group: Members, size: int, places: int) -> list[Members]:
    """Populations of nearly equal size, at most `size`, so many that no place is idle while others work."""
    count = -(-len(group) // size)
    if size > 1:
        count = min(len(group), -(-count // places) * places)
    bounds = [round(index * len(group) / count) for index in range(count + 1)]
    return [group[begin:end] for begin, end in pairwise(bounds)]


def _had_ended(members: Members, monitor: Monitor) -> bool:
    """Whether nothing is left to train; the members are then reported here."""
    runs = [Run(folder) for _, folder in members if (folder / "environment.json").is_file()]
    if len(runs) < len(members) or any(run.status not in ENDED for run in runs):
        return False
    for run in runs:
        monitor.report(run.progress(run.config["total_steps"]))
    return True


def _read_plan(folder: Path) -> dict[str, Any]:
    path = folder / _PLAN
    if not path.is_file():
        return {"schema_version": _SCHEMA_VERSION, "placement": {}}
    plan: dict[str, Any] = json.loads(path.read_text())
    return plan


def _write_plan(folder: Path, plan: Mapping[str, Any]) -> None:
    with replacing(folder / _PLAN) as temporary:
        temporary.write_text(json.dumps(plan, indent=2) + "\n")
