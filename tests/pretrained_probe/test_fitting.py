from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import refusal, shards
from hub_layout import small_llama, small_tokenizer, write_hub_folder
from safetensors.torch import load_file, save_file
from small_models import FAMILIES, small_model
from transformers import (
    PreTrainedModel,
)

from anchorlab.errors import InputError
from anchorlab.pretrained_probe import fitting, loading, locating
from anchorlab.pretrained_probe.fitting import Precision, WeightCount, check_fits, out_of_memory
from anchorlab.pretrained_probe.loading import Pretrained, load_pretrained


def needs(model: PreTrainedModel, itemsize: float) -> int:
    return round(sum(parameter.numel() for parameter in model.parameters()) * itemsize)


def with_room(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    monkeypatch.setattr(fitting, "available_memory", lambda device: room)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_counted_to_the_byte(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model(family)
    folder = write_hub_folder(tmp_path / "m", model, tokenized=False)
    for dtype, itemsize in (("float32", 4), ("bfloat16", 2)):
        with_room(monkeypatch, needs(model, itemsize))
        load_pretrained(str(folder), dtype=dtype)
        with_room(monkeypatch, needs(model, itemsize) - 1)
        assert f"in {dtype} and cpu has" in refusal(folder, dtype=dtype)


def test_what_does_not_fit_is_refused_with_the_settings_that_do(
    original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_llama(len(small_tokenizer()))
    with_room(monkeypatch, needs(model, 2))
    message = refusal(original)
    assert f"the weights take {needs(model, 4) / 1e6:.1f} MB in float32 and cpu has" in message
    assert "; use --dtype bfloat16 (0.1 MB)" in message
    with_room(monkeypatch, 10)
    assert refusal(original).endswith("; use a smaller model or a larger device")


def test_quantized_matrices_take_their_bits() -> None:
    weights = WeightCount(matrices=6 * 10**9, others=10**9, stored_bytes=0)
    half = Precision(torch.bfloat16)
    assert weights.size(half) == 14 * 10**9
    assert weights.size(Precision(torch.bfloat16, bits=8)) == 8 * 10**9
    assert weights.size(Precision(torch.bfloat16, bits=4)) == 5 * 10**9


def test_linear_layers_are_what_bits_quantize(folder: Path) -> None:
    model = small_llama(len(small_tokenizer()))
    linear = [module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    inner = sum(module.weight.numel() for module in linear if module is not model.lm_head)
    files = sorted(path.name for path in shards(folder))
    buffer = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    save_file(load_file(folder / files[0]) | buffer, folder / files[0], {"format": "pt"})
    stored = loading.stored_tensors(locating.locate(str(folder)), files)
    counted = loading.count_weights(stored.values(), model.config.vocab_size, fixed=False)
    assert counted == WeightCount(inner, needs(model, 1) - inner, 0)
    assert loading.count_weights(stored.values(), 0, fixed=True) == WeightCount(0, 0, needs(model, 4))


def test_gpus_that_are_too_small_alone_may_fit_together(monkeypatch: pytest.MonkeyPatch) -> None:
    room = {"cuda": 10**10, "cpu": 10**10}
    monkeypatch.setattr(fitting, "available_memory", lambda device: room[device.type])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    weights, gpu = WeightCount(7 * 10**9, 0, 0), torch.device("cuda", 0)
    with pytest.raises(InputError) as caught:
        check_fits("org/x", weights, Precision(torch.float32), gpu)
    assert str(caught.value) == (
        "model=org/x: the weights take 28.0 GB in float32 and cuda:0 has 10.0 GB left; "
        "use --bits 8 (7.0 GB), --bits 4 (3.5 GB) or --device-map auto (28.0 GB)"
    )
    check_fits("org/x", weights, Precision(torch.float32, device_map="auto"), gpu)
    with pytest.raises(InputError, match=r"all devices together have 30\.0 GB left; use --dtype bfloat16"):
        check_fits("org/x", WeightCount(8 * 10**9, 0, 0), Precision(torch.float32, device_map="auto"), gpu)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_too_little_memory_while_loading_is_said_in_one_line(
    error: Exception, original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(loading.AutoModelForCausalLM, "from_pretrained", fail)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert refusal(original) == (
        f"model={original}: cpu ran out of memory while the weights were loaded; "
        "use --dtype bfloat16, --bits 8 or --bits 4"
    )


def test_too_little_memory_later_names_what_helps(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    found: Pretrained = load_pretrained(str(original), device="cpu", dtype="bfloat16")
    source = found.source | {"devices": ["cuda:0", "cuda:1"], "bits": 8}
    assert str(out_of_memory(source, "heads were scored", "fewer prompts")) == (
        f"model={original}: cuda:0 and cuda:1 ran out of memory while heads were scored; "
        "use fewer prompts, --bits 4 or --device-map auto"
    )
    fixed = source | {"bits": None, "quantization": "gptq", "device_map": "auto"}
    assert str(out_of_memory(fixed, "heads were scored")).endswith("use a smaller model or a larger device")
