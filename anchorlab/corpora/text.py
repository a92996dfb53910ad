"""Text as rows of tokens: byte-level BPE trained on the text itself, windows of one length, documents kept apart.

from anchorlab.corpora import text

corpus = text.tokenize(text.documents("my/texts"), vocabulary_size=1024)
text.write("data", corpus, length=128)
"""

import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from anchorlab.errors import InputError
from anchorlab.tasks.randomness import Stream

from .rows import TokenRows
from .rows import write as write_rows

END = "<|endoftext|>"
"""The token behind every document."""

BYTES = 257
"""The smallest vocabulary: the 256 bytes and `END`."""

_LEFT_OUT = {"site-packages", "test", "tests", "idle_test", "lib2to3"}


@dataclass(frozen=True)
class TextCorpus:
    """A text in tokens: its training and its test documents, one behind the other, `END` behind each."""

    tokenizer: Tokenizer
    train: Int[np.ndarray, " train"]
    test: Int[np.ndarray, " test"]


def documents(source: Path | str | None = None) -> dict[str, str]:
    """The documents of a text file, or of all UTF-8 files below a folder, by their path; equal ones once.

    None stands for the source code of the Python standard library without its tests, 12 MB that every machine has; it
    differs a little from one version of Python to the next. Raises InputError for a path without any text, and for a
    file that cannot be read.
    """
    root = Path(sysconfig.get_path("stdlib") if source is None else source)
    if not root.exists():
        raise InputError(f"text={str(root)!r}: no such file or folder")
    files = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
    if source is None:
        files = [path for path in files if path.suffix == ".py" and not _LEFT_OUT & set(path.relative_to(root).parts)]
    names = {content: path for path in reversed(files) if (content := _content(path))}
    if not names:
        raise InputError(f"text={str(root)!r}: holds no text in UTF-8")
    return {path.relative_to(root.parent).as_posix(): content for content, path in reversed(names.items())}


def tokenize(
    texts: Mapping[str, str],
    *,
    vocabulary_size: int = 1024,
    test_share: float = 0.1,
    characters: int | None = None,
    seed: int = 0,
) -> TextCorpus:
    """Split documents into training and test, train a tokenizer on the former, and encode both with it.

    The documents come in an order drawn from `seed`; the first are the test documents, with at least `test_share` of
    all characters and less than twice as many: documents that are longer than this share are left to training, unless
    all are. Of a single document the end is the test document, from the beginning of a line. `characters` takes no more
    documents than needed for so many. A vocabulary of `BYTES` tokens has no merges: every byte is a token. `END` in a
    document is text like any other.

    Everything is in memory. Raises InputError for settings out of range, and for a text that is too short to be split.
    """
    if vocabulary_size < BYTES:
        raise InputError(
            f"vocabulary_size={vocabulary_size}: must be at least {BYTES}, all bytes and the end of a text"
        )
    if not 0 < test_share < 1:
        raise InputError(f"test_share={test_share}: must be between 0 and 1")
    if characters is not None and characters < 1:
        raise InputError(f"characters={characters}: must be at least 1, or None for all")
    train, test = _split(texts, test_share, characters, seed)
    tokenizer = _train_tokenizer(train, vocabulary_size)
    return TextCorpus(tokenizer, _encode(tokenizer, train), _encode(tokenizer, test))


def windows(tokens: Int[np.ndarray, " tokens"], length: int) -> Int[np.ndarray, "n length"]:
    """Consecutive windows of `length` tokens; what is left at the end is dropped."""
    return tokens[: len(tokens) // length * length].reshape(-1, length)


def write(
    folder: Path | str,
    corpus: TextCorpus,
    *,
    length: int,
    train_tokens: int | None = None,
    test_tokens: int | None = None,
) -> Path:
    """Write windows of `length` tokens, all but the first of which count, as splits train and test, and the tokenizer.

    `train_tokens` and `test_tokens` take so many tokens from the beginning of each, rounded down to whole windows.
    Returns the folder; `Experiment(data=…)` reads it, `AutoTokenizer.from_pretrained` its tokenizer. Raises InputError
    for a length below 2 and for more tokens than there are, or fewer than a window.
    """
    if length < 2:
        raise InputError(f"length={length}: must be at least 2, a token and the one that follows it")
    parts = {
        "train": _part("train_tokens", corpus.train, train_tokens, length),
        "test": _part("test_tokens", corpus.test, test_tokens, length),
    }
    rows = {split: TokenRows(windows(tokens, length)) for split, tokens in parts.items()}
    return write_rows(folder, rows, tokenizer=corpus.tokenizer.to_str())


def _content(path: Path) -> str:
    """The text of a file, empty if it is not UTF-8 or has no visible character."""
    try:
        content = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return ""
    except OSError as error:
        raise InputError(f"text={str(path)!r}: cannot be read ({error.strerror})") from None
    return content if content.strip() and "\0" not in content else ""


def _split(
    texts: Mapping[str, str], test_share: float, characters: int | None, seed: int
) -> tuple[list[str], list[str]]:
    order = np.argsort(Stream("text", "order", seed).units(len(texts)))
    contents = [list(texts.values())[place] for place in order]
    if characters is not None:
        contents = contents[: _needed(contents, characters)]
    if len(contents) == 1:
        text = contents[0][:characters]
        cut = text.find("\n", int(len(text) * (1 - test_share))) + 1
        train, test = [text[:cut]], [text[cut:]]
    else:
        wanted = test_share * sum(map(len, contents))
        longest = max(wanted, min(map(len, contents)))
        short = [place for place, content in enumerate(contents) if len(content) <= longest]
        tested = set(short[: _needed([contents[place] for place in short], wanted)])
        train, test = ([c for place, c in enumerate(contents) if (place in tested) == wish] for wish in (False, True))
        if sum(map(len, test)) < wanted:
            raise InputError(f"test_share={test_share}: the shorter documents have less; cut the longer ones")
    if not "".join(train).strip() or not "".join(test).strip():
        raise InputError(f"text: {len(contents)} documents cannot be split into training and test; give more text")
    return train, test


def _needed(contents: list[str], characters: float) -> int:
    """How many documents from the beginning have so many characters together."""
    return int(np.searchsorted(np.cumsum([len(content) for content in contents]), characters)) + 1


def _train_tokenizer(texts: list[str], vocabulary_size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.encode_special_tokens = True  # as text: no document may end another one
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _encode(tokenizer: Tokenizer, texts: list[str]) -> Int[np.ndarray, " tokens"]:
    end = [tokenizer.token_to_id(END)]
    encoded = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    return np.concatenate([np.array([*one.ids, *end], dtype=np.int64) for one in encoded])


def _part(name: str, tokens: Int[np.ndarray, " tokens"], count: int | None, length: int) -> Int[np.ndarray, " part"]:
    wanted = len(tokens) if count is None else count
    if not length <= wanted <= len(tokens):
        raise InputError(
            f"{name}={wanted:,}: must be {length:,} (a window) to the {len(tokens):,} tokens that there are"
        )
    return tokens[:wanted]
