"""Chapter 8: what is computed from planted neurons and histories, and the trainings' settings."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from anchorlab.phenomena.neurons import Neurons
from anchorlab.report.style import GREY
from anchorlab.reproduce import Value, chosen_settings, decide, get
from anchorlab.reproduce.chapter08 import growth, initial

IDS = ("fig8.2", "fig8.3", "fig8.4", "fig8.10", "fig8.11")


def by_name(values: list[Value]) -> dict[str, float]:
    return {one.quantity: one.value for one in values}


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
def test_settings_are_json_and_seeds_are_enough(name, scale):
    chosen = chosen_settings(name, scale, {})
    assert scale == "smoke" or chosen["seeds"] >= get(name).claim.seeds


def test_the_target_is_eq_8_2():
    x = torch.tensor([-1.0, -0.3, 0.0, 0.4, 0.8, 1.5], dtype=torch.float64)
    # Slopes 0, 2, 1, -0.5 and 0 between the kinks.
    assert growth.target(x).tolist() == pytest.approx([0, 0, 0.6, 1.0, 0.8, 0.8])


def planted(angles: list[float], amplitudes: list[float]) -> Neurons:
    return Neurons(np.column_stack([np.cos(angles), np.sin(angles)]), np.array(amplitudes))


def test_directions_of_large_neurons_are_counted():
    angles = [0.0, 0.05, 1.0, 1.02, 2.0, -2.0]
    assert growth.direction_count(planted(angles, [1, 1, 0.5, 0.4, 0.3, 0.01])) == 3
    assert growth.direction_count(planted(angles, [1, 1, 1, 1, 1, 1])) == 4
    assert growth.direction_count(planted([0.1, 0.1 + math.pi], [1, 1])) == 2  # opposite directions are two


def test_dead_neurons_are_followed():
    inputs = np.linspace(-1, 1, 5)[:, None]
    start = Neurons(np.array([[1.0, 0.0], [0.1, -2.0]]), np.array([1.0, 1.0]))
    moved = Neurons(np.array([[5.0, 0.0], [0.1, -2.0]]), np.array([2.0, 1.0]))
    assert growth.dead_movement({0: start, 10: moved}, inputs) == 0
    output = Neurons(moved.weights, np.array([2.0, 1.5]))
    assert growth.dead_movement({0: start, 10: moved, 20: output}, inputs) == 0.5
    alive = Neurons(np.array([[1.0, 0.0]]), np.ones(1))
    assert math.isnan(growth.dead_movement({0: alive, 1: alive}, inputs))


@pytest.mark.parametrize(
    ("counts", "gathered", "verdict"),
    [
        ((20, 1, 2, 4, 6), 40, "holds"),
        ((20, 1, 3, 4, 5), 40, "holds"),
        ((20, 1, 2, 4, 8), 40, "fails"),
        ((20, 1, 2, 3, 4), 40, "fails"),
        ((20, 2, 3, 4, 6), 40, "fails"),
        ((20, 1, 1, 1, 6), 40, "fails"),  # all at once
        ((20, 12, 12, 12, 12), 40, "fails"),
        ((20, 1, 2, 4, 6), 1, "fails"),  # one neuron is no condensation
    ],
)
def test_growing_directions_hold(counts, gathered, verdict):
    rows = [
        (seed, step, count, gathered)
        for seed in range(3)
        for step, count in zip((0, 100, 400, 1000, 30_000), counts, strict=True)
    ]
    table = pd.DataFrame(rows, columns=["seed", "step", "directions", "counted"]).sample(frac=1, random_state=0)
    values = growth.direction_values(table)
    assert by_name(values).items() >= {"first": counts[1], "last": counts[4], "gathered": gathered}.items()
    dead = [Value(seed, "dead", 0.0) for seed in range(3)]
    assert decide(get("fig8.3").claim, [*values, *dead]).verdict == verdict
    walking = [Value(seed, "dead", 1e-9) for seed in range(3)]
    assert decide(get("fig8.3").claim, [*values, *walking]).verdict == "fails"


@pytest.mark.parametrize(("errors", "verdict"), [((1, 0.5, 0.05), "holds"), ((1, 0.01, 0.15), "fails")])
def test_the_last_error_has_to_be_small(errors, verdict):
    rows = [
        (seed, step, x, target * (1 + error), target)
        for seed in range(3)
        for step, error in zip((0, 10, 100), errors, strict=True)
        for x, target in ((0.0, 1.0), (1.0, -2.0))
    ]
    table = pd.DataFrame(rows, columns=["seed", "step", "x", "f", "target"]).sample(frac=1, random_state=0)
    values = growth.output_values(table)
    # The targets' mean square is 2.5, their variance 2.25.
    assert by_name(values) == {"error": pytest.approx(errors[-1] ** 2 * 2.5 / 2.25)}
    assert decide(get("fig8.4").claim, values).verdict == verdict


@pytest.mark.parametrize(("counts", "verdict"), [((2, 2, 3), "holds"), ((1, 1, 1), "fails")])
def test_several_plateaus_are_two_or_more(counts, verdict):
    values = [Value(seed, "plateaus", float(count)) for seed, count in enumerate(counts)]
    start = [Value(seed, "start", 20.0) for seed in range(3)]
    assert decide(get("fig8.2").claim, [*values, *start]).verdict == verdict


def test_what_cannot_fail_is_marked():
    conditions = {one.quantity: one.text for name in ("fig8.2", "fig8.3") for one in get(name).claim.conditions}
    assert "follows from" in conditions["start"]
    assert "follows from" in conditions["dead"]


def test_polar_panels_share_a_radius_and_show_inactive_neurons_grey():
    steps = {0: [1e-5, 2e-5, 3e-5], 100: [1e-5, 1e-2, 0.5], 300: [1e-5, 0.9, 1.0]}
    neurons = {step: planted([0.0, 1.0, 2.0], amplitudes) for step, amplitudes in steps.items()}
    found = {0: growth.Learned(pd.DataFrame(), neurons, {})}
    table = growth._neuron_table(found, (100, 300))
    assert table["active"].tolist() == [0, 1, 1, 0, 1, 1]
    figure = get("fig8.3").figure({"neurons": table, "directions": growth.direction_table(found)})
    assert [axes.get_ylim() for axes in figure.axes] == [(-5, 0), (-5, 0)]
    assert [axes.get_title() for axes in figure.axes] == ["step 100: 2 directions", "step 300: 2 directions"]
    grey, counted = figure.axes[0].lines
    assert (grey.get_color(), grey.get_ydata().tolist()) == (GREY, pytest.approx([-5]))
    assert len(counted.get_ydata()) == 2
    one = growth.direction_table(found).assign(directions=1)
    assert get("fig8.3").figure({"neurons": table, "directions": one}).axes[0].get_title() == "step 100: 1 direction"


def test_points_of_waves():
    found = initial.wave_points(200, 5, 3.5, 5.0, 0)
    assert found.inputs.shape == (200, 5)
    assert -4 <= float(found.inputs.min()) < -3.9
    assert 1.9 < float(found.inputs.max()) <= 2
    row = found.inputs[7].tolist()
    assert float(found.targets[7]) == pytest.approx(sum(3.5 * math.sin(5 * x + 1) for x in row))
    assert not torch.equal(found.inputs, initial.wave_points(200, 5, 3.5, 5.0, 1).inputs)


@pytest.mark.parametrize("lines", [1, 2, 3])
def test_planted_lines_are_counted(lines):
    random = np.random.Generator(np.random.Philox(lines))
    axes = np.linalg.qr(random.normal(size=(6, 6)))[0][:lines]
    chosen = np.arange(50) % lines
    signs = random.choice([-1.0, 1.0], 50)
    weights = signs[:, None] * axes[chosen] * random.uniform(0.1, 1, 50)[:, None] + 0.01 * random.normal(size=(50, 6))
    assert initial.lines_of(weights) == (lines, 1)
    strays = random.normal(size=(4, 6))  # too few for a line
    assert initial.lines_of(np.concatenate([weights[:46], strays])) == (lines, pytest.approx(0.92))


@pytest.mark.parametrize(("neurons", "inputs"), [(50, 6), (18, 4), (18, 19)])
def test_random_neurons_are_on_no_line(neurons, inputs):
    random = np.random.Generator(np.random.Philox(0))
    found = [initial.lines_of(random.normal(size=(neurons, inputs))).lines for _ in range(40)]
    assert sum(map(bool, found)) <= 2


def test_what_is_near_by_chance_is_not_one_line():
    random = np.random.Generator(np.random.Philox(0))
    for inputs in (4, 6):
        one, other = (rows / np.linalg.norm(rows, axis=1)[:, None] for rows in random.normal(size=(2, 20_000, inputs)))
        near = np.abs((one * other).sum(1)) > initial.line_cosine(inputs)
        assert near.mean() == pytest.approx(0.005, abs=0.0015)
    assert initial.line_cosine(19) == 0.9


def line_table(share: float = 0.9, **other: int) -> pd.DataFrame:
    rows = [(name, seed, lines, share) for name, lines in {**initial.LINES, **other}.items() for seed in range(3)]
    return pd.DataFrame(rows, columns=["activation", "seed", "lines", "share"])


@pytest.mark.parametrize("name", ["fig8.10", "fig8.11"])
def test_the_lines_of_the_source_hold_and_others_fail(name):
    claim = get(name).claim
    assert decide(claim, initial.line_values(line_table())).verdict == "holds"
    assert decide(claim, initial.line_values(line_table(tanh=2))).verdict == "fails"
    assert decide(claim, initial.line_values(line_table(x2_tanh=2))).verdict == "fails"
    assert decide(claim, initial.line_values(line_table(share=0.2))).verdict == "fails"  # the others are scattered


def test_titles_of_heat_maps_stay_short():
    rows = line_table().query("activation == 'tanh'").reset_index()
    assert initial._count_text(rows) == "1 line (in 3: 1)"
    rows.loc[0, "lines"] = 5
    assert initial._count_text(rows) == "5 lines (in 3: 1 to 5)"
    assert initial._count_text(rows[:1]) == "5 lines"


def test_numbers_of_lines_have_to_be_right_at_once():
    table = line_table()
    table.loc[table["seed"].eq(0) & table["activation"].eq("tanh"), "lines"] = 2
    table.loc[table["seed"].eq(1) & table["activation"].eq("x_tanh"), "lines"] = 3
    values = initial.line_values(table)
    assert [one.value for one in values if one.quantity == "right"] == [4, 4, 5]


def test_the_residual_net_is_the_sources():
    settings = chosen_settings("fig8.11", "laptop", {})
    fit = initial._fit(settings, 0, (18,) * 5, tuple(settings["steps"]), settings["learning_rate"])
    assert fit.network.residual
    assert fit.network.layer_sizes == ((3, 18), (18, 18), (18, 18), (18, 18), (18, 18), (18, 1))
    assert fit.evaluate_at == (900, 1000, 1400)
    assert (fit.steps, len(fit.data["train"].inputs)) == (1400, 80)
