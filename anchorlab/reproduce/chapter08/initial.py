"""Condensation at the start of training: as many lines as the activation's multiplicity (section 8.3.1)."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy.stats import beta

from anchorlab.analysis.condensation import measure_condensation
from anchorlab.engine import Run
from anchorlab.phenomena import MLP, Fit, Initialization, Points
from anchorlab.phenomena.fitting import parameters_of
from anchorlab.phenomena.neurons import condensed_groups
from anchorlab.report.style import SMALL, new_figure

from ..by_seed import by_seed
from ..claims import Claim, Condition, Value
from ..reproduction import Measured, Reproduction
from ..study import Study

LINES = {"x2_tanh": 3, "x_tanh": 2, "sigmoid": 1, "tanh": 1, "softplus": 1}
"""The lines that the source sees for each activation: the multiplicity of its root at 0."""

_LINE_COSINE = 0.9
_LINE_SHARE, _LINE_NEURONS = 0.1, 3
_BY_CHANCE = 0.005  # of pairs of random directions are nearer to one line than what counts as one
_TEXTS = {"x2_tanh": "x² tanh x", "x_tanh": "x tanh x"}


def wave_points(rows: int, inputs: int, height: float, frequency: float, seed: int) -> Points:
    """Points of Σ height · sin(frequency · x_k + 1) with every x_k uniform in [-4, 2]."""
    random = torch.Generator().manual_seed(seed)
    drawn = torch.rand(rows, inputs, generator=random, dtype=torch.float64)
    found = 6 * drawn - 4
    return Points(found, (height * torch.sin(frequency * found + 1)).sum(1, keepdim=True))


class Lines(NamedTuple):
    """How many lines there are, and which share of all neurons is on them."""

    lines: int
    share: float


def lines_of(weights: Float[np.ndarray, "neuron inputs"]) -> Lines:
    """Lines through 0 with at least a tenth of the neurons, and three; how near is told by `line_cosine`."""
    cosine = line_cosine(weights.shape[1])
    sizes = np.bincount(condensed_groups(weights, threshold=cosine, lines=True))
    found = sizes[sizes >= max(_LINE_SHARE * len(weights), _LINE_NEURONS)]
    return Lines(len(found), float(found.sum() / len(weights)))


def line_cosine(inputs: int) -> float:
    """The size of the cosine from which on two neurons are on one line.

    0.9, or what one in 200 pairs of random directions exceeds: with few inputs many are near by chance.
    """
    # The square of the cosine of two random directions has a beta distribution.
    return max(_LINE_COSINE, math.sqrt(beta.isf(_BY_CHANCE, 0.5, (inputs - 1) / 2)))


def input_weights(run: Run, layer: int, step: int) -> Float[np.ndarray, "neuron inputs"]:
    """The rows (w_k, b_k) of a layer's neurons after `step`."""
    kept = parameters_of(run, step)
    columns = [kept[f"layers.{layer}.weight"][0].T, kept[f"layers.{layer}.bias"][0][:, None]]
    return torch.cat(columns, 1).double().numpy()


def line_values(table: pd.DataFrame) -> list[Value]:
    """Of a table with columns seed, activation, lines, share, for every seed:

    - the number of lines for each activation;
    - `on lines`: the share of the neurons on them, where it is smallest;
    - `right`: for how many activations the number is the source's.
    """
    values = []
    for seed, rows in by_seed(table):
        counts = dict(zip(rows["activation"], rows["lines"], strict=True))
        values += [Value(seed, str(name), float(lines)) for name, lines in counts.items()]
        right = sum(lines == LINES[name] for name, lines in counts.items())
        values += [Value(seed, "on lines", float(rows["share"].min())), Value(seed, "right", float(right))]
    return values


def _measure_two_layers(study: Study) -> Measured:
    settings = study.settings
    fits = {
        (name, seed): _fit(settings, seed, (settings["width"],), name, rate)
        for name, rate in settings["learning_rates"].items()
        for seed in study.seeds
    }
    step = settings["step"]
    weights = {key: input_weights(run, 0, step) for key, run in study.fit(fits).items()}
    return _measured(weights)


