from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from made_probes import made_prompt, made_scores, planted
from matplotlib.figure import Figure

from anchorlab.analysis import HeadScores
from anchorlab.errors import InputError
from anchorlab.pretrained_probe.depth import DepthTrend, claim, depth_trend
from anchorlab.pretrained_probe.probe import ShownAttention
from anchorlab.pretrained_probe.prompts import Prompt
from anchorlab.report.depth_figures import about_claim, about_comparison, about_trend, depth_comparison, depth_figure
from anchorlab.report.probe_figures import (
    about_kinds,
    about_pair,
    attention_pair,
    kind_counts,
    kinds_by_layer,
    strongest_head,
    token_label,
)
from anchorlab.report.style import BLUE, VERMILLION, WIDTH


@pytest.fixture(scope="module")
def scores() -> HeadScores:
    return made_scores()


@pytest.fixture(scope="module")
def trend(scores: HeadScores) -> DepthTrend:
    return depth_trend(scores)


def lines(figure: Figure) -> dict[str, Any]:
    return {line.get_label(): line for axes in figure.axes for line in axes.lines if line.get_label()[0] != "_"}


def test_lines_are_the_means_and_bands_the_intervals(trend: DepthTrend) -> None:
    figure = depth_figure(trend)
    drawn = lines(figure)
    known = set(trend.correlations["score"])
    assert known - set(drawn) == {f"value-weighted {name}" for name in ("self", "duplicate", "induction", "entropy")}
    for score, own in trend.by_layer[trend.by_layer["score"].isin(drawn)].groupby("score"):
        assert drawn[score].get_xdata().tolist() == own["layer"].tolist()
        assert drawn[score].get_ydata() == pytest.approx(own["mean"].to_numpy())
    own = trend.by_layer[trend.by_layer["score"] == "shift"]
    band = figure.axes[0].collections[0].get_paths()[0].vertices
    assert {*own["low"], *own["high"]} <= set(band[:, 1])
    assert [axes.get_ylabel() for axes in figure.axes] == ["mean strength", "share of heads", "mean strength"]
    assert figure.get_figwidth() == WIDTH


def test_a_kind_has_the_colour_of_its_pattern(trend: DepthTrend) -> None:
    drawn = lines(depth_figure(trend))
    for name in ("shift", "broadcast"):
        assert drawn[name].get_color() == drawn[f"{name} heads"].get_color()
    looks = [(drawn[name].get_color(), drawn[name].get_linestyle()) for name in ("shift", "broadcast", "sink")]
    assert len(set(looks)) == 3


def test_models_are_compared_over_relative_depth(trend: DepthTrend) -> None:
    small = depth_trend(made_scores(2))
    figure = depth_comparison({"large": trend, "small": small})
    assert [axes.get_ylabel() for axes in figure.axes] == ["shift", "broadcast", "sink"]
    drawn = {line.get_label(): line.get_xdata() for line in figure.axes[0].lines if line.get_label()[0] != "_"}
    assert drawn["large"] == pytest.approx((np.arange(8) + 0.5) / 8)
    assert drawn["small"] == pytest.approx([0.25, 0.75])
    told = about_comparison({"large": trend, "small": small})
    of = {name: row["correlation"] for name, row in trend.correlations.set_index("score").iterrows()}
    shown = [f"{score} {of[score]:.2f}".replace("-", "−") for score in ("shift", "broadcast", "sink")]
    assert told.startswith(f"Correlation with depth: large {', '.join(shown)}; small shift ")


def test_more_models_than_looks_can_be_compared(trend: DepthTrend) -> None:
    figure = depth_comparison({str(number): trend for number in range(8)})
    assert len([line for line in figure.axes[0].lines if line.get_label()[0] != "_"]) == 8


def test_the_claim_is_told_with_its_numbers(trend: DepthTrend) -> None:
    found = claim(trend, by="kind")
    assert found.verdict == "holds"
    shift, broadcast = found.tendencies
    told = about_claim(found)
    assert told.startswith(f"The share of shift heads falls with depth (ρ −{-shift.correlation:.2f}, 95 % from −")
    assert f"; the share of broadcast heads rises with depth (ρ {broadcast.correlation:.2f}, 95 % from 0." in told
    assert told.endswith(f", p {broadcast.p:.3f}).")


def test_undecided_and_missing_scores_are_told_as_such() -> None:
    few = depth_trend(made_scores(2))
    told = about_claim(claim(few))
    assert told.count("shows no clear trend with depth (ρ ") == 2
    assert "95 %" not in told  # no interval of two layers
    assert about_trend(few).startswith("No clear trend is found of shift (ρ 0.")
    without = DepthTrend(few.by_layer, few.correlations[few.correlations["score"] != "broadcast"])
    assert about_claim(claim(without)).endswith("broadcast has no correlation with depth: it is the same in all heads.")


