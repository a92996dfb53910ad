"""A model that `save_pretrained` wrote, as the network that training goes on from."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from transformers import PreTrainedModel

from anchorlab.errors import InputError

from .options import Option

OPTIONS = {
    "folder": Option(None, "folder of the saved model; initialization_rule own keeps its weights"),
    "source": Option(None, "SHA-256 of the files of its weights; filled in"),
}

_WEIGHTS = ("*.safetensors", "*.bin")


def settled_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with the folder's path made absolute and the hash of its weights, so that a run tells what it is of.

    Raises:
        InputError: no folder is named, or it holds no weights.
    """
    folder = Path(str(options.get("folder") or "")).resolve()
    if not options.get("folder") or not _weights(folder):
        raise InputError(f"folder={options.get('folder')!r}: must be a folder with a saved model")
    return {**options, "folder": str(folder), "source": options.get("source") or _digest(folder)}


def fitted(model: PreTrainedModel, vocabulary_size: int, max_length: int, source: str | None) -> PreTrainedModel:
    """The loaded model in float32, if it serves `vocabulary_size` tokens in rows of `max_length` (it may allow more).

    Raises:
        InputError: it has fewer tokens or positions, or its weights are not those of the hash `source`.
    """
    folder, config = str(model.name_or_path), model.config
    if source not in (None, _digest(Path(folder))):
        raise InputError(f"folder={folder!r}: its weights have changed since the training was set up")
    if config.vocab_size < vocabulary_size:
        raise InputError(f"folder={folder!r}: knows {config.vocab_size} tokens, the data has {vocabulary_size}")
    positions = getattr(config, "max_position_embeddings", max_length)
    if positions < max_length:
        raise InputError(f"folder={folder!r}: reads rows of at most {positions} tokens, the data has {max_length}")
    return cast(PreTrainedModel, model.float())


def _weights(folder: Path) -> list[Path]:
    return sorted(file for pattern in _WEIGHTS for file in folder.glob(pattern))


def _digest(folder: Path) -> str:
    content = sha256()
    for file in _weights(folder):
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                content.update(block)
    return content.hexdigest()
