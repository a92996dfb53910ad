from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from anchorlab.pretrained_probe.knockouts import Knockouts
from anchorlab.report.knockout_figures import about_knockouts, knockout_figure
from anchorlab.report.style import BLACK, GREY, SKY, VERMILLION, WIDTH

NONE = "no random sets: too few other heads"
LONG = "edges from key to last in broadcast heads"


def row(what, change, verdict, random=None, *, control="heads", note="", sets=20):
    low, mean, high = random or (np.nan,) * 3
    return {
        "what": what,
        "heads": 3,
        "control": control,
        "log_probability": change - 0.5,
        "change": change,
        "low": change - 0.4,
        "high": change + 0.4,
        "accuracy": 0.25,
        "random_mean": mean,
        "random_low": low,
        "random_high": high,
        "share_below": 0.0,
        "p": 0.05,
        "random_sets": sets if random else 0,
        "verdict": verdict,
        "note": note,
    }


ROWS = (
    row("shift heads", -2.0, "matters", (-0.3, -0.1, 0.2)),
    row("sink heads", -1.5, "undecided", note=NONE),
    row("induction heads", -0.004, "no more than random heads", (-0.9, -0.5, 0.1)),
    row(LONG, -3.0, "matters", (-0.2, -0.1, 0.0), control="tokens"),
    row("mine", -1.0, "undecided", (-0.2, -0.15, -0.1), note="only 3 random sets", sets=3),
)


def knockouts(*rows):
    return Knockouts(pd.DataFrame(rows), pd.DataFrame(), 40, "mean", -0.5, 0.8, 6, 0.9, 0.25, True)


def lines(figure, colour):
    axes = figure.axes[0]
    return [line for line in axes.lines if line.get_color() == colour and len(line.get_xdata()) == 2]


def test_every_knockout_has_its_change_and_its_interval():
    figure = knockout_figure(knockouts(*ROWS))
    axes = figure.axes[0]
    points = {
        float(line.get_ydata()[0]): (float(line.get_xdata()[0]), line.get_color())
        for line in axes.lines
        if line.get_marker() in ("o", "x")
    }
    colours = [VERMILLION, GREY, BLACK, VERMILLION, GREY]
    assert points == {y: (one["change"], colour) for y, (one, colour) in enumerate(zip(ROWS, colours, strict=True))}
    assert [tuple(line.get_xdata()) for line in lines(figure, VERMILLION)] == [(-2.4, -1.6), (-3.4, -2.6)]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]


def test_random_sets_stand_below_their_row():
    ranges = lines(knockout_figure(knockouts(*ROWS)), SKY)
    assert [tuple(line.get_xdata()) for line in ranges] == [(-0.3, 0.2), (-0.9, 0.1), (-0.2, 0.0), (-0.2, -0.1)]
    assert [int(line.get_ydata()[0]) for line in ranges] == [0, 2, 3, 4]
    assert all(0 < line.get_ydata()[0] % 1 < 0.5 for line in ranges)


def test_names_are_wrapped_and_tell_where_random_sets_are_few():
    names = [label.get_text() for label in knockout_figure(knockouts(*ROWS)).axes[0].get_yticklabels()]
    assert names[:2] == ["shift heads", "sink heads\n(no random sets)"]
    assert names[3].replace("\n", " ") == LONG
    assert names[4] == "mine\n(only 3 random sets)"
    assert max(len(part) for name in names for part in name.split("\n")) <= 24


@pytest.mark.parametrize("count", [1, 3, 10])
def test_texts_neither_overlap_nor_leave_the_figure(count):
    figure = knockout_figure(knockouts(*[ROWS[3] | {"what": f"{LONG} {number}"} for number in range(count)]))
    assert figure.get_figwidth() == WIDTH
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert all(upper.y0 > lower.y1 for upper, lower in pairwise(boxes))
    everything = [*boxes, figure.legends[0].get_window_extent(), figure.axes[0].xaxis.label.get_window_extent()]
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0 for box in everything)
    assert figure.legends[0].get_window_extent().y1 <= figure.axes[0].xaxis.label.get_window_extent().y0


def test_caption_tells_verdicts_with_numbers():
    assert about_knockouts(knockouts(*ROWS)) == (
        "The intact model says the answer in 80% of 40 prompts (mean log-probability −0.50). Changes in nats without "
        f"heads or edges. Matters: shift heads (−2.00; random heads −0.10), {LONG} (−3.00; random tokens −0.10). No "
        "more than random heads: induction heads (0.00; random heads −0.50). Undecided: sink heads (−1.50; no random "
        "sets: too few other heads), mine (−1.00; only 3 random sets)."
    )


def test_caption_of_a_model_that_knows_no_answer_says_only_that():
    said = about_knockouts(replace(knockouts(*ROWS), better_than_chance=False, choice_accuracy=0.3))
    assert said.endswith(
        "of the 6 answers in 30%, no better than chance (25%): what knocking heads out changes tells nothing."
    )
    assert "shift" not in said
