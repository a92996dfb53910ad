"""Datasets on disk and in memory."""

import errno
import hashlib
import shlex
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from anchorlab import tasks
from anchorlab.cli import main
from anchorlab.errors import InputError

SIZES = {"train": 25_003, "test": 1000, "ood": 500}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def bytes_of(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rows_of(folder: Path, split: str) -> list[dict]:
    return [row for path in sorted(folder.glob(f"data/{split}-*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_load_dataset_opens_the_folder(tmp_path: Path) -> None:
    import datasets

    task = tasks.create("composite")
    folder = task.generate(tmp_path / "out", SIZES, seed=3, shards=2)
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {split: len(loaded[split]) for split in loaded} == SIZES
    features = loaded["train"].features
    assert list(features) == ["input_ids", "label", "key_position", "key", "anchors", "group"]
    assert features["input_ids"] == datasets.List(datasets.Value("int16"), length=9)
    assert features["anchors"] == datasets.List(datasets.Value("int16"), length=2)
    assert features["group"] == datasets.Value("string")
    for split, rows in SIZES.items():
        sample, table = task.sample(split, rows, 3), loaded[split].with_format("numpy")
        assert (np.stack(table["input_ids"][:]) == sample.tokens).all()
        assert (np.array(table["label"][:]) == task.solve(sample.tokens)).all()
        assert list(loaded[split]["group"][:5]) == [task.group_names[group] for group in sample.group[:5]]


def test_in_memory_is_the_same_as_on_disk(tmp_path: Path) -> None:
    task = tasks.create("synonym")
    folder = task.generate(tmp_path / "out", {"train": 500, "ood": 20}, seed=1)
    memory = task.to_dataset({"train": 500, "ood": 20}, seed=1)
    for split in ("train", "ood"):
        assert memory[split].to_list() == rows_of(folder, split)


@pytest.mark.parametrize("name", tasks.names())
def test_every_task_can_be_written(name: str, tmp_path: Path) -> None:
    task = tasks.create(name)
    sizes = dict.fromkeys(task.splits, 50)
    folder = task.generate(tmp_path / "out", sizes)
    for split in task.splits:
        assert [row["input_ids"] for row in rows_of(folder, split)] == task.sample(split, 50).tokens.tolist()
    assert task.hash in (folder / "README.md").read_text()


def test_rows_do_not_depend_on_the_number_of_shards(tmp_path: Path) -> None:
    task = tasks.create("composite")
    one = task.generate(tmp_path / "one", SIZES, seed=7)
    many = task.generate(tmp_path / "many", SIZES, seed=7, shards=7)
    for split in SIZES:
        assert rows_of(one, split) == rows_of(many, split)


def test_the_same_shard_twice_has_the_same_bytes(tmp_path: Path) -> None:
    task = tasks.create("composite")
    task.generate(tmp_path / "a", SIZES, shards=3)
    for shard in (2, 0, 1):
        task.generate(tmp_path / "b", SIZES, shards=3, shard=shard)
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")
    assert len(bytes_of(tmp_path / "a")) == 10


def test_unique_rows_on_disk_and_in_memory(tmp_path: Path) -> None:
    task, sizes = tasks.create("composite", modulus=40, length=14), {"train": 13_000, "test": 300}
    whole = task.generate(tmp_path / "whole", sizes, 4, unique=True)
    for shard in (1, 0, 2):
        task.generate(tmp_path / "parts", sizes, 4, shards=3, shard=shard, unique=True)
    memory = task.to_dataset(sizes, 4, unique=True)
    for split, rows in sizes.items():
        written = rows_of(whole, split)
        assert written == rows_of(tmp_path / "parts", split) == memory[split].to_list()
        assert len({(*row["anchors"], row["key_position"], row["key"]) for row in written}) == rows
        assert [row["input_ids"] for row in written] == task.sample(split, rows, 4, unique=True).tokens.tolist()
    card = (whole / "README.md").read_text()
    assert "--unique" in card
    assert "every cell occurs at most once" in card
    with pytest.raises(InputError, match="not empty"):
        task.generate(tmp_path / "parts", sizes, 4, shards=3, shard=0)


def test_more_unique_rows_than_cells(tmp_path: Path) -> None:
    task = tasks.create("composite")
    for call in (task.to_dataset, lambda *rest, **named: task.generate(tmp_path / "out", *rest, **named)):
        with pytest.raises(InputError, match="test: the test split has cells for 882 unique rows; 883"):
            call({"train": 5, "test": 883}, unique=True)
    with pytest.raises(InputError, match="5 times"):
        tasks.create("statistical").generate(tmp_path / "out", {"train": 5}, unique=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("folder", ["/proc/no_such_folder", "{tmp}/" + "n" * 300, "{tmp}/a\0b"])
def test_a_folder_that_cannot_be_made(folder: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"out: .*cannot be written to") as refused:
        tasks.create("composite").generate(folder.format(tmp=tmp_path), {"train": 5})
    assert "\n" not in str(refused.value)


def test_the_card_tells_what_none_stands_for(tmp_path: Path) -> None:
    card = (tasks.create("working_memory").generate(tmp_path / "out", {"train": 5}) / "README.md").read_text()
    assert "| `modulus` | `null` (here 20) |" in card


def test_more_shards_than_rows(tmp_path: Path) -> None:
    import datasets

    folder = tasks.create("identity").generate(tmp_path / "out", {"train": 10, "test": 2}, shards=4)
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert (len(loaded["train"]), len(loaded["test"])) == (10, 2)


def test_card_tells_how_to_make_it_again(tmp_path: Path) -> None:
    task = tasks.create("composite", modulus=8, held_out=[("a", "b")])
    card = (task.generate(tmp_path / "out", {"train": 100, "test": 10}, seed=5) / "README.md").read_text()
    assert card.startswith("---\n")
    assert "path: data/train-*.parquet" in card
    assert "train and test: 0 common cells, 0 common rows" in card
    command = next(line for line in card.splitlines() if line.startswith("anchorlab generate"))
    words = shlex.split(command.replace("DIR", str(tmp_path / "again")))[1:]
    with pytest.raises(SystemExit) as done:
        main([*words, "--ood", "10"])
    assert done.value.code == 0
    assert rows_of(tmp_path / "again", "train") == rows_of(tmp_path / "out", "train")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"sizes": {"train": 0}}, "train: 0"),
        ({"sizes": {}}, "no split"),
        ({"sizes": {"tests": 5}}, "did you mean 'test'"),
        ({"seed": -1}, "seed: -1"),
        ({"shards": 0}, "shards: 0"),
        ({"shards": 10**9}, "shards: 1000000000"),
        ({"shards": 2, "shard": 2}, "shard: 2"),
        ({"shard": -1}, "shard: -1"),
    ],
)
def test_bad_values_write_nothing(change: dict, word: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        tasks.create("composite").generate(**{"folder": tmp_path / "out", "sizes": {"train": 5}, **change})
    assert word in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_a_task_without_held_out_anchors_has_no_ood(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'ood'"):
        tasks.create("identity").generate(tmp_path / "out", {"ood": 5})


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    task = tasks.create("composite")
    (tmp_path / "notes.txt").write_text("mine")
    before = bytes_of(tmp_path)
    with pytest.raises(InputError, match="not empty"):
        task.generate(tmp_path, {"train": 5})
    assert bytes_of(tmp_path) == before
    with pytest.raises(InputError, match="is a file"):
        task.generate(tmp_path / "notes.txt", {"train": 5})


def test_another_dataset_does_not_mix_into_a_folder(tmp_path: Path) -> None:
    task = tasks.create("composite")
    task.generate(tmp_path / "out", {"train": 5}, shards=2, shard=0)
    before = bytes_of(tmp_path)
    for other, seed in ((task, 1), (tasks.create("composite", modulus=8), 0)):
        with pytest.raises(InputError, match="not empty"):
            other.generate(tmp_path / "out", {"train": 5}, seed, shards=2, shard=1)
    with pytest.raises(InputError, match="already holds"):
        task.generate(tmp_path / "out", {"train": 5}, shards=2, shard=0)
    assert bytes_of(tmp_path) == before


def test_a_full_disk_leaves_whole_files_only_and_can_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = tasks.create("composite")
    folder = tmp_path / "out"
    write, written = pq.ParquetWriter.write_table, []

    def full(self: pq.ParquetWriter, table: object, *rest: object, **named: object) -> None:
        if written:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(1)
        write(self, table, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetWriter, "write_table", full)
        with pytest.raises(OSError, match="No space"):
            task.generate(folder, {"train": 500, "test": 500})
    names = sorted(path.name for path in folder.rglob("*") if path.is_file())
    assert names == ["README.md", "train-00000-of-00001.parquet"]
    task.generate(folder, {"train": 500, "test": 500})
    task.generate(tmp_path / "whole", {"train": 500, "test": 500})
    assert bytes_of(folder) == bytes_of(tmp_path / "whole")


def test_what_a_killed_run_left_does_not_stop_the_next(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / ".train-00000-of-00001.parquet.77.tmp").write_text("half")
    tasks.create("composite").generate(tmp_path, {"train": 5})
    assert len(rows_of(tmp_path, "train")) == 5


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_shown_on_a_terminal_only(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from io import StringIO

    from anchorlab.tasks import progress

    screen = StringIO()
    screen.isatty = lambda: terminal  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr(progress, "PATIENCE_SECONDS", 0.0)
    with progress.RowProgress(30) as shown:
        for _ in range(3):
            shown.advance(10)
    assert ("30/30" in screen.getvalue()) == terminal


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    import tracemalloc

    import pyarrow as pa

    task, peaks = tasks.create("composite"), []
    for rows in (200_000, 800_000):
        tracemalloc.start()
        task.generate(tmp_path / str(rows), {"train": rows})
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]
    assert pa.total_allocated_bytes() < 50e6
