import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hub_layout import small_llama, small_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import FAMILIES, LENGTH, VOCABULARY, random_rows, small_model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import ByteLevel, TemplateProcessing
from transformers import CohereConfig, CohereForCausalLM, PreTrainedTokenizerFast

from anchorlab.errors import InputError
from anchorlab.pretrained_probe.colouring import (
    BIN_NAMES,
    SHARES,
    ColouredText,
    bin_of,
    colours,
    token_log_probabilities,
    token_probabilities,
)
from anchorlab.pretrained_probe.loading import Pretrained

CAUSAL = [family for family in FAMILIES if family != "simplified"]
LLAMA_LIKE, BYTES_ALONE = small_tokenizer(), small_tokenizer(byte_level=True, bos=False)
SOURCE = {"name": "small", "dtype": "float32", "bits": None, "device_map": None, "quantization": None}


def expected(model, tokens):
    """Full softmax in float64 of the whole row at once."""
    with torch.no_grad():
        shares = model(torch.as_tensor(tokens)[None]).logits[0].double().softmax(-1).numpy()
    return np.array([math.nan, *(shares[place, token] for place, token in enumerate(tokens[1:]))])


def pretrained(tokenizer=LLAMA_LIKE, model=None, **config):
    model = model or small_llama(len(tokenizer), **config)
    return Pretrained("small", model, tokenizer, SOURCE | {"devices": ["cpu"]})


def even(tokenizer, **config):
    """A model that gives every token the same probability."""
    model = small_llama(len(tokenizer), **config)
    with torch.no_grad():
        model.lm_head.weight.zero_()
    return pretrained(tokenizer, model)


@pytest.mark.parametrize("block", [1, 3, 512])
@pytest.mark.parametrize("family", CAUSAL)
def test_probabilities_are_those_of_the_full_softmax(family, block):
    model, tokens = small_model(family).double(), random_rows(1)[0].numpy()
    np.testing.assert_allclose(
        token_probabilities(model, tokens, block=block), expected(model, tokens), rtol=1e-6, atol=1e-12
    )


@pytest.mark.parametrize("family", CAUSAL)
def test_float32_in_one_block_is_the_full_softmax_too(family):
    model, tokens = small_model(family), random_rows(1)[0].numpy()
    np.testing.assert_allclose(token_probabilities(model, tokens), expected(model, tokens), atol=1e-6)


def test_scaled_logits_are_kept():
    shape = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    shape |= {"num_attention_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    tokens = random_rows(1)[0].numpy()
    found = []
    for scale in (0.1, 3.0):
        torch.manual_seed(0)
        model = CohereForCausalLM(CohereConfig(**shape, logit_scale=scale, initializer_range=0.5)).eval().double()
        found.append(token_probabilities(model, tokens, block=4))
        np.testing.assert_allclose(found[-1], expected(model, tokens), rtol=1e-6)
    assert np.nanmax(np.abs(found[0] - found[1])) > 0.01


def test_logits_are_made_a_block_at_a_time_and_tokens_read_once():
    model, tokens = small_model("llama"), random_rows(1)[0].numpy()
    heads, embeddings = [], []
    model.lm_head.register_forward_hook(lambda module, read, logits: heads.append(logits.shape[1]))
    model.model.embed_tokens.register_forward_hook(lambda module, read, rows: embeddings.append(rows.shape[1]))
    token_probabilities(model, tokens, block=3)
    assert heads == embeddings == [3, 3, 2]
    assert len(tokens) == LENGTH == 9


def test_softmax_of_a_half_precision_model_is_in_float32():
    model, tokens = small_model("llama").to(torch.bfloat16), random_rows(1)[0].numpy()
    np.testing.assert_allclose(token_probabilities(model, tokens), expected(model, tokens), atol=1e-6)


def test_tiny_probabilities_do_not_vanish():
    model = small_model("llama")
    with torch.no_grad():
        model.lm_head.weight *= 1000
    values = token_log_probabilities(model, random_rows(1)[0].numpy())[1:]
    assert values.min() < -800
    assert np.isfinite(values).all()


def test_model_that_reads_later_tokens_is_refused():
    with pytest.raises(InputError, match="reads later tokens"):
        token_probabilities(small_model("simplified"), random_rows(1)[0].numpy())


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([], "none given"),
        ([1, VOCABULARY], f"{VOCABULARY} is no id of this model; its ids are 0 to {VOCABULARY - 1}"),
        ([1, -1], "-1 is no id"),
        ([1] * 33, "33 given, the model's context holds 32"),
    ],
)
def test_wrong_tokens(tokens, message):
    with pytest.raises(InputError, match=message):
        token_probabilities(small_model("llama"), np.array(tokens, dtype=np.int64))


