"""Verdicts: planted results must come out each way."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anchorlab.errors import InputError
from anchorlab.reproduce import Claim, Condition, Value, decide

ACCURATE = Condition(quantity="accuracy", text="test accuracy", at_least=0.9)
SLOW = Condition(quantity="steps", text="steps to fit", at_least=100, at_most=200)


def planted(quantity: str, *numbers: float) -> list[Value]:
    return [Value(seed, quantity, number) for seed, number in enumerate(numbers)]


def claim(*conditions: Condition, seeds: int = 3, agreement: float = 0.8) -> Claim:
    return Claim(text="", conditions=conditions, seeds=seeds, agreement=agreement)


@pytest.mark.parametrize(
    ("numbers", "verdict"),
    [
        ((0.95, 0.9, 1.0), "holds"),
        ((0.1, 0.2, 0.89), "fails"),
        ((0.95, 0.95, 0.1), "undecided"),
        ((0.95, 0.1, 0.1), "undecided"),
        ((0.95, 0.95), "undecided"),
        ((0.1, 0.1), "undecided"),
        ((0.95, 0.95, math.nan), "undecided"),
        ((), "undecided"),
        ((1, 1, 1, 1, 0), "holds"),
        ((0, 0, 0, 0, 1), "fails"),
        ((1, 1, 1, 0, 0), "undecided"),
        ((1, 1, 1, 1, math.nan), "holds"),
        ((1, 1, 1, math.nan, math.nan), "undecided"),
        ((0, 0, 0, math.nan, math.nan), "undecided"),
    ],
)
def test_seeds_decide_a_condition(numbers: tuple[float, ...], verdict: str) -> None:
    assert decide(claim(ACCURATE), planted("accuracy", *numbers)).verdict == verdict


@pytest.mark.parametrize(
    ("accuracy", "steps", "verdict"),
    [
        (1.0, 150, "holds"),
        (0.0, 150, "fails"),
        (1.0, 99, "fails"),
        (1.0, 201, "fails"),
        (1.0, math.inf, "fails"),
        (0.0, math.nan, "fails"),
        (1.0, math.nan, "undecided"),
    ],
)
def test_a_claim_needs_all_its_conditions(accuracy: float, steps: float, verdict: str) -> None:
    values = planted("accuracy", *[accuracy] * 3) + planted("steps", *[steps] * 3)
    assert decide(claim(ACCURATE, SLOW), values).verdict == verdict


@given(
    numbers=st.lists(st.floats(0, 1), min_size=1, max_size=12),
    seeds=st.integers(1, 12),
    agreement=st.floats(0.51, 1),
)
def test_the_opposite_condition_has_the_opposite_verdict(numbers: list[float], seeds: int, agreement: float) -> None:
    limit = 0.5
    distinct = [number for number in numbers if number != limit]
    above = Condition(quantity="x", text="", at_least=limit)
    below = Condition(quantity="x", text="", at_most=limit)
    found = decide(claim(above, seeds=seeds, agreement=agreement), planted("x", *distinct)).verdict
    other = decide(claim(below, seeds=seeds, agreement=agreement), planted("x", *distinct)).verdict
    assert {found, other} in ({"holds", "fails"}, {"undecided"})


@given(numbers=st.lists(st.floats(0, 1), min_size=3, max_size=12))
def test_a_better_value_never_makes_a_verdict_worse(numbers: list[float]) -> None:
    order = ("fails", "undecided", "holds")
    before = decide(claim(ACCURATE), planted("accuracy", *numbers)).verdict
    after = decide(claim(ACCURATE), planted("accuracy", 1.0, *numbers[1:])).verdict
    assert order.index(after) >= order.index(before)


def test_the_values_and_their_spread_stand_beside_the_limits() -> None:
    (found,) = decide(claim(ACCURATE), planted("accuracy", 0.9, 1.0, 0.2)).conditions
    assert found.text() == "test accuracy: 0.7 (0.2 to 1), wanted ≥ 0.9: 2 of 3 seeds"
    assert found.mean == pytest.approx(0.7)


def test_what_was_never_reached_is_told_so() -> None:
    (found,) = decide(claim(SLOW), planted("steps", 120.0, math.inf)).conditions
    assert "never" in found.text()


def test_seeds_that_could_not_be_measured_are_counted() -> None:
    (found,) = decide(claim(ACCURATE), planted("accuracy", *[1.0] * 3, *[math.nan] * 7)).conditions
    assert found.verdict == "undecided"
    assert found.text() == "test accuracy: 1, wanted ≥ 0.9: 3 of 3 seeds, 7 not measured"
    fewer = [Value(seed, "accuracy", 1.0) for seed in range(3)] + planted("steps", *[150] * 5)
    accuracy, steps = decide(claim(ACCURATE, SLOW), fewer).conditions
    assert (accuracy.verdict, accuracy.missing) == ("undecided", 2)
    assert (steps.verdict, steps.missing) == ("holds", 0)


def test_infinities_of_both_signs_have_a_range_but_no_mean() -> None:
    (found,) = decide(claim(ACCURATE), planted("accuracy", math.inf, 1.0, -math.inf)).conditions
    assert found.summary() == "-inf to never"


def test_a_condition_without_limits_is_refused() -> None:
    with pytest.raises(InputError, match="needs at_least or at_most"):
        Condition(quantity="x", text="")


def test_two_values_of_one_seed_are_refused() -> None:
    with pytest.raises(InputError, match="two values"):
        decide(claim(ACCURATE), [Value(0, "accuracy", 1.0), Value(0, "accuracy", 0.0)])
