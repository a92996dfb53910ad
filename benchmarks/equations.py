"""Networks for differential equations beside deepxde 1.15 (PyTorch): same network and initial weights, points, weights
of the conditions, optimizer, learning rate and number of steps; one thread each, one after the other.

pip install deepxde==1.15.0, then

DDE_BACKEND=pytorch python benchmarks/equations.py [--problems poisson poisson2d] [--seeds 3] [--out FILE]

Time is that of training; errors are measured every 100 steps on the same grid, outside of it. Both sides are the same
computation: in float64 their errors of four-frequency agree to 7 digits for 600 steps (one seed). In float32 rounding
grows, and at a constant learning rate the error jumps by a factor of ten between measurements: the best of all and the
last one are draws, the median of the last tenth (`late`) is what stays.
"""

import argparse
import math
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import report

from anchorlab import pde
from anchorlab.pde.errors import errors_of

TARGET = 1e-3
EVERY = 100


@dataclass(frozen=True)
class Setting:
    """What both sides train."""

    widths: tuple[int, ...]
    interior: int
    boundary: int
    weight: float
    steps: int
    learning_rate: float = 1e-3


SETTINGS = {
    "poisson": Setting((50, 50, 50), 100, 2, 1.0, 10_000),
    "four-frequency": Setting((50, 50, 50), 400, 2, 100.0, 30_000),
    "poisson2d": Setting((50, 50, 50), 1000, 200, 10.0, 10_000),
}
SOURCES = {
    "poisson": lambda x: math.pi**2 * torch.sin(math.pi * x[:, 0:1]),
    "four-frequency": lambda x: sum(a * torch.sin(k * x[:, 0:1]) for a, k in ((1, 1), (4, 4), (-8, 8), (16, 24))),
    "poisson2d": lambda x: 2 * math.pi**2 * torch.sin(math.pi * x[:, 0:1]) * torch.sin(math.pi * x[:, 1:2]),
}
SIDES = {"poisson": (0, 1), "four-frequency": (-1, 1), "poisson2d": (0, 1)}


def method_of(one: Setting) -> pde.NetworkMethod:
    """Our side."""
    points = pde.Collocation(interior=one.interior, boundary=one.boundary)
    return pde.NetworkMethod(
        widths=one.widths, points=points, steps=one.steps, learning_rate=one.learning_rate, evaluate_every=EVERY
    )


def train_here(name: str, one: Setting, seed: int, folder: Path) -> list[tuple[float, float]]:
    """Seconds and relative L2 error at every measurement."""
    found = pde.solve(pde.problem(name, weight=one.weight), method_of(one), out=folder, seed=seed, progress=False)
    return list(zip(found.history["seconds"], found.history["relative_l2"], strict=True))


def train_there(name: str, one: Setting, seed: int) -> list[tuple[float, float]]:
    """The same of deepxde."""
    import deepxde as dde  # noqa: PLC0415 - it prints when it is imported

    problem, method = pde.problem(name, weight=one.weight), method_of(one)
    inside, _ = method.points.interior_points(problem.domain, seed, 0)
    edge = method.points.condition_points(problem.domain, problem.conditions[0], seed, 0).points
    grid, _ = problem.domain.grid(1000 if inside.shape[1] == 1 else 10_000)
    exact = problem.exact_values(grid)
    assert exact is not None

    def residual(x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        curvature = sum(dde.grad.hessian(u, x, i=axis, j=axis) for axis in range(x.shape[1]))
        return -curvature - SOURCES[name](x)

    corners = ([edge] * inside.shape[1] for edge in SIDES[name])
    geometry: Any = dde.geometry.Hypercube(*corners) if inside.shape[1] > 1 else dde.geometry.Interval(*SIDES[name])
    condition = dde.icbc.PointSetBC(edge.astype(np.float32), np.zeros((len(edge), 1), np.float32))
    data = dde.data.PDE(
        geometry, residual, [condition], num_domain=0, num_boundary=0, anchors=inside.astype(np.float32)
    )
    net = dde.nn.FNN([inside.shape[1], *one.widths, 1], "tanh", "Glorot normal")
    start = method.shape(problem).initialize(pde.Initialization.named("xavier"), seed)
    with torch.no_grad():
        for number, layer in enumerate(net.linears):
            layer.weight.copy_(start[f"layers.{number}.weight"].T)
            layer.bias.copy_(start[f"layers.{number}.bias"])
    model = dde.Model(data, net)
    model.compile("adam", lr=one.learning_rate, loss_weights=[1.0, one.weight], verbose=0)
    watch = _Watch(dde, model, grid, exact)
    model.train(iterations=one.steps, display_every=10**9, callbacks=[watch.callback], verbose=0)
    return watch.found


class _Watch:
    """Measures a deepxde model every `EVERY` steps and leaves the time of that out."""

    def __init__(self, dde: Any, model: Any, grid: np.ndarray, exact: np.ndarray) -> None:
        self.found: list[tuple[float, float]] = []
        self.seconds, self.since, self.step = 0.0, time.perf_counter(), 0
        outer = self

        class Callback(dde.callbacks.Callback):  # type: ignore[misc, name-defined]
            def on_train_begin(self) -> None:
                outer.since = time.perf_counter()

            def on_epoch_end(self) -> None:
                outer.step += 1
                if outer.step % EVERY == 0:
                    outer.seconds += time.perf_counter() - outer.since
                    values = model.predict(grid.astype(np.float32))[:, 0]
                    outer.found.append((outer.seconds, errors_of(values, exact)["relative_l2"]))
                    outer.since = time.perf_counter()

        self.callback = Callback()


def summary(histories: list[list[tuple[float, float]]], steps: int) -> dict[str, Any]:
    """Medians over seeds, and errors of each; `seconds_to_target` is infinite for a seed that never came there."""
    errors = [[error for _, error in one] for one in histories]
    found = {
        "best": [min(one) for one in errors],
        "late": [statistics.median(one[-max(1, len(one) // 10) :]) for one in errors],
        "final": [one[-1] for one in errors],
    }
    reached = [next((t for t, error in one if error <= TARGET), math.inf) for one in histories]
    return {
        "seconds_to_target": reached,
        "median_seconds_to_target": statistics.median(reached),
        "milliseconds_per_step": 1000 * statistics.median(one[-1][0] for one in histories) / steps,
        **{f"{name}_error": statistics.median(own) for name, own in found.items()},
        **{f"{name}_errors": own for name, own in found.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="instead of each problem's own")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = {}
    for name in options.problems:
        own = SETTINGS[name]
        one = Setting(own.widths, own.interior, own.boundary, own.weight, options.steps or own.steps)
        here, there = [], []
        for seed in range(options.seeds):
            with tempfile.TemporaryDirectory() as folder:
                here.append(train_here(name, one, seed, Path(folder) / "run"))
            there.append(train_there(name, one, seed))
        ours, peer = summary(here, one.steps), summary(there, one.steps)
        result[name] = {
            "setting": vars(one),
            "anchorlab": ours,
            "deepxde": peer,
            "step_ratio": ours["milliseconds_per_step"] / peer["milliseconds_per_step"],
            "target_ratio": ours["median_seconds_to_target"] / peer["median_seconds_to_target"],
        }
    report(result, options.out)


if __name__ == "__main__":
    main()
