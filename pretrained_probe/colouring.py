"""How well models predict every token of a text: next-token probabilities, in the bins of fig. 13.15."""

import math
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from anchorlab.analysis.predictions import entry_device
from anchorlab.engine.memory import is_out_of_memory
from anchorlab.errors import InputError
from anchorlab.models.quiet import quietly

from .fitting import out_of_memory
from .loading import Pretrained
from .prompts import context_length

EDGES = (0.01, 0.1, 0.5)
BIN_NAMES = ("p < 0.01", "0.01 ≤ p < 0.1", "0.1 ≤ p < 0.5", "0.5 ≤ p")
SHARES = ("share_below_0.01", "share_0.01_to_0.1", "share_0.1_to_0.5", "share_from_0.5")

_BLOCK = 512
_LEAK = 1e-3


@dataclass(frozen=True)
class Piece:
    """A stretch of the text and the tokens that it belongs to (positions from 0 among those of the text).

    It holds one token, several that share a character (the bytes of an emoji), or none (spaces that a tokenizer drops).
    `probability` is the product of its tokens' probabilities, NaN if one of them was not predicted or there is none.
    """

    text: str
    tokens: range
    probability: float

    @property
    def bin(self) -> int | None:
        """The index into `BIN_NAMES`; None without a probability."""
        return bin_of(self.probability)


@dataclass(frozen=True)
class ModelColours:
    """What one model makes of a text.

    `tokens` are the ids of the text's own tokens and `offsets` their first character and the one behind their last.
    `log_probabilities` are natural logarithms, NaN for a first token that no token precedes. `pieces` joined are the
    text. `characters` counts those that were predicted, None where tokens are given as ids.
    """

    name: str
    source: Mapping[str, Any]
    tokens: Int[np.ndarray, " length"]
    offsets: Int[np.ndarray, "length 2"]
    log_probabilities: Float[np.ndarray, " length"]
    pieces: tuple[Piece, ...]
    characters: int | None

    @property
    def predicted(self) -> Float[np.ndarray, " predicted"]:
        """The log-probabilities that there are."""
        values: Float[np.ndarray, " predicted"] = self.log_probabilities[~np.isnan(self.log_probabilities)]
        return values

    def summary(self) -> dict[str, Any]:
        """Tokens, those predicted, the share of these in each bin, and means over them.

        `mean_log_probability` is in nats per token and `perplexity` its exp(-x). `bits_per_character` can be compared
        between tokenizers; None where tokens are given as ids.
        """
        values = self.predicted
        counts = np.bincount(
            [bisect_right(EDGES, value) for value in np.exp(values).tolist()], minlength=len(EDGES) + 1
        )
        bits = -float(values.sum()) / np.log(2)
        with np.errstate(over="ignore"):
            perplexity = float(np.exp(-values.mean()))
        return {
            "model": self.name,
            "tokens": len(self.tokens),
            "predicted": len(values),
            **dict(zip(SHARES, (counts / len(values)).tolist(), strict=True)),
            "mean_log_probability": float(values.mean()),
            "perplexity": perplexity,
            "characters": self.characters,
            "bits_per_character": bits / self.characters if self.characters else None,
        }


@dataclass(frozen=True)
class ColouredText:
    """A text and what each model makes of it."""

    text: str
    models: tuple[ModelColours, ...]

    def summary(self) -> pd.DataFrame:
        """One row a model; columns as in `ModelColours.summary`."""
        return pd.DataFrame([model.summary() for model in self.models])

    def table(self) -> pd.DataFrame:
        """One row a token: model, position (from 1), id, text, start, end (characters, from 0), probability, bin.

        `bin` is one of `BIN_NAMES`; it and the probability are empty for a token that was not predicted.
        """
        return pd.concat([self._tokens(model) for model in self.models], ignore_index=True)

    def _tokens(self, model: ModelColours) -> pd.DataFrame:
        start, end = model.offsets.T
        probabilities = np.exp(model.log_probabilities)
        bins = map(bin_of, probabilities.tolist())
        return pd.DataFrame(
            {
                "model": model.name,
                "position": np.arange(len(model.tokens)) + 1,
                "id": model.tokens,
                "text": [self.text[first:last] for first, last in model.offsets.tolist()],
                "start": start,
                "end": end,
                "probability": probabilities,
                "bin": [None if found is None else BIN_NAMES[found] for found in bins],
            }
        )


