import io

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from anchorlab.analysis.accuracy import pair_matrix
from anchorlab.analysis.answers import deviations
from anchorlab.analysis.pairs import TaskPairs
from anchorlab.report import curves, mechanism_figures, pair_figures, sentences
from anchorlab.report.style import VERMILLION, encode, new_figure, png, split_names, write_png


def known(seen: str, unseen: str = "") -> TaskPairs:
    return TaskPairs(frozenset(seen.split()), frozenset(unseen.split()))


def history(**values: float) -> pd.DataFrame:
    rows = [
        (step, split, "", metric, value)
        for split, value in values.items()
        for step in (0, 9)
        for metric in ("loss", "accuracy")
    ]
    return pd.DataFrame(rows, columns=["step", "split", "group", "metric", "value"])


def test_curves_draw_the_history_of_every_split():
    table = pd.concat(
        [
            history(train=0.9, test=0.8, ood=0.1),
            pd.DataFrame([(0, "test", "a,b", "loss", 99.0)], columns=["step", "split", "group", "metric", "value"]),
        ]
    )
    above, below = curves.learning_curves(table).axes
    drawn = {line.get_label(): line.get_ydata().tolist() for line in below.lines}
    assert drawn == {"training rows": [0.9, 0.9], "seen pairs (ID)": [0.8, 0.8], "unseen pairs (OOD)": [0.1, 0.1]}
    assert max(max(line.get_ydata()) for line in above.lines) == 0.9  # groups are not drawn
    assert above.get_yscale() == "log"


def test_curves_share_one_loss_range():
    ranges = curves.loss_range([history(train=2.0), history(train=0.5), history(train=float("nan"))])
    assert ranges == (0.5, 2.0)
    assert curves.loss_range([history(train=float("inf"))]) is None


def test_split_names_mention_pairs_only_where_some_are_unseen():
    assert list(split_names(["test", "ood", "train"])) == ["train", "test", "ood"]
    assert split_names(["test"]) == {"test": "test rows"}
    assert split_names(["other"]) == {"other": "other"}


def test_heat_map_outlines_the_unseen_pairs():
    matrix = pair_matrix(["a,a", "a,b", "b,a", "b,b"], np.array([1, 0, 1, 1], bool), known("a,a b,a b,b", "a,b"))
    axes = pair_figures.accuracy_by_pair(matrix).axes[0]
    outlined = [
        p for p in axes.patches if isinstance(p, Rectangle) and mpl.colors.same_color(p.get_edgecolor(), VERMILLION)
    ]
    assert [(round(p.get_x() + 0.47), round(p.get_y() + 0.47)) for p in outlined] == [(1, 0)]
    assert [text.get_text() for text in axes.texts] == ["1.00", "0.00", "1.00", "1.00"]


def test_missing_pairs_have_no_number():
    matrix = pair_matrix(["a,b"], np.array([True]), known("a,b b,a"))
    assert [text.get_text() for text in pair_figures.accuracy_by_pair(matrix).axes[0].texts] == ["1.00"]


def test_class_bars_fill_the_axis():
    table = pd.DataFrame([{"pair": "all", "rows": 4, "inferential": 0.5, "symmetric": 0.25, "other": 0.25}])
    axes = pair_figures.answer_classes(table).axes[0]
    assert [bar.get_width() for bar in axes.patches][:3] == [0.5, 0.25, 0.25]
    assert [bar.get_x() for bar in axes.patches][:3] == [0, 0.5, 0.75]


def test_deviation_axis_covers_most_answers_and_names_the_rest():
    answers = np.array([50] * 97 + [53] * 2 + [100])
    table = deviations(answers, np.full(100, 50), np.arange(4, 111))
    assert pair_figures.deviation_limit([table]) == 10
    assert pair_figures.deviation_limit([table], coverage=1) == 50
    axes = pair_figures.deviation_histogram(table).axes[0]
    assert [text.get_text() for text in axes.texts] == ["1.0% of the answers are not on this axis"]


def test_deviations_of_a_model_that_answers_no_number():
    table = deviations(np.array([111, 112]), np.array([50, 50]), np.arange(4, 111))
    assert pair_figures.deviation_limit([table]) == 10
    encode(pair_figures.deviation_histogram(table))
    assert "100.0% are no number" in sentences.about_deviations(table)


def test_attention_marks_key_and_anchors(explanations):
    attention = explanations[0].attention
    axes = mechanism_figures.attention_maps(attention).axes[0]
    bold = [label.get_text() for label in axes.get_yticklabels() if label.get_fontweight() == "bold"]
    assert bold == [
        token for token, role in zip(attention.example.tokens, attention.example.roles, strict=True) if role
    ]


def test_encoding_takes_pixels_for_clouds_of_points_and_leaves_settings_alone():
    before = dict(mpl.rcParams)
    line = new_figure(3, 2)
    line.subplots().plot([0, 1])
    cloud = new_figure(3, 2)
    cloud.subplots().plot(np.random.default_rng(0).normal(size=(20000, 2)), ".")
    assert encode(line).startswith("data:image/svg+xml;base64,")
    assert encode(cloud).startswith("data:image/png;base64,")
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(
    ("weakest", "text"), [(1.0, "at least 1.000"), (0.5, "The weakest trained pair is (a,a) with 0.50")]
)
def test_finding_names_the_weakest_trained_pair(weakest, text):
    matrix = pair_matrix(["a,a", "a,a", "a,b"], np.array([True, weakest == 1, False]), known("a,a b,a", "a,b"))
    assert text in sentences.about_pairs(matrix)
    assert "0.00 over the pairs never trained, (a,b)" in sentences.about_pairs(matrix)
    assert "Of 1 pairs no row was drawn" in sentences.about_pairs(matrix)


def test_long_lists_of_pairs_are_cut():
    assert sentences.listed(["a,c"]) == "(a,c)"
    assert sentences.listed(["a,c", "c,a"]) == "(a,c) and (c,a)"
    assert sentences.listed(["a,b", "a,c", "c,a"]) == "(a,b), (a,c) and (c,a)"
    assert sentences.listed([f"a,{n}" for n in range(9)], most=2) == "(a,0), (a,1) and 7 more"


def test_heat_map_of_many_anchors_is_drawn_without_names():
    anchors = [str(number) for number in range(20)]
    names = [f"{first},{second}" for first in anchors for second in anchors]
    matrix = pair_matrix(names, np.ones(400, bool), known(" ".join(names[2:]), " ".join(names[:2])))
    axes = pair_figures.accuracy_by_pair(matrix).axes[0]
    assert not axes.texts
    assert len(axes.patches) == 2


def test_rare_colours_are_kept_in_a_small_file():
    """A map of middling colours beside a bar of all of them: those at its ends are on few pixels."""
    figure = Figure(figsize=(4, 3))
    axes = figure.subplots()
    values = np.random.default_rng(0).normal(scale=0.2, size=(64, 64))
    figure.colorbar(axes.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1), ax=axes)
    whole = io.BytesIO()
    write_png(figure, whole)
    reduced = png(figure)
    images = [np.asarray(Image.open(file).convert("RGB"), np.int64) for file in (whole, io.BytesIO(reduced))]
    assert np.abs(images[0] - images[1]).max() <= 10
    assert len(reduced) < len(whole.getvalue()) / 1.5
