"""Folders and caches with the layout that models have on the Hugging Face Hub, written locally with random weights."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from anchorlab.models.quiet import without_progress_bars

NAMES = (
    *("John", "Mary", "Tom", "James", "Sarah", "David", "Anna", "Paul", "Emma", "Peter", "Alice", "Mark", "Laura"),
    *("Jack", "Kate", "Henry", "Lucy", "Simon", "Helen", "George", "Jane", "Robert", "Susan", "Daniel", "Rachel"),
    *("Michael", "Linda", "William", "Karen", "Thomas", "Lisa", "Richard", "Nancy", "Charles", "Sandra", "Joseph"),
)
WORDS = (
    *("My", "The", "Her", "His", "Your", "This", "I", "name", "is", "was", "and", "the", "a", "of", "to", "in", "on"),
    *("my", "best", "friend", "dog", "cat", "old", "new", "very", "nice", "called", "what", "What", "hello", "Hello"),
)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def small_tokenizer(
    words: Sequence[str] = NAMES + WORDS, *, byte_level: bool = False, bos: bool = True
) -> PreTrainedTokenizerFast:
    """A BPE tokenizer that takes any text; each of `words` is one token, after a space and at the start of a text.

    Pieces look like Llama 2's (`▁John`, unknown letters as bytes) or, with `byte_level`, like those of GPT-2 and of
    Llama 3 (`ĠJohn`). With `bos` every text begins with the token of that name.
    """
    space = "Ġ" if byte_level else "▁"
    letters = sorted(pre_tokenizers.ByteLevel.alphabet()) if byte_level else [space, *map(chr, range(33, 127))]
    first, last = ("<|begin_of_text|>", "<|end_of_text|>") if byte_level else ("<s>", "</s>")
    special = [first, last] if byte_level else ["<unk>", first, last, *(f"<0x{byte:02X}>" for byte in range(256))]
    # Pieces that begin with a space come first: what merges first wins.
    pieces = dict.fromkeys(
        (word[:end], word[end])
        for word in [space + word for word in words] + list(words)
        for end in range(1, len(word))
    )
    vocabulary = {token: id_ for id_, token in enumerate(dict.fromkeys([*special, *letters, *map("".join, pieces)]))}
    fallback: dict[str, Any] = {} if byte_level else {"unk_token": "<unk>", "byte_fallback": True}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=list(pieces), **fallback))
    if byte_level:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
    if bos:
        tokenizer.post_processor = TemplateProcessing(
            single=f"{first} $A", pair=f"{first} $A {first} $B", special_tokens=[(first, vocabulary[first])]
        )
    names = {"bos_token": first, "eos_token": last} | ({} if byte_level else {"unk_token": "<unk>"})
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **names)


def small_llama(vocabulary_size: int, *, seed: int = 0, **config: Any) -> LlamaForCausalLM:
    """Two layers of four heads that share two keys, with weights large enough for attention that is far from even."""
    shape: dict[str, Any] = {
        "vocab_size": vocabulary_size,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(LlamaConfig(**shape | config))
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


def write_hub_folder(
    folder: Path,
    model: PreTrainedModel | None = None,
    *,
    tokenizer: PreTrainedTokenizerFast | None = None,
    tokenized: bool = True,
    dtype: torch.dtype = torch.float32,
    max_shard_size: str = "50KB",
) -> Path:
    """Write config, generation config, sharded safetensors with their index, and tokenizer files; returns `folder`.

    Without `model` it is a small Llama for the tokenizer's vocabulary; `tokenized=False` leaves the tokenizer out.
    """
    tokenizer = tokenizer or small_tokenizer()
    model = model or small_llama(
        len(tokenizer), bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id
    )
    with without_progress_bars():
        model.to(dtype).save_pretrained(folder, max_shard_size=max_shard_size)
    if tokenized:
        tokenizer.save_pretrained(folder)
        (folder / "special_tokens_map.json").write_text(json.dumps(tokenizer.special_tokens_map))
    return folder


def write_hub_cache(
    cache: Path, name: str, model: PreTrainedModel | None = None, *, commit: str = COMMIT, **options: Any
) -> Path:
    """Write `name` (`org/model`) into a cache as if downloaded from branch main; returns the snapshot's folder."""
    home = cache / f"models--{name.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(commit)
    return write_hub_folder(home / "snapshots" / commit, model, **options)


def use_cache(monkeypatch: pytest.MonkeyPatch, cache: Path, *, offline: bool = True) -> None:
    """Let the Hub's client look in `cache` alone; without `offline` it tries an address where nothing answers."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
