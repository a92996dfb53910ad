import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from checkpoints import SHAPE, change_json, logits, pickled, refusal, saved, shards
from hub_layout import small_tokenizer, write_hub_folder
from small_models import VOCABULARY
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertLMHeadModel,
    Gemma3Config,
    LlamaConfig,
    LlamaForSequenceClassification,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTModel,
)

from anchorlab import models
from anchorlab.pretrained_probe import loading
from anchorlab.pretrained_probe.loading import load_pretrained

_INDEX = "model.safetensors.index.json"


def test_a_shard_that_is_cut_off_is_refused(folder: Path) -> None:
    shard = shards(folder)[1]
    content = shard.read_bytes()
    for length in (len(content) - 1, len(content) // 2, 20, 0):
        shard.write_bytes(content[:length])
        assert f"{shard.name} is broken, perhaps cut off" in refusal(folder)


def test_a_missing_shard_is_named(folder: Path) -> None:
    shards(folder)[2].unlink()
    assert "model-00003-of-00004.safetensors is missing" in refusal(folder)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": {}}', '{"weight_map": 3, "metadata": {}}'])
def test_a_broken_index_is_refused(content: str, folder: Path) -> None:
    (folder / _INDEX).write_text(content)
    assert f"{_INDEX} is no index of weights" in refusal(folder)


def test_a_folder_without_weights_is_refused(folder: Path) -> None:
    for path in folder.glob("model*"):
        path.unlink()
    assert "holds no weights (model.safetensors is missing)" in refusal(folder)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"num_hidden_layers": 3}, "model.layers.2.input_layernorm.weight is missing"),
        ({"num_hidden_layers": 1}, "model.layers.1.input_layernorm.weight has no place in the model"),
        ({"hidden_size": 64}, "lm_head.weight has shape [783, 32] instead of [783, 64]"),
    ],
)
def test_weights_that_do_not_fit_the_config_are_refused(values: dict[str, int], said: str, folder: Path) -> None:
    change_json(folder / "config.json", **values)
    assert f"the weights do not fit config.json ({said})" in refusal(folder)


@pytest.mark.parametrize(
    "values",
    [
        {"hidden_size": "wide"},
        {"num_attention_heads": 0},
        {"num_attention_heads": 3},
        {"hidden_act": "absent"},
        {"dtype": "float99"},
        {"rope_parameters": {"rope_type": "absent", "rope_theta": 1.0}},
        {"quantization_config": ["absent"]},
    ],
)
def test_impossible_configs_are_refused_in_one_line(values: dict[str, Any], folder: Path) -> None:
    change_json(folder / "config.json", **values)
    assert refusal(folder).startswith(f"model={folder}: ")


def test_a_missing_or_broken_config_is_refused(folder: Path) -> None:
    config = folder / "config.json"
    change_json(config, model_type="absent")
    assert "model_type absent is not known to transformers" in refusal(folder)
    for content, said in (("{", "is no JSON"), ("[]", "names no model_type"), ("{}", "names no model_type")):
        config.write_text(content)
        assert f"config.json {said}" in refusal(folder)
    config.unlink()
    assert "config.json is missing" in refusal(folder)


