"""A table over the runs below a folder: what varies between them, where each stands, and how well it does."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anchorlab.engine import Run, find_runs
from anchorlab.errors import InputError

from .phases import phase

REPLICATES = ("seed", "data_seed")
"""What varies between runs that are repetitions of each other."""

_FOLLOWS = ("schema_version", "vocabulary_size", "length", "parameters", "total_steps", "data_hash")
_WITHOUT_EFFECT = ("device", "checkpoint_every", "keep_checkpoints")
_MEASURED = {
    "train_accuracy": ("train", "accuracy"),
    "id_accuracy": ("test", "accuracy"),
    "ood_accuracy": ("ood", "accuracy"),
    "commutativity": ("ood", "commutativity"),
}
_BEST = ("id_accuracy", "ood_accuracy")


@dataclass(frozen=True)
class Thresholds:
    """Limits between good and poor; a value equal to its limit is good.

    Figure 13.6 states 0.9 for ID and 0.7 for commutativity; it states none for OOD, for which 0.9 is used too.
    Raises InputError for a limit outside 0..1.
    """

    id: float = 0.9
    ood: float = 0.9
    commutativity: float = 0.7

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0.0 <= value <= 1.0:
                raise InputError(f"{name}_threshold={value}: must be between 0 and 1")


@dataclass(frozen=True)
class RunCollection:
    """The runs below a folder.

    `members` has one row a run: member (its path below the folder), folder, status, reason (why it diverged), a column
    for every axis, initialization_rate, weight_decay, seed, step, total_steps, wall_time (seconds), evaluated_step
    (of the last evaluation); there train_accuracy, id_accuracy (split `test`), ood_accuracy, commutativity;
    best_id_accuracy and best_ood_accuracy (each the largest of all evaluations); phase (of the last evaluation). What
    was not measured is missing, and so are the accuracies of a diverged run.

    `axes` are the settings that differ between the runs, `shared` the others. Settings of the task are named `task.…`;
    they are compared between runs of the same task.
    """

    folder: Path
    members: pd.DataFrame
    axes: tuple[str, ...]
    shared: dict[str, Any]
    thresholds: Thresholds


def collect_runs(folder: Path | str, thresholds: Thresholds | None = None) -> RunCollection:
    """Read all runs at or below `folder`; `thresholds` decide the phases.

    Raises InputError if there is no run or one of them cannot be read.
    """
    root, limits = Path(folder), thresholds or Thresholds()
    runs = find_runs(root)
    settings = [_settings(run) for run in runs]
    axes = _axes(settings)
    rows = [
        {"member": _path(run, root), "folder": str(run.folder)}
        | _state(run)
        | {axis: one.get(axis) for axis in axes}
        | _usual(one)
        | _scores(run)
        for run, one in zip(runs, settings, strict=True)
    ]
    members = pd.DataFrame(rows)
    members["phase"] = pd.array([_phase(row, limits) for row in rows], "Int64")
    shared = {name: value for name, value in settings[0].items() if name not in axes}
    return RunCollection(root, members, axes, shared, limits)


def _path(run: Run, root: Path) -> str:
    return run.folder.relative_to(root).as_posix() if run.folder != root else run.folder.resolve().name


def _settings(run: Run) -> dict[str, Any]:
    try:
        config = run.config
    except ValueError as error:
        raise _unreadable(run, "config.json", error) from None
    task = config.get("task") or {}
    others = {name: value for name, value in config.items() if name not in ("task", *_FOLLOWS, *_WITHOUT_EFFECT)}
    of_task = {f"task.{name}": _value(value) for name, value in task.get("fields", {}).items()}
    return {"task": task.get("name")} | _flat(others) | of_task


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in config.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: _value(value)}
    return flat


def _value(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.10g}")  # 0.1 + 0.2 and 0.3 are one place on an axis
    if value is None or (isinstance(value, str | int) and not isinstance(value, bool)):
        return value
    return json.dumps(value, ensure_ascii=False)


def _axes(settings: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    names = dict.fromkeys(name for one in settings for name in one)
    return tuple(name for name in names if _differs(name, settings))


def _differs(name: str, settings: Sequence[Mapping[str, Any]]) -> bool:
    by_task: dict[Any, set[Any]] = {}
    for one in settings:
        by_task.setdefault(one["task"] if name.startswith("task.") else None, set()).add(one.get(name))
    return any(len(values) > 1 for values in by_task.values())


def _usual(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: settings.get(name) for name in ("initialization_rate", "weight_decay", "seed")}


def _state(run: Run) -> dict[str, Any]:
    try:
        environment = run.environment
        return {"status": environment["status"], "reason": environment.get("reason")}
    except (ValueError, KeyError) as error:
        raise _unreadable(run, "environment.json", error) from None


def _scores(run: Run) -> dict[str, Any]:
    try:
        metrics = run.metrics()
        whole = metrics[metrics["group"] == ""].sort_values("step", kind="stable")
    except (ValueError, KeyError) as error:
        raise _unreadable(run, "metrics.parquet", error) from None
    environment, evaluated = run.environment, int(whole["step"].max()) if len(whole) else None
    position = {
        "step": environment.get("step", evaluated),
        "total_steps": run.config.get("total_steps"),
        "wall_time": environment.get("wall_time_seconds"),
        "evaluated_step": evaluated,
    }
    histories = {
        name: whole.loc[(whole["split"] == split) & (whole["metric"] == metric), "value"].to_numpy(float)
        for name, (split, metric) in _MEASURED.items()
    }
    known = environment["status"] != "diverged"
    final = {name: history[-1] if known and len(history) else np.nan for name, history in histories.items()}
    best = {f"best_{name}": histories[name].max() if known and len(histories[name]) else np.nan for name in _BEST}
    return position | final | best


def _unreadable(run: Run, file: str, error: Exception) -> InputError:
    return InputError(f"{run.folder / file}: cannot be read ({type(error).__name__}: {error})")


def _phase(row: Mapping[str, Any], limits: Thresholds) -> int | None:
    return phase_number(row["id_accuracy"], row["ood_accuracy"], limits)


def phase_number(id_accuracy: float, ood_accuracy: float, limits: Thresholds) -> int | None:
    """The phase; None if an accuracy is missing."""
    if np.isnan(id_accuracy) or np.isnan(ood_accuracy):
        return None
    return phase(id_accuracy, ood_accuracy, id_threshold=limits.id, ood_threshold=limits.ood).number
