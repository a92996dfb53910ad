import numpy as np
import pandas as pd
import pytest

from anchorlab.analysis import measure_condensation
from anchorlab.analysis.condensation import condensation_table, survey_condensation
from anchorlab.errors import InputError
from anchorlab.report import condensation_figures as figures

MATRICES = ("W_Q", "W_K", "W_V", "W_O", "W_1", "W_2")


def network(layers: int, *, condensed: str = "", matrices: tuple[str, ...] = MATRICES) -> dict[str, np.ndarray]:
    """Gaussian weights by name; all neurons of the condensed one have the same direction."""
    random = np.random.default_rng(layers)
    names = [f"layer {layer} {matrix}" for layer in range(1, layers + 1) for matrix in matrices]
    weights = {name: random.normal(size=(12, 8)) for name in [*names, "head"]}
    if condensed:
        weights[condensed] = np.outer(np.arange(1, 13), weights[condensed][0])
    return weights


def drawn(figure):
    """The small matrices of a grid: title and picture, row by row; None for an empty cell."""
    panels = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    return [(axes.get_title(), np.asarray(axes.images[0].get_array())) if axes.images else None for axes in panels]


def along_training(layers: int = 2) -> pd.DataFrame:
    tables = [condensation_table(network(layers)), condensation_table(network(layers, condensed="layer 2 W_Q"))]
    return pd.concat([table.assign(step=step) for step, table in zip((0, 500), tables, strict=True)])


def test_cosine_is_drawn_in_display_order():
    found = measure_condensation(np.random.default_rng(1).normal(size=(16, 9)), threshold=0.3)
    shown = np.asarray(figures.cosine_plot(found).axes[0].images[0].get_array())
    assert np.array_equal(shown, found.cosine[np.ix_(found.order, found.order)])


def test_condensation_is_told_against_random_weights():
    weights = np.random.default_rng(0).normal(size=(64, 64))
    text = figures.about_condensation(measure_condensation(weights))
    assert "random weights use 32.3: no condensation" in text
    one = figures.about_condensation(measure_condensation(np.outer(np.arange(1, 65), weights[0])))
    assert "about 1.0 directions, where random weights use 32.3: clear condensation, 3% of the random number" in one
    assert "into 1 group " in one


def test_cosine_download_is_the_cosine_of_the_named_neurons():
    found = measure_condensation(np.random.default_rng(1).normal(size=(16, 9)), threshold=0.3)
    table = figures.cosine_table(found).set_index("neuron")
    assert table.loc[3, "5"] == pytest.approx(found.cosine[3, 5], abs=6e-4)
    assert table.loc[3, "group"] == found.groups[3]


@pytest.mark.parametrize("layers", [2, 10])
def test_overview_draws_every_matrix_in_its_place(layers):
    survey = survey_condensation(network(layers, condensed="layer 2 W_V"))
    cells = drawn(figures.condensation_overview(survey))
    assert len(cells) == 6 * (layers + 1)
    for name, cell in zip(survey.pictures, cells, strict=False):
        title, picture = cell
        assert title.split()[0] == name.split()[-1]
        assert np.array_equal(picture, survey.pictures[name])
    assert cells[6 + 2][0] == "W_V  20%"  # 1 direction of 12 / (1 + 11 / 8)
    assert cells[6 * layers + 1 :] == [None] * 5


def test_overview_of_matrices_without_layers():
    random = np.random.default_rng(0)
    survey = survey_condensation({str(number): random.normal(size=(4, 3)) for number in range(8)})
    cells = drawn(figures.condensation_overview(survey))
    assert [cell and cell[0].split()[0] for cell in cells] == [*"01234567", None, None, None, None]


def test_members_stand_below_one_another_with_their_layers_aligned():
    members = {
        "deep": survey_condensation(network(3, condensed="layer 3 W_Q")),
        "shallow": survey_condensation(network(1)),
        "other": survey_condensation(network(1, matrices=("W",))),
    }
    figure = figures.condensation_by_member(members)
    cells = drawn(figure)
    assert [cell and cell[0].split("  ")[0] for cell in cells] == [
        *("layer 1", "layer 2", "layer 3"),
        *("layer 1", None, None),
        *(None, None, None),
    ]
    assert np.array_equal(cells[2][1], members["deep"].pictures["layer 3 W_Q"])
    assert [axes.get_ylabel() for axes in figure.axes[:9:3]] == ["deep", "shallow", "other"]
    text = figures.about_members(members)
    shares = members["deep"].table.eval("directions / random_directions")[[0, 6, 12]]
    assert f"deep {', '.join(f'{share:.0%}' for share in shares)}; shallow " in text
    assert "other has none" in text
    table = figures.members_table(members)
    assert len(table) == 19 + 7 + 2
    assert table[table["member"] == "shallow"]["weight"].tolist() == members["shallow"].table["weight"].tolist()


def test_curves_draw_shares_over_steps_by_layer():
    table = along_training()
    figure = figures.condensation_curves(table)
    (axes,) = figure.axes
    lines = {line.get_label(): line for line in axes.lines}
    for layer in (1, 2):
        rows = table[table["weight"] == f"layer {layer} W_Q"]
        assert lines[f"layer {layer}"].get_xdata().tolist() == [0, 500]
        expected = (rows["directions"] / rows["random_directions"]).tolist()
        assert lines[f"layer {layer}"].get_ydata().tolist() == pytest.approx(expected)
    assert lines["layer 1"].get_marker() != lines["layer 2"].get_marker()


def test_curves_of_all_matrices_have_a_panel_each():
    figure = figures.condensation_curves(along_training(10), matrices=None)
    titles = [axes.get_title() for axes in figure.axes if axes.axison]
    assert titles == [*MATRICES, "head"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [f"layer {layer}" for layer in range(1, 11)]


def test_overview_is_told_with_its_extremes():
    survey = survey_condensation(network(2, condensed="layer 2 W_K"))
    text = figures.about_overview(survey)
    assert "Of 13 weight matrices 1 show clear condensation" in text
    assert "Layer 2 W_K is condensed most, with about 1.0 directions where random weights use 5.1 and 100% of" in text
    shares = survey.table.set_index("weight").eval("directions / random_directions")
    assert f"{shares.idxmax()} least" in text


def test_training_is_told_from_its_first_to_its_last_step():
    text = figures.about_training(along_training())
    assert "from step 0 to step 500: layer 1 W_Q from " in text
    assert "The smallest is 20%, in layer 2 W_Q at step 500." in text


def test_a_matrix_that_was_not_measured_is_refused():
    table = along_training()
    for use in (
        lambda: figures.condensation_curves(table, matrices=["W_X"]),
        lambda: figures.about_training(table, matrix="W_X"),
    ):
        with pytest.raises(InputError, match="matrix='W_X': not measured; known: W_Q, W_K"):
            use()
    members = {"one": survey_condensation(network(1))}
    for use in (figures.condensation_by_member, figures.about_members):
        with pytest.raises(InputError, match="matrix='W_X': none of the networks"):
            use(members, matrix="W_X")