def test_an_adapter_is_refused(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    assert "is an adapter for another model" in refusal(folder)


def test_a_checkpoint_that_is_quantized_needs_what_it_needs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change_json(folder / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    assert "cannot be loaded (ImportError: " in refusal(folder)
    monkeypatch.setattr(loading, "find_spec", lambda name: name)
    assert refusal(folder, bits=8) == f"bits=8: {folder} is quantized already; leave bits out"


def other_models() -> dict[str, tuple[Callable[[], PreTrainedModel], str]]:
    t5 = {"d_model": 32, "d_ff": 32, "d_kv": 16, "num_layers": 1, "num_heads": 2, "vocab_size": VOCABULARY}
    image = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return {
        "bert": (lambda: BertForMaskedLM(BertConfig(**SHAPE)), "is an encoder that sees later tokens too"),
        "t5": (lambda: T5ForConditionalGeneration(T5Config(**t5)), "is an encoder-decoder"),
        "vit": (lambda: ViTModel(ViTConfig(**image, image_size=32)), "is no causal language model"),
        "classifier": (
            lambda: LlamaForSequenceClassification(LlamaConfig(**SHAPE)),
            "lm_head.weight is missing, score.weight has no place in the model",
        ),
    }


@pytest.mark.parametrize("kind", ["bert", "t5", "vit", "classifier"])
def test_models_of_other_kinds_are_refused(kind: str, tmp_path: Path) -> None:
    make, said = other_models()[kind]
    assert said in refusal(saved(make(), tmp_path / "m"))


def test_models_of_text_and_images_are_refused(tmp_path: Path) -> None:
    Gemma3Config().save_pretrained(tmp_path / "m")
    assert "model_type gemma3 takes more than text" in refusal(tmp_path / "m")


def test_bert_as_a_decoder_is_a_causal_language_model(tmp_path: Path) -> None:
    model = BertLMHeadModel(BertConfig(**SHAPE, is_decoder=True))
    assert load_pretrained(str(saved(model, tmp_path / "m"))).source["class"] == "BertLMHeadModel"


def test_pickled_weights_are_read_only_when_allowed(folder: Path, original: Path) -> None:
    pickled(folder)
    assert "--allow-pickle" in refusal(folder)
    found = load_pretrained(str(folder), allow_pickle=True)
    assert torch.equal(logits(found.model), logits(load_pretrained(str(original)).model))


def test_no_file_smuggles_pickle_past_the_rule(folder: Path) -> None:
    pickled(folder)
    change_json(folder / "config.json", transformers_weights="pytorch_model.bin")
    assert "--allow-pickle" in refusal(folder)
    change_json(folder / "config.json", transformers_weights=None)
    index = {"metadata": {}, "weight_map": {"lm_head.weight": "pytorch_model.bin"}}
    (folder / _INDEX).write_text(json.dumps(index))
    assert "--allow-pickle" in refusal(folder)


class WritesMarker:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def test_a_program_in_a_pickle_does_not_run(folder: Path, tmp_path: Path) -> None:
    pickled(folder, {"model.norm.weight": WritesMarker(tmp_path / "marker")})
    assert "nothing of it was run" in refusal(folder, allow_pickle=True)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("state", [[1], {"lm_head.weight": "text"}])
def test_a_pickle_of_something_else_is_refused(state: object, folder: Path) -> None:
    assert "pytorch_model.bin is broken" in refusal(pickled(folder, state), allow_pickle=True)


def test_a_pickle_that_is_cut_off_is_refused(folder: Path) -> None:
    path = pickled(folder) / "pytorch_model.bin"
    content = path.read_bytes()
    for length in (len(content) // 2, 0):
        path.write_bytes(content[:length])
        assert "pytorch_model.bin" in refusal(folder, allow_pickle=True)


def add_code(folder: Path, marker: Path, model_type: str) -> None:
    code = f"""
from pathlib import Path

from transformers import LlamaConfig, LlamaForCausalLM

Path({str(marker)!r}).touch()


class OwnConfig(LlamaConfig):
    model_type = {model_type!r}


class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""
    (folder / "own.py").write_text(code)
    own = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
    change_json(folder / "config.json", model_type=model_type, auto_map=own)


def test_code_of_the_model_runs_only_when_it_is_trusted(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    marker = tmp_path / "marker"
    add_code(folder, marker, "own_llama")
    assert "--trust-remote-code" in refusal(folder)
    assert not marker.exists()
    assert load_pretrained(str(folder), trust_remote_code=True).source["class"] == "OwnForCausalLM"
    assert marker.exists()


def test_code_of_a_known_architecture_is_left_alone(folder: Path, tmp_path: Path) -> None:
    add_code(folder, tmp_path / "marker", "llama")
    assert type(load_pretrained(str(folder)).model) is transformers.LlamaForCausalLM
    assert not (tmp_path / "marker").exists()


def test_code_of_a_tokenizer_runs_only_when_it_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    folder, marker = tmp_path / "m", tmp_path / "marker"
    write_hub_folder(folder, models.build("post_ln", len(small_tokenizer()), 9))
    code = "from transformers import PreTrainedTokenizerFast\n\n\nclass Words(PreTrainedTokenizerFast):\n    pass\n"
    (folder / "words.py").write_text(f"open({str(marker)!r}, 'w').close()\n{code}")
    change_json(
        folder / "tokenizer_config.json", tokenizer_class="Words", auto_map={"AutoTokenizer": [None, "words.Words"]}
    )
    assert refusal(folder).endswith("; if you trust its code, --trust-remote-code runs it")
    assert not marker.exists()
    assert load_pretrained(str(folder), trust_remote_code=True).source["tokenizer"] == "Words"
    assert marker.exists()
