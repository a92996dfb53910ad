"""Shift and broadcast in identity learning: planted attention must come out each way."""

import numpy as np
import pandas as pd
import pytest

from anchorlab.reproduce import Value, decide, get
from anchorlab.reproduce.chapter12.mechanism import head_values, position_shares, with_product

LENGTH = 5
ANCHOR, KEY = np.array([1, 2]), np.array([2, 3])


def reading(columns: list[list[int]]) -> np.ndarray:
    """Attention of every position of every row to one column."""
    return np.eye(LENGTH)[np.array(columns)]


def perfect() -> tuple[np.ndarray, np.ndarray]:
    """Layer 1 brings the key to the anchor and the anchor to all others; layer 2 reads the anchor's position."""
    first = reading(
        [
            [key if place == anchor else anchor for place in range(LENGTH)]
            for anchor, key in zip(ANCHOR, KEY, strict=True)
        ]
    )
    second = reading([[anchor] * LENGTH for anchor in ANCHOR])
    return first, second


def kinds(*rows: tuple[int, str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["layer", "kind", "role"])


@pytest.mark.parametrize(
    ("heads", "shift", "broadcast"),
    [
        ([(1, "shift 1", ""), (2, "broadcast", "key")], 1, 1),
        ([(1, "shift 1", ""), (1, "shift 1", ""), (2, "broadcast", "anchor")], 2, 1),
        ([(2, "shift 1", ""), (1, "broadcast", "key")], 0, 0),
        ([(1, "shift 2", ""), (2, "broadcast", "last")], 0, 0),
        ([(1, "none", ""), (2, "sink", "key")], 0, 0),
    ],
)
def test_only_shifts_by_one_below_and_broadcasts_above_count(heads, shift, broadcast) -> None:
    values = {value.quantity: value.value for value in head_values(3, kinds(*heads))}
    assert values == {"shift_heads": shift, "broadcast_heads": broadcast}


def test_the_book_s_mechanism_has_all_shares() -> None:
    assert set(position_shares(*perfect(), ANCHOR, KEY).values()) == {1.0}


def test_even_attention_has_none() -> None:
    even = np.full((2, LENGTH, LENGTH), 1 / LENGTH)
    assert set(position_shares(even, even, ANCHOR, KEY).values()) == {0.0}


def test_a_second_layer_that_reads_elsewhere_puts_out_the_anchor() -> None:
    first, _ = perfect()
    second = reading([[0] * LENGTH] * 2)
    found = position_shares(first, second, ANCHOR, KEY)
    assert (found["two_kinds"], found["output_is_key"], found["last_is_key"]) == (1, 0, 0)


def test_shares_count_positions() -> None:
    first, second = perfect()
    first[0, 0] = [0.4, 0.1, 0.5, 0, 0]  # not more than half
    second[1, :4] = np.eye(LENGTH)[0]
    found = position_shares(first, second, ANCHOR, KEY)
    assert found["two_kinds"] == pytest.approx(0.9)
    assert found["output_is_key"] == pytest.approx(0.6)
    assert found["last_is_key"] == 1


def example() -> pd.DataFrame:
    first, second = perfect()
    layer, position, source = np.indices((2, LENGTH, LENGTH))
    weights = np.stack([first[0], second[0]])
    columns = {"layer": layer + 1, "position": position, "source": source, "weight": weights}
    table = pd.DataFrame({name: column.ravel() for name, column in columns.items()})
    roles = np.array(["", "anchor", "key", "", ""])
    return table.assign(token=20 + table["position"], role=roles[table["position"]])


def test_the_product_reads_the_key_everywhere() -> None:
    product = with_product(example()).query("layer == 0")
    assert product.loc[product["weight"] == 1, "source"].tolist() == [2] * LENGTH
    assert product["weight"].sum() == LENGTH


def test_figures_show_what_was_measured() -> None:
    heads = pd.DataFrame(
        {"seed": [0, 0, 1, 1], "layer": [1, 2, 1, 2], "shift 1": [0.8, 0, 0.7, 0], "broadcast": [0, 0.7, -0.1, 0.6]}
    )
    figure = get("fig12.15").figure({"heads": heads, "example": example()})
    maps = [axes for axes in figure.axes if axes.images]
    np.testing.assert_array_equal(maps[0].images[0].get_array(), perfect()[0][0])
    assert [label.get_text() for label in maps[1].get_xticklabels()] == ["20", "21", "22", "23", "24"]
    shares = pd.DataFrame({name: [0.9, 1.0] for name in ("two_kinds", "anchor_reads_key", "output_is_key", "accuracy")})
    figure = get("fig12.16").figure({"shares": shares, "example": with_product(example())})
    assert sum(bool(axes.images) for axes in figure.axes) == 3


@pytest.mark.parametrize("name", ["fig12.15", "fig12.16"])
def test_claims_can_be_decided_each_way(name: str) -> None:
    claim = get(name).claim
    for value, verdict in ((1.0, "holds"), (0.0, "fails")):
        values = [Value(seed, one.quantity, value) for seed in range(5) for one in claim.conditions]
        assert decide(claim, values).verdict == verdict
