"""Folders with checkpoints for tests of loading: change them, break them, and see what is said."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_models import VOCABULARY, random_rows
from transformers import PreTrainedModel

from anchorlab.errors import InputError
from anchorlab.models.quiet import without_progress_bars
from anchorlab.pretrained_probe.loading import load_pretrained

SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": VOCABULARY,
}


def saved(model: PreTrainedModel, folder: Path) -> Path:
    with without_progress_bars():
        model.save_pretrained(folder)
    return folder


def change_json(path: Path, **values: Any) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **values}))


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("model-*.safetensors"))


def pickled(folder: Path, state: object = None) -> Path:
    """The folder with pytorch_model.bin in place of safetensors."""
    whole = {name: tensor for shard in shards(folder) for name, tensor in load_file(shard).items()}
    for path in folder.glob("model*"):
        path.unlink()
    torch.save(whole if state is None else state, folder / "pytorch_model.bin")
    return folder


def refusal(name: object, **settings: Any) -> str:
    with pytest.raises(InputError) as caught:
        load_pretrained(str(name), **settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model(random_rows(2).to(model.device)).logits
