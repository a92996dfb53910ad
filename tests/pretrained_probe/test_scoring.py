"""Streamed scores against those of whole patterns, for every family."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from small_models import FAMILIES, LAYERS, OWN, VOCABULARY, small_model
from transformers import AutoModelForCausalLM, GptOssConfig, Llama4ForCausalLM, Llama4TextConfig, PreTrainedModel

from anchorlab.analysis import HeadScores, NoAttentionError, record_attention, score_heads, visible_sources
from anchorlab.analysis.attention import sight_of
from anchorlab.analysis.attention_sums import AttentionSums, Read
from anchorlab.analysis.parts import residual_stream
from anchorlab.errors import InputError
from anchorlab.pretrained_probe import Pretrained, probe_model, streaming
from anchorlab.pretrained_probe.layers import advance, block_outputs, blocks_of, entering
from anchorlab.pretrained_probe.prompts import Prompt, PromptSet, prompt_from_ids
from anchorlab.pretrained_probe.scoring import score_prompts

ROWS, OFFSETS = 10, (1, 2, 5)


def rows_for(family: str, seed: int = 3) -> np.ndarray:
    length = 9 if family in OWN else 24
    return np.random.default_rng(seed).integers(8, size=(ROWS, length))  # few tokens, so that some come again


def places(rows: np.ndarray, shift: int = 0) -> dict[str, np.ndarray]:
    return {"key": (np.arange(ROWS) + shift) % 5, "last": np.full(ROWS, rows.shape[1] - 1)}


def prompts_of(rows: np.ndarray, at: dict[str, np.ndarray]) -> tuple[Prompt, ...]:
    return tuple(
        prompt_from_ids(row.tolist(), places={role: int(place[number]) for role, place in at.items()})
        for number, row in enumerate(rows)
    )


def prompt_set(rows: np.ndarray, **more: Any) -> PromptSet:
    return PromptSet("ids", "made for a test", prompts_of(rows, places(rows)), **more)


def whole(model: PreTrainedModel, rows: np.ndarray, moved: np.ndarray | None = None) -> HeadScores:
    return score_heads(
        lambda: record_attention(model, rows, places=places(rows)),
        visible=visible_sources(model, rows.shape[1]),
        offsets=OFFSETS,
        moved=None if moved is None else lambda: record_attention(model, moved, places=places(moved, 2)),
    )


def assert_same(found: HeadScores, expected: HeadScores) -> None:
    for field in fields(HeadScores):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        numbers = one.select_dtypes("number").columns
        labels = [name for name in one.columns if name not in numbers or name in ("layer", "head", "position")]
        one, other = (table.sort_values(labels, ignore_index=True) for table in (one, other))
        if "sequences" in numbers and "reader" in labels:
            other = other[other["sequences"] > 0].reset_index(
                drop=True
            )  # of a layer alone, nothing says that there are
        close = {name: one.pop(name) for name in ("evidence",) if name in one}  # sums of many logarithms
        pd.testing.assert_frame_equal(one, other.drop(columns=list(close)), check_dtype=False, rtol=0, atol=1e-5)
        for name, values in close.items():
            assert values.tolist() == pytest.approx(other[name].tolist(), rel=1e-3, abs=1e-3, nan_ok=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_streamed_scores_are_those_of_the_whole_pattern(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "_CPU_BLOCK", 500)  # a few queries of one row
    monkeypatch.setattr(streaming, "_FEWEST", 1)
    model, rows = small_model(family), rows_for(family)
    assert_same(score_prompts(model, prompt_set(rows), offsets=OFFSETS), whole(model, rows))


@pytest.mark.parametrize("block", [1, 700, 2**20])
def test_the_size_of_blocks_changes_nothing(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = small_model("gemma2"), rows_for("gemma2")
    monkeypatch.setattr(streaming, "_CPU_BLOCK", block)
    monkeypatch.setattr(streaming, "_FEWEST", 1)
    assert_same(score_prompts(model, prompt_set(rows), offsets=OFFSETS), whole(model, rows))


def test_no_block_is_larger_than_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    add = AttentionSums.add

    def recorded(self: AttentionSums, weights: torch.Tensor, *where: int) -> None:
        sizes.append(weights.numel())
        add(self, weights, *where)

    monkeypatch.setattr(AttentionSums, "add", recorded)
    monkeypatch.setattr(streaming, "_CPU_BLOCK", 1000)
    monkeypatch.setattr(streaming, "_FEWEST", 1)
    score_prompts(small_model("llama"), prompt_set(rows_for("llama")))
    assert max(sizes) <= 1000
    assert len(sizes) > LAYERS * ROWS


def test_the_moving_test_is_that_of_the_whole_pattern() -> None:
    model, rows, other = small_model("qwen3"), rows_for("qwen3"), rows_for("qwen3", 4)
    prompts = prompt_set(rows, moved=prompts_of(other, places(other, 2)))
    assert_same(score_prompts(model, prompts, offsets=OFFSETS), whole(model, rows, other))


def test_prompts_of_different_lengths_count_alike() -> None:
    model, rows = small_model("llama"), rows_for("llama")
    short = rows[:4, :15]
    both = replace(
        prompt_set(rows), prompts=(*prompts_of(rows, places(rows)), *prompts_of(short, places(rows[:, :15])))
    )
    found, one, other = (
        score_prompts(model, some, offsets=OFFSETS).scores.set_index(["layer", "head", "score"])
        for some in (both, prompt_set(rows), replace(both, prompts=both.prompts[ROWS:]))
    )
    assert (found["sequences"].loc[:, :, "entropy"] == ROWS + 4).all()
    for score in ("entropy", "value-weighted entropy"):  # the others leave out sinks, which the sets need not share
        expected = (ROWS * one["mean"] + 4 * other["mean"]) / (ROWS + 4)
        assert found["mean"].loc[:, :, score].tolist() == pytest.approx(expected.loc[:, :, score].tolist(), abs=1e-6)
    order = np.random.default_rng(0).permutation(ROWS + 4)
    assert_same(
        score_prompts(model, replace(both, prompts=tuple(both.prompts[at] for at in order))), score_prompts(model, both)
    )


def with_learned_sinks() -> PreTrainedModel:
    shape = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
    heads = {"head_dim": 8, "num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = GptOssConfig(**shape, **heads, num_experts_per_tok=1, sliding_window=4, max_position_embeddings=64)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    return model


def test_learned_sinks_take_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = with_learned_sinks(), rows_for("gpt_oss")
    monkeypatch.setattr(streaming, "_CPU_BLOCK", 500)
    assert_same(score_prompts(model, prompt_set(rows), offsets=OFFSETS), whole(model, rows))
    maps = model(torch.from_numpy(rows), output_attentions=True).attentions
    (recorded,) = record_attention(model, rows)
    torch.testing.assert_close(recorded.weights, torch.stack(maps, dim=1))
    assert float(recorded.weights.sum(-1).min()) < 0.9


@pytest.mark.parametrize(("family", "layer"), [("llama", 0), ("gemma2", 1), ("mistral", 0), ("gpt_oss", 1)])
def test_heads_with_sinks_are_scored_alike(family: str, layer: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row has one token at the fourth position whose key the queries of two heads prefer."""
    model = with_learned_sinks() if family == "gpt_oss" else small_model(family)
    if family == "mistral":
        model.config.sliding_window = 12  # long enough for a sink that others do not see any more
    rows = rows_for(family)
    rows[:, 3] = 9
    attention = blocks_of(model)[layer].self_attn
    if family == "gemma2":
        attention.attn_logit_softcapping = 6.0  # with the cap of the others no sink is possible
    planted: list[torch.Tensor] = []

    def prefer(module: torch.nn.Module, inputs: tuple[torch.Tensor], keys: torch.Tensor) -> torch.Tensor:
        # The second group's keys of that token are the sum of its queries, which have something in common.
        keys = keys.clone()
        if keys.shape[1] > 1:  # not the single token with which the scores begin
            keys[:, 3, 8:] = 4 * planted[-1][:, :, 16:24].mean(1)
        return keys

    def common(module: torch.nn.Module, inputs: tuple[torch.Tensor], queries: torch.Tensor) -> torch.Tensor:
        queries = queries + 3
        planted.append(queries)
        return queries

    monkeypatch.setattr(streaming, "_CPU_BLOCK", 500)
    monkeypatch.setattr(streaming, "_FEWEST", 1)
    with attention.q_proj.register_forward_hook(common), attention.k_proj.register_forward_hook(prefer):
        found, expected = score_prompts(model, prompt_set(rows), offsets=OFFSETS), whole(model, rows)
    assert len(expected.sinks) > 0
    assert_same(found, expected)


