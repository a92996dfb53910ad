"""What a measurement works with: settings, seeds, a folder, and trainings that are kept and shared."""

import json
import os
import time
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any, TypeVar

from anchorlab.engine import Run
from anchorlab.engine.progress import working
from anchorlab.errors import InputError
from anchorlab.experiments import Experiment, sweep
from anchorlab.phenomena import Fit, train_fits

Key = TypeVar("Key", bound=Hashable)


@dataclass
class Study:
    """One measurement at one scale.

    `folder` is for files of its own; `runs` holds the trainings of all studies, named by a hash of their settings and
    of the rows and weights that these name, so that studies that need the same training share it. `trained` lists the
    runs that this study used.
    """

    scale: str
    settings: Mapping[str, Any]
    folder: Path
    runs: Path
    progress: bool | None = None
    trained: list[Run] = field(default_factory=list)
    training_seconds: float = 0.0

    @property
    def seeds(self) -> range:
        """The trials: 0, 1, …"""
        return range(self.settings["seeds"])

    def train(self, experiments: Mapping[Key, Experiment]) -> dict[Key, Run]:
        """Train every experiment on all cores and GPUs, as `anchorlab.sweep` does; finished ones are not repeated.

        Raises InputError for settings that cannot be trained, Interrupted when stopped; the same call continues.
        """
        rows = {path: contents({"data": path}) for path in {one.data for one in experiments.values()}}  # each read once
        names = {
            key: digest(one.record() | rows[one.data] | contents(one.model_options)) for key, one in experiments.items()
        }
        members = {names[key]: experiment for key, experiment in experiments.items()}
        began = time.perf_counter()
        runs = dict(zip(members, sweep(members, self.runs, placement="pool", progress=self.progress), strict=True))
        self.training_seconds += time.perf_counter() - began
        self.trained.extend(runs.values())
        return {key: runs[name] for key, name in names.items()}

    def fit(self, fits: Mapping[Key, Fit]) -> dict[Key, Run]:
        """Train every function fit, as `train_fits` does; finished ones are not repeated.

        Raises InputError for settings that cannot be trained, Interrupted when stopped; the same call continues.
        """
        names = {key: digest(one.record()) for key, one in fits.items()}
        members = {names[key]: one for key, one in fits.items()}
        began = time.perf_counter()
        runs = dict(zip(members, train_fits(members, self.runs, progress=self.progress), strict=True))
        self.training_seconds += time.perf_counter() - began
        self.trained.extend(runs.values())
        return {key: runs[name] for key, name in names.items()}

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """Show that something goes on that may take more than two seconds."""
        with working(what, enabled=self.progress):
            yield


def digest(content: Mapping[str, Any]) -> str:
    """A short hash of content that JSON can hold."""
    return sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]


def contents(settings: Mapping[str, Any]) -> dict[str, str]:
    """A hash of each file or folder whose path is a text in the settings, at any depth; empty if there is none.

    Raises InputError for one that cannot be read.
    """
    paths = sorted({one for one in _texts(settings) if os.path.exists(one)})
    return {f"content of {path}": _content(Path(path)) for path in paths}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(one)


def _content(path: Path) -> str:
    found = sha256()
    try:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                with file.open("rb") as stream:
                    found.update(os.fsencode(file.relative_to(path)) + b"\0" + file_digest(stream, "sha256").digest())
    except OSError as error:
        raise InputError(f"file={str(path)!r}: cannot be read ({error.strerror})") from None
    return found.hexdigest()[:16]
