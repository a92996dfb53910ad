from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.collections import FillBetweenPolyCollection, PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from anchorlab.analysis import Thresholds, collect_runs, phase_grid
from anchorlab.report import phase_map, rate_slice
from anchorlab.report.phase_figures import PHASE_COLOURS, ood_colours
from anchorlab.report.style import BLUE, GREEN, VERMILLION


@pytest.fixture(scope="module")
def grid(plane: Path):
    return phase_grid(collect_runs(plane))


def hatched(figure: Figure) -> set[tuple[float, float]]:
    patches = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle) and patch.get_hatch()]
    return {(patch.get_x() + 0.5, patch.get_y() + 0.5) for patch in patches}


def triangles(figure: Figure) -> set[tuple[int, int]]:
    found = [marks for marks in figure.axes[0].collections if isinstance(marks, PathCollection)]
    assert all(mpl.colors.same_color(marks.get_facecolor()[0], GREEN) for marks in found)
    return {tuple(np.round(marks.get_offsets()[0]).astype(int).tolist()) for marks in found}


def test_map_colours_marks_and_numbers(grid) -> None:
    figure = phase_map(grid)
    axes = figure.axes[0]
    (image,) = axes.images
    # Rows from the smallest λ upwards, columns along γ; γ 0.9 has no finished run.
    expected = [[0.05, 0.70, np.nan], [0.30, 0.91, np.nan]]
    np.testing.assert_allclose(image.get_array().filled(np.nan), expected)
    assert image.origin == "lower"
    assert image.get_clim() == (0, 1)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.3", "0.6", "0.9"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "0.1"]
    assert hatched(figure) == {(0, 0)}
    assert triangles(figure) == {(0, 0), (1, 0)}
    numbers = {text.get_position(): text.get_text() for text in axes.texts}
    assert numbers == {(0, 0): "1", (0, 1): "2", (1, 0): "2", (1, 1): "3"}
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["ID < 0.9", "commutativity < 0.7", "phase (3: ID ≥ 0.9, OOD ≥ 0.9)"]


def test_thresholds_move_the_marks(plane: Path) -> None:
    figure = phase_map(phase_grid(collect_runs(plane, Thresholds(id=0.96, commutativity=0.2))))
    assert hatched(figure) == {(0, 0), (0, 1)}
    assert not triangles(figure)


def test_one_panel_for_every_other_setting(tmp_path: Path, write_run) -> None:
    for layers in (2, 3, 4):
        write_run(tmp_path / str(layers), {"id": (1.0,), "ood": (layers / 10,)}, layers=layers)
    figure = phase_map(phase_grid(collect_runs(tmp_path)))
    shown = {axes.get_title(): axes.images[0].get_array().item() for axes in figure.axes if axes.images}
    assert shown == pytest.approx({"layers 2": 0.2, "layers 3": 0.3, "layers 4": 0.4})
    assert "commutativity < 0.7" not in [text.get_text() for text in figure.legends[0].get_texts()]


def test_slice_shows_mean_band_and_phases(grid) -> None:
    cells = grid.cells[grid.cells["weight_decay"] == 0.0]
    axes = rate_slice(cells, grid.runs.thresholds).axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    for label, colour, means in (
        ("seen pairs (ID)", BLUE, [0.80, 0.99, np.nan]),
        ("unseen pairs (OOD)", VERMILLION, [0.05, 0.70, np.nan]),
    ):
        assert mpl.colors.same_color(lines[label].get_color(), colour)
        np.testing.assert_allclose(lines[label].get_xdata(), [0.3, 0.6, 0.9])
        np.testing.assert_allclose(lines[label].get_ydata(), means)
    bands = [band for band in axes.collections if isinstance(band, FillBetweenPolyCollection)]
    assert [mpl.colors.to_hex(band.get_facecolor()[0]).upper() for band in bands] == [BLUE, VERMILLION]
    for band, at_first, at_second in zip(bands, [(0.7, 0.9), (0.0, 0.1)], [(0.98, 1.0), (0.6, 0.8)], strict=True):
        points = np.concatenate([path.vertices for path in band.get_paths()])
        for gamma, limits in ((0.3, at_first), (0.6, at_second)):
            values = points[points[:, 0] == gamma][:, 1]
            assert (values.min(), values.max()) == pytest.approx(limits)
    spans = {
        mpl.colors.to_hex(patch.get_facecolor()).upper(): (patch.get_x(), patch.get_x() + patch.get_width())
        for patch in axes.patches
    }
    assert spans == {PHASE_COLOURS[1]: pytest.approx((0.15, 0.45)), PHASE_COLOURS[2]: pytest.approx((0.45, 0.75))}
    assert [text.get_text() for text in axes.texts] == ["phase 1", "phase 2"]


def test_neighbours_of_one_phase_share_a_span(grid) -> None:
    cells = grid.cells[grid.cells["seeds"] > 0].assign(phase=2)
    (span,) = rate_slice(cells[cells["weight_decay"] == 0.1], grid.runs.thresholds).axes[0].patches
    assert (span.get_x(), span.get_width()) == pytest.approx((0.15, 0.6))


def test_a_single_rate_can_be_drawn(grid) -> None:
    cells = grid.cells[(grid.cells["weight_decay"] == 0.0) & (grid.cells["initialization_rate"] == 0.3)]
    axes = rate_slice(cells, grid.runs.thresholds, title="λ 0").axes[0]
    assert axes.get_title() == "λ 0"
    assert axes.get_xlim()[0] < 0.3 < axes.get_xlim()[1]


def test_writing_on_a_colour_can_be_read() -> None:
    def luminance(colour: str) -> float:
        channels = np.array(mpl.colors.to_rgb(colour))
        linear = np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for value in np.linspace(0, 1, 101):
        light, dark = sorted((luminance(colour) for colour in ood_colours(float(value))), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5
