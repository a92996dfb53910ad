from dataclasses import replace
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.patches import Rectangle

from anchorlab.analysis.heads import HeadBatch, HeadScores, causal, score_heads
from anchorlab.report.head_figures import about_heads, head_map, heads_table
from anchorlab.report.style import VERMILLION, encode

LENGTH, ROWS = 9, 40
KEYS = torch.arange(ROWS) % 5


def one_back() -> torch.Tensor:
    return torch.eye(LENGTH)[(torch.arange(LENGTH) - 1).clamp(min=0)].expand(ROWS, -1, -1)


def reading(position: torch.Tensor) -> torch.Tensor:
    """Everything reads a position that it sees; all before it read evenly."""
    even = causal(LENGTH)[0] / torch.arange(1, LENGTH + 1)[:, None]
    seen = torch.arange(LENGTH) >= position[:, None]
    return torch.where(seen[..., None], torch.eye(LENGTH)[position][:, None], even)


def even() -> torch.Tensor:
    return (causal(LENGTH)[0] / torch.arange(1, LENGTH + 1)[:, None]).expand(ROWS, -1, -1)


def scored(layers: list[list[torch.Tensor]], **fields: Any) -> HeadScores:
    moved = fields.pop("moved", None)
    weights = torch.stack([torch.stack(heads, 1) for heads in layers], 1)
    return score_heads(lambda: [HeadBatch(weights, **fields)], visible=causal(LENGTH), moved=moved)


@pytest.fixture(scope="module")
def two_layers() -> HeadScores:
    return scored([[0.97 * one_back() + 0.03 * even()], [reading(KEYS)]], places={"key": KEYS})


@pytest.fixture(scope="module")
def many() -> HeadScores:
    first = [one_back(), 0.9 * one_back() + 0.1 * even(), reading(torch.full((ROWS,), 3)), even()]
    second = [reading(KEYS), 0.8 * reading(KEYS) + 0.2 * even(), even(), even()]
    tokens = torch.randint(0, 5, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
    return scored([first, second], tokens=tokens, places={"key": KEYS})


def frames(axes: Any) -> list[tuple[int, int]]:
    own = [p for p in axes.patches if isinstance(p, Rectangle) and mpl.colors.same_color(p.get_edgecolor(), VERMILLION)]
    return sorted((round(p.get_y() + 0.45) + 1, round(p.get_x() + 0.45) + 1) for p in own)


def panels(scores: HeadScores) -> dict[str, Any]:
    return {axes.get_title(): axes for axes in head_map(scores).axes if axes.get_title()}


def test_a_panel_for_each_pattern_frames_the_heads_of_its_kind(many: HeadScores) -> None:
    drawn = panels(many)
    assert list(drawn) == ["shift", "broadcast", "sink", "induction", "duplicate", "self"]
    framed = {title: found for title, axes in drawn.items() if (found := frames(axes))}
    assert framed == {"shift": [(1, 1), (1, 2)], "broadcast": [(2, 1), (2, 2)], "sink": [(1, 3)]}


def test_cells_show_the_strength_and_the_offset_of_the_best_shift(two_layers: HeadScores) -> None:
    drawn = panels(two_layers)
    assert list(drawn) == ["shift", "broadcast", "sink", "self"]  # without tokens nothing repeats
    texts = [text.get_text() for text in drawn["shift"].texts]
    assert texts[0] == "1: 0.97"
    assert [text.get_text() for text in drawn["broadcast"].texts][1] == "1.00"
    image = np.asarray(drawn["broadcast"].images[0].get_array())
    assert image.shape == (2, 1)
    assert image[1, 0] == pytest.approx(1)


def test_large_maps_have_no_numbers_and_few_ticks() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 32, 32, LENGTH, LENGTH, generator=generator).masked_fill(~causal(LENGTH), -torch.inf)
    scores = score_heads(lambda: [HeadBatch(logits.softmax(-1))], visible=causal(LENGTH))
    figure = head_map(scores)
    shift = next(axes for axes in figure.axes if axes.get_title() == "shift")
    assert not shift.texts
    assert [tick.get_text() for tick in shift.get_yticklabels()] == ["4", "8", "12", "16", "20", "24", "28", "32"]
    assert len(shift.get_xticks()) == 4
    assert len(encode(figure)) < 200_000


