"""The run folder: everything needed to repeat or examine one member, readable without anchorlab."""

import json
import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save
from torch import Tensor
from transformers import PreTrainedModel

from anchorlab.errors import InputError
from anchorlab.files import replacing
from anchorlab.models import load
from anchorlab.models import save as save_model
from anchorlab.provenance import code_version

from .locks import LOCK, FolderLock
from .monitor import Progress

SCHEMA_VERSION = 1
ENDED = ("finished", "diverged")
_PACKAGES = ("anchorlab", "torch", "transformers", "numpy")
_CHECKPOINT = re.compile(r"step-(\d+)\.safetensors")
_SCHEMA = pa.schema(
    {"step": pa.int64(), "split": pa.string(), "group": pa.string(), "metric": pa.string(), "value": pa.float64()}
)
_COLUMNS = _SCHEMA.names
_SAVING = Lock()


class MetricRow(NamedTuple):
    """One row of metrics.parquet; `group` is empty for the whole split."""

    step: int
    split: str
    group: str
    metric: str
    value: float


@dataclass(frozen=True)
class Run:
    """A run folder, opened for reading.

    Raises InputError when `folder` is not a run folder.
    """

    folder: Path

    @classmethod
    def open(cls, folder: Path | str) -> "Run":
        """Open the run in `folder`."""
        path = Path(folder)
        if not (path / "config.json").is_file():
            raise InputError(f"run={str(folder)!r}: not a run folder (it has no config.json)")
        return cls(path)

    @property
    def name(self) -> str:
        """The member's name: that of its folder."""
        return self.folder.name

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved settings (config.json)."""
        return _read_json(self.folder / "config.json")

    @property
    def environment(self) -> dict[str, Any]:
        """Versions, device, seeds, wall time and status (environment.json)."""
        return _read_json(self.folder / "environment.json")

    @property
    def status(self) -> str:
        """`running`, `finished`, `diverged` or `interrupted`."""
        return str(self.environment["status"])

    def metrics(self) -> pd.DataFrame:
        """All measurements: columns step, split, group, metric, value."""
        path = self.folder / "metrics.parquet"
        return pd.read_parquet(path, columns=_COLUMNS) if path.is_file() else pd.DataFrame(columns=_COLUMNS)

    def final(self, split: str, metric: str = "accuracy") -> float:
        """The last value of `metric` over the whole of `split`."""
        table = self.metrics()
        chosen = table[(table.split == split) & (table.metric == metric) & (table.group == "")]
        if chosen.empty:
            raise InputError(f"{self.folder}: no {metric} was measured on split {split!r}")
        return float(chosen.value.iloc[-1])

    def progress(self, steps: int) -> Progress:
        """Where the run stands in a training of `steps` steps."""
        table = self.metrics()
        newest = table[(table.metric == "accuracy") & (table.group == "")].drop_duplicates("split", keep="last")
        accuracies = {str(split): float(value) for split, value in zip(newest.split, newest.value, strict=True)}
        environment = self.environment
        return Progress(self.name, environment.get("step", 0), steps, float("nan"), accuracies, environment["status"])

    def model(self, step: int | None = None) -> PreTrainedModel:
        """The trained model, or what it was after `step`, one of `checkpoints()`.

        Raises InputError while the run has not ended, and for a step whose parameters were not kept.
        """
        if not (self.folder / "model").is_dir():
            raise InputError(f"{self.folder}: no trained model yet (status: {self.status})")
        model = load(self.folder / "model")
        if step is not None:
            _load_parameters(model, self.parameters(step), self.folder / "checkpoints" / f"step-{step}.safetensors")
        return model

    def parameters(self, step: int) -> dict[str, Tensor]:
        """The parameters after `step`, one of `checkpoints()`; raises InputError if they were not kept."""
        if step not in self.checkpoints():
            kept = ", ".join(map(str, self.checkpoints())) or "none; train with keep_checkpoints=true"
            raise InputError(f"step={step}: {self.folder} has no checkpoint there; kept: {kept}")
        return load_file(self.folder / "checkpoints" / f"step-{step}.safetensors")

    def checkpoints(self) -> list[int]:
        """Steps whose parameters are on disk."""
        found = (_CHECKPOINT.fullmatch(path.name) for path in (self.folder / "checkpoints").glob("step-*"))
        return sorted(int(match[1]) for match in found if match)


def find_runs(folder: Path | str) -> list[Run]:
    """All runs at or below `folder`, sorted by path; raises InputError if there is none."""
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"folder={str(folder)!r}: no such folder")
    found = (path.parent for path in sorted(root.rglob("config.json")))
    runs = [Run(path) for path in found if (path / "environment.json").is_file()]
    if not runs:
        raise InputError(f"folder={str(folder)!r}: holds no runs")
    return runs


class Checkpoint(NamedTuple):
    """Parameters and optimizer tensors after `step` optimizer steps, with the metrics until then."""

    step: int
    parameters: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    metrics: list[MetricRow]


class RunWriter:
    """Writes one run folder; every file appears whole or not at all."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._checkpoints = folder / "checkpoints"
        self._ends = self._checkpoints / "ends.json"
        self._lock = FolderLock(folder)

    def claim(self, config: Mapping[str, Any]) -> None:
        """Lock the folder for this process and check that it is new or holds a run of the same settings.

        Raises FolderInUse if another process trains in it, InputError if it holds something else or cannot be made.
        """
        check_folder(self.folder, config)  # nothing is written into a folder of something else, not even a lock
        self._lock.acquire("process is training")
        check_folder(self.folder, config)

    def start(self, config: Mapping[str, Any], surroundings: Mapping[str, Any]) -> bool:
        """Write the claimed folder's configuration and environment; return whether its run had ended before.

        `surroundings` are what `environment` gives; the seeds among the settings are added.
        """
        before = self._environment()
        if before.get("status") in ENDED:
            return True
        settings = _as_json(config)
        elapsed = {name: before.get(name, 0.0) for name in ("wall_time_seconds", "core_seconds")}
        seeds = {name: value for name, value in settings.items() if name.endswith("seed")}
        _write_json(self.folder / "environment.json", {**surroundings, "seeds": seeds, **elapsed})
        self._checkpoints.mkdir(exist_ok=True)
        _write_json(self.folder / "config.json", settings)
        return False

    def _environment(self) -> dict[str, Any]:
        path = self.folder / "environment.json"
        return _read_json(path) if path.is_file() else {}

    def checkpoint(self, saved: Checkpoint) -> None:
        """Save everything needed to continue from `saved.step`."""
        self.write_metrics(saved.metrics)
        # The parameters are written last: their file is what declares the checkpoint complete.
        _save_tensors(self._optimizer_path(saved.step), saved.optimizer)
        _save_tensors(self._parameters_path(saved.step), saved.parameters)

    def prune(self, step: int, *, keep_parameters: bool) -> None:
        """Remove what a checkpoint at `step` makes needless: other optimizer states, and parameters unless kept."""
        wanted = {self._optimizer_path(step), self._parameters_path(step)}
        pattern = "*.optimizer.safetensors" if keep_parameters else "*.safetensors"
        for path in set(self._checkpoints.glob(pattern)) - wanted:
            path.unlink()

    def checkpoints(self) -> list[int]:
        """Steps from which training can continue."""
        steps = [int(path.name.split(".")[0].removeprefix("step-")) for path in self._checkpoints.glob("*.optimizer.*")]
        return sorted(step for step in steps if self._parameters_path(step).is_file())

    def load_checkpoint(self, step: int) -> Checkpoint:
        """Read the checkpoint at `step`."""
        table = Run(self.folder).metrics()
        rows = [MetricRow(*row) for row in table[table.step <= step].itertuples(index=False)]
        return Checkpoint(step, load_file(self._parameters_path(step)), load_file(self._optimizer_path(step)), rows)

    def _parameters_path(self, step: int) -> Path:
        return self._checkpoints / f"step-{step}.safetensors"

    def _optimizer_path(self, step: int) -> Path:
        return self._checkpoints / f"step-{step}.optimizer.safetensors"

    def write_metrics(self, rows: list[MetricRow]) -> None:
        """Write metrics.parquet."""
        columns = zip(*rows, strict=True) if rows else [[] for _ in _COLUMNS]
        with replacing(self.folder / "metrics.parquet") as temporary:
            pq.write_table(pa.table(dict(zip(_COLUMNS, columns, strict=True)), schema=_SCHEMA), temporary)

    def note(self, status: str, *, step: int, seconds: float, members: int = 1, reason: str | None = None) -> None:
        """Record where the run stands; `seconds` are those since the last note and add up to its wall time.

        `members` were trained together meanwhile: the run's share adds up to its core seconds.
        """
        known = self._environment()
        known["wall_time_seconds"] += seconds
        known["core_seconds"] = known.get("core_seconds", 0.0) + seconds / members
        known |= {"status": status, "step": step}
        _write_json(self.folder / "environment.json", known | ({"reason": reason} if reason else {}))

    def note_ends(self, ends: Mapping[str, tuple[str, str | None, int]]) -> None:
        """Note which runs of a population end: by place, their status, reason and step. All or none are noted."""
        _write_json(self._ends, ends)

    def noted_ends(self) -> dict[str, Any]:
        """What `note_ends` noted last."""
        return _read_json(self._ends) if self._ends.is_file() else {}

    def close(self) -> None:
        """Let other processes write to this folder."""
        self._lock.release()


