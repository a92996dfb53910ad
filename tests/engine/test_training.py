import errno
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_experiments import small
from small_trainings import PLAN, SETTINGS, At, crash, run

from anchorlab.cli import main
from anchorlab.engine import (
    Evaluation,
    Measurement,
    MemberRecord,
    Monitor,
    Population,
    Progress,
    Run,
    RunWriter,
    TrainingPlan,
    train_population,
)
from anchorlab.engine.store import environment
from anchorlab.errors import InputError, Interrupted
from anchorlab.experiments import train


def interrupted_at(step: int, action: Callable[[], None]) -> TrainingPlan:
    return TrainingPlan(steps=30, evaluate_every=5, checkpoint_every=10, observers=(At(step, action),))


def test_run_folder_is_readable_without_the_package(sequences: Callable[..., Any], tmp_path: Path) -> None:
    (opened,) = run(sequences([0]), tmp_path)
    folder = tmp_path / "m0"
    assert json.loads((folder / "config.json").read_text()) == {"schema_version": 1, "seed": 0}
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["status"] == opened.status == "finished"
    assert environment["step"] == 30
    assert environment["seeds"] == {"seed": 0}
    assert environment["packages"]["torch"] == torch.__version__
    metrics = pd.read_parquet(folder / "metrics.parquet")
    assert list(metrics.columns) == ["step", "split", "group", "metric", "value"]
    assert sorted(metrics.step.unique()) == [0, 5, 10, 15, 20, 25, 30]
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {
        "step-30.safetensors",
        "step-30.optimizer.safetensors",
    }
    assert opened.final("train") == metrics[(metrics.metric == "accuracy") & (metrics.group == "")].value.iloc[-2]
    assert not opened.model().training


def test_members_share_the_core_that_trains_them(sequences: Callable[..., Any], tmp_path: Path) -> None:
    (alone,) = run(sequences([0]), tmp_path / "alone")
    assert alone.environment["core_seconds"] == alone.environment["wall_time_seconds"] > 0
    together = run(sequences([0, 1, 2]), tmp_path / "together")
    for one in together:
        assert one.environment["core_seconds"] == pytest.approx(one.environment["wall_time_seconds"] / 3)


def test_saved_model_gives_the_recorded_accuracy(sequences: Callable[..., Any], rows: Any, tmp_path: Path) -> None:
    (opened,) = run(sequences([0]), tmp_path)
    with torch.no_grad():
        answers = opened.model()(rows.tokens[:20]).logits[:, -1].argmax(-1)
    assert (answers == rows.labels[:20]).double().mean().item() == pytest.approx(opened.final("test"))


