"""Figure 7.5 and table 7.1 from planted maps and the table's initializations; names and legends cover nothing."""

import math
from itertools import combinations

import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from anchorlab.phenomena.neurons import theoretical_boundary
from anchorlab.reproduce import Value, decide, get
from anchorlab.reproduce.chapter07 import initializations, phase_plane
from anchorlab.reproduce.chapter07.book import Cell

ALL_FITTED = [Value(seed, "fitted", 1.0) for seed in range(3)]
RATES, RATIOS = (0.5, 1.0, 1.5, 2.0), (-0.5, 0.0, 0.5)


def by_name(values: list[Value]) -> dict[str, float]:
    return {one.quantity: one.value for one in values}


# Figure 7.5


def planted_map(data: str, shift: float = 0.0, sign: int = 1, rates=RATES, ratios=RATIOS) -> pd.DataFrame:
    rows = [
        (data, rate, ratio, seed, sign * (rate - theoretical_boundary(ratio) - shift))
        for rate in rates
        for ratio in ratios
        for seed in range(3)
    ]
    return pd.DataFrame(rows, columns=["data", "rate", "rate_ratio", "seed", "exponent"])


def map_values(exponents: pd.DataFrame) -> list[Value]:
    values = phase_plane.map_values(exponents, phase_plane.crossing_table(exponents))
    return [*values, *phase_plane.agreement_values(exponents)]


def both(**line: float) -> pd.DataFrame:
    return pd.concat([planted_map("line", **line), planted_map("images")], ignore_index=True)


def test_exponents_come_from_the_widths_that_fitted():
    rows = [("line", 0.5, 0.0, width, 0, distance) for width, distance in ((10, 1.0), (100, math.nan), (1000, 0.1))] + [
        ("line", 1.0, 0.0, 10, 0, 1.0),
        ("line", 1.0, 0.0, 100, 0, math.nan),
    ]
    distances = pd.DataFrame(rows, columns=["data", "rate", "rate_ratio", "width", "seed", "distance"])
    found = phase_plane.exponent_table(distances).set_index("rate")["exponent"]
    assert found[0.5] == pytest.approx(-0.5)
    assert math.isnan(found[1.0])
    assert by_name(phase_plane.fitted_values(distances)) == {"fitted": pytest.approx(3 / 5)}


def test_the_share_that_fitted_is_that_of_the_worse_data():
    distances = pd.DataFrame(
        {"data": ["line"] * 2 + ["images"] * 2, "seed": 0, "distance": [1.0, 1.0, 1.0, math.nan]},
    )
    assert by_name(phase_plane.fitted_values(distances)) == {"fitted": 0.5}


def test_a_map_of_the_theory_holds():
    values = map_values(both(shift=0.05))
    found = by_name(values)
    assert found["line signs"] == found["images signs"] == found["agreement"] == 1
    assert found["line boundary"] == pytest.approx(0.05)
    assert found["images boundary"] == pytest.approx(0, abs=1e-12)
    assert decide(get("fig7.5").claim, [*ALL_FITTED, *values]).verdict == "holds"


def test_a_shifted_boundary_fails():
    values = map_values(both(shift=0.4))
    assert by_name(values)["line boundary"] == pytest.approx(0.4)
    assert decide(get("fig7.5").claim, [*ALL_FITTED, *values]).verdict == "fails"


def test_a_map_of_wrong_signs_fails_and_has_no_boundary():
    found = by_name(map_values(both(sign=-1)))
    assert found["line signs"] == found["agreement"] == 0
    assert found["line boundary"] == math.inf


def test_a_ratio_without_any_exponent_has_no_boundary():
    planted = both()
    planted.loc[(planted["data"] == "line") & (planted["rate_ratio"] == 0.5), "exponent"] = math.nan
    assert by_name(map_values(planted))["line boundary"] == math.inf


def test_maps_agree_on_their_common_cells():
    line = planted_map("line", rates=(0.5, 0.75, 1.0, 2.0), ratios=(0.0,))
    line.loc[line["rate"] == 0.5, "exponent"] *= -1
    found = phase_plane.agreement_values(pd.concat([line, planted_map("images")], ignore_index=True))
    assert by_name(found) == {"agreement": 0.5}  # of γ = 0.5 and 2; 1 is on the boundary, 0.75 in one map only
    assert phase_plane.agreement_values(planted_map("line")) == []


# Table 7.1


@pytest.mark.parametrize("name", ["LeCun", "He", "Xavier", "NTK", "mean field", "E et al."])
def test_initializations_have_the_kappas_of_the_table(name):
    m, d, power = 50, 7, 0.75
    beta = m**-power
    kappas = {
        "LeCun": ((m * d) ** -0.5, (d / m) ** 0.5),
        "He": ((4 / (m * d)) ** 0.5, (d / m) ** 0.5),
        "Xavier": ((4 / ((m + 1) * (m + d))) ** 0.5, ((m + d) / (m + 1)) ** 0.5),
        "NTK": (m**-0.5, 1),
        "mean field": (1 / m, 1),
        "E et al.": (beta, beta),
    }
    found = initializations.scales(name, m, d, power)
    assert (found.energy, found.dynamics) == pytest.approx(kappas[name])


def test_the_spreads_are_those_of_drawn_weights():
    network, initialization = initializations._SETUPS["Xavier"](20_000, 3, 1.0)
    drawn = network.initialize(initialization, 0, dtype=torch.float64)
    found = initializations.scales("Xavier", 20_000, 3, 1.0)
    assert float(drawn["layers.1.weight"].std()) == pytest.approx(found.outer, rel=0.02)
    assert float(drawn["layers.0.weight"].std()) == pytest.approx(found.inner, rel=0.02)


def test_the_table_is_met_at_large_widths_and_a_wrong_entry_is_not():
    table = initializations.rate_table((10**9, 10**12), 784, 0.6)
    assert table.set_index("initialization").loc["E et al.", "stated_rate"] == 0.6
    assert decide(get("tab7.1").claim, initializations.rate_values(table)).verdict == "holds"
    table.loc[table["initialization"] == "NTK", "stated_ratio"] = 0.5
    values = initializations.rate_values(table)
    assert by_name(values)["NTK"] == pytest.approx(0.5)
    assert decide(get("tab7.1").claim, values).verdict == "fails"


# Pictures


def outside_cells(figure: Figure) -> None:
    figure.canvas.draw()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert not any(box.overlaps(axes.get_window_extent()) for axes in figure.axes)


def test_legends_cover_no_cells():
    planted = both()
    tables = {"exponents": planted, "crossings": phase_plane.crossing_table(planted)}
    outside_cells(get("fig7.5").figure(tables))
    neurons = pd.DataFrame(
        [(rate, ratio, width, 0, 0.1, 0.5) for rate in RATES for ratio in RATIOS for width in (10, 100, 1000)],
        columns=[*Cell._fields, "place", "height"],
    )
    outside_cells(get("fig7.7").figure({"neurons": neurons}))


def test_no_name_in_table_7_1_is_crossed_by_the_boundary():
    figure = get("tab7.1").figure({"initializations": initializations.rate_table((10**9, 10**12), 784, 0.75)})
    figure.canvas.draw()
    (axes,) = figure.axes
    boundary = axes.lines[-1].get_path().transformed(axes.lines[-1].get_transform())
    boxes = {text.get_text(): text.get_window_extent() for text in axes.texts}
    assert len(boxes) == 4
    assert not any(boundary.intersects_bbox(box, filled=False) for box in boxes.values())
    assert not any(one.overlaps(other) for one, other in combinations(boxes.values(), 2))