def test_layers_keep_their_numbers(two_layers: HeadScores) -> None:
    later = replace(
        two_layers,
        **{name: getattr(two_layers, name).assign(layer=lambda t: t["layer"] + 4) for name in ("scores", "kinds")},
    )
    assert [tick.get_text() for tick in panels(later)["shift"].get_yticklabels()] == ["5", "6"]


def test_few_heads_are_described_one_by_one(two_layers: HeadScores) -> None:
    assert about_heads(two_layers) == (
        "Layer 1 head 1 is a shift head (offset 1, weight 0.98 ± 0.00); "
        "layer 2 head 1 is a broadcast head (the key, weight 1.00 ± 0.00)."
    )
    assert about_heads(scored([[even()]])) == "Layer 1 head 1 shows none of the patterns."


def test_many_heads_are_counted(many: HeadScores) -> None:
    assert about_heads(many) == (
        "Of 8 heads 2 are shift heads (the strongest is layer 1 head 1: offset 1, weight 1.00 ± 0.00); "
        "2 are broadcast heads (the strongest is layer 2 head 1: the key, weight 1.00 ± 0.00); "
        "1 is a sink head (layer 1 head 3: position 4, weight 1.00 ± 0.00); 3 show none of the patterns."
    )


def test_one_row_has_no_spread() -> None:
    assert about_heads(scored([[one_back()[:1]]])) == "Layer 1 head 1 is a shift head (offset 1, weight 1.00)."


def test_looking_ahead_is_a_negative_offset() -> None:
    weights = torch.eye(LENGTH)[(torch.arange(LENGTH) + 1).clamp(max=LENGTH - 1)].expand(ROWS, 1, 1, -1, -1)
    everything = torch.ones(1, LENGTH, LENGTH, dtype=torch.bool)
    assert "(offset −1, weight 1.00" in about_heads(score_heads(lambda: [HeadBatch(weights)], visible=everything))


def at(place: int) -> torch.Tensor:
    return torch.full((ROWS,), place)


@pytest.mark.parametrize(
    ("after", "text"),
    [
        (
            None,
            "is a sink head (position 3, weight 1.00 ± 0.00, or a broadcast of the key, which is there in most rows).",
        ),
        (4, "is a broadcast head (the key, weight 1.00 ± 0.00, and follows it in 100% of the rows where it moves)."),
        (2, "is a sink head (position 3, weight 1.00 ± 0.00, where it stays when the key moves)."),
    ],
)
def test_the_caption_says_how_sink_and_broadcast_were_told_apart(after: int | None, text: str) -> None:
    moved = None
    if after is not None:
        moved = lambda: [HeadBatch(reading(at(after))[:, None, None], places={"key": at(4)})]  # noqa: E731
    scores = scored([[reading(at(2))]], places={"key": at(2)}, moved=moved)
    assert about_heads(scores) == f"Layer 1 head 1 {text}"


def test_a_broadcast_column_that_never_moves_is_doubted() -> None:
    length, column = 200, 196  # of three queries: too few for a sink
    weights = causal(length)[0] / torch.arange(1, length + 1)[:, None]
    weights[column:] = torch.eye(length)[column]
    batch = HeadBatch(weights.expand(ROWS, 1, 1, -1, -1), places={"anchor 1": at(column)})
    scores = score_heads(lambda: [batch], visible=causal(length), offsets=[1])
    said = about_heads(scores)
    assert "anchor 1, weight 1.00 ± 0.00, or a sink, its column being at one position in most rows" in said


def test_the_table_has_one_row_a_head(many: HeadScores) -> None:
    table = heads_table(many)
    assert table["kind"].tolist() == many.kinds["kind"].tolist()
    assert table["sinks"].tolist() == ["", "", "4", "", "", "", "", ""]
    assert table["shift 1"].iloc[0] == pytest.approx(1 - np.mean([1 / n for n in range(2, 10)]))
    assert {"self", "duplicate", "induction", "sink", "broadcast", "coverage"} <= set(table.columns)


def test_the_table_of_heads_without_sinks_has_an_empty_column(two_layers: HeadScores) -> None:
    assert heads_table(two_layers)["sinks"].tolist() == ["", ""]
