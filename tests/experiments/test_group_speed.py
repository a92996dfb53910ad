import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from anchorlab.analysis.learning_speed import detection, learning_speed
from anchorlab.engine import Run
from anchorlab.errors import InputError
from anchorlab.experiments.group_speed import slow_groups

ALIKE = {f"g{number}": 1000 + 20 * number for number in range(8)}
BRIEF: Mapping[str, Any] = {"width": 8, "feed_forward_width": 8, "steps": 30, "batch_size": 16, "device": "cpu"}


@pytest.fixture
def planted(tmp_path: Path, write_run: Callable[..., Path]) -> Callable[..., Path]:
    """A run whose groups jump to full accuracy at chosen steps, recorded every 50 steps."""

    def write(learned: Mapping[str, float], last: int = 4000, **settings: Any) -> Path:
        folder = write_run(tmp_path / "run", **settings)
        rows = [
            (step, "train", group, "accuracy", float(step >= at))
            for step in range(0, last + 1, 50)
            for group, at in learned.items()
        ]
        table = pd.DataFrame(rows, columns=["step", "split", "group", "metric", "value"])
        table.to_parquet(folder / "metrics.parquet", index=False)
        return folder

    return write


def write_rows(path: Path, *, groups: int = 4, noisy: int = 0, rows: int = 400) -> Path:
    """Rows whose label is their first token, but drawn at random in the last `noisy` groups."""
    random = np.random.default_rng(0)
    tokens = random.integers(0, 6, (rows, 3))
    group = np.arange(rows) % groups
    label = np.where(group >= groups - noisy, random.integers(0, 6, rows), tokens[:, 0])
    table = pd.DataFrame({"input_ids": tokens.tolist(), "label": label, "group": [f"g{number}" for number in group]})
    table.to_json(path, orient="records", lines=True)
    return path


def test_slow_groups_of_a_run_are_ranked_and_flagged(planted: Callable[..., Path]) -> None:
    folder = planted(ALIKE | {"x": 3000, "y": 2600})
    found = slow_groups(folder)
    assert found.speed.slow == ["y", "x"]
    assert found.table["group"].tolist()[:3] == ["x", "y", "g7"]
    assert found.table["ratio"][0] == pytest.approx(3000 / found.speed.median_step)
    assert found.detection is None
    assert "(y) and (x): candidates for rows that break the rule" in found.text()
    assert found.folder == folder / "analysis"
    assert pd.read_csv(found.folder / "slow_groups.csv")["group"].tolist() == found.table["group"].tolist()
    assert (found.folder / "slow_groups.png").read_bytes().startswith(b"\x89PNG")


def test_known_noise_gives_precision_and_recall(planted: Callable[..., Path], tmp_path: Path) -> None:
    folder = planted(ALIKE | {"x": 3000, "y": 2600})
    found = slow_groups(folder, noise=["x", "g0", "g1", "x"], out=tmp_path / "out").detection
    assert found is not None
    assert found.noisy == ("x", "g0", "g1")
    assert (found.precision, found.recall) == (1 / 2, 1 / 3)


def test_without_a_slow_group_precision_is_unknown(planted: Callable[..., Path]) -> None:
    found = slow_groups(planted(ALIKE), noise=["g1"])
    assert found.detection is not None
    assert math.isnan(found.detection.precision)
    assert found.detection.recall == 0
    assert "precision none, no group is slow; recall 0.00" in found.text()


def test_a_name_with_commas_is_a_group_or_several(planted: Callable[..., Path]) -> None:
    folder = planted({"a,b": 100, "a": 100, "b": 100, "b,a": 900})
    for noise, meant in ((["a,b", "b,a"], ("a,b", "b,a")), (["b,a,a"], ("b", "a")), (["a"], ("a",))):
        assert _noisy(folder, noise) == meant


def _noisy(folder: Path, noise: list[str]) -> tuple[str, ...]:
    found = slow_groups(folder, noise=noise).detection
    assert found is not None
    return found.noisy


@pytest.mark.parametrize(
    ("slow", "precision", "recall"), [(["a"], 1, 0.5), (["a", "b", "c", "d"], 0.5, 1), (["c"], 0, 0)]
)
def test_detection_counts_what_is_in_both(slow: list[str], precision: float, recall: float) -> None:
    found = detection(slow, ["a", "b"])
    assert (found.precision, found.recall) == (precision, recall)


def test_detection_without_noise_is_refused() -> None:
    with pytest.raises(InputError, match="noisy: names no group"):
        detection(["a"], [])


def test_a_group_never_learned_is_slow_or_undecided() -> None:
    steps = range(0, 1001, 50)
    rows = [(step, "train", group, "accuracy", float(step >= at)) for step in steps for group, at in
            {"a": 300, "b": 300, "c": 300, "d": 9999}.items()]  # fmt: skip
    history = pd.DataFrame(rows, columns=["step", "split", "group", "metric", "value"])
    whole = learning_speed(history)
    assert (whole.slow, whole.undecided) == (["d"], [])
    early = learning_speed(history[history["step"] <= 400])
    assert (early.slow, early.undecided) == ([], ["d"])


