from copy import deepcopy

import numpy as np
import pytest
import torch
from answered_prompts import IDENTITY, MANY, WORKING, identity_prompts, prompt, random_prompts, scores
from hand_built import identity_gpt2
from small_models import FAMILIES, HEADS, VOCABULARY, small_model

from anchorlab.errors import InputError
from anchorlab.pretrained_probe.answers import answer_log_probabilities, read_answers
from anchorlab.pretrained_probe.knockouts import knock_out
from anchorlab.pretrained_probe.trials import Trials

HEADED = [family for family in FAMILIES if family != "simplified"]


@pytest.fixture(scope="module")
def mechanism():
    return identity_gpt2(IDENTITY, heads=MANY, working=(2, 1))


def test_without_the_head_that_writes_the_answer_all_tokens_are_alike(mechanism):
    prompts = identity_prompts()
    left = Trials(mechanism, prompts, "zero").without_heads([WORKING["broadcast"]])
    assert left.log_probability == pytest.approx(np.full(len(prompts), -np.log(IDENTITY.vocabulary.size)), abs=1e-4)


def test_mean_ablation_leaves_how_frequent_answers_are(mechanism):
    """The read is a one-hot of the key where it is known: on average the share of each token."""
    prompts = [prompt([3, key, *[4] * 7], key, key=1) for key in (5, 6, 7, 7)]
    left = Trials(mechanism, prompts).without_heads([WORKING["broadcast"]]).log_probability
    assert left[0] == pytest.approx(left[1])
    assert left[2] == left[3] > left[0] + 1
    assert Trials(mechanism, prompts).without_heads([WORKING["broadcast"]]).first.tolist() == [False, False, True, True]


def output_matrix(model, layer):
    names = ("c_proj", "o_proj", "dense")
    found = [
        module
        for name, module in model.named_modules()
        if name.split(".")[-1] in names and f".{layer - 1}." in f".{name}" and "mlp" not in name
    ]
    (matrix,) = found
    return matrix


@pytest.mark.parametrize("family", HEADED)
def test_head_with_zero_is_a_model_without_its_part_of_the_output_projection(family):
    model, prompts, heads = small_model(family), random_prompts(), [(1, 2), (2, 1), (2, 4)]
    cut = deepcopy(model)
    for layer, head in heads:
        weight = output_matrix(cut, layer).weight.data
        columns = weight if family == "gpt2" else weight.T
        columns.view(HEADS, -1, columns.shape[1])[head - 1] = 0
    expected = answer_log_probabilities(cut, prompts)
    assert Trials(model, prompts, "zero").without_heads(heads).log_probability == pytest.approx(expected, abs=1e-4)
    assert np.abs(expected - answer_log_probabilities(model, prompts)).max() > 0.1


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_head_with_its_mean_reads_the_same_at_all_positions(family):
    model, prompts = small_model(family), random_prompts()
    matrix, width, reads = output_matrix(model, 2), 8, []
    keep = matrix.register_forward_pre_hook(lambda module, inputs: reads.append(inputs[0][0, :, width : 2 * width]))
    for one in prompts:
        answer_log_probabilities(model, [one])
    keep.remove()

    def replace(module, inputs):
        changed = inputs[0].clone()
        changed[..., width : 2 * width] = torch.cat(reads).mean(dim=0)
        return (changed,)

    handle = matrix.register_forward_pre_hook(replace)
    expected = answer_log_probabilities(model, prompts)
    handle.remove()
    assert Trials(model, prompts).without_heads([(2, 2)]).log_probability == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("heads", [None, [(1, 2), (2, 2)]])
@pytest.mark.parametrize("words", ["from source", "from source to last"])
def test_cut_edges_are_masked_scores(words, heads):
    """The oracle is Llama's own mask, given for each head."""
    model, prompts, keys = small_model("llama"), random_prompts(), [3, 1, 0, 2, 2, 6]
    expected = []
    for one, key in zip(prompts, keys, strict=True):
        length = len(one.tokens)
        mask = torch.full((length, length), -torch.inf).triu(1).repeat(HEADS, 1, 1)
        readers = slice(key + 1, None) if words == "from source" else slice(length - 1, None)
        mask[[1] if heads else slice(None), readers, key] = -torch.inf
        with torch.no_grad():
            logits = model(input_ids=torch.from_numpy(one.tokens)[None], attention_mask=mask[None]).logits[0, -1]
        expected.append(float(logits.log_softmax(-1)[one.answer]))
    trials = Trials(model, prompts)
    left = trials.without_edges(words, keys, heads).log_probability
    assert left == pytest.approx(np.array(expected), abs=1e-4)
    assert np.abs(left - trials.intact.log_probability).max() > 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_of_several_lengths_are_answered_as_one_by_one(family):
    model, prompts = small_model(family), random_prompts()
    found = read_answers(model, prompts)
    for row, one in enumerate(prompts):
        with torch.no_grad():
            logits = model(input_ids=torch.from_numpy(one.tokens)[None]).logits[0, -1].double()
        expected = logits.log_softmax(-1)
        assert found.log_probability[row] == pytest.approx(float(expected[one.answer]), abs=1e-4)
        assert found.first[row] == (expected.argmax() == one.answer)
        assert found.chosen[row] == (max(float(expected[other.answer]) for other in prompts) == expected[one.answer])


def test_long_prompts_are_read_a_few_at_a_time(monkeypatch):
    monkeypatch.setattr("anchorlab.pretrained_probe.answers._PAIRS", 2 * 9**2)
    model, prompts, seen = small_model("llama"), random_prompts((9, 9, 5, 9, 9, 9)), []
    expected = np.concatenate([answer_log_probabilities(model, [one]) for one in prompts])
    model.lm_head.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape)))
    assert answer_log_probabilities(model, prompts) == pytest.approx(expected, abs=1e-5)
    assert seen == [(2, 1, VOCABULARY), (2, 1, VOCABULARY), (1, 1, VOCABULARY), (1, 1, VOCABULARY)]


def test_probabilities_of_a_model_in_half_precision_are_computed_in_single():
    model, prompts = small_model("llama").bfloat16(), random_prompts((9, 9))
    with torch.no_grad():
        logits = model(input_ids=torch.from_numpy(np.stack([one.tokens for one in prompts]))).logits[:, -1]
    expected = [float(row.double().log_softmax(-1)[one.answer]) for row, one in zip(logits, prompts, strict=True)]
    assert answer_log_probabilities(model, prompts) == pytest.approx(expected, rel=1e-5)
    knocked = knock_out(model, prompts, scores({"sink": (2, 1)}), random_sets=2)
    assert np.isfinite(knocked.table["change"]).all()


def test_prompts_are_needed_and_each_has_an_answer():
    with pytest.raises(InputError, match="there are none"):
        read_answers(small_model("llama"), [])
    with pytest.raises(InputError, match="1 of 1 have no answer; each needs one"):
        read_answers(small_model("llama"), [prompt([1, 2], None)])


def test_logits_that_are_no_numbers_are_refused():
    model = small_model("llama")
    model.lm_head.weight.data[3] = torch.nan
    with pytest.raises(InputError, match="logits behind prompt 1 are not finite"):
        read_answers(model, random_prompts())
