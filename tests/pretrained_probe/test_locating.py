import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import logits, pickled, refusal, shards
from hub_layout import COMMIT, small_llama, small_tokenizer, use_cache, write_hub_cache, write_hub_folder
from safetensors.torch import load_file, save_file

from anchorlab.pretrained_probe import fitting, locating
from anchorlab.pretrained_probe.loading import load_pretrained


def test_a_name_is_found_in_the_local_cache(tmp_path: Path, original: Path) -> None:
    snapshot = write_hub_cache(tmp_path / "cache", "org/llama")
    assert snapshot == tmp_path / "cache" / "models--org--llama" / "snapshots" / COMMIT
    found = load_pretrained("org/llama")
    assert (found.name, found.source["kind"]) == ("org/llama", "hub")
    assert (found.source["revision"], found.source["commit"]) == (None, COMMIT)
    assert found.tokenizer is not None
    assert torch.equal(logits(found.model), logits(load_pretrained(str(original)).model))
    assert load_pretrained(str(snapshot)).source["commit"] == COMMIT


def test_the_revision_chooses_the_snapshot(tmp_path: Path) -> None:
    snapshot = write_hub_cache(tmp_path / "cache", "org/llama")
    other = "f" * 40
    (snapshot.parents[1] / "refs" / "v2").write_text(other)
    write_hub_folder(snapshot.parent / other, small_llama(len(small_tokenizer()), num_hidden_layers=1))
    for revision in ("v2", other):
        found = load_pretrained("org/llama", revision=revision)
        assert (found.source["revision"], found.source["commit"]) == (revision, other)
        assert found.model.config.num_hidden_layers == 1
    assert refusal("org/llama", revision="v3").endswith(
        "run `hf download org/llama --revision v3` where there is a network"
    )


@pytest.mark.parametrize("offline", [True, False])
def test_without_network_and_copy_one_line_says_what_to_download(
    offline: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_cache(monkeypatch, tmp_path / "cache", offline=offline)
    assert refusal("org/absent") == (
        "model=org/absent: no such folder, no local copy, and the Hugging Face Hub cannot be reached; "
        "run `hf download org/absent` where there is a network"
    )
    write_hub_cache(tmp_path / "cache", "org/llama")
    assert load_pretrained("org/llama").source["commit"] == COMMIT


def test_an_incomplete_copy_says_what_to_download(tmp_path: Path) -> None:
    snapshot = write_hub_cache(tmp_path / "cache", "org/llama")
    shards(snapshot)[1].unlink()
    message = refusal("org/llama")
    assert "model-00002-of" in message
    assert "`hf download org/llama`" in message
    for path in snapshot.glob("model*"):
        path.unlink()
    assert "`hf download org/llama`" in refusal("org/llama")


def test_a_copy_that_the_client_calls_incomplete_is_used_if_it_has_what_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_hub_cache(tmp_path / "cache", "org/llama")

    def incomplete(*_: Any, **__: Any) -> str:
        raise locating.LocalEntryNotFoundError("vocab.json is missing")

    monkeypatch.setattr(locating, "snapshot_download", incomplete)
    assert load_pretrained("org/llama").source["commit"] == COMMIT


class FakeHub:
    """Stands for the Hub's client with a network: hands out the files of a folder and remembers what was asked for."""

    def __init__(self, folder: Path, cache: Path):
        self.folder, self.snapshot = folder, cache / "models--org--llama" / "snapshots" / COMMIT
        self.fetched: list[str] = []

    def __call__(self, name: str, *, allow_patterns: list[str], **_: Any) -> str:
        self.snapshot.mkdir(parents=True, exist_ok=True)
        for path in self.folder.iterdir():
            if any(path.match(pattern) for pattern in allow_patterns) and not (self.snapshot / path.name).exists():
                shutil.copy(path, self.snapshot)
                self.fetched.append(path.name)
        return str(self.snapshot)


@pytest.fixture
def hub(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub(folder, tmp_path / "cache")
    monkeypatch.setattr(locating, "snapshot_download", fake)
    return fake


def test_only_the_files_that_are_needed_are_downloaded(hub: FakeHub) -> None:
    needed = {path.name for path in hub.folder.iterdir()}
    for unneeded in ("consolidated.safetensors", "pytorch_model.bin", "model.onnx", "README.md"):
        (hub.folder / unneeded).write_bytes(b"")
    assert load_pretrained("org/llama").source["commit"] == COMMIT
    assert sorted(hub.fetched) == sorted(needed)


def test_a_single_file_of_weights_is_downloaded(hub: FakeHub) -> None:
    weights = {name: tensor for shard in shards(hub.folder) for name, tensor in load_file(shard).items()}
    for path in hub.folder.glob("model*"):
        path.unlink()
    save_file(weights, hub.folder / "model.safetensors", {"format": "pt"})
    load_pretrained("org/llama")
    assert "model.safetensors" in hub.fetched


def test_pickle_is_downloaded_only_when_allowed(hub: FakeHub) -> None:
    pickled(hub.folder)
    assert "--allow-pickle" in refusal("org/llama")
    assert "pytorch_model.bin" not in hub.fetched
    load_pretrained("org/llama", allow_pickle=True)
    assert "pytorch_model.bin" in hub.fetched


def test_what_does_not_fit_is_refused_before_it_is_downloaded(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "available_memory", lambda device: 1000)
    assert "1000" not in refusal("org/llama")
    assert not [name for name in hub.fetched if name.endswith(".safetensors")]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("GatedRepoError", "accept its terms at https://huggingface.co/org/x and log in"),
        ("RepositoryNotFoundError", "neither a folder nor a model of the Hugging Face Hub"),
        ("RevisionNotFoundError", "revision=v9: org/x has no such branch, tag or commit"),
    ],
)
def test_what_the_hub_answers_is_said_in_one_line(kind: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    error = getattr(locating, kind)

    def answer(*_: Any, **__: Any) -> str:
        raise error.__new__(error)

    monkeypatch.setattr(locating, "snapshot_download", answer)
    assert said in refusal("org/x", revision="v9")


def test_a_full_disk_and_other_failures_of_a_download_are_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(locating, "snapshot_download", fail)
    assert "the download failed ([Errno 28] No space left on device)" in refusal("org/x")


@pytest.mark.parametrize("name", ["./absent", "/absent", "~/absent", "a/b/c", ""])
def test_a_path_without_folder_is_not_looked_for_on_the_hub(name: str) -> None:
    assert refusal(name) == f"model={name}: there is no such folder"


def test_names_that_are_no_folders(folder: Path) -> None:
    assert "is a file; give the folder" in refusal(folder / "config.json")
    assert "neither a folder nor a name as on the Hugging Face Hub" in refusal("no name!")
    assert "is a folder" in refusal(folder, revision="main")