def test_logits_that_are_not_numbers():
    model = small_model("llama")
    with torch.no_grad():
        model.lm_head.weight[3] = math.nan
    with pytest.raises(InputError, match="dtype=float32: the model's logits are not numbers"):
        token_probabilities(model, random_rows(1)[0].numpy())


def test_bins_hold_their_lower_edge():
    for number, edge in enumerate((0.01, 0.1, 0.5)):
        assert bin_of(edge) == number + 1
        assert bin_of(math.nextafter(edge, 0)) == number
    assert (bin_of(0.0), bin_of(1.0), bin_of(math.nan)) == (0, 3, None)


TEXTS = st.text(st.sampled_from("aJohn \n\t.<>&é你שم🙂") | st.characters(codec="utf-8"), max_size=25)
EVEN = [even(LLAMA_LIKE, max_position_embeddings=512), even(BYTES_ALONE, max_position_embeddings=512)]


@settings(deadline=None, max_examples=60, derandomize=True)
@given(TEXTS, st.sampled_from(EVEN))
def test_pieces_are_the_whole_text_and_hold_every_token_once(rest, model):
    text = f"é{rest}"  # two bytes, hence at least two tokens
    found = colours(model, text)
    assert "".join(piece.text for piece in found.pieces) == text
    assert [token for piece in found.pieces for token in piece.tokens] == list(range(len(found.tokens)))
    each = 1 / len(model.tokenizer)
    for piece in found.pieces:
        if 0 in piece.tokens and model.tokenizer is BYTES_ALONE:
            assert piece.bin is None
        else:
            assert piece.probability == pytest.approx(each ** len(piece.tokens))


def test_even_model_in_closed_form():
    text, size = "My name is John.", len(BYTES_ALONE)
    found = colours(even(BYTES_ALONE), text).summary()
    assert (found["tokens"], found["predicted"], found["characters"]) == (5, 4, len(text) - len("My"))
    assert found["mean_log_probability"] == pytest.approx(-math.log(size))
    assert found["perplexity"] == pytest.approx(size)
    assert found["bits_per_character"] == pytest.approx(4 * math.log2(size) / 14)
    assert [found[share] for share in SHARES] == [1, 0, 0, 0]


def test_probabilities_follow_the_begin_token_where_the_tokenizer_puts_one():
    model = pretrained()
    found = colours(model, "My friend")
    first = LLAMA_LIKE.bos_token_id
    np.testing.assert_allclose(
        np.exp(found.log_probabilities), expected(model.model, [first, *found.tokens])[1:], atol=1e-6
    )
    assert [piece.text for piece in found.pieces] == ["My", " friend"]
    assert found.characters == len("My friend")
    alone = colours(pretrained(BYTES_ALONE), "My friend")
    assert np.isnan(alone.log_probabilities).tolist() == [True, False]
    assert [piece.bin is None for piece in alone.pieces] == [True, False]
    assert alone.characters == len(" friend")


def test_end_token_is_left_out():
    ending = small_tokenizer(bos=False)
    ending.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", ending.eos_token_id)]
    )
    assert ending("My friend")["input_ids"][-1] == ending.eos_token_id
    assert len(colours(pretrained(ending), "My friend").tokens) == 2


def test_character_of_several_tokens_has_their_product():
    model = pretrained(BYTES_ALONE)
    found = colours(model, "a🙂b")
    values = expected(model.model, found.tokens)
    assert [(piece.text, len(piece.tokens)) for piece in found.pieces] == [("a", 1), ("🙂", 4), ("b", 1)]
    assert found.pieces[1].probability == pytest.approx(values[1:5].prod(), rel=1e-4)