@pytest.fixture(scope="module")
def whole(sequences: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Two members that were trained without a break."""
    return run(sequences([0, 1]), tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("step", [5, 10, 15, 25, 30])
def test_crash_and_resume_is_bit_identical(
    sequences: Callable[..., Any], whole: list[Run], tmp_path: Path, step: int
) -> None:
    with pytest.raises(RuntimeError, match="went away"):
        run(sequences([0, 1]), tmp_path / "cut", interrupted_at(step, crash))
    cut = run(sequences([0, 1]), tmp_path / "cut")
    for a, b in zip(whole, cut, strict=True):
        pd.testing.assert_frame_equal(a.metrics(), b.metrics(), check_exact=True)
        found = b.model().state_dict()
        for name, value in a.model().state_dict().items():
            assert torch.equal(value, found[name])


def test_interrupt_saves_and_resumes_bit_identically(sequences: Callable[..., Any], tmp_path: Path) -> None:
    (whole,) = run(sequences([0]), tmp_path / "whole")
    with pytest.raises(Interrupted, match="stopped after step 15 of 30; run the same again"):
        run(sequences([0]), tmp_path / "cut", interrupted_at(15, lambda: signal.raise_signal(signal.SIGINT)))
    assert Run.open(tmp_path / "cut/m0").status == "interrupted"
    assert Run.open(tmp_path / "cut/m0").checkpoints() == [15]
    (cut,) = run(sequences([0]), tmp_path / "cut")
    pd.testing.assert_frame_equal(whole.metrics(), cut.metrics(), check_exact=True)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.slow
def test_killed_process_resumes_bit_identically(tmp_path: Path) -> None:
    # A real process, really killed: the command line's own way from nothing to the finished run.
    def arguments(out: Path) -> list[str]:
        fields = ["model=post_ln", "width=16", "train_rows=2000", "test_rows=100", "ood_rows=100", "device=cpu"]
        settings = [word for field in [*fields, "checkpoint_every=20"] for word in ("--set", field)]
        return ["train", "identity", "--steps", "400", *settings, "--out", str(out)]

    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-P", "-m", "anchorlab", *arguments(killed)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(killed.glob("checkpoints/step-*0.safetensors")):
        assert process.poll() is None, "the training ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert Run.open(killed).status == "running"
    for out in (killed, whole):
        with pytest.raises(SystemExit) as ended:
            main(arguments(out))
        assert not ended.value.code
    pd.testing.assert_frame_equal(Run.open(killed).metrics(), Run.open(whole).metrics(), check_exact=True)


def test_finished_run_is_not_trained_again(sequences: Callable[..., Any], tmp_path: Path) -> None:
    run(sequences([0]), tmp_path)
    before = (tmp_path / "m0/environment.json").read_bytes()
    run(sequences([0]), tmp_path, interrupted_at(0, crash))
    assert (tmp_path / "m0/environment.json").read_bytes() == before


def test_folder_left_by_a_kill_at_the_very_start_is_used(linear: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "m0/checkpoints").mkdir(parents=True)
    (tmp_path / "m0/.config.json.17.tmp").touch()
    assert run(linear([1]), tmp_path)[0].status == "finished"


def test_wish_to_stop_saves_where_it_stops(sequences: Callable[..., Any], tmp_path: Path) -> None:
    wishes = iter([False, True])
    seen: list[Progress] = []
    monitor = Monitor(seen.append, lambda: next(wishes))
    population = Population(sequences([0]), [SETTINGS])
    with pytest.raises(Interrupted, match=r"stopped after step \d+ of 30"):
        train_population(population, [MemberRecord(tmp_path / "m0", {"seed": 0})], PLAN, monitor=monitor)
    assert Run.open(tmp_path / "m0").checkpoints() == [seen[-1].step]
    assert (seen[-1].status, 1 < seen[-1].step < 30) == ("interrupted", True)
    (whole,) = run(sequences([0]), tmp_path / "whole")
    (resumed,) = run(sequences([0]), tmp_path)
    pd.testing.assert_frame_equal(whole.metrics(), resumed.metrics(), check_exact=True)


def test_one_bad_folder_leaves_the_others_untouched(linear: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "m1").mkdir()
    (tmp_path / "m1/thesis.tex").touch()
    with pytest.raises(InputError, match="not empty and holds no run"):
        run(linear([1, 2]), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["m1"]


def test_kept_checkpoints(linear: Callable[..., Any], tmp_path: Path) -> None:
    (opened,) = run(linear([1]), tmp_path, TrainingPlan(30, 10, 10, keep_checkpoints=True))
    assert opened.checkpoints() == [0, 10, 20, 30]
    assert len(list((tmp_path / "m0/checkpoints").glob("*.optimizer.safetensors"))) == 1


def test_checkpoint_that_is_not_the_models_is_refused(tmp_path: Path) -> None:
    saved = train(small(checkpoint_every=5, keep_checkpoints=True), tmp_path / "run", progress=False)
    (tmp_path / "run/checkpoints/step-last.safetensors").write_bytes(b"")
    assert saved.checkpoints() == [0, 5, 10]
    path = tmp_path / "run/checkpoints/step-5.safetensors"
    tensors = load_file(path)
    name = min(tensors)
    for changed in (
        {key: value for key, value in tensors.items() if key != name},
        tensors | {"more": torch.zeros(1)},
        tensors | {name: torch.zeros(2)},
    ):
        save_file(changed, path)
        with pytest.raises(InputError, match=r"step-5.safetensors: does not hold the parameters of the run's model"):
            saved.model(5)


def test_folder_of_another_run_or_of_something_else(linear: Callable[..., Any], tmp_path: Path) -> None:
    run(linear([1]), tmp_path)
    with pytest.raises(InputError, match=r"other settings \(gamma: None there, 0.5 here\)"):
        run(linear([1]), tmp_path, gamma=0.5)
    (tmp_path / "full/m0").mkdir(parents=True)
    (tmp_path / "full/m0/thesis.tex").touch()
    with pytest.raises(InputError, match="not empty and holds no run"):
        run(linear([1]), tmp_path / "full")
    assert [path.name for path in (tmp_path / "full/m0").iterdir()] == ["thesis.tex"]


def test_second_process_in_one_folder_stops(linear: Callable[..., Any], tmp_path: Path) -> None:
    writer = RunWriter(tmp_path / "m0")
    writer.claim({"seed": 0})
    with pytest.raises(InputError, match="another process is training in this folder"):
        run(linear([1]), tmp_path)
    writer.close()
    assert run(linear([1]), tmp_path)[0].status == "finished"


def test_full_disk_leaves_a_readable_run_that_resumes(
    linear: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if "step-20" in path.name:
            real(path, b"half of the file")
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left") as caught:
        run(linear([1]), tmp_path)
    assert "step-20" in caught.value.filename
    opened = Run.open(tmp_path / "m0")
    assert opened.checkpoints() == [10]
    assert opened.metrics().step.max() == 20
    assert not list((tmp_path / "m0").rglob("*.tmp"))
    monkeypatch.setattr(Path, "write_bytes", real)
    (resumed,) = run(linear([1]), tmp_path)
    (whole,) = run(linear([1]), tmp_path / "whole")
    pd.testing.assert_frame_equal(resumed.metrics(), whole.metrics(), check_exact=True)


def test_progress_is_reported_with_accuracies(sequences: Callable[..., Any], tmp_path: Path) -> None:
    seen: list[Progress] = []
    population = Population(sequences([0]), [SETTINGS])
    train_population(population, [MemberRecord(tmp_path / "m0", {})], PLAN, monitor=Monitor(seen.append))
    assert seen[-1].step == seen[-1].steps == 30
    assert seen[-1].member == "m0"
    assert seen[-1].accuracies.keys() == {"train", "test"}


def test_user_observers_write_to_the_metrics(linear: Callable[..., Any], tmp_path: Path) -> None:
    class Bias:
        def observe(self, population: Population, step: int) -> list[Measurement]:
            biases = population.parameters["bias"].detach()
            return [
                Measurement(m, "", "", "bias", b.sum().item()) for m, b in zip(population.members, biases, strict=True)
            ]

    plan = TrainingPlan(10, 5, 10, observers=(Evaluation(), Bias()))
    (opened,) = run(linear([1]), tmp_path, plan)
    assert set(opened.metrics().metric) == {"norm", "bias"}


def test_opening_what_is_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run folder"):
        Run.open(tmp_path)
    writer = RunWriter(tmp_path / "new")
    writer.claim({})
    writer.start({}, environment("cpu"))
    with pytest.raises(InputError, match="no trained model yet"):
        Run.open(tmp_path / "new").model()
    with pytest.raises(InputError, match="no accuracy was measured on split 'ood'"):
        Run.open(tmp_path / "new").final("ood")
    writer.close()