@pytest.mark.parametrize("family", [*FAMILIES, "gpt_oss"])
def test_columns_are_read_again_as_they_were(family: str) -> None:
    model = with_learned_sinks() if family == "gpt_oss" else small_model(family)
    rows = rows_for(family)
    length = rows.shape[1]
    kept: dict[int, AttentionSums] = {}

    class Listener:
        def sums(self, layer: int, value: torch.Tensor, heads: int, read: Read) -> AttentionSums:
            sight = sight_of(model, length).layer(layer)
            kept[layer] = AttentionSums.empty((ROWS, 1, heads), sight, (), read, places={})
            return kept[layer]

    with torch.no_grad(), streaming.streamed_attention(model, Listener()):
        model.base_model(input_ids=torch.from_numpy(rows), use_cache=False)
    (recorded,) = record_attention(model, rows)
    for layer, sums in kept.items():
        heads = sums.shape[2]
        read = sums.read(torch.arange(length).expand(1, heads, length))[:, 0].mT
        found = torch.where(sums.sight.mask()[0], read, 0)
        torch.testing.assert_close(found, recorded.weights[:, layer], rtol=1e-4, atol=1e-5)


def test_moved_prompts_may_have_other_lengths() -> None:
    rows, lengths = rows_for("llama"), (20, 24)
    moved = tuple(
        prompt_from_ids(row[: lengths[number % 2]].tolist(), places={"key": 6, "last": 19})
        for number, row in enumerate(rows)
    )
    found = score_prompts(small_model("llama"), prompt_set(rows, moved=moved))
    assert (found.moving.loc[found.moving["role"] == "key", "sequences"] == ROWS).all()


