"""Chapter 7: what is computed from planted tables, and trainings small enough to follow."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anchorlab.errors import InputError
from anchorlab.phenomena import Points
from anchorlab.phenomena.neurons import Neurons
from anchorlab.reproduce import Value, chosen_settings, decide, get
from anchorlab.reproduce.chapter07 import (
    book,
    condensed_widths,
    initial_sizes,
    relative_distance,
)
from anchorlab.reproduce.chapter07.book import Cell, Trained, plane_fit, points, train_cells
from anchorlab.reproduce.chapter07.relative_distance import TRAINING, slope_table, slope_values
from anchorlab.reproduce.study import Study

IDS = ("fig7.1", "fig7.3", "fig7.4", "fig7.5", "fig7.6", "fig7.7", "tab7.1")
ALL_FITTED = [Value(seed, "fitted", 1.0) for seed in range(3)]
RATES, RATIOS = (0.5, 1.0, 1.5, 2.0), (-0.5, 0.0, 0.5)


def by_name(values: list[Value]) -> dict[str, float]:
    return {one.quantity: one.value for one in values}


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
def test_settings_are_json_and_seeds_are_enough(name, scale):
    one = get(name)
    chosen = chosen_settings(name, scale, {})
    assert scale == "smoke" or chosen["seeds"] >= one.claim.seeds


# Data and trainings


def test_the_four_points_and_the_digits():
    assert points("four points").inputs.shape == points("four points").targets.shape == (4, 1)
    digits = points("digits", 30)
    assert digits.inputs.shape == (30, 64)
    assert 0 <= float(digits.inputs.min()) <= float(digits.inputs.max()) <= 1
    assert digits.targets[:10, 0].tolist() == list(range(10))


def test_bad_data_are_told(monkeypatch):
    with pytest.raises(InputError, match=r"rows=9999: must be between 1 and the 1797 images of digits"):
        points("digits", 9999)
    with pytest.raises(InputError, match="data: unknown value 'digit'; did you mean 'digits'"):
        points("digit")

    def fails(*_: object, **__: object) -> None:
        raise ConnectionError("no\nnetwork")

    monkeypatch.setattr(book, "load_dataset", fails)
    with pytest.raises(InputError, match=r"^data='mnist': ylecun/mnist cannot be loaded \(ConnectionError\)$"):
        points("mnist", 7)


@pytest.mark.parametrize(("rate", "ratio"), [(0.5, 0.0), (1.0, -0.5), (2.0, 0.5)])
def test_a_cell_starts_at_its_point_of_the_plane(rate, ratio):
    fit = plane_fit(Cell(rate, ratio, 4000, 0), points("four points"), TRAINING)
    found = Neurons.of({name: one[None] for name, one in fit.network.initialize(fit.initialization, 0).items()})
    outer, inner = found.outputs.std(), found.weights.std()
    assert outer * inner == pytest.approx(4000**-rate, rel=0.1)
    assert outer / inner == pytest.approx(4000**-ratio, rel=0.1)


def test_the_learning_rate_follows_the_larger_curvature():
    data = points("four points")
    size = math.sqrt(float((data.inputs**2).sum(1).mean()) + 1)
    condensed = 2 * math.sqrt(float((data.targets**2).mean())) * size
    small = plane_fit(Cell(2.0, 0.0, 1000, 0), data, TRAINING)
    assert small.learning_rate == pytest.approx(0.5 / condensed, rel=0.005)
    large = plane_fit(Cell(0.5, -0.75, 1000, 0), data, TRAINING)
    start = Neurons.of({name: one[None] for name, one in large.network.initialize(large.initialization, 0).items()})
    assert large.learning_rate == pytest.approx(0.5 / start.largest_curvature(data.inputs.numpy()), rel=0.005)


@pytest.mark.slow
def test_trained_cells_fit_and_move_as_their_regime_says(tmp_path: Path):
    study = Study("smoke", {"seeds": 1}, tmp_path, tmp_path / "runs", progress=False)
    found: dict[Cell, Trained] = {}
    for rate, width in ((0.5, 100), (0.5, 1600), (1.75, 100), (1.75, 1600)):  # one by one: no process is started
        found |= train_cells(study, {Cell(rate, 0.0, width, 0): points("four points")}, TRAINING)
    inputs, targets = (np.array(column) for column in book.FOUR_POINTS)
    distances = {}
    for cell, one in found.items():
        assert one.fitted
        error = initial_sizes.outputs(one.end, inputs) - targets
        assert 0.5 * np.mean(error**2) <= 1e-4
        distances[cell.rate, cell.width] = np.linalg.norm(one.end.weights - one.start.weights) / np.linalg.norm(
            one.start.weights
        )
    assert distances[0.5, 1600] < distances[0.5, 100]
    assert distances[1.75, 1600] > distances[1.75, 100] > 1
    assert len(study.trained) == 4


def test_a_cell_that_misses_the_target_is_not_fitted(tmp_path: Path):
    study = Study("smoke", {"seeds": 1}, tmp_path, tmp_path / "runs", progress=False)
    training = {**TRAINING, "steps": 2}
    (found,) = train_cells(study, {Cell(1.0, 0.0, 20, 0): points("four points")}, training).values()
    assert not found.fitted


def test_the_share_that_fitted_is_that_of_each_seeds_networks():
    neurons = spread(10, 0)
    trained = {Cell(0.5, 0.0, 10, seed): Trained(neurons, neurons, fitted=seed != 4) for seed in range(6)}
    assert book.fitted_values(trained, 3) == [Value(0, "fitted", 1.0), Value(1, "fitted", pytest.approx(2 / 3))]
    assert [one.value for one in book.fitted_values(trained)] == [1, 1, 1, 1, 0, 1]


def test_the_curvature_is_that_of_the_first_thousand_points(monkeypatch):
    asked = []
    monkeypatch.setattr(Neurons, "largest_curvature", lambda self, inputs: asked.append(len(inputs)) or 1.0)
    for rows in (30, 1500):
        plane_fit(Cell(1.0, 0.0, 20, 0), points("digits", rows), TRAINING)
    assert asked == [30, 1000]
    plane_fit(Cell(0.5, 0.0, 20, 0), points("four points"), TRAINING)
    assert asked[-1] == 4


def test_the_curvature_of_some_of_the_points_is_near_that_of_all():
    fit = plane_fit(Cell(0.5, -0.5, 50, 0), points("digits", 30), TRAINING)
    start = Neurons.of({name: one[None] for name, one in fit.network.initialize(fit.initialization, 0).items()})
    images = points("digits").inputs.double().numpy()
    assert start.largest_curvature(images[:1000]) == pytest.approx(start.largest_curvature(images), rel=0.1)


@pytest.mark.parametrize("name", ["fig7.5", "fig7.7"])
def test_mnist_is_learned_from_as_many_images_at_the_paper_scale(name):
    chosen = chosen_settings(name, "paper", {})
    images = chosen.get("images", chosen)
    assert (images["data"], images["rows"]) == ("mnist", 10_000)
    assert "10 000 images of MNIST" in get(name).notes


class Planted:
    """Of a study: settings and seeds."""

    def __init__(self, name: str, seeds: int = 3):
        self.settings = {**chosen_settings(name, "smoke", {}), "seeds": seeds}
        self.seeds = range(seeds)


@pytest.mark.parametrize("name", ["fig7.1", "fig7.3", "fig7.4", "fig7.6", "fig7.7"])
def test_nets_that_miss_the_target_decide_nothing(name, monkeypatch):
    """One of the regimes is never fitted: the claim cannot hold, and nothing is measured of it."""

    start, end = spread(360, 0), Neurons(3 * spread(0, 360).weights, np.ones(360))

    def train(study: Planted, cells: Mapping[Cell, Points], training: object) -> dict[Cell, Trained]:
        return {cell: Trained(start, end, fitted=cell.rate != 0.5) for cell in cells}

    for module in (initial_sizes, relative_distance, condensed_widths):
        monkeypatch.setattr(module, "train_cells", train)
    one = get(name)
    measured = one.measure(Planted(name))
    decided = {found.condition.quantity: found for found in decide(one.claim, measured.values).conditions}
    assert decided["fitted"].verdict == "fails"
    lost = {"fig7.1": "jagged", "fig7.3": "linear distance", "fig7.4": "slope at 0.5"}.get(name, "linear")
    assert decided[lost].values == ()
    if name == "fig7.3":
        assert decided["order"].values == ()


# Figure 7.4


def test_planted_slopes_are_found_for_every_seed():
    slopes = {0.5: -0.5, 1.0: 0.02, 1.75: 0.4}
    table = pd.DataFrame(
        [(rate, width, seed, width**s) for rate, s in slopes.items() for width in (10, 100, 1000) for seed in (0, 1)],
        columns=["rate", "width", "seed", "distance"],
    )
    values = slope_values(slope_table(table))
    assert len(values) == 8
    found = by_name(values)
    assert [found[f"slope at {rate:g}"] for rate in slopes] == pytest.approx(list(slopes.values()))
    assert found["standard error"] == pytest.approx(0, abs=1e-9)
    one_width = slope_values(slope_table(table[table["width"] == 10]))
    assert all(math.isnan(one.value) for one in one_width)


# Figures 7.1 and 7.3


def curves(linear: np.ndarray, critical: np.ndarray, condensed: np.ndarray, x: np.ndarray) -> pd.DataFrame:
    return pd.concat(
        pd.DataFrame({"rate": rate, "seed": seed, "x": x, "f": f})
        for seed in range(3)
        for rate, f in ((0.5, linear), (1.0, critical), (1.75, condensed))
    )


def test_jagged_smooth_and_piecewise_curves_are_told_apart():
    x = np.linspace(-1, 1, 401)
    jagged = x**2 + 0.02 * np.abs((10 * x) % 1 - 0.5)
    values = initial_sizes.shape_values(curves(jagged, x**2, np.abs(x - 0.123), x))
    found = by_name(values)
    assert found["smooth"] == pytest.approx(8 / 399, rel=0.01)
    assert found["piecewise"] == pytest.approx(1)
    assert decide(get("fig7.1").claim, [*ALL_FITTED, *values]).verdict == "holds"
    swapped = initial_sizes.shape_values(curves(x**2, np.abs(x), x**2, x))
    assert by_name(swapped)["jagged"] == pytest.approx(4 / 2, rel=0.01)
    assert decide(get("fig7.1").claim, [*ALL_FITTED, *swapped]).verdict == "fails"


def test_a_zigzag_is_not_jagged_and_a_jagged_curve_is_no_spline():
    x = np.linspace(-1, 1, 401)
    jagged = x**2 + 0.02 * np.abs((10 * x) % 1 - 0.5)
    zigzag = 20 * np.abs(x - 0.3) - 20 * np.abs(x + 0.3)
    found = by_name(initial_sizes.shape_values(curves(jagged, x**3 - x, np.abs(x), x)))
    assert (found["turns"], found["smooth turns"]) == (pytest.approx(39, abs=3), 1)
    few = initial_sizes.shape_values(curves(zigzag, x**2, np.abs(x), x))
    assert by_name(few)["jagged"] > 2
    for values in (few, initial_sizes.shape_values(curves(3 * jagged, jagged, np.abs(x), x))):
        assert decide(get("fig7.1").claim, [*ALL_FITTED, *values]).verdict == "fails"
    assert math.isnan(by_name(initial_sizes.shape_values(curves(x * math.nan, x**2, np.abs(x), x)))["turns"])


def test_outputs_are_the_sum_of_the_neurons():
    neurons = Neurons(np.array([[1.0, 0.5], [-1.0, 0.0]]), np.array([2.0, -3.0]))
    assert initial_sizes.outputs(neurons, np.array([-1.0, 0.0, 2.0])) == pytest.approx([-3.0, 1.0, 5.0])


def spread(count: int, heap: int, seed: int = 0) -> Neurons:
    """`count` neurons all around, of amplitude 1, and `heap` ones of amplitude 1 in one direction."""
    angles = np.concatenate([np.linspace(-np.pi, np.pi, count, endpoint=False), np.full(heap, 0.51)])
    return Neurons(np.column_stack([np.cos(angles), np.sin(angles)]), np.ones(count + heap))


def test_the_share_of_heaped_neurons():
    assert initial_sizes.angle_share(spread(3600, 0)) == pytest.approx(8 / 360, rel=0.2)
    assert initial_sizes.angle_share(spread(360, 3240)) == pytest.approx(0.9, abs=0.01)


def test_neuron_values_go_by_regime():
    def shares(linear: float, critical: float, condensed: float, neurons: float = 90.0) -> pd.DataFrame:
        rows = [
            (rate, 0.0, 100, seed, distance, 0.05, share, neurons)
            for seed in range(3)
            for rate, distance, share in ((0.5, 0.1, linear), (1.0, 0.8, critical), (1.75, 9.0, condensed))
        ]
        return pd.DataFrame(rows, columns=[*Cell._fields, "distance", "start_share", "end_share", "neurons"])

    claim = get("fig7.3").claim
    good = initial_sizes.neuron_values(shares(0.06, 0.4, 0.95))
    assert by_name(good)["order"] == pytest.approx(0.34)
    assert decide(claim, [*ALL_FITTED, *good]).verdict == "holds"
    assert decide(claim, [*ALL_FITTED, *initial_sizes.neuron_values(shares(0.3, 0.2, 0.95))]).verdict == "fails"
    alone = initial_sizes.neuron_values(shares(0.06, 0.4, 0.95, neurons=1.1))
    assert decide(claim, [*ALL_FITTED, *alone]).verdict == "fails"


def test_one_large_neuron_among_many_is_one():
    neurons = spread(100, 0)
    assert initial_sizes.effective_neurons(neurons) == pytest.approx(100)
    large = np.where(np.arange(100) == 3, 1e4, 1.0)
    assert initial_sizes.effective_neurons(Neurons(neurons.weights, large)) == pytest.approx(1.02, abs=0.01)


# Figures 7.6 and 7.7


def test_regimes_are_parted_by_the_boundary():
    found = {(rate, ratio): condensed_widths.regime(rate, ratio) for rate in RATES for ratio in RATIOS}
    assert found[1.0, -0.5] == found[1.0, 0.0] == found[1.5, 0.5] == "critical"
    assert found[1.5, 0.0] == found[2.0, 0.5] == "condensed"
    assert found[0.5, -0.5] == found[1.0, 0.5] == "linear"


@pytest.mark.parametrize(("power", "verdict"), [(0.5, "holds"), (0.0, "fails"), (-0.5, "fails")])
def test_sharpening_in_the_condensed_regime_alone(power, verdict):
    rows = [
        (rate, ratio, width, seed, (width**-power if condensed_widths.regime(rate, ratio) == "condensed" else 0.9))
        for rate in RATES
        for ratio in RATIOS
        for width in (100, 1000, 10_000)
        for seed in range(3)
    ]
    outside = pd.DataFrame(rows, columns=[*Cell._fields, "outside"])
    values = condensed_widths.sharpening_values(outside)
    found = by_name(values)
    assert found.pop("condensed end") == pytest.approx(10_000**-power)
    assert found == pytest.approx({"condensed": 100**-power, "critical": 1, "linear": 1, "linear end": 0.9})
    assert decide(get("fig7.6").claim, [*ALL_FITTED, *values]).verdict == verdict
    assert decide(get("fig7.7").claim, [*ALL_FITTED, *values]).verdict == verdict


def test_a_little_less_of_nearly_all_is_no_condensation():
    condensed = {1000: 0.95, 10_000: 0.7}
    rows = [
        (rate, ratio, width, seed, outside if condensed_widths.regime(rate, ratio) == "condensed" else 0.95)
        for rate in RATES
        for ratio in RATIOS
        for width, outside in condensed.items()
        for seed in range(3)
    ]
    values = condensed_widths.sharpening_values(pd.DataFrame(rows, columns=[*Cell._fields, "outside"]))
    assert by_name(values)["condensed"] < 0.8
    assert decide(get("fig7.6").claim, [*ALL_FITTED, *values]).verdict == "fails"


def test_what_is_outside_of_planted_heaps():
    neurons = spread(360, 3240)
    trained = {Cell(2.0, 0.0, 10, 0): Trained(neurons, neurons, fitted=True)}
    found = condensed_widths.outside_table(trained, initial_sizes.angle_share)
    assert found["outside"].tolist() == [1]
    moved = {Cell(2.0, 0.0, 10, 0): Trained(spread(3600, 0), neurons, fitted=True)}
    found = condensed_widths.outside_table(moved, initial_sizes.angle_share)
    assert found["outside"].tolist() == pytest.approx([0.1], abs=0.01)
    missed = {Cell(2.0, 0.0, 10, 0): Trained(neurons, neurons, fitted=False)}
    assert condensed_widths.outside_table(missed, initial_sizes.angle_share)["outside"].isna().all()


def test_projections_on_the_diagonal():
    weights = np.array([[2.0, 2.0, 2.0, 2.0], [-3.0, -3.0, -3.0, -3.0], [1.0, -1.0, 0.0, 0.0]])
    neurons = Neurons(weights, np.array([1.0, 1.0, 0.1]))
    assert condensed_widths.projections(neurons) == pytest.approx([1, -1, 0])
    assert condensed_widths.projection_share(neurons) == pytest.approx(1)


@pytest.mark.parametrize("share", [initial_sizes.angle_share, condensed_widths.projection_share])
def test_neurons_that_do_not_move_do_not_sharpen_by_chance(share):
    random = np.random.Generator(np.random.Philox(0))
    trained = {}
    for width in (200, 20_000):
        inputs = 2 if share is initial_sizes.angle_share else 64
        start = Neurons(random.normal(size=(width, inputs)), random.normal(size=width))
        end = Neurons(start.weights + 0.001 * random.normal(size=start.weights.shape), start.outputs)
        assert share(start) > 0
        trained[Cell(0.5, 0.0, width, 0)] = Trained(start, end, fitted=True)
    outside = {cell.width: 1 - share(found.end) for cell, found in trained.items()}
    assert outside[20_000] > 1.1 * outside[200]  # what the places that are heavy by chance make of it
    values = condensed_widths.sharpening_values(condensed_widths.outside_table(trained, share))
    assert by_name(values) == {"linear": pytest.approx(1, abs=0.02), "linear end": pytest.approx(1, abs=0.02)}


def test_the_neurons_in_the_figure_are_chosen_at_random():
    neurons = Neurons(np.column_stack([np.ones(4000), np.zeros(4000)]), np.linspace(0.001, 1, 4000))
    shown = condensed_widths._shown(Cell(0.5, 0.0, 4000, 0), neurons, lambda found: found.angles)
    assert len(shown) == 400
    assert shown["height"].mean() == pytest.approx(0.5, abs=0.05)
    assert shown.equals(condensed_widths._shown(Cell(0.5, 0.0, 4000, 0), neurons, lambda found: found.angles))