def test_what_a_tokenizer_drops_is_shown_without_probability():
    tokenizer = Tokenizer(WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    tokenizer.pre_tokenizer = Whitespace()
    found = colours(even(PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?")), " a\n\n b ")
    assert [(piece.text, list(piece.tokens)) for piece in found.pieces] == [
        *((" ", []), ("a", [0]), ("\n\n ", []), ("b", [1]), (" ", []))
    ]
    assert [piece.bin for piece in found.pieces] == [None, None, None, 2, None]


def test_token_of_no_character_goes_with_the_next():
    trimming = small_tokenizer(byte_level=True)
    trimming.backend_tokenizer.post_processor = ByteLevel(trim_offsets=True)
    model = pretrained(trimming)
    found = colours(model, "a  b c")
    assert [trimming.decode([token]) for token in found.tokens] == ["a", " ", " b", " c"]
    assert (found.offsets[:, 0] == found.offsets[:, 1]).tolist() == [False, True, False, False]
    assert [(piece.text, list(piece.tokens)) for piece in found.pieces] == [
        *(("a", [0]), (" ", []), (" b", [1, 2]), (" ", []), ("c", [3]))
    ]
    values = expected(model.model, found.tokens)
    assert found.pieces[2].probability == pytest.approx(values[1:3].prod(), rel=1e-4)


@pytest.mark.parametrize("text", ["5 17\n3", "[5, 17, 3]"])
def test_model_without_tokenizer_takes_ids(text):
    model = Pretrained("ids", small_model("gpt2"), None, SOURCE)
    found = colours(model, text)
    assert found.tokens.tolist() == [5, 17, 3]
    assert "".join(piece.text for piece in found.pieces) == text
    np.testing.assert_allclose(np.exp(found.log_probabilities), expected(model.model, [5, 17, 3]), atol=1e-6)
    assert (found.characters, found.summary()["bits_per_character"]) == (None, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5 17 John", "model 'ids' has no tokenizer, so the text must be ids of tokens, such as 5 17 3, and 'John'"),
        ("5 -1", "'-1' is none"),
        ("5 40", "40 is no id of this model; its ids are 0 to 39"),
        ("5 " + "9" * 5000, "is no id of this model"),
        ("5", "is 1 of the 2 tokens that 'ids' needs at least"),
        ("[]", "is 0 of the 2 tokens that 'ids' needs"),
        ("", "text: is empty"),
    ],
)
def test_wrong_ids(text, message):
    with pytest.raises(InputError, match=message):
        colours(Pretrained("ids", small_model("gpt2"), None, SOURCE), text)


def test_one_token_is_enough_only_after_a_begin_token():
    assert len(colours(pretrained(), "John").tokens) == 1
    with pytest.raises(InputError, match="is 1 of the 2 tokens that 'small' needs at least"):
        colours(pretrained(BYTES_ALONE), "John")


@pytest.mark.parametrize("tokenizer", [LLAMA_LIKE, BYTES_ALONE])
def test_text_longer_than_the_context_says_how_much_fits(tokenizer):
    model, text = pretrained(tokenizer, max_position_embeddings=8), "My name is John. " * 3
    with pytest.raises(InputError, match="whose context holds 8; take its first") as raised:
        colours(model, text)
    fitting = int(str(raised.value).split("--length ")[1].rstrip(")"))
    assert len(colours(model, text[:fitting]).tokens) == 8 - (tokenizer is LLAMA_LIKE)
    with pytest.raises(InputError, match="has 9 tokens"):
        colours(model, text[: fitting + 1])


def test_tokenizer_that_does_not_tell_places_is_refused():
    slow = Pretrained("slow", small_model("llama"), SimpleNamespace(is_fast=False), SOURCE)
    with pytest.raises(InputError, match=r"model='slow': its tokenizer \(SimpleNamespace\) does not tell where"):
        colours(slow, "My friend")


def test_too_little_memory_is_told_in_one_line():
    model = pretrained()

    def fail(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    model.model.register_forward_pre_hook(fail)
    with pytest.raises(InputError, match=r"ran out of memory while it read the text; use fewer characters"):
        colours(model, "My friend")


def test_tables_of_models_with_different_tokenizers():
    text = "My friend é."
    models = [colours(one, text) for one in (pretrained(), pretrained(BYTES_ALONE))]
    coloured = ColouredText(text, tuple(models))
    table, summary = coloured.table(), coloured.summary()
    assert list(table.columns) == ["model", "position", "id", "text", "start", "end", "probability", "bin"]
    assert summary["tokens"].sum() == len(table) == sum(len(model.tokens) for model in models)
    assert [text[start:end] for start, end in zip(table["start"], table["end"], strict=True)] == table["text"].tolist()
    second = table.iloc[len(models[0].tokens) :]
    assert second["position"].tolist() == list(range(1, len(second) + 1))
    assert (
        second["bin"].isna().tolist() == second["probability"].isna().tolist() == [True] + [False] * (len(second) - 1)
    )
    counts = second["bin"].value_counts()
    for name, share in zip(BIN_NAMES, SHARES, strict=True):
        assert summary[share][1] == pytest.approx(counts.get(name, 0) / (len(second) - 1))
