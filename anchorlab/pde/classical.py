"""Methods without training in run folders of their own: finite differences, random features, Jacobi, and the hybrid."""

import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from anchorlab.engine import Run, RunWriter
from anchorlab.engine.store import MetricRow, environment
from anchorlab.errors import InputError
from anchorlab.files import replacing

from .differences import FiniteDifferences, Jacobi, System, check_unique, jacobi
from .equation import PDE
from .errors import errors_of, measured_points
from .features import RandomFeatures, features_function, solve_features
from .grid import Grid
from .linear import check_linear, not_linear
from .networks import NetworkMethod, load_network
from .solution import ERRORS, Evaluate, Solution, history_of

_VALUES, _START = "solution.npz", "start"


@dataclass(frozen=True, kw_only=True)
class Hybrid:
    """A network for some steps, then Jacobi's iteration from its values (section 15.5)."""

    network: NetworkMethod = field(default_factory=lambda: NetworkMethod(kind="ritz", steps=500))
    jacobi: Jacobi = field(default_factory=Jacobi)


Classical = FiniteDifferences | RandomFeatures | Jacobi


def solve_classical(
    pde: PDE, method: Classical, folder: Path, start: Solution | None = None, *, name: str | None = None
) -> Solution:
    """Solve without training and write the run folder; one that had ended is read. `start` is where Jacobi begins."""
    config = record(pde, method, folder, None if start is None else start.folder, name=name)
    writer = RunWriter(folder)
    try:
        writer.claim(config)
        if not writer.start(config, environment("cpu")):
            began = time.perf_counter()
            try:
                values, history = _solve(pde, method, start)
            except InputError:
                # Nothing was found: the mended problem may have this folder.
                (folder / "config.json").unlink()
                raise
            seconds = time.perf_counter() - began
            _write(writer, values, history, seconds)
    finally:
        writer.close()
    return load_classical(pde, folder)


def record(
    pde: PDE, method: Classical, folder: Path, start: Path | None = None, *, name: str | None = None
) -> dict[str, Any]:
    """What the run folder says of the problem, the method, and of the run that it begins with."""
    config = {**pde.record(), "method": name or _name(method), "settings": asdict(method)}
    # Relative, so that both folders can be moved together.
    return config | ({} if start is None else {_START: os.path.relpath(start, folder)})


def load_classical(pde: PDE, folder: Path) -> Solution:
    """The solution in a run folder of `solve_classical`; the seconds of a network that it began with are counted.

    Raises InputError for a solution that was interrupted.
    """
    run = Run.open(folder)
    config = run.config
    if not (folder / _VALUES).is_file():
        raise InputError(f"folder={str(folder)!r}: holds no solution yet; solve with the same settings again")
    with np.load(folder / _VALUES) as saved:
        values = saved["values"]
    seconds, seed = float(run.environment["wall_time_seconds"]), config["settings"].get("seed")
    if _START in config:
        before = Path(os.path.normpath(folder / config[_START]))
        if (before / "config.json").is_file():
            first = load_network(pde, before)
            seconds, seed = seconds + first.seconds, first.seed
    return Solution(
        pde, config["method"], _function(pde, config, values), history_of(run), seconds, seed=seed, folder=folder
    )


def _name(method: Classical) -> str:
    return {FiniteDifferences: "fd", RandomFeatures: "rfm", Jacobi: "jacobi"}[type(method)]


def _solve(pde: PDE, method: Classical, start: Solution | None) -> tuple[Float[np.ndarray, " number"], pd.DataFrame]:
    """Numbers that make the solution, and its history."""
    began = time.perf_counter()
    if isinstance(method, Jacobi):
        check_linear(pde, "jacobi")
        system = System(pde, FiniteDifferences(nodes=method.nodes), "jacobi")
        points = system.grid.points
        begin = np.zeros(len(points)) if start is None else start.evaluate(points)
        matrix, right = system.near(begin)
        # Where a row says u = value; rows of other conditions are equations like all.
        known = (matrix.diagonal() == 1) & (np.abs(matrix).sum(1) == 1)
        begin[known] = right[known]
        check_unique(matrix, pde, "jacobi")
        inside = pde.domain.contains(points)
        exact = pde.exact_values(points[inside])
        values, history = jacobi(matrix, right, begin, method, exact, inside=inside)
        there, aim = system.near(values)
        if not np.allclose(there @ values - aim, matrix @ values - right, rtol=1e-6, atol=1e-8 * np.abs(right).max()):
            raise not_linear(pde, "jacobi")
        return values, history
    if isinstance(method, FiniteDifferences):
        values = System(pde, method).solve()
        evaluate: Evaluate = method.grid(pde).function(values)
    else:
        evaluate, values = solve_features(pde, method)
    seconds = time.perf_counter() - began
    points = measured_points(pde.domain)
    exact = pde.exact_values(points)
    errors: Mapping[str, float] = {} if exact is None else errors_of(evaluate(points), exact)
    return values, pd.DataFrame([{"step": 0, "seconds": seconds, **errors}])


def _function(pde: PDE, config: Mapping[str, Any], values: Float[np.ndarray, " number"]) -> Evaluate:
    settings = {name: tuple(one) if isinstance(one, list) else one for name, one in config["settings"].items()}
    if config["method"] == "rfm":
        return features_function(pde, RandomFeatures(**settings), values)  # type: ignore[arg-type]
    grid: Grid = FiniteDifferences(nodes=settings["nodes"]).grid(pde)
    function: Evaluate = grid.function(values)
    return function


def _write(writer: RunWriter, values: np.ndarray, history: pd.DataFrame, seconds: float) -> None:
    with replacing(writer.folder / _VALUES) as temporary, temporary.open("wb") as stream:
        np.savez(stream, values=values)
    rows = [
        MetricRow(int(row["step"]), "test" if metric in ERRORS else "", "", metric, float(row[metric]))
        for row in history.to_dict("records")
        for metric in history.columns
        if metric != "step"
    ]
    writer.write_metrics(rows)
    writer.note("finished", step=int(history.step.iloc[-1]), seconds=seconds)


def check_same_problem(pde: PDE, folder: Path) -> None:
    """Raise InputError if the run in a folder is of another problem."""
    config = Run.open(folder).config
    if config.get("fingerprint") != pde.fingerprint():
        raise InputError(f"folder={str(folder)!r}: holds a solution of {config.get('problem')!r}, not of this problem")
