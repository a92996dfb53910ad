"""Tokenizers of three kinds, trained on the words of the name prompts, and a slow one that has no offsets."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizer, PreTrainedTokenizerFast

from anchorlab.pretrained_probe.name_sentences import LANGUAGES

KINDS = ("byte level", "metaspace", "words")


@cache
def trained_tokenizer(kind: str, language: str = "en", *, with_end: bool = False) -> PreTrainedTokenizerFast:
    """`byte level` as GPT-2 (no BOS), `metaspace` as Llama 2 (BOS; with `with_end` EOS too), `words` whole words."""
    special = ["<unk>", "<s>", "</s>"]
    if kind == "words":
        tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.train_from_iterator(_words(language), trainers.WordLevelTrainer(special_tokens=special))
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    options: dict[str, Any] = {"vocab_size": 4000, "special_tokens": special, "show_progress": False}
    if kind == "byte level":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        options["initial_alphabet"] = pre_tokenizers.ByteLevel.alphabet()
        names = {"bos_token": "</s>", "eos_token": "</s>"}
    else:
        punctuation = pre_tokenizers.Split(Regex(r"[.?。？]"), "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Metaspace(prepend_scheme="first"), punctuation]
        )
        tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
        names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer.train_from_iterator(_words(language), trainers.BpeTrainer(**options))
    if kind == "metaspace":
        tokens = [(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")]
        template = "<s> $A </s>" if with_end else "<s> $A"
        tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=tokens)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def _words(language: str) -> list[str]:
    """Every word with the space before it, or every character where there are no spaces."""
    words = LANGUAGES[language]
    text = words.space.join(
        [words.statement, words.question, *words.others, *words.openings, *words.fillers, words.stop, *words.names]
    )
    return list(text) if words.space == "" else [f" {word}" for word in text.split()] * 2


class SlowWords(PreTrainedTokenizer):
    """Words and punctuation, in Python alone."""

    def __init__(self, words: Sequence[str], **options: Any) -> None:
        self._ids = {word: id_ for id_, word in enumerate(dict.fromkeys(["<unk>", *words]))}
        super().__init__(unk_token="<unk>", **options)

    @property
    def vocab_size(self) -> int:
        return len(self._ids)

    def get_vocab(self) -> dict[str, int]:
        return dict(self._ids)

    def _tokenize(self, text: str, **_: Any) -> list[str]:
        return text.replace(".", " .").replace("?", " ?").split()

    def _convert_token_to_id(self, token: str) -> int:
        return self._ids.get(token, 0)

    def _convert_id_to_token(self, index: int) -> str:
        return list(self._ids)[index]
