"""The bar of many members counts their steps and those that ended."""

import pytest

from anchorlab.engine.monitor import Progress
from anchorlab.engine.progress import progress_bar_of_all


def test_one_bar_counts_the_steps_of_all_members(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar_of_all(2, 20, enabled=True) as monitor:
        monitor.report(Progress("a", 5, 10, 0.1, {}))
        monitor.report(Progress("b", 3, 10, 0.1, {}))
        monitor.report(Progress("b", 4, 10, 0.1, {}, "finished"))  # stopped early: nothing is left to do
    shown = capsys.readouterr().err
    assert "2 networks" in shown
    assert "15/20" in shown
    assert "1 ended" in shown


def test_nothing_is_shown_where_it_is_not_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar_of_all(1, 1, enabled=False) as monitor:
        monitor.report(Progress("a", 1, 1, 0.1, {}))
    assert capsys.readouterr().err == ""
