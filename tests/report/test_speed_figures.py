import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color

from anchorlab.analysis.learning_speed import LearningSpeed, learning_speed
from anchorlab.report import speed_figures as figures
from anchorlab.report.style import BLUE, VERMILLION


def measured(steps: dict[str, float], *, last: int = 5000) -> LearningSpeed:
    rows = [
        (step, "train", group, "accuracy", float(step >= reached))
        for group, reached in steps.items()
        for step in range(0, last + 1, 100)
    ]
    return learning_speed(pd.DataFrame(rows, columns=["step", "split", "group", "metric", "value"]))


USUAL = {"c,c": 1000.0, "c,d": 1100, "d,c": 900, "d,d": 1000, "a,c": 1000, "c,a": 1100}
BROKEN = USUAL | {"a,b": 3000, "b,a": 9000}


def test_bars_end_at_the_step_and_slow_ones_are_marked_twice():
    speed = measured(BROKEN)
    axes = figures.speed_by_group(speed).axes[0]
    bars = dict(zip([label.get_text() for label in axes.get_yticklabels()], axes.patches, strict=True))
    assert next(iter(bars)) == "d,c"
    assert list(bars)[-2:] == ["a,b", "b,a"]
    assert {group: bar.get_width() for group, bar in bars.items()} == BROKEN | {"b,a": 5000}
    for group, bar in bars.items():
        slow = group in ("a,b", "b,a")
        assert (bar.get_hatch() == "///") == slow
        edge_of_open = bar.get_edgecolor() if group == "b,a" else bar.get_facecolor()
        assert same_color(edge_of_open, VERMILLION if slow else BLUE)
    assert same_color(bars["b,a"].get_facecolor(), "white")
    assert axes.lines[-1].get_xdata()[0] == pytest.approx(speed.slow_after)


def test_whiskers_span_the_resolution():
    axes = figures.speed_by_group(measured(USUAL)).axes[0]
    spans = [segment[:, 0] for segment in axes.collections[0].get_segments()]
    assert np.array_equal(sorted(end for _, end in spans), sorted(USUAL.values()))
    assert all(end - start == 100 for start, end in spans)


def test_legend_explains_only_what_is_there():
    def entries(steps):
        return [
            text.get_text().split(":")[0] for text in figures.speed_by_group(measured(steps)).legends[0].get_texts()
        ]

    assert entries(USUAL) == ["not slow"]
    assert entries(BROKEN) == ["not slow", "slow", "open"]


def test_many_groups_are_drawn_without_names():
    figure = figures.speed_by_group(measured({str(number): 1000 + number for number in range(400)}))
    assert not figure.axes[0].get_yticklabels()
    assert len(figure.axes[0].patches) == 400
    assert figure.get_figheight() < 6


def test_speed_is_told_with_steps_and_resolution():
    text = figures.about_speed(measured(BROKEN))
    assert "60% accuracy was reached at step 1,000 in the median on training rows" in text
    assert "were (a,b) and (b,a): candidates" in text
    assert "Until step 5,000 it was never reached by (b,a)." in text
    assert "every 100 steps" in text
    assert "no group was slow" in figures.about_speed(measured(USUAL))


def test_a_training_that_learned_little_is_told_as_such():
    text = figures.about_speed(measured({"a,a": 100, "a,b": 9000, "b,a": 9000}))
    assert "At most half of the 3 groups reached 60% accuracy" in text
    assert "slow" not in text