def check_folder(folder: Path, config: Mapping[str, Any]) -> None:
    """Raise InputError unless `folder` is new, empty, or holds a run with the same values of what `config` names."""
    if (folder / "config.json").is_file():
        known, wanted = _read_json(folder / "config.json"), _as_json(config)
        different = sorted(key for key in wanted if known.get(key) != wanted[key])
        if different:
            shown = ", ".join(f"{key}: {known.get(key)!r} there, {wanted[key]!r} here" for key in different)
            raise InputError(f"out={str(folder)!r}: the folder holds a run with other settings ({shown})")
    elif folder.is_dir() and any(path.name not in ("environment.json", "checkpoints") for path in _visible(folder)):
        raise InputError(f"out={str(folder)!r}: the folder is not empty and holds no run; choose another")


def save_member(model: PreTrainedModel, parameters: Mapping[str, Tensor], folder: Path) -> None:
    """Write a model as Hugging Face does, with these parameters; one at a time, since members may share the model."""
    with _SAVING:
        _copy_parameters(model, parameters)
        save_model(model, folder)


def environment(device: str) -> dict[str, Any]:
    """Where runs happen: versions, a hash of the training code, device, git commit."""
    return {
        "status": "running",
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": _versions(),
        "code_version": code_version(),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else _processor(),
        "threads": torch.get_num_threads(),
        "git_commit": _git_commit(),
    }


