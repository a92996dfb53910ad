"""`anchorlab tasks`, `anchorlab tasks show`, `anchorlab generate`."""

import json
from pathlib import Path

import pytest

from anchorlab import tasks
from anchorlab.cli import main
from anchorlab.cli.settings import parse_settings
from anchorlab.errors import InputError


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as done:
        main(list(words))
    assert isinstance(done.value.code, int)
    return done.value.code


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("tasks") == 0
    text = capsys.readouterr().out
    assert all(name in text for name in tasks.names())
    assert call("tasks", "--json") == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)] == list(tasks.names())


@pytest.mark.parametrize("name", tasks.names())
def test_show_every_task(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("tasks", "show", name) == 0
    text = capsys.readouterr().out
    for word in ("modulus", "example", "key", "anchor", "label", "train", "test"):
        assert word in text


def test_show_with_settings_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("tasks", "show", "composite", "--set", "modulus=8", "--set", 'held_out=[["a","b"]]', "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    values = {one["name"]: one["value"] for one in shown["parameters"]}
    assert (values["modulus"], values["held_out"]) == (8, [["a", "b"]])
    assert shown["cells"]["ood"] == 7 * 81
    assert sum(shown["cells_by_group"]["train"].values()) == shown["cells"]["train"]


def test_generate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    code = call("generate", "composite", "--out", str(out), "--train", "100", "--test", "20", "--seed", "1")
    assert code == 0
    assert "train 100, test 20, ood 20" in capsys.readouterr().out
    assert sorted(path.name for path in (out / "data").iterdir()) == [
        f"{split}-00000-of-00001.parquet" for split in ("ood", "test", "train")
    ]


def test_generate_unique(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["generate", "identity", "--out", str(tmp_path / "out"), "--train", "576", "--unique", "--test"]
    assert call(*words, "73") == 2
    assert "test: the test split has cells for 72 unique rows" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert call(*words, "72") == 0
    assert "--unique" in (tmp_path / "out" / "README.md").read_text()


def test_generate_into_a_folder_that_cannot_be_made(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("generate", "identity", "--out", "/proc/no_such_folder", "--train", "5", "--test", "5") == 2
    error = capsys.readouterr().err
    assert "out: '/proc/no_such_folder'" in error
    assert "Traceback" not in error


def test_show_tells_what_none_stands_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("tasks", "show", "working_memory") == 0
    assert "null = 20" in capsys.readouterr().out
    assert call("tasks", "show", "working_memory", "--json") == 0
    modulus = next(one for one in json.loads(capsys.readouterr().out)["parameters"] if one["name"] == "modulus")
    assert (modulus["value"], modulus["resolved"]) == (None, 20)


def test_generate_one_shard(tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["generate", "identity", "--out", str(out), "--train", "100", "--test", "20", "--shards", "3"]
    assert call(*words, "--shard", "1", "--set", "offsets=[2]") == 0
    assert sorted(path.name for path in (out / "data").iterdir()) == [
        f"{split}-00001-of-00003.parquet" for split in ("test", "train")
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tasks", "show", "composit"], "did you mean 'composite'"),
        (["tasks", "show", "composite", "--set", "modulis=8"], "did you mean 'modulus'"),
        (["tasks", "show", "composite", "--set", "modulus"], "NAME=VALUE"),
        (["tasks", "show", "composite", "--set", "modulus=8", "--set", "modulus=9"], "twice"),
        (["tasks", "show", "composite", "--preset", "nope"], "preset"),
        (["generate", "composite", "--train", "0", "--test", "5"], "train: 0"),
        (["generate", "composite", "--train", "5", "--test", "-1"], "test: -1"),
        (["generate", "composite", "--train", "5", "--test", "5", "--seed", "-1"], "seed: -1"),
        (["generate", "composite", "--train", "5", "--test", "5", "--set", "modulus=200"], "modulus: 200"),
        (["generate", "composite", "--train", "5", "--test", "5", "--shards", "2", "--shard", "2"], "shard: 2"),
        (["generate", "identity", "--train", "5", "--test", "5", "--ood", "5"], "'ood'"),
        (["generate", "composite", "--train", "5", "--test", "5", "--nope", "5"], "No such option"),
        (["generate", "composite", "--train", "many", "--test", "5"], "--train"),
    ],
)
def test_bad_input_exits_with_2_and_writes_nothing(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    extra = ["--out", str(out)] if words[0] == "generate" else []
    assert call(*words, *extra) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert not out.exists()


def test_a_folder_that_is_not_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert call("generate", "composite", "--out", str(tmp_path), "--train", "5", "--test", "5") == 2
    assert "not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_settings_are_json_or_text() -> None:
    assert parse_settings(["a=1", "b=[1, 2]", "c=text", 'd={"x": null}', "e=a=b"]) == {
        "a": 1,
        "b": [1, 2],
        "c": "text",
        "d": {"x": None},
        "e": "a=b",
    }
    with pytest.raises(InputError, match="NAME=VALUE"):
        parse_settings(["=3"])
