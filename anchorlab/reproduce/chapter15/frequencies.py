"""Figure 15.1: which frequencies of Poisson's equation a network, Jacobi's iteration, and both in turn solve first."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy import sparse
from scipy.sparse.linalg import spsolve

from anchorlab import pde
from anchorlab.engine import Run
from anchorlab.models.mlp import load_mlp
from anchorlab.pde.differences import System, jacobi
from anchorlab.pde.networks import evaluator
from anchorlab.report.panels import COLOURS
from anchorlab.report.style import BLACK, GREY, SMALL, finish, new_figure

from ..claims import Claim, Condition, Value
from ..reproduction import Measured, Reproduction
from ..study import Study
from .solving import solved

_FREQUENCIES = (4, 8, 24)  # the peaks of the solution: sin 4x / 4 - sin 8x / 8 + sin 24x / 36
_LEARNED = 0.1  # relative error of a component


def component_errors(
    difference: Float[np.ndarray, " node"], exact: Float[np.ndarray, " node"], nodes: Float[np.ndarray, " node"]
) -> list[float]:
    """The error of each peak relative to its size: Δ_F(k), by projection on the sines, which decouple the peaks."""
    basis = np.stack([*(np.sin(k * nodes) for k in _FREQUENCIES), np.sin(nodes), nodes], 1)
    inverse = np.linalg.pinv(basis)
    amplitudes, errors = (inverse @ one for one in (exact, difference))
    return [float(abs(errors[k] / amplitudes[k])) for k in range(len(_FREQUENCIES))]


def _measure(study: Study) -> Measured:
    chosen = study.settings
    problem = pde.problem("four-frequency", weight=2 * chosen["boundary_weight"])
    recorded = sorted({0, *chosen["handed_over"], *_spaced(chosen["network"]["steps"])})
    networks = []
    for seed in study.seeds:  # one after the other: their times are compared with that of one iteration
        networks += solved(
            study, "network", problem, "ritz", seeds=[seed], inside="grid", keep_checkpoints=True,
            evaluate_at=recorded, evaluate_every=chosen["network"]["steps"], **chosen["network"],
        )  # fmt: skip
    components, races, direct = [], [], []
    with study.working("Jacobi's iteration"):
        for seed, network in zip(study.seeds, networks, strict=True):
            components.append(_network_components(problem, network).assign(seed=seed))
        components.append(_jacobi_components(problem, chosen["compared_nodes"], chosen["compared_iterations"]))
        for nodes in chosen["grids"]:
            race = _Race(problem, nodes, chosen["target"], chosen["most_iterations"])
            direct.append(race.direct())
            races += [
                race.run(seed, one, chosen["handed_over"]) for seed, one in zip(study.seeds, networks, strict=True)
            ]
    race_table = pd.concat(races, ignore_index=True)
    learned = pd.concat(components, ignore_index=True)
    values = [value for seed in study.seeds for value in values_of(seed, learned, race_table, chosen["grids"][-1])]
    return Measured(values=values, tables={"components": learned, "races": race_table, "direct": pd.DataFrame(direct)})


def _spaced(steps: int) -> list[int]:
    """Steps that grow by about a sixth."""
    return sorted({round(1.17**k) for k in range(200) if 1.17**k <= steps})


def _network_components(problem: pde.PDE, network: pde.Solution) -> pd.DataFrame:
    nodes = np.linspace(-1, 1, 1001)
    exact = problem.exact_values(nodes[:, None])
    assert exact is not None
    assert network.folder is not None
    run = Run.open(network.folder)
    net, _ = load_mlp(network.folder / "model")
    rows = []
    for step in run.checkpoints():
        parameters = {name: tensor[None] for name, tensor in run.parameters(step).items()}
        found = evaluator(problem, net, parameters)(nodes[:, None])
        errors = component_errors(found - exact, exact, nodes)
        rows += [("network", step, k, error) for k, error in zip(_FREQUENCIES, errors, strict=True)]
    return pd.DataFrame(rows, columns=["method", "step", "frequency", "error"])


def _jacobi_components(problem: pde.PDE, count: int, iterations: int) -> pd.DataFrame:
    """The same for Jacobi's iteration from zero, against the solution of the difference equations."""
    race = _Race(problem, count, 0.0, iterations)
    nodes, found = race.system.grid.axes[0], np.zeros(count)
    found[[0, -1]] = race.right[[0, -1]]
    inverse = 1 / race.matrix.diagonal()
    rows, recorded = [], {0, *_spaced(iterations)}
    for step in range(iterations + 1):
        if step in recorded:
            errors = component_errors(found - race.discrete, race.discrete, nodes)
            rows += [("jacobi", step, k, error) for k, error in zip(_FREQUENCIES, errors, strict=True)]
        found = found + inverse * (race.right - race.matrix @ found)
    table = pd.DataFrame(rows, columns=["method", "step", "frequency", "error"])
    return table.assign(seed=0)