def _measure_residual(study: Study) -> Measured:
    settings = study.settings
    names, rate = tuple(settings["steps"]), settings["learning_rate"]
    widths = (settings["width"],) * len(names)
    fits = {seed: _fit(settings, seed, widths, names, rate) for seed in study.seeds}
    weights = {
        (name, seed): input_weights(run, layer, settings["steps"][name])
        for seed, run in study.fit(fits).items()
        for layer, name in enumerate(names)
    }
    return _measured(weights)


def _fit(
    settings: Mapping[str, Any], seed: int, widths: tuple[int, ...], activation: str | tuple[str, ...], rate: float
) -> Fit:
    steps = settings["steps"].values() if "steps" in settings else [settings["step"]]
    network = MLP(inputs=settings["inputs"], widths=widths, activation=activation, residual=len(widths) > 1)
    points = wave_points(settings["rows"], settings["inputs"], settings["height"], settings["frequency"], seed)
    return Fit(
        network=network,
        initialization=Initialization.normal(*[settings["std"]] * (len(widths) + 1)),
        data={"train": points},
        seed=seed,
        learning_rate=rate,
        steps=max(steps),
        dtype="float64",
        evaluate_at=tuple(sorted(set(steps))),
        keep_checkpoints=True,
    )


def _measured(weights: Mapping[tuple[str, int], Float[np.ndarray, "neuron inputs"]]) -> Measured:
    rows = [(name, seed, *lines_of(found)) for (name, seed), found in weights.items()]
    lines = pd.DataFrame(rows, columns=["activation", "seed", *Lines._fields])
    cosines = pd.concat([_cosines(name, found) for (name, seed), found in weights.items() if seed == 0])
    return Measured(values=line_values(lines), tables={"lines": lines, "cosines": cosines})


def _cosines(name: str, weights: Float[np.ndarray, "neuron inputs"]) -> pd.DataFrame:
    found = measure_condensation(weights)
    order = found.eigenvector_order
    table = pd.DataFrame(found.cosine[np.ix_(order, order)].round(3))
    table.insert(0, "activation", name)
    return table


def _figure(result: Mapping[str, pd.DataFrame]) -> Figure:
    cosines, lines = result["cosines"], result["lines"]
    names = list(dict.fromkeys(cosines["activation"]))
    figure = new_figure(2.3 * len(names), 2.6)
    plots = figure.subplots(1, len(names), squeeze=False)[0]
    for axes, name in zip(plots, names, strict=True):
        matrix = cosines[cosines["activation"] == name].drop(columns="activation").to_numpy(dtype=float)
        image = axes.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        axes.set_title(f"{_TEXTS.get(name, name)}\n{_count_text(lines[lines['activation'] == name])}", fontsize=SMALL)
        axes.set_xticks([])
        axes.set_yticks([])
    figure.colorbar(image, ax=plots, shrink=0.8).set_label("cosine", fontsize=SMALL)
    return figure


def _count_text(rows: pd.DataFrame) -> str:
    """The lines of the first seed, which is shown, and the range over all."""
    first, low, high = (int(one) for one in (rows["lines"].iloc[0], rows["lines"].min(), rows["lines"].max()))
    several = "" if len(rows) == 1 else f" (in {len(rows)}: {low if low == high else f'{low} to {high}'})"
    return f"{first} line{'' if first == 1 else 's'}{several}"


def _conditions() -> tuple[Condition, ...]:
    counts = tuple(
        Condition(
            quantity=name,
            text=f"{_TEXTS.get(name, name)}: lines with a tenth of the neurons each",
            at_least=lines,
            at_most=lines,
            source=f"{lines} {'line' if lines == 1 else 'lines'}",
        )
        for name, lines in LINES.items()
    )
    share = Condition(
        quantity="on lines",
        text="share of the neurons on these lines, for the activation where it is smallest",
        at_least=0.5,
        source="clear blocks for every activation",
    )
    right = Condition(
        quantity="right",
        text="how many of the five numbers of lines of one trial are the source's",
        at_least=len(LINES),
        source="all five",
    )
    return (*counts, right, share)


