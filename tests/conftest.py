"""Run folders with chosen numbers, written as documented, and explanations in a moment."""

import gc
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import settings

# A loaded machine is slow, not wrong; and the same code has the same tests every time.
settings.register_profile("anchorlab", deadline=None, derandomize=True)
settings.load_profile("anchorlab")


def pytest_collection_finish() -> None:
    """What was imported stays; tests that collect garbage need not look through it again and again."""
    gc.collect()
    gc.freeze()


STEPS = (0, 10, 20)
_SPLITS = {
    "train": ("train", "accuracy"),
    "id": ("test", "accuracy"),
    "ood": ("ood", "accuracy"),
    "commutativity": ("ood", "commutativity"),
}


def _write_run(
    folder: Path,
    scores: Mapping[str, Sequence[float]] | None = None,
    *,
    gamma: float | None = 0.5,
    decay: float = 0.0,
    seed: int = 0,
    status: str = "finished",
    reason: str | None = None,
    **settings: Any,
) -> Path:
    """`scores` has the history of id, ood, …: one value for each of `STEPS`, or for the first of them."""
    folder.mkdir(parents=True)
    config = {
        "schema_version": 1,
        "task": {"name": "composite", "fields": {"length": 9, "operations": {"a": "add:1"}}},
        "model": "post_ln",
        "initialization_rate": gamma,
        "initialization_rule": "arxiv-2405.05409",
        "weight_decay": decay,
        "seed": seed,
        "total_steps": STEPS[-1],
    }
    histories = scores or {}
    last = max([STEPS[len(history) - 1] for history in histories.values()], default=0)
    environment = {"status": status, "step": last, "wall_time_seconds": 2.5} | ({"reason": reason} if reason else {})
    (folder / "config.json").write_text(json.dumps(config | settings))
    (folder / "environment.json").write_text(json.dumps(environment))
    rows = [
        (step, split, group, metric, value if group == "" else 0.123)
        for name, history in histories.items()
        for split, metric in [_SPLITS[name]]
        for step, value in zip(STEPS, history, strict=False)
        for group in ("", "a,b")
    ]
    if rows:
        table = pd.DataFrame(rows, columns=["step", "split", "group", "metric", "value"])
        table.to_parquet(folder / "metrics.parquet", index=False)
    return folder


@pytest.fixture(scope="session")
def write_run() -> Callable[..., Path]:
    return _write_run


@pytest.fixture(scope="module")
def brief() -> Iterator[None]:
    """The module's explanations and figures skimp on what takes them longest."""
    from small_experiments import brief_figures, brief_geometry  # loads torch

    with brief_geometry(), brief_figures():
        yield


@pytest.fixture
def undrawn() -> Iterator[None]:
    """No figure is drawn."""
    from small_experiments import undrawn_figures

    with undrawn_figures():
        yield


@pytest.fixture
def in_this_process() -> Iterator[None]:
    """No pool of processes is started."""
    from small_experiments import pools_in_this_process

    with pools_in_this_process():
        yield


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """γ 0.3, 0.6 and 0.9 by λ 0 and 0.1, three seeds each, without γ 0.9 at λ 0.1; not all have finished."""
    folder = tmp_path_factory.mktemp("plane")
    cells = {
        (0.3, 0.0): [(0.80, 0.00, 0.2), (0.90, 0.10, 0.3), (0.70, 0.05, 0.4)],
        (0.3, 0.1): [(0.95, 0.20, 0.9), (0.94, 0.10, 0.8), (0.96, 0.60, 0.7)],
        (0.6, 0.0): [(1.00, 0.80, 0.6), (0.98, 0.60, 0.5), (0.99, 0.70, 0.7)],
        (0.6, 0.1): [(1.00, 0.97, 1.0), (0.99, 0.85, 0.9), (0.98, 0.91, 0.95)],
    }
    for (gamma, decay), seeds in cells.items():
        for seed, (id_, ood, commutes) in enumerate(seeds):
            # The best ID and OOD are reached before the end and 0.02 above the last; the first values are low.
            scores = {
                "train": (0.0, 0.5, 1.0),
                "id": (0.0, min(1.0, id_ + 0.02), id_),
                "ood": (0.0, ood + 0.02, ood),
                "commutativity": (1.0, 1.0, commutes),
            }
            _write_run(folder / f"gamma{gamma}-decay{decay}-seed{seed}", scores, gamma=gamma, decay=decay, seed=seed)
    _write_run(folder / "last/a", {"id": (0.1, 0.2), "ood": (0.3, 0.4)}, gamma=0.9, seed=0, status="interrupted")
    diverged = {"status": "diverged", "reason": "loss is not finite in step 11"}
    _write_run(folder / "last/b", {"id": (0.1, 0.2), "ood": (0.3, 0.4)}, gamma=0.9, seed=1, **diverged)
    _write_run(folder / "last/c", gamma=0.9, seed=2, status="running")
    return folder