def test_attention_that_is_not_finite_is_refused() -> None:
    model = small_model("llama")
    blocks_of(model)[1].self_attn.q_proj.weight.data[0, 0] = torch.nan
    with pytest.raises(InputError, match=r"attention of layer 2 is not finite in torch\.float32; try another dtype"):
        score_prompts(model, prompt_set(rows_for("llama")))


def test_models_whose_sight_is_not_known_are_refused() -> None:
    with torch.random.fork_rng(devices=[]):
        config = Llama4TextConfig(
            **{"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 32, "intermediate_size_mlp": 32},
            **{"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8},
            **{"num_local_experts": 2, "attention_chunk_size": 8, "max_position_embeddings": 64, "pad_token_id": 0},
        )
        model = Llama4ForCausalLM._from_config(config, attn_implementation="eager").eval()
    with pytest.raises(InputError, match="'chunked_attention' see is not known"):
        score_prompts(model, prompt_set(rows_for("llama4")))


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        (PromptSet("ids", "none", ()), {}, "there are none"),
        (PromptSet("ids", "one", (prompt_from_ids([0, VOCABULARY]),)), {}, f"token id {VOCABULARY}"),
        (PromptSet("ids", "one", (prompt_from_ids([1] * 33),)), {}, "33 tokens and the model reads at most 32"),
        (PromptSet("ids", "one", (prompt_from_ids([1, 2]),)), {"offsets": [0, 1]}, "offsets=.0, 1.: must be different"),
        (PromptSet("ids", "one", (prompt_from_ids([1, 2]),)), {"offsets": [1, 1]}, "offsets=.1, 1.: must be different"),
    ],
)
def test_wrong_prompts_and_offsets_are_refused(prompts: PromptSet, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        score_prompts(small_model("llama"), prompts, **options)


def test_only_roles_of_all_prompts_are_looked_at() -> None:
    rows = rows_for("llama")
    some = (prompt_from_ids(rows[0].tolist(), places={"key": 2}), prompt_from_ids(rows[1].tolist()))
    found = score_prompts(small_model("llama"), PromptSet("ids", "two", some))
    assert set(found.followed["role"]) == {"last"}


@pytest.mark.parametrize("family", FAMILIES)
def test_blocks_one_by_one_are_the_model(family: str) -> None:
    model, rows = small_model(family), torch.from_numpy(rows_for(family))
    with torch.no_grad():
        outputs = block_outputs(model)
        sequences = entering(model, rows, outputs)
        streams = [sequences.stream]
        for layer, block in enumerate(blocks_of(model)):
            advance(block, layer, sequences)
            streams.append(sequences.stream)
        expected = residual_stream(model, rows)
    torch.testing.assert_close(streams, expected)


def test_the_model_is_left_as_it_was() -> None:
    model, rows = small_model("mistral"), torch.from_numpy(rows_for("mistral"))
    before = model(rows).logits
    score_prompts(model, prompt_set(rows.numpy()))

    def fail(*called: Any) -> None:
        raise RuntimeError("broken")

    with blocks_of(model)[1].register_forward_hook(fail), pytest.raises(RuntimeError, match="broken"):
        score_prompts(model, prompt_set(rows.numpy()))
    assert torch.equal(model(rows).logits, before)
    assert model.config._attn_implementation == "eager"
    assert not any("forward" in vars(block) for block in blocks_of(model))


def test_a_model_whose_weights_are_elsewhere_is_scored_too() -> None:
    accelerate = pytest.importorskip("accelerate")
    model, rows = small_model("llama"), rows_for("llama")
    expected = score_prompts(model, prompt_set(rows), offsets=OFFSETS)
    accelerate.cpu_offload(model, execution_device=torch.device("cpu"))
    assert_same(score_prompts(model, prompt_set(rows), offsets=OFFSETS), expected)
    pretrained = Pretrained("offloaded", model, None, {})
    found = probe_model(pretrained, prompt_set(rows))
    assert found.attention is not None
    np.testing.assert_allclose(found.attention.weights.sum(-1), 1, atol=1e-5)


def test_half_precision_is_near() -> None:
    model, rows = small_model("llama"), rows_for("llama")
    exact = score_prompts(model, prompt_set(rows), offsets=OFFSETS).scores
    rough = score_prompts(model.bfloat16(), prompt_set(rows), offsets=OFFSETS).scores
    smooth = ~exact["score"].str.contains("coverage|sink|broadcast")
    assert rough["mean"][smooth].tolist() == pytest.approx(exact["mean"][smooth].tolist(), abs=0.05, nan_ok=True)


def test_a_model_without_attention_is_refused() -> None:
    from anchorlab import models

    with pytest.raises(NoAttentionError, match="has no attention"):
        score_prompts(models.build("lstm", VOCABULARY, 9), prompt_set(rows_for("gpt2")))