def test_trends_are_listed_by_direction(trend: DepthTrend) -> None:
    told = about_trend(trend)
    falling, rising, undecided = told.split("; ")
    assert falling.startswith("The share of shift heads (ρ −0.")
    assert falling.endswith("falls with depth")
    assert "the share of broadcast heads (ρ 0." in rising
    assert undecided.startswith("no clear trend is found of ")


def test_the_strongest_head_of_a_kind_is_preferred_to_a_larger_score(scores: HeadScores) -> None:
    shift, broadcast = strongest_head(scores, "shift"), strongest_head(scores, "broadcast")
    assert shift is not None
    assert broadcast is not None
    assert (shift.head, shift.score, shift.of_kind) == (1, "shift 1", True)
    assert shift.layer <= 4 < broadcast.layer
    induction = strongest_head(scores, "induction")
    assert induction is not None
    assert not induction.of_kind
    assert strongest_head(scores, "unheard of") is None
    left, right = about_pair(shift, induction).removesuffix(". Strength is that over all prompts.").split("; right, ")
    assert (
        left == f"Left, layer {shift.layer} head 1: the strongest shift head, offset 1, strength {shift.strength:.2f}"
    )
    assert right == (
        f"layer {induction.layer} head {induction.head}: the largest broadcast score (no head is a broadcast head), "
        f"strength {induction.strength:.2f}"
    )


@pytest.fixture(scope="module")
def shown() -> ShownAttention:
    return ShownAttention(made_prompt(), planted(2, 2, torch.tensor([4]))[0].numpy())


def test_the_pair_shows_both_maps_with_all_tokens(shown: ShownAttention) -> None:
    figure = attention_pair(shown, (1, 1), (2, 1))
    left, right = figure.axes[:2]
    assert (left.get_title(), right.get_title()) == ("shift: layer 1, head 1", "broadcast: layer 2, head 1")
    for axes, layer in ((left, 0), (right, 1)):
        assert np.array_equal(axes.images[0].get_array(), shown.weights[layer, 0])
        for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
            assert tuple(label.get_text() for label in labels) == shown.prompt.pieces
            assert mpl.colors.same_color(labels[4].get_color(), BLUE)
            assert mpl.colors.same_color(labels[3].get_color(), VERMILLION)
            assert mpl.colors.same_color(labels[2].get_color(), "black")


def test_many_tokens_are_thinned() -> None:
    weights = np.tile(np.eye(100), (1, 1, 1, 1))
    figure = attention_pair(ShownAttention(made_prompt(120), weights), (1, 1), (1, 1))
    labels = figure.axes[0].get_xticklabels()
    assert len(labels) == 25
    assert [label.get_text() for label in labels[:3]] == ["<s>", "John", "my"]


@pytest.mark.parametrize("head", [(0, 1), (3, 1), (1, 0), (1, 3)])
def test_a_head_that_there_is_not_is_refused(shown: ShownAttention, head: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=r"head=\(\d, \d\): a layer from 1 to 2 and a head from 1 to 2"):
        attention_pair(shown, (1, 1), head)


@pytest.mark.parametrize(
    ("piece", "label"),
    [
        (" John", "John"),
        ("\n", "↵"),
        ("  ", "␣"),
        ("", "␣"),
        ("a\tb", "a⇥b"),
        ("名字", "(8)"),
        ("x" * 20, "x" * 13 + "…"),
    ],
)
def test_labels_can_be_drawn(piece: str, label: str) -> None:
    assert token_label(piece, 7) == label


def test_tokens_are_no_formulas(recwarn: pytest.WarningsRecorder) -> None:
    prompt = Prompt(np.arange(3), ("$x^$", "名", "{"), {})
    attention_pair(ShownAttention(prompt, np.eye(3)[None, None]), (1, 1), (1, 1)).canvas.draw()
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


def test_bars_are_the_kinds_of_every_layer(scores: HeadScores) -> None:
    counts = kind_counts(scores)
    assert counts.to_numpy().sum(axis=1).tolist() == [3] * 8
    assert counts["shift"].tolist() == [1] * 4 + [0] * 4
    assert counts["broadcast"].tolist() == [0] * 4 + [1] * 4
    axes = kinds_by_layer(scores).axes[0]
    heights = {container.get_label(): [bar.get_height() for bar in container] for container in axes.containers}
    assert heights == {str(name): counts[name].tolist() for name in counts}
    assert len({(c[0].get_facecolor(), c[0].get_hatch()) for c in axes.containers}) == len(counts.columns)
    assert about_kinds(scores) == (
        "Of 24 heads: 4 shift, 4 broadcast, 1 sink, 15 none; most shift heads (1) are in layer 1; most broadcast heads "
        "(1) are in layer 5."
    )
