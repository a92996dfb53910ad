"""No test looks at the network or at the user's own cache."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hub_layout import use_cache, write_hub_folder


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    use_cache(monkeypatch, tmp_path / "cache")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Llama with its tokenizer as on the Hub; not to be changed."""
    return write_hub_folder(tmp_path_factory.mktemp("original") / "llama")


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy of `original` to change."""
    return Path(shutil.copytree(original, tmp_path / "llama"))
