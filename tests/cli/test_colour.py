import json
import os
import shlex
import weakref
from pathlib import Path

import pytest
from hub_layout import small_llama, small_tokenizer, write_hub_folder
from PIL import Image

import anchorlab
from anchorlab.cli import main
from anchorlab.experiments import colouring
from anchorlab.pretrained_probe.loading import load_pretrained

TEXT = "My best friend is called John.\nHello <b>John</b>, 你好."


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return int(stopped.value.code or 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models with different tokenizers, one without, one that holds 12 tokens, and texts."""
    folder = tmp_path_factory.mktemp("colour")
    other = small_tokenizer(byte_level=True, bos=False)
    write_hub_folder(folder / "llama")
    write_hub_folder(folder / "bytes", small_llama(len(other), seed=1), tokenizer=other)
    write_hub_folder(folder / "ids", tokenized=False)
    write_hub_folder(folder / "short", small_llama(len(small_tokenizer()), max_position_embeddings=12))
    for name, text in {"text.txt": TEXT, "empty.txt": "", "one.txt": "John", "ids.json": "[5, 17, 3]"}.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "wide.txt").write_text("[5, 99999]")
    (folder / "latin.txt").write_bytes("Ansprüche".encode("latin-1"))
    return folder


@pytest.fixture(autouse=True)
def inside(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.listdir(folder):
        (tmp_path / name).symlink_to(folder / name)
    monkeypatch.chdir(tmp_path)


def test_page_and_figure_of_two_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("colour", "text.txt", "llama", "bytes") == 0
    header, *rows, page, figure = capsys.readouterr().out.splitlines()
    assert header.split("  ")[0] == "model"
    assert [row.split()[0] for row in rows] == ["llama", "bytes"]
    assert (page, figure) == ("page: colour.html", "figure: colour.png")
    content = Path("colour.html").read_text(encoding="utf-8")
    assert "Next-token probabilities of text.txt" in content
    assert content.count('class="coloured"') == 2
    assert "<b>" not in content
    assert "anchorlab colour text.txt llama bytes --out colour.html" in content
    with Image.open("colour.png") as image:
        assert image.format == "PNG"
        assert image.width > 1000


@pytest.mark.usefixtures("undrawn")
def test_json_holds_the_numbers_of_every_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("colour", "text.txt", "llama", "bytes", "--out", "x.html", "--length", "30", "--json") == 0
    printed = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert (printed["characters"], printed["page"], printed["figure"]) == (30, "x.html", "x.png")
    found = anchorlab.colour_text("text.txt", ["llama", "bytes"], length=30).coloured.summary()
    assert [model["perplexity"] for model in printed["models"]] == pytest.approx(found["perplexity"].tolist())
    assert [model["characters"] for model in printed["models"]] == [30, 28]


@pytest.mark.usefixtures("undrawn")
def test_ids_for_a_model_without_tokenizer(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("colour", "ids.json", "ids", "--json") == 0
    (model,) = json.loads(capsys.readouterr().out)["models"]
    assert (model["tokens"], model["predicted"], model["bits_per_character"]) == (3, 2, None)


@pytest.mark.usefixtures("undrawn")
def test_command_in_the_page_repeats_it(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--length", "25", "--dtype", "bfloat16", "--tokenizer", "llama", "--allow-pickle"]
    assert call("colour", "text.txt", "llama", "ids", "--out", "a b.html", *options) == 0
    first = Path("a b.html").read_text(encoding="utf-8")
    (line,) = [line for line in first.splitlines() if "anchorlab colour" in line]
    command = line.partition(">")[2].removesuffix("</pre>").replace("&#39;", "'")
    assert shlex.split(command)[1:5] == ["colour", "text.txt", "llama", "ids"]
    Path("a b.html").unlink()
    assert call(*shlex.split(command)[1:]) == 0
    assert Path("a b.html").read_text(encoding="utf-8") == first


def test_one_model_at_a_time_is_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[weakref.ref[object]] = []

    def load(name: str, **options: object) -> object:
        assert [held() for held in loaded] == [None] * len(loaded)
        found = load_pretrained(name)
        found.model.itself = [found.model]  # type: ignore[assignment] # only a collection of garbage frees this
        loaded.append(weakref.ref(found.model))
        return found

    monkeypatch.setattr(colouring, "load_pretrained", load)
    anchorlab.colour_text("text.txt", ["llama", "bytes", "llama/../bytes"])
    assert len(loaded) == 3


def test_byte_order_mark_and_line_ends_of_other_systems_are_read(folder: Path) -> None:
    Path("windows.txt").write_bytes(b"\xef\xbb\xbfMy friend\r\nJohn")
    assert anchorlab.colour_text("windows.txt", ["llama"]).coloured.text == "My friend\nJohn"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.txt", "llama"], "text='nowhere.txt': cannot be read (No such file or directory)"),
        ([".", "llama"], "text='.': cannot be read (Is a directory)"),
        (["latin.txt", "llama"], "text='latin.txt': is not UTF-8 (byte 5)"),
        (["empty.txt", "llama"], "text: is empty"),
        (["one.txt", "bytes"], "text: is 1 of the 2 tokens that 'bytes' needs at least"),
        (["text.txt", "short"], "text: has 28 tokens of 'short', whose context holds 12; take its first 38 characters"),
        (["text.txt", "ids"], "text: model 'ids' has no tokenizer, so the text must be ids of tokens"),
        (["wide.txt", "ids"], "tokens: 99999 is no id of this model; its ids are 0 to "),
        (["text.txt", "llama", "llama"], "models: 'llama' is given twice"),
        (["text.txt", "nothing/here"], "model=nothing/here"),
        (["text.txt", "llama", "--out", "no/colour.html"], "out='no/colour.html': the folder 'no' does not exist"),
        (["text.txt", "llama", "--out", "colour.png"], "out='colour.png': must end in .html"),
        (["text.txt", "llama", "--dtype", "float31"], "dtype"),
    ],
)
def test_bad_input_ends_with_2_and_one_line(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert call("colour", *arguments) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {message}")
    assert len(printed.splitlines()) == 1
    assert not list(Path().glob("*.html"))
    assert not list(Path().glob("*.png"))


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("colour", "--help") == 0
    assert "Usage: anchorlab colour" in capsys.readouterr().out
