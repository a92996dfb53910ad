"""What a measurement works with: settings, seeds, a folder, and trainings that are kept and shared."""

import json
import time
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from anchorlab.engine import Run
from anchorlab.engine.progress import working
from anchorlab.experiments import Experiment, sweep

Key = TypeVar("Key", bound=Hashable)


@dataclass
class Study:
    """One measurement at one scale.

    `folder` is for files of its own; `runs` holds the trainings of all studies, named by a hash of their settings, so
    that studies that need the same training share it. `trained` lists the runs that this study used.
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
        names = {key: digest(experiment.record()) for key, experiment in experiments.items()}
        members = {names[key]: experiment for key, experiment in experiments.items()}
        began = time.perf_counter()
        runs = dict(zip(members, sweep(members, self.runs, placement="pool", progress=self.progress), strict=True))
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