def bin_of(probability: float) -> int | None:
    """The index into `BIN_NAMES`; None for NaN."""
    return None if math.isnan(probability) else bisect_right(EDGES, probability)


def token_probabilities(
    model: PreTrainedModel, tokens: Int[np.ndarray, " length"], *, block: int = _BLOCK
) -> Float[np.ndarray, " length"]:
    """The probability of every token after the tokens before it; NaN for the first.

    Errors as in `token_log_probabilities`.
    """
    probabilities: Float[np.ndarray, " length"] = np.exp(token_log_probabilities(model, tokens, block=block))
    return probabilities


@torch.inference_mode()
def token_log_probabilities(
    model: PreTrainedModel, tokens: Int[np.ndarray, " length"], *, block: int = _BLOCK
) -> Float[np.ndarray, " length"]:
    """ln p(token | tokens before it), NaN for the first, from a softmax in float32 or wider.

    The tokens pass through the model `block` at a time, each block with the keys and values of those before it, so that
    no more than [block, vocabulary] logits and [heads, block, length] attention weights exist at once. A model that
    keeps no keys and values sees all tokens at once.

    Raises:
        InputError: ids outside the vocabulary, more tokens than the model's context holds, a model that reads later
            tokens, logits that are not numbers.
    """
    _check_tokens(model, tokens)
    row = torch.as_tensor(tokens, dtype=torch.long, device=entry_device(model))[None]
    found = [torch.full((1,), float("nan"), dtype=torch.float64)]
    done = 1
    for logits in _logits(model, row[:, :-1], block):
        wide = logits[0].to(torch.promote_types(logits.dtype, torch.float32))
        following = row[0, done : done + len(wide), None].to(wide.device)
        values = wide.gather(-1, following)[:, 0] - wide.logsumexp(-1)
        if values.isnan().any():
            raise InputError(
                f"dtype={str(model.dtype).removeprefix('torch.')}: the model's logits are not numbers; try float32"
            )
        found.append(values.double().cpu())
        done += len(wide)
    return torch.cat(found).numpy()


def _logits(
    model: PreTrainedModel, row: Int[Tensor, "1 length"], block: int
) -> Iterator[Float[Tensor, "1 part vocabulary"]]:
    cache: dict[str, Any] = {}
    for start in range(0, row.shape[1], block):
        output = model(row[:, start : start + block], use_cache=True, **cache)
        cache = {"past_key_values": getattr(output, "past_key_values", None)}
        if cache["past_key_values"] is None:
            yield _logits_without_cache(model, row)
            return
        yield output.logits


def _logits_without_cache(model: PreTrainedModel, row: Int[Tensor, "1 length"]) -> Float[Tensor, "1 length vocabulary"]:
    logits: Tensor = model(row).logits
    first: Tensor = model(row[:, :1]).logits
    if (logits[:, :1] - first).abs().max() > _LEAK * first.abs().max():
        raise InputError(f"model={type(model).__name__}: reads later tokens too, so it does not predict the next one")
    return logits


def _check_tokens(model: PreTrainedModel, tokens: Int[np.ndarray, " length"]) -> None:
    vocabulary, context = cast(nn.Embedding, model.get_input_embeddings()).num_embeddings, context_length(model)
    if len(tokens) == 0:
        raise InputError("tokens: none given; give one or more ids")
    if outside := [int(token) for token in tokens if not 0 <= token < vocabulary]:
        raise InputError(f"tokens: {outside[0]} is no id of this model; its ids are 0 to {vocabulary - 1}")
    if context is not None and len(tokens) > context:
        raise InputError(f"tokens: {len(tokens):,} given, the model's context holds {context:,}; give fewer")


