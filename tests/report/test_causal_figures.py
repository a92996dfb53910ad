import pandas as pd
import pytest

from anchorlab.analysis import Effects, PathGraph, Readout
from anchorlab.report import causal_figures, readout_figures

PLACES = ("before", "key", "anchor 1", "last")


def graph(rows, least=0.1):
    table = pd.DataFrame(rows, columns=["layer", "source", "target", "effect", "on_path"])
    return PathGraph(table, PLACES, 2, least, 50, 60)


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts if text.get_text()]


def test_path_shows_the_strong_edges_with_their_numbers():
    rows = [(1, "anchor 1", "key", 0.84, True), (2, "key", "last", 1.0, True), (2, "before", "last", 0.02, False)]
    figure = causal_figures.path_drawing(graph(rows))
    assert sorted(texts(figure)) == ["0.84", "1.00"]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == list(PLACES)
    said = causal_figures.about_path(graph(rows))
    assert "in layer 1, key reads anchor 1 (0.84); in layer 2, last reads key (1.00)" in said
    assert "before" not in said


def test_costly_edges_beside_the_path_are_told():
    rows = [(1, "key", "last", 0.5, True), (1, "before", "key", 0.6, False), (2, "before", "before", 0.2, False)]
    said = causal_figures.about_path(graph(rows))
    assert said.endswith("Not on such a way, but costly to cut: key reads before in layer 1 (0.60).")


def test_places_of_several_readings_are_mixed():
    shares = {(1, "last"): (0.4, 0.4)}
    assert texts(readout_figures.readout_map({"test": readout(shares)})) == ["mixed"]


def test_arrow_within_one_place_is_drawn():
    assert texts(causal_figures.path_drawing(graph([(1, "before", "before", 0.5, False)]))) == ["0.50"]


def test_no_path_is_said_to_be_none():
    said = causal_figures.about_path(graph([(1, "key", "last", 0.05, False)]))
    assert "No single connection costs 10% of the logit difference" in said


def patching(components=("residual stream", "attention output")):
    rows = [
        (component, layer, place, 1.0 if (layer, place) in ((1, "key"), (2, "last")) else -0.001)
        for component in components
        for layer in (1, 2)
        for place in PLACES
    ]
    return Effects(pd.DataFrame(rows, columns=["component", "layer", "place", "effect"]), 50, 60)


def test_patching_has_a_map_for_every_component_in_the_order_of_rows():
    figure = causal_figures.patching_maps(patching())
    maps = [axes for axes in figure.axes if axes.images and axes.get_title(loc="left")]
    assert [axes.get_title(loc="left") for axes in maps] == ["residual stream", "attention output"]
    assert [label.get_text() for label in maps[-1].get_xticklabels()] == list(PLACES)
    assert maps[0].images[0].get_array().tolist()[0] == pytest.approx([-0.001, 1, -0.001, -0.001])
    assert "-0.00" not in texts(figure)
    said = causal_figures.about_patching(patching())
    assert "at key behind layer 1 (1.00), at last behind layer 2 (1.00) (50 of 60 pairs of rows" in said


def test_ablation_names_the_heads_that_matter():
    table = pd.DataFrame(
        [(1, 1, 0.0, 1.0), (1, 2, 0.9, 0.1), (2, 1, 0.4, 0.5), (2, 2, 0.05, 1.0)],
        columns=["layer", "head", "effect", "accuracy"],
    )
    found = Effects(table, 50, 60)
    figure = causal_figures.ablation_map(found)
    assert figure.axes[0].images[0].get_array().tolist() == [[0.0, 0.9], [0.4, 0.05]]
    said = causal_figures.about_ablation(found)
    assert "layer 1 head 2: 0.90 lost, accuracy 0.10; layer 2 head 1: 0.40 lost" in said
    assert "layer 2 head 2" not in said
    assert "No single head" in causal_figures.about_ablation(Effects(table.assign(effect=0.0), 50, 60))


def readout(shares):
    table = pd.DataFrame(
        [(layer, place, 10, answer, twice, 1 - answer - twice) for (layer, place), (answer, twice) in shares.items()],
        columns=["layer", "place", "positions", "answer", "f_a1∘f_a1", "none"],
    )
    offsets = pd.DataFrame(
        [(layer, place, "f_a1", 3, 0.5) for layer, place in shares],
        columns=["layer", "place", "function", "offset", "share"],
    )
    places = tuple(dict.fromkeys(place for _, place in shares))
    return Readout(table, offsets, ("answer", "f_a1∘f_a1"), places, 1, 30, 40)


PLANTED = {(0, "anchor 1"): (0.0, 0.1), (0, "last"): (0.1, 0.0), (1, "anchor 1"): (0.0, 0.7), (1, "last"): (1.0, 0.0)}


def test_readout_names_what_places_hold():
    figure = readout_figures.readout_map({"test": readout(PLANTED)})
    assert sorted(texts(figure)) == ["answer\n100%", "f_a1∘f_a1\n70%", "–", "–"]
    said = readout_figures.about_readout({"test": readout(PLANTED)})
    assert said == (
        "In the last layer the answer stands at last (100%); anchor 1 of layer 1 holds f_a1∘f_a1 (70%) (30 of 40 rows)."
    )


def test_readouts_of_several_splits_stand_below_one_another():
    both = {"test": readout(PLANTED), "ood": readout(dict.fromkeys(PLANTED, (0.1, 0.1)))}
    figure = readout_figures.readout_map(both)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["trained pairs, new rows", "pairs never trained"]
    assert "Pairs never trained: the answer stands nowhere (30 of 40 rows)." in readout_figures.about_readout(both)
    table = readout_figures.readout_table(both)
    assert table["split"].tolist() == ["test"] * 4 + ["ood"] * 4
    assert (table["offset from f_a1"] == 3).all()
