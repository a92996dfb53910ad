import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from checkpoints import SHAPE, change_json, logits, refusal, saved, shards
from hub_layout import small_llama, small_tokenizer, write_hub_folder
from safetensors.torch import load_file, save_file
from small_models import FAMILIES, VOCABULARY, small_model
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    GptOssConfig,
    GptOssForCausalLM,
)
from transformers.utils import logging

from anchorlab.pretrained_probe import loading
from anchorlab.pretrained_probe.loading import Loading, load_pretrained

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_loads_and_computes_what_was_saved(family: str, tmp_path: Path) -> None:
    model = small_model(family)
    found = load_pretrained(str(write_hub_folder(tmp_path / "m", model, tokenized=False)))
    torch.testing.assert_close(logits(found.model), logits(model), rtol=0, atol=0)
    assert type(found.model) is type(model)
    assert found.model.config._attn_implementation == "eager"
    assert found.tokenizer is None


@pytest.mark.parametrize("tied", [False, True])
def test_gpt_neox_loads_with_a_head_of_its_own_and_with_a_tied_one(tied: bool, tmp_path: Path) -> None:
    model = GPTNeoXForCausalLM(GPTNeoXConfig(**SHAPE, tie_word_embeddings=tied)).eval()
    found = load_pretrained(str(saved(model, tmp_path / "m")))
    torch.testing.assert_close(logits(found.model), logits(model))
    assert (found.model.get_output_embeddings().weight is found.model.get_input_embeddings().weight) == tied
    assert found.source["parameters"] == sum(parameter.numel() for parameter in model.parameters())


def test_gpt_oss_loads(tmp_path: Path) -> None:
    model = GptOssForCausalLM(
        GptOssConfig(
            **SHAPE | {"num_key_value_heads": 1, "head_dim": 16, "num_local_experts": 2, "num_experts_per_tok": 1}
        )
    ).eval()
    found = load_pretrained(str(saved(model, tmp_path / "m")))
    torch.testing.assert_close(logits(found.model), logits(model))