def _two_layer_scale(seeds: int, step: int, width: int = 50, rows: int = 80) -> dict[str, Any]:
    rates = {"x2_tanh": 1e-3, "x_tanh": 1e-3, "sigmoid": 8e-4, "tanh": 1e-3, "softplus": 2.5e-4}
    data = {"rows": rows, "inputs": 5, "height": 3.5, "frequency": 5.0}
    return {"seeds": seeds, **data, "width": width, "std": 0.005, "learning_rates": rates, "step": step}


def _residual_scale(seeds: int, steps: tuple[int, ...]) -> dict[str, Any]:
    data = {"rows": 80, "inputs": 3, "height": 4.0, "frequency": 12.0}
    by_layer = dict(zip(LINES, steps, strict=True))
    return {"seeds": seeds, **data, "width": 18, "std": 0.01, "learning_rate": 4e-5, "steps": by_layer}


_COUNTING = (
    "A line is first of all more than chance: neurons are on it at a cosine that one in 200 pairs of random directions "
    "exceeds, at least 0.9, and there are a tenth of them and three. At first it was 0.9 and a tenth alone: then the "
    "18 neurons of figure 8.11's first layer, with 4 weights each, were on 2 to 4 lines of two before any training. "
    "Also new: that half of the neurons have to be on the lines, without which a few among scattered ones would do, "
    "and that all five numbers have to be right in one trial, since this is what the figure shows. "
)

REPRODUCTIONS = (
    Reproduction(
        id="fig8.10",
        title="At the start neurons condense on as many lines as the activation's multiplicity",
        source="section 8.3.1, figure 8.10; arXiv 2105.11686",
        claim=Claim(
            text="After 100 epochs the input weights of a two-layer net are on 3 lines for x² tanh x, on 2 for "
            "x tanh x, and on 1 for sigmoid, tanh and softplus.",
            conditions=_conditions(),
        ),
        scales={
            "smoke": _two_layer_scale(1, 10, width=10, rows=20),
            "laptop": _two_layer_scale(20, 100),
            "paper": _two_layer_scale(20, 100),
        },
        measure=_measure_two_layers,
        figure=_figure,
        notes=_COUNTING + "Network, data, rates and epoch are the source's; every seed draws its own data. Optimizer "
        "and initialization are not given: Adam, whose steps of 1e-3 a weight of this size needs to turn within 100 "
        "epochs, and N(0, 0.005²). With one root at 0 the neurons are on one line, softplus, whose rate is lowest, not "
        "yet in every seed. With two and three roots how many lines there are depends on the data and on the weights "
        "drawn: 1 to 6 (the figure shows as many blocks). A second program, written apart from this one in plain "
        "PyTorch, finds the same, also for several nets on one data set. Adam makes it so: it divides every weight's "
        "step by the size of that weight's gradient. In the gradient flow to leading order, with a time of its own for "
        "every neuron, there are 2 lines for two roots on each of 8 data sets and 1 to 3 for three roots. Gradient "
        "descent itself lets few neurons grow before the loss falls, and the others stay where they are. Tried "
        "without other results: epochs 50 and 200, lines at a cosine of 0.8 or 0.95, without the bias, without the "
        "neurons below a tenth of the largest amplitude, and N(0, 0.001²), with which softplus has 1 line.",
    ),
    Reproduction(
        id="fig8.11",
        title="In a residual net every layer condenses on its own activation's number of lines",
        source="section 8.3.1, figure 8.11; arXiv 2105.11686",
        claim=Claim(
            text="Hidden layers 1 to 5 of a six-layer residual net, with x² tanh x, x tanh x, sigmoid, tanh and "
            "softplus, condense on 3, 2, 1, 1 and 1 lines.",
            conditions=_conditions(),
        ),
        scales={
            "smoke": _residual_scale(1, (10, 9, 9, 14, 14)),
            "laptop": _residual_scale(20, (1000, 900, 900, 1400, 1400)),
            "paper": _residual_scale(20, (1000, 900, 900, 1400, 1400)),
        },
        measure=_measure_residual,
        figure=_figure,
        notes=_COUNTING + "All settings are the source's but the optimizer, which is not given: Adam. Every seed draws "
        "its own data. The layers with one root at 0 are on one line in nearly all nets, the first on 1 to 4, the "
        "second on 1 or 2: few nets have all five numbers at once.",
    ),
)
