import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hub_layout import small_llama, small_tokenizer, use_cache, write_hub_folder
from transformers import BertConfig, BertForMaskedLM

import anchorlab
from anchorlab.cli import main
from anchorlab.errors import Interrupted
from anchorlab.experiments.probe_folder import load_probe
from anchorlab.pretrained_probe import DepthTrend, probing

pytestmark = pytest.mark.usefixtures("brief")
QUICK = ("--prompts", "random", "--count", "4", "--length", "20")


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return int(stopped.value.code or 0)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that reads 160 tokens, one that reads 64 and has no tokenizer, one that is no causal language model."""
    folder = tmp_path_factory.mktemp("models")
    vocabulary = len(small_tokenizer())
    write_hub_folder(folder / "llama", small_llama(vocabulary, max_position_embeddings=160, num_hidden_layers=4))
    write_hub_folder(folder / "ids", small_llama(120, seed=1), tokenized=False)
    BertForMaskedLM(
        BertConfig(vocab_size=50, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    ).save_pretrained(folder / "bert")
    broken = write_hub_folder(folder / "broken")
    shard = next(broken.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-100])
    return folder


@pytest.fixture(scope="module")
def finished(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `probe ids QUICK --no-knock-outs` leaves."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "ids").symlink_to(models / "ids")
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        use_cache(patch, folder / ".cache")
        patch.chdir(folder)
        assert call("probe", "ids", *QUICK, "--no-knock-outs", "--out", "found") == 0
    return folder / "found"


@pytest.fixture(autouse=True)
def inside(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    use_cache(monkeypatch, tmp_path / ".cache")
    for name in ("llama", "ids", "bert", "broken"):
        (tmp_path / name).symlink_to(models / name)
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.mark.usefixtures("undrawn")
def test_a_probe_of_a_checkpoint_as_on_the_hub(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("probe", "llama", "--count", "6", "--out", "found") == 0
    printed = capsys.readouterr().out
    for title in ("Prompts", "Heads", "Depth", "fig. 12.17", "Knock-outs", "report: found/report.html"):
        assert title in printed
    record = json.loads(Path("found/probe.json").read_text())
    assert record["source"]["class"] == "LlamaForCausalLM"
    assert record["prompts"]["name"] == "names"
    assert record["settings"]["count"] == 6
    scores = pd.read_parquet("found/tables/scores.parquet")
    names = set(scores["score"])
    assert {"shift 16", "broadcast", "sink", "induction", "duplicate", "self", "entropy"} <= names
    assert {f"value-weighted {name}" for name in ("shift 16", "broadcast", "sink", "induction", "entropy")} <= names
    assert scores.groupby(["layer", "head"]).ngroups == 4 * 4
    assert len(pd.read_parquet("found/tables/moving.parquet")) > 0
    assert np.load("found/attention.npy").shape[:2] == (4, 4)
    page = Path("found/report.html").read_text()
    assert "anchorlab probe llama --count 6 --out found" in page
    assert not re.search(r"""(src|href)=["']https?:""", page)
    assert {path.name for path in Path("found").glob("*.png")} == {"heads.png", "depth.png", "knockouts.png"}


@pytest.mark.usefixtures("undrawn")
def test_a_model_without_tokenizer_reads_random_tokens_and_its_probe_is_the_same_again() -> None:
    assert call("probe", "ids", "--count", "4", "--length", "20", "--no-knock-outs") == 0
    (folder,) = Path("probes").iterdir()
    page = (folder / "report.html").read_text()
    first = load_probe(folder)
    assert first.prompts.name == "random"
    assert first.absent["knockouts"] == "it was not asked for"
    assert not (folder / "knockouts.png").exists()
    assert call("probe", "ids", "--count", "4", "--length", "20", "--no-knock-outs") == 0
    second = load_probe(folder)
    for table in ("scores", "kinds"):
        pd.testing.assert_frame_equal(getattr(first.scores, table), getattr(second.scores, table))
    assert [path.name for path in Path("probes").iterdir()] == [folder.name]
    assert (folder / "report.html").read_text() == page


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["llama", "--prompts", "name"], "name"),
        (["llama", "--prompts", "text.txt", "--length", "12"], "text"),
        (["ids", "--prompts", "rows.jsonl", "--column", "ids"], "text"),
        (["ids", "--prompts", "task:identity", "--count", "5"], "task"),
        (["llama", "--language", "de", "--count", "4"], "names"),
    ],
)
@pytest.mark.usefixtures("undrawn")
def test_every_kind_of_prompts(options: list[str], name: str) -> None:
    Path("text.txt").write_text("My name is John.\n\nHer old dog is called Anna and the cat Tom.")
    Path("rows.jsonl").write_text("\n".join(json.dumps({"ids": list(range(row, row + 9))}) for row in range(5)))
    assert call("probe", *options, "--no-knock-outs", "--out", "found") == 0
    found = load_probe("found")
    assert found.prompts.name == name
    assert len(found.scores.kinds) in (2 * 4, 4 * 4)