@cache
def _versions() -> dict[str, str]:
    return {package: version(package) for package in _PACKAGES}


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    models = [line for line in path.read_text().splitlines() if line.startswith("model name")] if path.exists() else []
    return models[0].split(":", 1)[1].strip() if models else platform.processor() or platform.machine()


def _git_commit() -> str | None:
    # The commit of the project that the user works in, if any: part of how a result came about.
    try:
        result = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return result.stdout.strip() or None


def _as_json(config: Mapping[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads(json.dumps({"schema_version": SCHEMA_VERSION, **config}))
    return settings


def _visible(folder: Path) -> list[Path]:
    # Neither the lock nor what a killed process left half written counts.
    return [path for path in folder.iterdir() if path.name != LOCK and not path.name.endswith(".tmp")]


def _load_parameters(model: PreTrainedModel, saved: Mapping[str, Tensor], path: Path) -> None:
    own = dict(model.named_parameters())  # in which a tied head is not listed
    if {name: tensor.shape for name, tensor in saved.items()} != {name: tensor.shape for name, tensor in own.items()}:
        raise InputError(f"{path}: does not hold the parameters of the run's model")
    _copy_parameters(model, saved)


def _copy_parameters(model: PreTrainedModel, parameters: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(parameters[name])


def _read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def _save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    with replacing(path) as temporary:
        # Not save_file: of a full disk it tells in an error of its own.
        temporary.write_bytes(save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}))