def test_the_layout_of_the_first_gpt2_on_the_hub_loads(tmp_path: Path) -> None:
    """Weights of the trunk without a prefix, and masks as if they were weights."""
    trunk = GPT2Model(GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=VOCABULARY, bos_token_id=0, eos_token_id=0))
    folder = saved(trunk, tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    masks = {f"h.{layer}.attn.{name}": torch.ones(1, 1, 8, 8) for layer in (0, 1) for name in ("bias", "masked_bias")}
    save_file(weights | masks, folder / "model.safetensors", {"format": "pt"})
    change_json(folder / "config.json", architectures=["GPT2LMHeadModel"], dtype=None)
    model = GPT2LMHeadModel(trunk.config).eval()
    model.transformer.load_state_dict(trunk.state_dict())
    torch.testing.assert_close(logits(load_pretrained(str(folder)).model), logits(model))


def test_old_rotary_buffers_are_no_reason_to_refuse(folder: Path) -> None:
    shard = shards(folder)[0]
    extra = {f"model.layers.{layer}.self_attn.rotary_emb.inv_freq": torch.ones(4) for layer in (0, 1)}
    save_file(load_file(shard) | extra, shard, {"format": "pt"})
    load_pretrained(str(folder))


def test_the_model_folder_of_a_run_is_named_when_the_run_is_given(tmp_path: Path) -> None:
    model = small_model("post_ln")
    saved(model, tmp_path / "run" / "model")
    (tmp_path / "run" / "config.json").write_text('{"schema_version": 1, "model": "post_ln"}')
    assert refusal(tmp_path / "run").endswith(f"did you mean {tmp_path / 'run' / 'model'}?")
    assert load_pretrained(str(tmp_path / "run" / "model")).source["class"] == type(model).__name__


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_auto_is_the_type_of_the_checkpoint_and_a_name_is_that_type(dtype: torch.dtype, tmp_path: Path) -> None:
    folder = str(write_hub_folder(tmp_path / "m", dtype=dtype))
    own, single = load_pretrained(folder), load_pretrained(folder, dtype="float32")
    assert {parameter.dtype for parameter in own.model.parameters()} == {dtype}
    assert f"torch.{own.source['dtype']}" == str(dtype)
    assert {parameter.dtype for parameter in single.model.parameters()} == {torch.float32}
    change_json(Path(folder) / "config.json", dtype=None)
    assert load_pretrained(folder).model.dtype == dtype


def test_a_model_is_ready_for_inference(tmp_path: Path) -> None:
    config = GPT2Config(
        **{"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0},
        **{"attn_pdrop": 0.9, "resid_pdrop": 0.9, "embd_pdrop": 0.9},
    )
    model = load_pretrained(str(saved(GPT2LMHeadModel(config), tmp_path / "m"))).model
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(logits(model), logits(model))


def test_loading_prints_nothing_and_leaves_settings_and_random_numbers_alone(
    original: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    verbosity, state = logging.get_verbosity(), torch.random.get_rng_state()
    load_pretrained(str(original))
    assert capfd.readouterr() == ("", "")
    assert logging.get_verbosity() == verbosity
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_source_is_json_and_says_what_was_loaded(original: Path) -> None:
    found = load_pretrained(str(original))
    source = json.loads(json.dumps(found.source))
    expected = {
        "name": str(original),
        "kind": "folder",
        "revision": None,
        "commit": None,
        "model_type": "llama",
        "class": "LlamaForCausalLM",
        "parameters": sum(parameter.numel() for parameter in small_llama(len(small_tokenizer())).parameters()),
        "dtype": "float32",
        "bits": None,
        "quantization": None,
        "device_map": None,
        "devices": ["cuda:0" if torch.cuda.is_available() else "cpu"],
        "tokenizer": type(found.tokenizer).__name__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    assert source == expected


def test_a_device_map_shares_the_model_among_the_devices(original: Path) -> None:
    found = load_pretrained(str(original), device_map="auto")
    assert found.source["device_map"] == "auto"
    assert set(found.source["devices"]) <= {"cpu", *(f"cuda:{n}" for n in range(torch.cuda.device_count()))}
    torch.testing.assert_close(logits(found.model).cpu(), logits(load_pretrained(str(original), device="cpu").model))


@pytest.mark.parametrize("byte_level", [False, True])
@pytest.mark.parametrize("bos", [False, True])
def test_the_tokenizer_of_the_folder_is_loaded(byte_level: bool, bos: bool, tmp_path: Path) -> None:
    made = small_tokenizer(byte_level=byte_level, bos=bos)
    tokenizer = load_pretrained(str(write_hub_folder(tmp_path / "m", tokenizer=made))).tokenizer
    assert tokenizer is not None
    text = "My name is John. Zoë's dog was called Mary"
    ids = tokenizer(text)["input_ids"]
    assert ids == made(text)["input_ids"]
    assert (ids[0] == tokenizer.bos_token_id) == bos
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert tokenizer.decode([ids[3 + bos]]).strip() == "John"


def test_another_tokenizer_can_be_given(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "words").mkdir()
    for name in _TOKENIZER_FILES:
        (folder / name).rename(tmp_path / "words" / name)
    assert load_pretrained(str(folder)).tokenizer is None
    assert load_pretrained(str(folder), tokenizer=str(tmp_path / "words")).tokenizer is not None
    assert refusal(folder, tokenizer=str(folder)).startswith(f"tokenizer={folder}: holds no tokenizer")


def test_broken_tokenizers_are_refused(folder: Path) -> None:
    whole = (folder / "tokenizer.json").read_text()
    for broken in (whole[:500], "", "{}", "[]"):
        (folder / "tokenizer.json").write_text(broken)
        assert refusal(folder).startswith(f"tokenizer={folder}: cannot be read (")
    (folder / "tokenizer.json").unlink()
    assert "without a vocabulary" in refusal(folder)
    (folder / "tokenizer.json").write_text(whole)
    (folder / "tokenizer_config.json").write_text("{")
    assert refusal(folder).startswith(f"tokenizer={folder}: cannot be read (")


def test_a_tokenizer_of_a_larger_vocabulary_is_refused(original: Path, tmp_path: Path) -> None:
    words = len(small_tokenizer())
    small = write_hub_folder(tmp_path / "m", small_llama(words - 1), tokenized=False)
    assert f"has {words} tokens and the model {words - 1}; give" in refusal(small, tokenizer=str(original))
    padded = write_hub_folder(tmp_path / "padded", small_llama(words + 1), tokenized=False)
    assert load_pretrained(str(padded), tokenizer=str(original)).tokenizer is not None


def test_the_options_that_are_handed_on_are_those_of_the_function() -> None:
    assert Loading.__annotations__.keys() == load_pretrained.__kwdefaults__.keys()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"dtype": "float8"}, "dtype: unknown value 'float8'; did you mean 'float32'?"),
        ({"device": "tpu"}, "device=tpu: must be cpu, cuda, cuda:N or mps"),
        ({"device": "cuda:x"}, "device=cuda:x: must be cpu, cuda, cuda:N or mps"),
        ({"device_map": "balanced"}, "device_map: unknown value 'balanced'; known: auto"),
        ({"device": "cpu", "device_map": "auto"}, "device=cpu: leave it out with device_map=auto"),
        ({"bits": 3}, "bits=3: must be 8 or 4, or left out"),
    ],
)
def test_unknown_settings_are_refused(settings: dict[str, Any], said: str, original: Path) -> None:
    assert refusal(original, **settings).startswith(said)


def test_a_gpu_that_is_not_there_is_refused(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert refusal(original, device="cuda") == "device=cuda: torch sees 0 CUDA devices on this machine; use cpu"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert refusal(original, device="cuda:2").endswith("use cuda:0 to cuda:1")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert refusal(original, device="mps").endswith("use cpu")


def test_packages_that_are_not_there_are_named(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    assert refusal(original, device_map="auto") == "device_map=auto: needs accelerate; run `pip install accelerate`"
    both = "bits=4: needs bitsandbytes and accelerate; run `pip install bitsandbytes accelerate`"
    assert refusal(original, bits=4) == both


@pytest.mark.parametrize("bits", [8, 4])
def test_bits_ask_bitsandbytes_to_quantize(bits: int, original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def record(folder: Path, **options: Any) -> Any:
        asked.update(options)
        return small_model("llama"), {"missing_keys": [], "mismatched_keys": [], "unexpected_keys": []}

    monkeypatch.setattr(loading, "find_spec", lambda name: name)
    monkeypatch.setattr(loading.AutoModelForCausalLM, "from_pretrained", record)
    source = load_pretrained(str(original), bits=bits, device="cpu", dtype="bfloat16").source
    quantized = asked["quantization_config"]
    assert (quantized.load_in_8bit, quantized.load_in_4bit) == (bits == 8, bits == 4)
    assert quantized.bnb_4bit_compute_dtype == asked["dtype"] == torch.bfloat16
    assert asked["device_map"] == {"": torch.device("cpu")}
    assert asked["use_safetensors"] is True
    assert (source["bits"], source["quantization"]) == (bits, None)
