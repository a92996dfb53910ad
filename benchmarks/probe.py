"""What probing a pretrained model costs: streamed head scores beside eager attention maps, and the size of a page.

    python benchmarks/probe.py [--rounds 3] [--device cpu] [--out benchmarks/results/probe.json]

Every measurement runs in a process of its own, the two sides of a comparison taking turns. The peer is what everybody
starts from: Hugging Face's eager attention with `output_attentions=True`, without anything computed from the maps.
Weights are random: time and memory do not depend on them. Memory is the peak above what the process had before.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import report
from transformers import LlamaConfig, LlamaForCausalLM

from anchorlab.pretrained_probe import PromptSet, prompt_from_ids, score_prompts

_SHAPES: dict[str, dict[str, Any]] = {
    # Few key and value heads and narrow layers leave most of the time to attention, which is what is compared.
    "8 layers, 32 heads": {"layers": 8, "heads": 32, "groups": 8, "width": 1024, "inner": 2816, "dtype": "float32"},
    "one layer, 4 heads": {"layers": 1, "heads": 4, "groups": 4, "width": 256, "inner": 512, "dtype": "float32"},
    # Llama 2 7B has 32 of these.
    "one layer of 7B": {"layers": 1, "heads": 32, "groups": 32, "width": 4096, "inner": 11008, "dtype": "bfloat16"},
    "32 layers, 32 heads": {"layers": 32, "heads": 32, "groups": 32, "width": 128, "inner": 256, "dtype": "float32"},
}
_SEVEN_BILLION = 6_738_415_616


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--case", nargs=3, metavar=("SHAPE", "TOKENS", "HOW"), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.case:
        shape, tokens, how = options.case
        print(json.dumps(_measured(shape, int(tokens), how, options.device)))
        return

    def turns(shape: str, tokens: int, *hows: str, rounds: int = options.rounds) -> dict[str, Any]:
        found = [{how: _in_a_process(shape, tokens, how, options.device) for how in hows} for _ in range(rounds)]
        return {
            how: {
                "seconds": statistics.median(one[how]["seconds"] for one in found),
                "peak_mib": max(one[how]["peak_mib"] for one in found),
                "all_seconds": [one[how]["seconds"] for one in found],
            }
            for how in hows
        }

    compared = turns("8 layers, 32 heads", 2048, "streamed", "eager", "no maps")
    one_layer = turns("one layer of 7B", 4096, "streamed", rounds=1)["streamed"]
    weights = _SEVEN_BILLION * 2 / 2**20
    report(
        {
            "scores, 8 layers x 32 heads x 2048 tokens": compared
            | {"time_ratio": compared["streamed"]["seconds"] / compared["eager"]["seconds"]},
            "scores, one layer x 4 heads": {
                f"{tokens} tokens": turns("one layer, 4 heads", tokens, "streamed", rounds=1)["streamed"]
                for tokens in (2048, 8192, 32768)
            },
            "7B in bfloat16, 4096 tokens": {
                "weights_mib": weights,
                "one_layer": one_layer,
                "sum_mib": weights + one_layer["peak_mib"],
            },
            "report, 32 layers x 32 heads x 128 tokens": _page_bytes(),
            "device": options.device,
        },
        options.out,
    )


def _in_a_process(shape: str, tokens: int, how: str, device: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--device", device, "--case", shape, str(tokens), how]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def _model(shape: str, tokens: int, device: str) -> LlamaForCausalLM:
    sizes = _SHAPES[shape]
    config = LlamaConfig(
        vocab_size=1000,
        hidden_size=sizes["width"],
        intermediate_size=sizes["inner"],
        num_hidden_layers=sizes["layers"],
        num_attention_heads=sizes["heads"],
        num_key_value_heads=sizes["groups"],
        max_position_embeddings=tokens,
        attn_implementation="eager",
    )
    return LlamaForCausalLM(config).to(getattr(torch, sizes["dtype"])).to(device).eval()


@torch.no_grad()
def _measured(shape: str, tokens: int, how: str, device: str) -> dict[str, float]:
    model = _model(shape, tokens, device)
    ids = torch.randint(1000, (1, tokens), generator=torch.Generator().manual_seed(0))
    prompts = PromptSet("random", "one prompt", (prompt_from_ids(ids[0].tolist()),))
    ways: dict[str, Callable[[], Any]] = {
        "streamed": lambda: score_prompts(model, prompts),
        "eager": lambda: model.model(ids.to(device), use_cache=False, output_attentions=True).attentions,
        "no maps": lambda: model.model(ids.to(device), use_cache=False).last_hidden_state,
    }
    small = PromptSet("random", "one prompt", (prompt_from_ids(ids[0, :16].tolist()),))
    score_prompts(model, small)  # loads what is loaded on first use
    before = _memory(device, reset=True)
    began = time.perf_counter()
    kept = ways[how]()
    if device != "cpu":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    peak = _memory(device, reset=False)
    assert how != "eager" or len(kept) == _SHAPES[shape]["layers"]
    return {"seconds": seconds, "peak_mib": peak - before}


def _memory(device: str, *, reset: bool) -> float:
    """MiB: the peak, which `reset` sets to what there is now."""
    if device != "cpu":
        if reset:
            torch.cuda.reset_peak_memory_stats()
        return torch.cuda.max_memory_allocated() / 2**20
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**10


def _page_bytes() -> int:
    with tempfile.TemporaryDirectory() as folder:
        _model("32 layers, 32 heads", 128, "cpu").save_pretrained(f"{folder}/model")
        settings = [
            "--prompts",
            "random",
            "--count",
            "4",
            "--length",
            "128",
            "--no-knock-outs",
            "--out",
            f"{folder}/out",
        ]
        command = [sys.executable, "-P", "-m", "anchorlab", "probe", f"{folder}/model", *settings]
        subprocess.run(command, check=True, capture_output=True)
        return Path(f"{folder}/out/report.html").stat().st_size


if __name__ == "__main__":
    main()
