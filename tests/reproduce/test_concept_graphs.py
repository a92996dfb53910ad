import io
import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest

from anchorlab.corpora.concept_shapes import TRAINED, describe, draw
from anchorlab.reproduce.chapter13 import concept_graphs
from anchorlab.reproduce.chapter13.concept_graphs import encoded, shape_shares, values_of
from anchorlab.reproduce.claims import decide

(REPRODUCTION,) = concept_graphs.REPRODUCTIONS
FAITHFUL = {name: ("circle", "triangle")[int(name[0])] for name in TRAINED}


def drawn(shapes: Mapping[str, str], *, rate: float, seed: int) -> pd.DataFrame:
    """Four pictures of each tuple, of the shapes given by their initials: `ttcn`, or one shape for all."""
    initials = {"c": "circle", "t": "triangle", "n": "neither"}
    rows = [
        (rate, seed, describe(name), number, initials[text[number]] if len(text) == 4 else text)
        for name, text in shapes.items()
        for number in range(4)
    ]
    return pd.DataFrame(rows, columns=["rate", "seed", "asked", "number", "shape"])


def planted(default: str, small: str, seed: int, **trained: str) -> pd.DataFrame:
    """Pictures of one seed at γ 0.4, 0.5 and 0.8; what 010 and 011 show at the last two is given."""
    tables = [
        drawn({"010": text, "011": text, **FAITHFUL, **trained}, rate=rate, seed=seed)
        for rate, text in ((0.4, "cctt"), (0.5, default), (0.8, small))
    ]
    return pd.concat(tables)


def test_shares_count_every_shape_of_a_tuple_apart() -> None:
    shares = shape_shares(drawn({"010": "ttcn", "111": "triangle"}, rate=0.5, seed=0)).set_index("asked")
    assert shares.loc["010 small red circle", ["circle", "triangle"]].tolist() == [0.25, 0.5]
    assert shares.loc["111 small blue triangle", ["circle", "triangle"]].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("default", "small", "verdict"),
    [
        ("tttn", "cccn", "holds"),
        ("cccc", "cccc", "fails"),
        ("tttt", "tttt", "fails"),
        ("nnnn", "cccc", "fails"),
    ],
)
def test_claim_is_decided_by_the_default_and_a_larger_rate(default: str, small: str, verdict: str) -> None:
    pictures = pd.concat([planted(default, small, seed) for seed in range(3)])
    assert decide(REPRODUCTION.claim, values_of(shape_shares(pictures))).verdict == verdict


def test_values_are_shares_over_both_unseen_tuples() -> None:
    pictures = pd.concat(
        [
            drawn({"010": "tttt", "011": "ttcc", **FAITHFUL}, rate=0.5, seed=4),
            drawn({"010": "cccc", "011": "cnnn", **FAITHFUL}, rate=0.8, seed=4),
        ]
    )
    assert values_of(shape_shares(pictures)) == [(4, "triangle", 0.75), (4, "circle", 0.625)]


def test_network_that_has_not_learned_what_it_saw_decides_nothing() -> None:
    pictures = pd.concat([planted("tttt", "cccc", seed, **{"111": "neither"}) for seed in range(3)])
    values = values_of(shape_shares(pictures))
    assert all(math.isnan(value.value) for value in values)
    assert decide(REPRODUCTION.claim, values).verdict == "undecided"


FAILED = {"000": "neither", "111": "neither"}


@pytest.mark.parametrize(
    ("larger", "circle", "verdict"),
    [
        ({0.8: {}, 0.9: {}}, 0.0, "fails"),
        ({0.8: {}, 0.9: FAILED}, 1.0, "holds"),
        ({0.8: FAILED, 0.9: {}}, 0.0, "fails"),
        ({0.8: FAILED, 0.9: FAILED}, math.nan, "undecided"),
        ({}, math.nan, "undecided"),
    ],
)
def test_circles_are_those_of_the_largest_rate_above_the_default_that_learned(
    larger: Mapping[float, Mapping[str, str]], circle: float, verdict: str
) -> None:
    unseen = {0.4: "circle", 0.5: "triangle", 0.8: "circle", 0.9: "triangle"}
    networks = {0.4: {}, 0.5: {}} | dict(larger)
    pictures = pd.concat(
        [
            drawn({"010": unseen[rate], "011": unseen[rate], **FAITHFUL, **trained}, rate=rate, seed=seed)
            for rate, trained in networks.items()
            for seed in range(3)
        ]
    )
    values = values_of(shape_shares(pictures))
    assert [one.value for one in values if one.quantity == "triangle"] == [1.0] * 3
    assert [one.value for one in values if one.quantity == "circle"] == pytest.approx([circle] * 3, nan_ok=True)
    assert decide(REPRODUCTION.claim, values).verdict == verdict


def test_figure_is_drawn_from_tables_that_went_through_csv() -> None:
    pictures = pd.concat([planted("tttn", "cccc", seed) for seed in range(2)])
    images = draw([asked[:3] for asked in pictures.asked], 16, np.random.Generator(np.random.Philox(0))).images
    tables = {
        "shapes": shape_shares(pictures),
        "pictures": pictures.assign(rgb=[encoded(image) for image in images]).query("seed == 0"),
    }
    read = {name: pd.read_csv(io.StringIO(table.to_csv(index=False))) for name, table in tables.items()}
    cube, shares, grid = REPRODUCTION.figure(read).axes
    assert {text.get_text() for text in cube.texts} >= {f"{index:03b}" for index in range(8)}
    by_name = {line.get_label(): line.get_ydata().tolist() for line in shares.lines}
    assert by_name == {"circle": [0.5, 0.0, 1.0], "triangle": [0.5, 0.75, 0.0]}
    assert len(grid.images) == 3 * 6 * 4
    first = grid.images[0].get_array() / 255.0
    np.testing.assert_allclose(first, images[0].transpose(1, 2, 0), atol=1 / 255)