def test_rows_are_trained_on_first(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl")
    settings = {**BRIEF, "steps": 300, "learning_rate": 1e-2, "initialization_rate": 0.5}
    found = slow_groups(rows, out=tmp_path / "out", settings=settings, progress=False)
    assert found.run.folder == tmp_path / "out"
    assert found.folder == tmp_path / "out/analysis"
    assert set(found.table["group"]) == {"g0", "g1", "g2", "g3"}
    config = Run.open(tmp_path / "out").config
    assert (config["initialization_rate"], config["evaluate_every"], config["stop_fitted"]) == (0.5, 2, True)


def test_groups_of_random_labels_are_found_by_training(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", groups=8, noisy=2)
    settings = {**BRIEF, "width": 16, "steps": 100, "evaluate_every": 5, "batch_size": 64, "learning_rate": 1e-2}
    found = slow_groups(rows, noise=["g6", "g7"], out=tmp_path / "out", settings=settings, progress=False)
    assert found.detection is not None
    assert (found.detection.precision, found.detection.recall) == (1, 1)
    assert found.text().endswith("2 known noisy groups: precision 1.00; recall 1.00")
    wrong = slow_groups(tmp_path / "out", noise=["g0", "g6"]).detection
    assert wrong is not None
    assert (wrong.precision, wrong.recall) == (1 / 2, 1 / 2)


def test_small_weights_and_all_rows_are_the_defaults(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", rows=40)
    with pytest.raises(InputError, match="too early"):  # after 20 steps nothing is learned
        slow_groups(rows, out=tmp_path / "out", settings={"epochs": 20, "width": 8}, progress=False)
    config = Run.open(tmp_path / "out").config
    assert config["initialization_rate"] == 0.8
    assert config["batch_size"] == 36  # all rows but the tenth held out
    assert config["total_steps"] == 20
    assert config["evaluate_every"] == 1


class TestRefusals:
    def test_source(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"source='.*none': no such run, file or folder"):
            slow_groups(tmp_path / "none")

    def test_rows_without_groups(self, tmp_path: Path) -> None:
        path = write_rows(tmp_path / "rows.jsonl")
        table = pd.read_json(path, lines=True)
        table.drop(columns="group").to_json(path, orient="records", lines=True)
        with pytest.raises(InputError, match=r"rows.jsonl': no column 'group'; at least 3 groups are compared"):
            slow_groups(path, out=tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_two_groups(self, tmp_path: Path, planted: Callable[..., Path]) -> None:
        with pytest.raises(InputError, match="2 groups; at least 3"):
            slow_groups(write_rows(tmp_path / "rows.jsonl", groups=2), out=tmp_path / "out")
        with pytest.raises(InputError, match="2 groups; at least 3"):
            slow_groups(planted({"a": 100, "b": 100}))

    def test_unknown_group_before_any_training(self, tmp_path: Path, planted: Callable[..., Path]) -> None:
        rows = write_rows(tmp_path / "rows.jsonl")
        with pytest.raises(InputError, match=r"noise: unknown value 'g1,g9'; known: g0, g1, g2, g3"):
            slow_groups(rows, noise=["g1,g9"], out=tmp_path / "out")
        assert not (tmp_path / "out").exists()
        with pytest.raises(InputError, match="noise: unknown value 'z'"):
            slow_groups(planted(ALIKE), noise=["z"])

    @pytest.mark.parametrize(
        ("split", "settings", "said"),
        [
            ("train", {"evaluation_rows": 3}, r"the first 3 rows .* 'g\d'; shuffle the rows or raise evaluation_rows"),
            ("test", {"test_rows": 3}, r"all 3 rows of split 'test', .* none of group 'g\d'; every group needs some"),
            ("tset", {}, "split: unknown value 'tset'; did you mean 'test'?"),
        ],
    )
    def test_a_group_that_is_not_evaluated(
        self, tmp_path: Path, split: str, settings: dict[str, Any], said: str
    ) -> None:
        rows = write_rows(tmp_path / "rows.jsonl")
        with pytest.raises(InputError, match=said):
            slow_groups(rows, out=tmp_path / "out", split=split, settings=settings, progress=False)
        assert not (tmp_path / "out").exists()

    def test_a_run_without_groups(self, planted: Callable[..., Path]) -> None:
        with pytest.raises(InputError, match=r"split='train': no accuracy by group was recorded"):
            slow_groups(planted({"": 100}))

    def test_a_run_that_ended_too_early(self, planted: Callable[..., Path]) -> None:
        folder = planted(ALIKE | {"x": 3000}, last=1200, status="interrupted")
        message = (
            r"interrupted too early .* at step 1,200, 1 of 9 groups had not reached 60% accuracy; train until step 1,\d"
        )
        with pytest.raises(InputError, match=message):
            slow_groups(folder)

    def test_a_run_of_which_half_is_not_learned(self, planted: Callable[..., Path]) -> None:
        with pytest.raises(InputError, match=r"8 of 8 groups .* train longer"):
            slow_groups(planted(ALIKE, last=500))

    def test_settings_for_a_trained_run(self, planted: Callable[..., Path]) -> None:
        with pytest.raises(InputError, match=r"settings: .* is trained already; leave steps out"):
            slow_groups(planted(ALIKE), settings={"steps": 3})

    def test_an_unreadable_history(self, planted: Callable[..., Path]) -> None:
        folder = planted(ALIKE)
        (folder / "metrics.parquet").write_text("no parquet")
        with pytest.raises(InputError, match=r"run=.*a file is missing or cannot be read"):
            slow_groups(folder)

    def test_a_folder_that_cannot_be_written(self, planted: Callable[..., Path], tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError, match=r"out=.*cannot be written to"):
            slow_groups(planted(ALIKE), out=tmp_path / "file/out")
