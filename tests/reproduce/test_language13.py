"""Figures 13.14 D, 13.15 and 13.18: measuring on planted results, and the figures from small tables."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from anchorlab.pretrained_probe.colouring import SHARES, ColouredText, ModelColours, Piece
from anchorlab.reproduce.chapter13 import language, scaling
from anchorlab.reproduce.claims import decide
from anchorlab.reproduce.reproduction import Reproduction

PERPLEXITY, COLOURS = language.REPRODUCTIONS
(SCALING,) = scaling.REPRODUCTIONS


def run_of(losses: dict[int, float], parameters: int = 0) -> Any:
    rows = [(step, split, "", "loss", value + (split == "train")) for step, value in losses.items() for split in SPLITS]
    rows += [(step, "test", "", "accuracy", 0.5) for step in losses]
    table = pd.DataFrame(rows, columns=["step", "split", "group", "metric", "value"])
    last = losses[max(losses)]
    return SimpleNamespace(metrics=lambda: table, config={"parameters": parameters}, final=lambda split, metric: last)


SPLITS = ("train", "test")


def test_perplexity_is_the_exponential_of_the_test_loss() -> None:
    table = language.perplexities({(0.5, 3): run_of({0: math.log(512), 10: math.log(8)})})
    assert table.to_dict("list") == {
        "rate": [0.5, 0.5],
        "seed": [3, 3],
        "step": [0, 10],
        "perplexity": pytest.approx([512, 8]),
    }


@pytest.mark.parametrize(("largest", "verdict"), [(5.0, "holds"), (9.0, "fails")])
def test_perplexity_must_fall_from_every_rate_to_the_next(largest: float, verdict: str) -> None:
    runs = {
        (rate, seed): run_of({0: 6.0, 10: math.log(value)})
        for seed in range(3)
        for rate, value in ((1.0, largest), (0.1, 20.0), (0.5, 8.0))
    }
    ratios = language.least_ratio(language.final(language.perplexities(runs)), "perplexity")
    assert ratios == pytest.approx(dict.fromkeys(range(3), min(20 / 8, 8 / largest)))
    values = [language.Value(seed, "perplexity ratio", ratio) for seed, ratio in ratios.items()]
    assert decide(PERPLEXITY.claim, values).verdict == verdict


def test_shares_count_tokens_between_the_edges() -> None:
    found = language.shares(np.array([0.001, 0.01, 0.05, 0.1, 0.2, 0.5, 0.9, 1.0]))
    assert found == dict(zip(SHARES, [1 / 8, 2 / 8, 2 / 8, 3 / 8], strict=True))


def test_least_rise_is_of_neighbouring_rates_in_their_order() -> None:
    table = pd.DataFrame(
        {"seed": [0, 0, 0, 1, 1, 1], "rate": [1, 0.1, 0.5] * 2, "share": [0.9, 0.2, 0.6, 0.4, 0.1, 0.5]}
    )
    assert language.least_rise(table, "share") == pytest.approx({0: 0.3, 1: -0.1})


def coloured() -> ColouredText:
    """A first token without probability, an emoji of two tokens, one without a space, and a break."""
    texts, counts = ["Snow", " ❄", "falls", "\n"], [1, 2, 1, 1]
    models = []
    for name, logs in (("γ = 0.1", [np.nan, -1.0, -2.0, -6.0, -0.1]), ("γ = 1", [np.nan, -0.1, -0.2, -0.3, -0.1])):
        ends = np.cumsum(counts).tolist()
        found = tuple(
            Piece(text, range(end - count, end), float(np.exp(sum(logs[end - count : end]))))
            for text, count, end in zip(texts, counts, ends, strict=True)
        )
        offsets = np.zeros((5, 2), np.int64)
        models.append(ModelColours(name, {}, np.arange(5), offsets, np.array(logs), found, 8))
    return ColouredText("".join(texts), tuple(models))


def test_pieces_keep_text_bins_and_perplexity() -> None:
    before = coloured()
    after = language.from_pieces(language.pieces(before))
    assert after.text == before.text
    for one, other in zip(before.models, after.models, strict=True):
        assert [piece.bin for piece in one.pieces] == [piece.bin for piece in other.pieces]
        assert [piece.tokens for piece in one.pieces] == [piece.tokens for piece in other.pieces]
        for number in ("tokens", "predicted", "perplexity", "bits_per_character"):
            assert one.summary()[number] == pytest.approx(other.summary()[number])


def test_figures_are_drawn_from_their_tables() -> None:
    runs = {(rate, seed): run_of({0: 6.0, 10: 4.0 - rate, 20: 3.0 - rate}) for rate in (0.1, 1.0) for seed in (0, 1)}
    figure = PERPLEXITY.figure({"perplexity": language.perplexities(runs)})
    left, right = figure.axes
    assert left.get_lines()[0].get_ydata() == pytest.approx(np.exp([2.9, 2.0]))
    assert [line.get_label() for line in right.get_lines()] == ["γ = 0.1", "γ = 1"]
    drawn = [text.get_text() for text in COLOURS.figure({"pieces": language.pieces(coloured())}).axes[0].texts]
    assert any(text.startswith("γ = 0.1: perplexity") for text in drawn)


def planted(exponents: dict[str, float], noise: float = 0.0) -> pd.DataFrame:
    random = np.random.default_rng(0)
    rows = [
        (panel, name, place, seed, size, 9 * size**-exponent * math.exp(noise * random.standard_normal()))
        for panel in scaling.PANELS
        for name, exponent in exponents.items()
        for place, size in enumerate((100, 400, 1600, 6400))
        for seed in range(3)
    ]
    return pd.DataFrame(rows, columns=[*scaling.Training._fields, "size", "loss"])


def test_planted_power_laws_are_found_exactly() -> None:
    laws = scaling.power_laws(planted({"steep": 0.3, "flat": 0.1}))
    assert laws.exponent.tolist() == pytest.approx([0.3, 0.1] * 2)
    assert laws.log10_constant.tolist() == pytest.approx([math.log10(9) / 0.3, math.log10(9) / 0.1] * 2)
    assert laws.loss_at_smallest.tolist() == pytest.approx([9 * 100**-0.3, 9 * 100**-0.1] * 2)
    assert laws.high.tolist() == pytest.approx(laws.low.tolist())


def test_interval_is_that_of_ordinary_least_squares() -> None:
    points = planted({"noisy": 0.2}, noise=0.05)
    law = scaling.power_laws(points).iloc[0]
    points = points[points["panel"] == "data"]
    design = np.column_stack([np.ones(12), np.log(points["size"])])
    best, residual, *_ = np.linalg.lstsq(design, np.log(points["loss"]), rcond=None)
    error = math.sqrt(residual[0] / 10 * np.linalg.inv(design.T @ design)[1, 1])
    assert law.exponent == pytest.approx(-best[1])
    assert law.high - law.exponent == pytest.approx(2.228139 * error)  # 97.5 % point of Student's t, 10 degrees
    assert law.low < 0.2 < law.high


NAMES = [one["name"] for one in SCALING.scales["laptop"]["complexities"]]


@pytest.mark.parametrize(
    ("exponents", "above"),
    [
        ((0.3, 0.2, 0.1), set()),
        ((0.3, 0.1, 0.2), {"data, 2 to 3", "parameters, 2 to 3"}),
        ((0.2, 0.3, 0.1), {"data, 1 to 2", "parameters, 1 to 2"}),
    ],
)
def test_curves_must_lie_in_the_order_of_complexity(exponents: tuple[float, ...], above: set[str]) -> None:
    values = scaling.mean_ratios(planted(dict(zip(NAMES, exponents, strict=True))))
    found = decide(SCALING.claim, values)
    assert {one.condition.quantity for one in found.conditions if one.verdict == "fails"} == above
    assert found.verdict == ("fails" if above else "holds")


@pytest.mark.parametrize(("factor", "above"), [(3, set()), (100, {1})])
def test_one_crossing_decides_only_if_it_moves_the_curve(factor: float, above: set[int]) -> None:
    points = planted(dict(zip(NAMES, (0.3, 0.2, 0.1), strict=True)))
    at = {"panel": "data", "place": 2, "seed": 1}
    rows = (points[list(at)] == pd.Series(at)).all(axis=1)
    points.loc[rows & (points["complexity"] == NAMES[0]), "loss"] *= factor
    at_size = points[rows].set_index("complexity")["loss"]
    assert at_size[NAMES[0]] > at_size[NAMES[1]]
    assert {value.seed for value in scaling.mean_ratios(points) if value.value > 1} == above


def test_mean_ratio_is_the_distance_of_the_fitted_lines_at_the_middle() -> None:
    points = planted(dict(zip(NAMES, (0.3, 0.2, 0.1), strict=True)), noise=0.05)
    one_seed = points[(points["seed"] == 2) & (points["panel"] == "data")]
    laws = scaling.power_laws(one_seed).set_index("complexity")
    middle = np.log(one_seed["size"]).mean() - math.log(100)
    fitted = np.log(laws["loss_at_smallest"]) - laws["exponent"] * middle
    found = {value.quantity: math.log(value.value) for value in scaling.mean_ratios(one_seed)}
    assert found == pytest.approx(
        {"data, 1 to 2": fitted[NAMES[0]] - fitted[NAMES[1]], "data, 2 to 3": fitted[NAMES[1]] - fitted[NAMES[2]]}
    )


def test_third_complexity_is_about_the_second_rate_at_either_width() -> None:
    for scale in ("laptop", "paper"):
        settings = SCALING.scales[scale]
        *_, constant = settings["complexities"]
        rate = -math.log(constant["rate"]) / math.log(settings["fixed_shape"]["width"])
        assert rate == pytest.approx(0.53, abs=0.01)
        assert constant["name"] == f"σ = {constant['rate']:g}, λ = 0.1"
    assert SCALING.scales["paper"]["complexities"][-1]["rate"] == 0.02


@pytest.mark.parametrize("reproduction", [PERPLEXITY, COLOURS, SCALING], ids=lambda one: one.id)
def test_laptop_and_paper_have_the_seeds_that_decide(reproduction: Reproduction) -> None:
    for scale in ("laptop", "paper"):
        assert reproduction.scales[scale]["seeds"] >= reproduction.claim.seeds


def test_sizes_are_tokens_or_parameters() -> None:
    runs = {scaling.Training(panel, "one", 0, 0): run_of({5: 3.5}, parameters=70) for panel in scaling.PANELS}
    table = scaling.losses(runs, dict.fromkeys(runs, 1000))
    assert table[["panel", "size", "loss"]].values.tolist() == [["data", 1000, 3.5], ["parameters", 70, 3.5]]


def test_scaling_figure_has_a_line_and_points_for_every_complexity() -> None:
    exponents = dict(zip(NAMES, (0.3, 0.2, 0.1), strict=True))
    points = planted(exponents)
    figure = SCALING.figure({"losses": points, "power_laws": scaling.power_laws(points)})
    expected = [f"{name}: exponent {x:.3f} ({x:.3f} to {x:.3f})" for name, x in exponents.items()]
    for axes in figure.axes:
        legend = axes.get_legend()
        assert legend is not None
        assert [text.get_text() for text in legend.get_texts()] == expected
        assert len(axes.get_lines()) == 3 * 3
