"""What chapter 7's experiments share: the data, and two-layer nets trained from a point of the (γ, γ') plane."""

from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from datasets import load_dataset
from sklearn.datasets import load_digits

from anchorlab.engine import Run
from anchorlab.engine.stopping import TargetLoss
from anchorlab.errors import InputError
from anchorlab.phenomena import MLP, Fit, Initialization, Points
from anchorlab.phenomena.fitting import parameters_of
from anchorlab.phenomena.neurons import Neurons
from anchorlab.validation import check_known

from ..claims import Condition, Value
from ..study import Study

FOUR_POINTS = ((-1.0, -1 / 3, 1 / 3, 1.0), (0.9, 0.1, 0.2, 0.6))
"""Inputs and targets; the source shows four points without their numbers."""

DataName = Literal["four points", "digits", "mnist"]
_MNIST = "ylecun/mnist"
_CURVATURE_ROWS = 1000  # their mean is that of all up to some percent, and a kernel of all of MNIST fits in no memory


class Cell(NamedTuple):
    """One network of the plane: γ, γ', width and seed."""

    rate: float
    rate_ratio: float
    width: int
    seed: int


class Trained(NamedTuple):
    """A cell's neurons before and after training, and whether the target loss was reached."""

    start: Neurons
    end: Neurons
    fitted: bool


@cache
def points(name: DataName, rows: int | None = None) -> Points:
    """The four points, or the first `rows` images with their label, 0 to 9, as the number to learn (section 7.3.2).

    `digits` are scikit-learn's 8×8 images, `mnist` those of the hub; pixels are between 0 and 1. Raises InputError for
    an unknown name, fewer images than rows, and if MNIST cannot be loaded.
    """
    check_known("data", name, ("four points", "digits", "mnist"))
    if name == "four points":
        inputs, targets = (torch.tensor(column)[:, None] for column in FOUR_POINTS)
        return Points(inputs, targets)
    images, labels = _digits() if name == "digits" else _mnist()
    if rows is not None and not 1 <= rows <= len(images):
        raise InputError(f"rows={rows}: must be between 1 and the {len(images)} images of {name}")
    chosen = slice(rows)
    return Points(
        torch.tensor(images[chosen], dtype=torch.float32), torch.tensor(labels[chosen, None], dtype=torch.float32)
    )


def _digits() -> tuple[np.ndarray, np.ndarray]:
    found = load_digits()
    return found.data / 16, found.target


def _mnist() -> tuple[np.ndarray, np.ndarray]:
    try:
        found = load_dataset(_MNIST, split="train").with_format("numpy")
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"data='mnist': {_MNIST} cannot be loaded ({type(error).__name__})") from None
    return found["image"].reshape(len(found), -1) / 255, found["label"]


def plane_fit(cell: Cell, data: Points, training: Mapping[str, Any]) -> Fit:
    """Gradient descent on the loss 7.6 from κ = m^-γ, κ' = m^-γ', with α = 1, until the loss is `target_loss`.

    Raw parameters follow eqs. 7.10 and 7.11 with the time times β₁β₂, which RD does not see. The learning rate is
    `stability` over the largest curvature on the way: that of the start, or of one condensed neuron that is as large as
    the targets (2 rms(y) rms(x)), whichever is larger. So every cell follows the gradient flow closely. The curvature
    is that over the first 1000 points, if there are more.
    """
    network = MLP(inputs=data.inputs.shape[1], widths=(cell.width,), activation="relu", bias=(True, False))
    initialization = Initialization.two_layer(cell.width, cell.rate, cell.rate_ratio)
    start = Neurons.of(_member(network, initialization, cell.seed))
    inputs = data.inputs[:_CURVATURE_ROWS].double().numpy()
    curvature = max(start.largest_curvature(inputs), _condensed_curvature(data))
    return Fit(
        network=network,
        initialization=initialization,
        data={"train": data},
        seed=cell.seed,
        loss="half_mse",
        optimizer="gd",
        # Rounded: the last digits of an eigenvalue, and with them a run's name, differ between machines.
        learning_rate=float(f"{training['stability'] / curvature:.3g}"),
        steps=training["steps"],
        dtype=training["dtype"],
        evaluate_every=training["evaluate_every"],
        stopping=(TargetLoss(training["target_loss"]),),
    )


def train_cells(study: Study, cells: Mapping[Cell, Points], training: Mapping[str, Any]) -> dict[Cell, Trained]:
    """Train every cell on its points; equal cells of other studies are trained once."""
    fits = {cell: plane_fit(cell, data, training) for cell, data in cells.items()}
    runs = study.fit(fits)
    return {cell: _trained(fits[cell], run, training["target_loss"]) for cell, run in runs.items()}


def fitted_values(trained: Mapping[Cell, Trained], networks: int = 1) -> list[Value]:
    """For every seed, of `networks` nets of each size, the share of its nets that reached the target loss."""
    fitted: dict[int, list[bool]] = {}
    for cell, found in trained.items():
        fitted.setdefault(cell.seed // networks, []).append(found.fitted)
    return [Value(seed, "fitted", sum(found) / len(found)) for seed, found in sorted(fitted.items())]


def fitted_condition(at_least: float) -> Condition:
    """That this share of the networks has to reach the target loss: nothing else is measured of those that do not."""
    return Condition(quantity="fitted", text="share of networks that reached the target loss", at_least=at_least)


def _trained(fit: Fit, run: Run, target: float) -> Trained:
    end = Neurons.of(parameters_of(run))
    return Trained(Neurons.of(_member(fit.network, fit.initialization, fit.seed)), end, fitted=_reached(run, target))


def _reached(run: Run, target: float) -> bool:
    return run.status == "finished" and run.final("train", "loss") <= target


def _member(network: MLP, initialization: Initialization, seed: int) -> dict[str, torch.Tensor]:
    drawn = network.initialize(initialization, seed, dtype=torch.float64)
    return {name: tensor[None] for name, tensor in drawn.items()}


def _condensed_curvature(data: Points) -> float:
    """Of A ReLU(ŵ·x) with |a| = ‖w‖ and the targets' size: a²|x|² + (w·x)² is about 2 A |x|², with A |x| about |y|."""
    target = data.targets.double().square().mean().sqrt()
    size = (data.inputs.double().square().sum(1).mean() + 1).sqrt()
    return float(2 * target * size)
