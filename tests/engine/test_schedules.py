import pytest

from anchorlab.engine import Schedule


def test_book_schedule_by_epoch() -> None:
    # Section 12.8.3: 2e-5 rising to 2e-4 over 400 epochs, cosine back to 2e-5 at 4000.
    schedule = Schedule(2e-5, 2e-4, 2e-5, warmup=400, total=4000, unit="epoch")
    rates = {epoch: schedule.rate(10 * epoch, steps_per_epoch=10) for epoch in (0, 200, 400, 2200, 4000)}
    assert rates == pytest.approx({0: 2e-5, 200: 1.1e-4, 400: 2e-4, 2200: 1.1e-4, 4000: 2e-5})


def test_epoch_unit_is_constant_inside_an_epoch() -> None:
    schedule = Schedule(0.1, 1.0, 0.1, warmup=2, total=5, unit="epoch")
    assert [schedule.rate(step, 3) for step in range(3, 6)] == [schedule.rate(3, 3)] * 3
    assert schedule.rate(6, 3) > schedule.rate(5, 3)


def test_step_unit_moves_with_every_step() -> None:
    schedule = Schedule(0.0, 1.0, 0.0, warmup=4, total=8)
    assert [schedule.rate(step, 100) for step in range(5)] == pytest.approx([0, 0.25, 0.5, 0.75, 1.0])
    assert schedule.rate(6, 100) == pytest.approx(0.5)
    assert schedule.rate(99, 100) == 0.0


def test_constant() -> None:
    assert {Schedule.constant(0.3).rate(step, 7) for step in range(50)} == {0.3}
