from functools import partial
from pathlib import Path

import pytest

from anchorlab.analysis import explain
from anchorlab.errors import InputError
from anchorlab.experiments import contrast


def test_members_differ_in_complexity_control_alone() -> None:
    memorising, reasoning = contrast.contrast_experiments("composite", 5).values()
    different = {k for k, v in memorising.record().items() if v != reasoning.record()[k]}
    assert different == {"initialization_rate", "weight_decay"}
    assert memorising.rate is not None
    assert reasoning.rate is not None
    assert memorising.rate < reasoning.rate
    assert memorising.weight_decay < reasoning.weight_decay
    assert memorising.seed == reasoning.seed == 5


@pytest.mark.usefixtures("undrawn", "in_this_process")
def test_a_short_contrast_ends_with_a_report_and_repeats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(contrast, "explain", partial(explain, only=["phase", "examples"]))  # figures take time
    few = {"steps": 4, "width": 16, "train_rows": 600, "test_rows": 60, "ood_rows": 60}
    for name, value in few.items():
        monkeypatch.setitem(contrast._SHARED, name, value)
    result = contrast.run_contrast("composite", tmp_path / "out", seed=1, progress=False)
    assert [run.name for run in result.runs] == ["memorising", "reasoning"]
    assert result.report == tmp_path / "out/report.html"
    page = result.report.read_text()
    assert "anchorlab run composite --seed 1" in page
    lines = result.summary().splitlines()
    assert lines[0].startswith("memorising  phase 1: ID 0.")
    before = (tmp_path / "out/reasoning/metrics.parquet").stat().st_mtime_ns
    assert contrast.run_contrast("composite", tmp_path / "out", seed=1, progress=False).summary() == result.summary()
    assert (tmp_path / "out/reasoning/metrics.parquet").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="other settings"):
        contrast.run_contrast("composite", tmp_path / "out", seed=2, progress=False)


def test_other_tasks_have_no_main_job(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the main job exists for 'composite'"):
        contrast.run_contrast("identity", tmp_path)