def colours(pretrained: Pretrained, text: str, *, block: int = _BLOCK) -> ModelColours:
    """What the model makes of `text`, as its own tokenizer cuts it.

    Special tokens that the tokenizer puts before a text (BOS) are given to the model and not coloured; those that it
    puts behind are left out. A model without tokenizer takes the ids of tokens as text: integers between spaces,
    commas or line breaks, in brackets or not.

    Raises:
        InputError: an empty text, a single token that nothing precedes, more tokens than the context holds, a tokenizer
            that does not tell where a token stands, no tokenizer and no ids, too little memory; others as in
            `token_log_probabilities`.
    """
    if not text:
        raise InputError("text: is empty; give at least two tokens")
    encoded = _by_ids(pretrained.name, text) if pretrained.tokenizer is None else _by_tokenizer(pretrained, text)
    if len(encoded.tokens) == 0 or len(encoded.before) + len(encoded.tokens) < 2:
        raise InputError(f"text: is {len(encoded.tokens)} of the 2 tokens that {pretrained.name!r} needs at least")
    _check_length(pretrained, encoded)
    all_tokens = np.concatenate([encoded.before, encoded.tokens])
    try:
        values = token_log_probabilities(pretrained.model, all_tokens, block=block)[len(encoded.before) :]
    except Exception as error:  # torch has no type of its own for this on a CPU
        if is_out_of_memory(error):
            raise out_of_memory(pretrained.source, "it read the text", "fewer characters (--length)") from None
        raise
    unpredicted = 0 if len(encoded.before) else int(encoded.offsets[0, 1])
    return ModelColours(
        name=pretrained.name,
        source=pretrained.source,
        tokens=encoded.tokens,
        offsets=encoded.offsets,
        log_probabilities=values,
        pieces=tuple(_pieces(text, encoded.offsets, values)),
        characters=None if pretrained.tokenizer is None else len(text) - unpredicted,
    )


@dataclass(frozen=True)
class _Encoded:
    before: Int[np.ndarray, " before"]
    tokens: Int[np.ndarray, " length"]
    offsets: Int[np.ndarray, "length 2"]


def _by_tokenizer(pretrained: Pretrained, text: str) -> _Encoded:
    tokenizer = pretrained.tokenizer
    assert tokenizer is not None
    if not tokenizer.is_fast:
        raise InputError(
            f"model={pretrained.name!r}: its tokenizer ({type(tokenizer).__name__}) does not tell where in the text a "
            "token stands; give one with a tokenizer.json"
        )
    with quietly():  # a text that is too long gets an error of our own
        encoding = tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True)
    own = np.flatnonzero(np.array(encoding["special_tokens_mask"]) == 0)
    first, end = (own[0], own[-1] + 1) if len(own) else (0, 0)
    ids = np.array(encoding["input_ids"], dtype=np.int64)
    offsets = np.array(encoding["offset_mapping"], dtype=np.int64).reshape(-1, 2)
    return _Encoded(ids[:first], ids[first:end], offsets[first:end])


def _by_ids(name: str, text: str) -> _Encoded:
    if other := re.search(r"[^\d\s,\[\]]\S*", text):
        raise InputError(
            f"text: model {name!r} has no tokenizer, so the text must be ids of tokens, such as 5 17 3, and "
            f"{other.group()[:40]!r} is none; or name a tokenizer (--tokenizer)"
        )
    found = list(re.finditer(r"\d+", text))
    # More digits than 64 bits hold are no token of any model.
    ids = np.array([int(match.group()) if len(match.group()) < 19 else 10**18 for match in found], dtype=np.int64)
    return _Encoded(ids[:0], ids, np.array([match.span() for match in found], dtype=np.int64).reshape(-1, 2))


def _check_length(pretrained: Pretrained, encoded: _Encoded) -> None:
    context, before, length = context_length(pretrained.model), len(encoded.before), len(encoded.tokens)
    if context is None or before + length <= context:
        return
    fitting = int(encoded.offsets[context - before - 1, 1])
    raise InputError(
        f"text: has {before + length:,} tokens of {pretrained.name!r}, whose context holds {context:,}; "
        f"take its first {fitting:,} characters (--length {fitting})"
    )


def _pieces(text: str, offsets: Int[np.ndarray, "length 2"], values: Float[np.ndarray, " length"]) -> Iterator[Piece]:
    shown = 0
    for tokens, start, end in _groups(offsets):
        if start > shown:
            yield Piece(text[shown:start], range(0), float("nan"))
        yield Piece(text[start:end], tokens, float(np.exp(values[tokens.start : tokens.stop].sum())))
        shown = end
    if shown < len(text):
        yield Piece(text[shown:], range(0), float("nan"))


def _groups(offsets: Int[np.ndarray, "length 2"]) -> list[tuple[range, int, int]]:
    """Tokens that share characters, with the characters; a token of no character goes with the next."""
    groups: list[tuple[range, int, int]] = []
    for token, (start, end) in enumerate(offsets.tolist()):
        tokens, first, last = groups[-1] if groups else (range(0), 0, -1)
        if start < last or first == last:
            groups[-1] = range(tokens.start, token + 1), first, max(last, end)
        else:
            groups.append((range(token, token + 1), start, end))
    return groups