class _Race:
    """One grid: its equations, their direct solution, and how long methods take to the target error."""

    def __init__(self, problem: pde.PDE, nodes: int, target: float, iterations: int):
        self.problem, self.nodes, self.target = problem, nodes, target
        self.system = System(problem, pde.FiniteDifferences(nodes=nodes))
        self.matrix, self.right = self.system.near(np.zeros(nodes))
        self.discrete = spsolve(sparse.csc_array(self.matrix), self.right)
        exact = problem.exact_values(self.system.grid.points)
        assert exact is not None
        self.exact = exact
        every = max(1, iterations // 4000)
        self.method = pde.Jacobi(nodes=nodes, iterations=iterations, tolerance=0.0, evaluate_every=every)

    def direct(self) -> dict[str, float]:
        """Seconds and error of the sparse direct solution (the best of five)."""
        seconds = []
        for _ in range(5):
            began = time.perf_counter()
            spsolve(sparse.csc_array(self.matrix), self.right)
            seconds.append(time.perf_counter() - began)
        error = float(np.abs(self.discrete - self.exact).max())
        return {"nodes": self.nodes, "seconds": min(seconds), "max_error": error}

    def run(self, seed: int, network: pde.Solution, handed_over: Sequence[int]) -> pd.DataFrame:
        """Steps and seconds to the target: of Jacobi alone, of the network alone, and from every hand-over."""
        start = np.zeros(self.nodes)
        rows = [("jacobi", 0, *self._iterate(start), 0.0)]
        history = network.history
        reached = history[history.max_error <= self.target]
        alone = (math.inf, math.inf) if reached.empty else (float(reached.step.iloc[0]), float(reached.seconds.iloc[0]))
        rows.append(("network", int(history.step.iloc[-1]), *alone, 0.0))
        assert network.folder is not None
        run, (net, _) = Run.open(network.folder), load_mlp(network.folder / "model")
        for steps in handed_over:
            parameters = {name: tensor[None] for name, tensor in run.parameters(steps).items()}
            values = evaluator(self.problem, net, parameters)(self.system.grid.points)
            spent = float(history[history.step == steps].seconds.iloc[0])
            iterations, seconds = self._iterate(values)
            rows.append(("hybrid", steps, iterations, seconds + spent, spent))
        columns = ["method", "network_steps", "iterations", "seconds", "network_seconds"]
        return pd.DataFrame(rows, columns=columns).assign(seed=seed, nodes=self.nodes)

    def _iterate(self, start: Float[np.ndarray, " node"]) -> tuple[float, float]:
        begin = start.copy()
        begin[[0, -1]] = self.right[[0, -1]]
        _, history = jacobi(self.matrix, self.right, begin, self.method, self.exact, target=self.target)
        last = history.iloc[-1]
        return (float(last.step), float(last.seconds)) if last.max_error <= self.target else (math.inf, math.inf)


def values_of(seed: int, components: pd.DataFrame, races: pd.DataFrame, nodes: int) -> list[Value]:
    """Of one seed: the order of frequencies of both methods, and the race on the grid of so many nodes."""
    found = []
    for method, own_seed in (("network", seed), ("jacobi", 0)):
        rows = components[(components.method == method) & (components.seed == own_seed)]
        low, high = (_learned_at(rows, k) for k in (_FREQUENCIES[0], _FREQUENCIES[-1]))
        ratio = high / low if method == "network" else low / high
        found.append(Value(seed, f"{method} order", math.nan if math.isnan(ratio) else ratio))
    race = races[(races.seed == seed) & (races.nodes == nodes)]
    hybrid = race[race.method == "hybrid"].sort_values("network_steps")
    alone = race[race.method != "hybrid"]
    seconds = hybrid.seconds.to_numpy()
    found.append(Value(seed, "time", float(seconds.min() / alone.seconds.min())))
    iterations = float(race[race.method == "jacobi"].iterations.iloc[0])
    found.append(Value(seed, "iterations", float(hybrid.iterations.min() / iterations)))
    found.append(Value(seed, "middle", float(seconds.min() / min(seconds[0], seconds[-1]))))
    return found


def _learned_at(rows: pd.DataFrame, frequency: int) -> float:
    """The step from which on the error of a peak stays small; infinite if it never does."""
    own = rows[rows.frequency == frequency].sort_values("step")
    large = own[own.error > _LEARNED]
    later = own if large.empty else own[own.step > large.step.iloc[-1]]
    return math.inf if later.empty else float(max(1, later.step.iloc[0]))


def _figure(tables: Mapping[str, pd.DataFrame]) -> Figure:
    components, races, direct = tables["components"], tables["races"], tables["direct"]
    figure = new_figure(12.6, 3.8)
    first, second, third = figure.subplots(1, 3)
    for axes, method in ((first, "network"), (second, "jacobi")):
        rows = components[components.method == method]
        for place, frequency in enumerate(_FREQUENCIES):
            for number, (_, line) in enumerate(rows[rows.frequency == frequency].groupby("seed")):
                label = f"sin {frequency}x" if number == 0 else None
                axes.plot(line.step.clip(lower=0.7), line.error, color=COLOURS[place], linewidth=1.4, label=label)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.axhline(_LEARNED, color=GREY, linewidth=0.8, linestyle=":")
        finish(axes, x="step" if method == "network" else "iteration", y="relative error", title=method)
    first.legend(fontsize=SMALL, frameon=False)
    for place, (nodes, rows) in enumerate(races.groupby("nodes")):
        colour = COLOURS[place % len(COLOURS)]
        hybrid = rows[rows.method == "hybrid"].groupby("network_steps").seconds.mean()
        third.plot(hybrid.index, hybrid, color=colour, marker="o", markersize=4, label=f"hybrid, {nodes} nodes")
        third.axhline(rows[rows.method == "jacobi"].seconds.mean(), color=colour, linestyle="--", linewidth=1)
        third.axhline(direct[direct.nodes == nodes].seconds.iloc[0], color=colour, linestyle=":", linewidth=1)
    network = races[races.method == "network"].seconds
    if np.isfinite(network).any():
        third.axhline(network[np.isfinite(network)].mean(), color=BLACK, linewidth=1, label="network alone")
    third.set_xscale("log")
    third.set_yscale("log")
    third.legend(fontsize=SMALL, frameon=False)
    finish(third, x="network steps before Jacobi", y="seconds to the target", title="dashed: Jacobi, dotted: direct")
    return figure


_LAPTOP: dict[str, Any] = {
    "seeds": 3,
    "boundary_weight": 10.0,
    "network": {
        "steps": 2000, "interior": 1001, "widths": [80, 80, 80], "learning_rate": 3e-3, "cosine": True,
        "dtype": "float32",
    },
    "handed_over": [50, 150, 300, 500, 1000, 2000],
    "grids": [201, 1001, 2001],
    "target": 0.01,
    "most_iterations": 2_000_000,
    "compared_nodes": 101,
    "compared_iterations": 8000,
}  # fmt: skip
_SMOKE = _LAPTOP | {
    "seeds": 1,
    "network": {"steps": 20, "interior": 101, "widths": [10], "learning_rate": 1e-3, "dtype": "float32"},
    "handed_over": [5, 10, 20],
    "grids": [51],
    "most_iterations": 2000,
    "compared_iterations": 500,
}
_PAPER = _LAPTOP | {
    "network": _LAPTOP["network"] | {"steps": 20_000, "widths": [4000, 500, 400], "learning_rate": 5e-4},
    "handed_over": [100, 300, 1000, 3000, 10_000, 20_000],
    "grids": [201, 1001, 2001],
    "most_iterations": 2_000_000,
}

REPRODUCTIONS = (
    Reproduction(
        id="fig15.1",
        title="Networks solve low frequencies first, Jacobi's iteration high ones; one after the other beats both",
        source="section 15.5, equations 15.18 and 15.19, figure 15.1",
        claim=Claim(
            text=(
                "On Poisson's equation with four frequencies a Deep Ritz network converges from low to high, Jacobi's "
                "iteration from high to low; a network for a middle number of steps, then Jacobi, is faster than both."
            ),
            conditions=(
                Condition(
                    quantity="network order",
                    text="network: steps until sin 24x is right, as a multiple of those for sin 4x",
                    at_least=1.01,
                    source="low first",
                ),
                Condition(
                    quantity="jacobi order",
                    text="Jacobi: iterations until sin 4x is right, as a multiple of those for sin 24x",
                    at_least=1.01,
                    source="high first",
                ),
                Condition(
                    quantity="time",
                    text="seconds of the best hybrid to the target, over those of the faster method alone",
                    at_most=1.0,
                    source="faster",
                ),
                Condition(
                    quantity="middle",
                    text="seconds of the best hand-over, over those of the first and of the last tried",
                    at_most=0.9,
                    source="a middle M",
                ),
            ),
        ),
        scales={"smoke": _SMOKE, "laptop": _LAPTOP, "paper": _PAPER},
        measure=_measure,
        figure=_figure,
        notes=(
            "The section gives neither the network, nor β, nor the target. Target: a largest error of 0.01; the "
            "race is decided on the finest grid, with the others in the tables. A hybrid needs 16 to 130 times fewer "
            "iterations, but these are cheap: in seconds it is near Jacobi alone at 2001 nodes and behind at 1001 and "
            "201 (behind at 1001 also with the lower learning rate 1e-3, chosen first). β = 10 as in arXiv 1901.06523: "
            "the network alone then keeps an error of about 0.04 at the boundary, which the iteration removes; with "
            "β = 500, chosen first, no network learned sin 4x in 2000 steps. A component counts from the step on from "
            "which its relative error stays below 0.1. Times are wall times on one machine, measuring left out. The "
            "direct sparse solution is in the table `direct` and in the figure: on a line it is faster than all of "
            "them by orders of magnitude, so the hybrid is no way to solve this problem but an illustration."
        ),
    ),
)