@pytest.mark.usefixtures("undrawn")
def test_chosen_heads_are_knocked_out_and_shown_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("probe", "llama", *QUICK, "--heads", "3.2,1.4", "--out", "found", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert "chosen heads" in [row["what"] for row in printed["probes"][0]["knockouts"]]
    assert load_probe("found").chosen == ((3, 2), (1, 4))
    assert '"first": [2, 1]' in Path("found/report.html").read_text()


@pytest.mark.usefixtures("undrawn")
def test_models_and_finished_probes_on_one_page(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(finished, "found")
    assert call("probe", "--compare", "found", "llama", *QUICK, "--no-knock-outs", "--out", "both.html") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "report: both.html"
    page = Path("both.html").read_text()
    assert page.count("LlamaForCausalLM") >= 2
    assert len(list(Path("probes").iterdir())) == 1  # the finished one is not probed again


@pytest.mark.usefixtures("undrawn")
def test_a_probe_is_read_as_it_was_written() -> None:
    run = anchorlab.probe("llama", prompts="names", count=4, heads=[(1, 1)], out="found")
    read = load_probe("found")
    for field in fields(type(run.probe.scores)):
        pd.testing.assert_frame_equal(getattr(read.scores, field.name), getattr(run.probe.scores, field.name))
    for field in fields(DepthTrend):
        pd.testing.assert_frame_equal(getattr(read.trend, field.name), getattr(run.probe.trend, field.name))
    assert run.probe.knockouts is not None
    assert read.knockouts is not None
    pd.testing.assert_frame_equal(read.knockouts.table, run.probe.knockouts.table)
    assert (read.knockouts.prompts, read.chosen) == (4, ((1, 1),))
    for one, other in zip(read.prompts.moved, run.probe.prompts.moved, strict=True):
        assert one.tokens.tolist() == other.tokens.tolist()
        assert (one.pieces, one.places, one.answer) == (other.pieces, other.places, other.answer)
    assert read.attention is not None
    assert run.probe.attention is not None
    assert np.abs(read.attention.weights - run.probe.attention.weights).max() < 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere/model"], "nowhere/model"),
        (["./nowhere"], "nowhere"),
        (["bert"], "causal"),
        (["broken"], "broken"),
        (["llama", "--prompts", "empty.txt"], "empty.txt"),
        (["llama", "--prompts", "long.txt"], "tokens and the model reads at most 160; .*--length 160"),
        (["ids", "--prompts", "names"], "tokenizer"),
        (["llama", "--prompts", "names", "--length", "9"], "length=9: prompts='names' have none"),
        (["llama", "--prompts", "task:nothing"], "task"),
        (["llama", *QUICK, "--heads", "5.1"], "heads=5.1: the model has layers 1 to 4 with heads 1 to 4"),
        (["llama", "--heads", "5"], "--heads: '5' is not LAYER.HEAD"),
        (["llama", *QUICK, "--heads", "1.2,1.2"], "heads=1.2,1.2: one is named twice"),
        (
            ["llama", *QUICK, "--out", "full"],
            "out='full': holds something else than a probe .file.; give another folder",
        ),
        (["llama", *QUICK, "--out", "other"], "out='other': holds a probe with other settings; give another folder"),
        (["llama", *QUICK, "--out", "."], "out='.': holds something else than a probe"),
        (["llama", *QUICK, "--out", "empty.txt"], "out='empty.txt': is a file; give a folder"),
        (["llama", *QUICK, "--out", "empty.txt/x"], "cannot be written to"),
        (["--compare", "llama", "ids", "--out", "empty.txt/x.html"], "cannot be written to"),
        (
            ["--compare", "a/b/llama", "c/b/llama", "--out", "x.html"],
            "two would be written to 'b--llama'; .*one by one",
        ),
        (["llama", "ids"], "2 given; to see them on one page add --compare"),
        (["--compare", "llama"], "1 given; 2 to 8 can be compared"),
        (["--compare", "llama", "llama"], "'llama' is given twice"),
        (["--compare", "llama", "ids", "--out", "page"], "must end in .html"),
        (["--compare", "bad", "bad2", "--out", "x.html"], "probe='bad': cannot be read"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty.txt").write_text("")
    Path("long.txt").write_text("John " * 400)
    for owner in "ac":
        Path(owner, "b").mkdir(parents=True)
        Path(owner, "b", "llama").symlink_to(Path("llama").resolve())
    records = {"full": None, "other": '{"settings": {}}', "bad": "{}", "bad2": '{"schema_version": 0}'}
    for folder, record in records.items():
        Path(folder).mkdir()
        Path(folder, "file" if record is None else "probe.json").write_text(record or "")
    before = sorted(Path().rglob("*"))
    assert call("probe", *arguments) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert len(error.strip().splitlines()) == 1
    left = [path for path in sorted(Path().rglob("*")) if path not in before]
    assert [path for path in left if path.is_file()] == []


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory"),
            2,
            r"ran out of memory while .*--count.*--length.*--dtype bfloat16",
        ),
        (Interrupted("stopped"), 3, "interrupted"),
    ],
)
@pytest.mark.usefixtures("undrawn")
def test_what_stops_a_probe_leaves_the_last_one_as_it_was(
    error: Exception,
    code: int,
    message: str,
    finished: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(finished, "found")
    before = {path: path.read_bytes() for path in Path("found").rglob("*") if path.is_file()}

    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(probing, "score_prompts", fail)
    assert call("probe", "ids", *QUICK, "--no-knock-outs", "--out", "found") == code
    assert re.search(message, capsys.readouterr().err)
    assert {path: path.read_bytes() for path in Path("found").rglob("*") if path.is_file()} == before
    assert [path.name for path in Path().iterdir() if path.name.startswith(".found")] == []


@pytest.mark.parametrize("file", ["attention.npy", "tables/kinds.parquet", "probe.json"])
def test_a_broken_probe_is_refused_in_one_line(file: str, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(finished, "found")
    Path("found", file).write_bytes(b"")
    assert call("probe", "--compare", "found", "ids", "--out", "x.html") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "probe='found': cannot be read" in line
    assert not Path("x.html").exists()
