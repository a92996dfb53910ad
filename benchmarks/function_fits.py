"""Many small fits at once beside a loop of single plain PyTorch trainings; same networks, data, optimizer and steps.

- `seeds`: 100 seeds of a width-50 tanh net, 20,000 steps of full-batch gradient descent (as in figure 9.5);
- `plane`: a 7 x 7 (γ, γ') phase diagram as `anchorlab reproduce fig7.5` trains it, three widths, 5 seeds.

python benchmarks/function_fits.py seeds|plane [--out benchmarks/results/function_fits_seeds.json]

The populations train completely, on all cores; the loop's time a step is measured before and after, over `--sample`
of its networks, and multiplied by all networks and steps. All of this `--repeats` times: the first time starts the
processes, too.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from machine import report
from torch import nn

from anchorlab.phenomena import MLP, Fit, Initialization, Points, train_fits
from anchorlab.reproduce import get
from anchorlab.reproduce.chapter07.book import plane_fit, points
from anchorlab.reproduce.chapter07.phase_plane import plane_cells

SEEDS, WIDTH, STEPS = 100, 50, 20_000
ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}


def seeds() -> list[Fit]:
    """The fits of the first load: one target, 100 seeds."""
    x = torch.linspace(-1, 1, 20)[:, None]
    data = {"train": Points(x, torch.sin(3 * x) + torch.sin(6 * x))}
    return [
        Fit(
            network=MLP(inputs=1, widths=(WIDTH,)),
            initialization=Initialization.normal(0.5, 0.5),
            data=data,
            seed=seed,
            optimizer="gd",
            learning_rate=0.02,
            steps=STEPS,
        )
        for seed in range(SEEDS)
    ]


def plane() -> list[Fit]:
    """The fits of the second load: figure 7.5's laptop scale, on the four points of a line."""
    settings = get("fig7.5").settings("laptop")
    line = settings["line"]
    data = points(line["data"], line["rows"])
    return [plane_fit(cell, data, line["training"]) for cell in plane_cells(line, range(settings["seeds"]))]


def step_seconds(fits: Sequence[Fit], sample: int) -> dict[tuple[int, ...], float]:
    """Seconds a step of a plain loop takes, by the widths of the net: the median over `sample` networks."""
    groups: dict[tuple[int, ...], list[Fit]] = {}
    for one in fits:
        groups.setdefault(one.network.widths, []).append(one)
    return {
        widths: statistics.median(
            plain_step_seconds(one) for one in members[:: max(1, len(members) // sample)][:sample]
        )
        for widths, members in groups.items()
    }


def plain_step_seconds(one: Fit, steps: int = 300) -> float:
    """Seconds a step of one network in a plain PyTorch loop takes."""
    (width,) = one.network.widths
    kind = getattr(torch, one.dtype)
    bias, last_bias = one.network.bias
    first = nn.Linear(one.network.inputs, width, bias=bias, dtype=kind)
    last = nn.Linear(width, 1, bias=last_bias, dtype=kind)
    net = nn.Sequential(first, ACTIVATIONS[str(one.network.activation)](), last)
    train, optimizer = one.data["train"].to(kind), torch.optim.SGD(net.parameters(), lr=1e-6)

    def step() -> None:
        optimizer.zero_grad()
        (net(train.inputs) - train.targets).square().mean().backward()
        optimizer.step()

    for _ in range(20):
        step()
    began = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - began) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("load", choices=("seeds", "plane"))
    parser.add_argument("--sample", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    fits = seeds() if options.load == "seeds" else plane()
    loop, here = [step_seconds(fits, options.sample)], []
    for _ in range(options.repeats):
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            runs = train_fits({str(number): one for number, one in enumerate(fits)}, folder)
            here.append(time.perf_counter() - began)
            steps = [run.environment["step"] for run in runs]
            losses = [run.final("train", "loss") for run in runs if run.status == "finished"]
        loop.append(step_seconds(fits, options.sample))
    loops = [sum(times[one.network.widths] * count for one, count in zip(fits, steps, strict=True)) for times in loop]
    ratios = [statistics.mean(around) / own for around, own in zip(pairwise(loops), here, strict=True)]
    result = {
        "load": options.load,
        "networks": len(fits),
        "network_steps": sum(steps),
        "seconds": here,
        "loop_seconds_before_between_and_after": loops,
        "ratios": ratios,
        "ratio": statistics.median(ratios),
        "finished": len(losses),
        "largest_final_loss": max(losses),
    }
    report(result, options.out)


if __name__ == "__main__":
    main()
