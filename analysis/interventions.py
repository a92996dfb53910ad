"""Causal checks: which parts of a network the answer depends on, by patching, ablating and cutting.

Every check measures the *logit difference* of a row: the logit of its own answer minus the logit of the answer to its
counterpart, the same row with another key. A network that answers both right has a positive difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from anchorlab.errors import InputError
from anchorlab.tasks import Task

from .attention_hooks import AttentionHook, hooked_attention
from .edits import outputs
from .parts import Parts, first, parts, replaced, with_first
from .places import LAST, find_places, name_positions, ordered_names

Component = Literal["residual stream", "attention output", "feed-forward output"]
COMPONENTS: tuple[Component, ...] = ("residual stream", "attention output", "feed-forward output")


@dataclass(frozen=True)
class Counterparts:
    """Rows in pairs that differ in the key alone, with both answers; the network answers both right.

    `names` are the places of all positions. `drawn` is how many pairs were made, of which these are the ones that the
    network answers right.
    """

    tokens: Int[np.ndarray, "n length"]
    others: Int[np.ndarray, "n length"]
    answers: Int[np.ndarray, " n"]
    other_answers: Int[np.ndarray, " n"]
    names: Shaped[np.ndarray, "n length"]
    drawn: int

    def difference(self, logits: Float[Tensor, "n vocabulary"]) -> Float[np.ndarray, " n"]:
        """Logit of each row's answer minus that of its counterpart's."""
        rows = torch.arange(len(logits))
        found: Float[np.ndarray, " n"] = (logits[rows, self.answers] - logits[rows, self.other_answers]).numpy()
        return found

    def lost(self, intact: Float[np.ndarray, " n"], logits: Float[Tensor, "n vocabulary"]) -> tuple[float, float]:
        """Share of the mean logit difference that is lost, and the accuracy, with these logits instead."""
        left = float(self.difference(logits).mean() / intact.mean())
        return 1 - left, float((logits.argmax(dim=-1).numpy() == self.answers).mean())

    def effects(self, rows: list[tuple[Any, ...]], columns: list[str]) -> Effects:
        """A table of effects on these pairs."""
        return Effects(pd.DataFrame(rows, columns=columns), len(self.tokens), self.drawn)


@dataclass(frozen=True)
class Effects:
    """The effects of interventions, and how many of the pairs that were made (`drawn`) the network answers right.

    Only these `pairs` count: of others there is no right answer to explain.
    """

    table: pd.DataFrame
    pairs: int
    drawn: int


def counterparts(model: nn.Module, task: Task, tokens: Int[np.ndarray, "n length"], *, least: int = 20) -> Counterparts:
    """Pair every row with the same row under another row's key, and keep the pairs that `model` answers right.

    The key is that of the next row whose key does not occur in the row; where that makes no row of the task, there is
    no pair. Rows with a key or anchor at the last position are left out where there are others: in them nothing has to
    be moved to the place where the answer is read. All pairs are worked on at once: a few hundred rows are enough.

    Raises `InputError` if it answers fewer than `least` pairs right, or if no other key makes another row with another
    answer.
    """
    names = name_positions(find_places(task, tokens), tokens.shape[1])
    if (free := names[:, -1] == LAST).any():
        tokens, names = tokens[free], names[free]
    others, valid = _with_other_keys(task, tokens)
    answers, other_answers = (np.full(len(tokens), -1) for _ in range(2))
    if valid.any():
        answers[valid], other_answers[valid] = task.solve(tokens[valid]), task.solve(others[valid])
    different = valid & (answers != other_answers)
    if not different.any():
        raise InputError(f"task={task.name!r}: in {len(tokens)} rows no other key makes a row with another answer")
    right = [outputs(model, rows)[0].argmax(dim=-1).numpy() for rows in (tokens, others)]
    kept = different & (right[0] == answers) & (right[1] == other_answers)
    if kept.sum() < least:
        raise InputError(
            f"model: it answers {kept.sum()} of {different.sum()} pairs of rows right; at least {least} are needed"
        )
    return Counterparts(
        tokens[kept], others[kept], answers[kept], other_answers[kept], names[kept], int(different.sum())
    )


def _with_other_keys(
    task: Task, tokens: Int[np.ndarray, "n length"]
) -> tuple[Int[np.ndarray, "n length"], Bool[np.ndarray, " n"]]:
    """The rows with the next key that does not occur in them, and which of these are rows of the task."""
    keys, at = task.locate(tokens).key, find_places(task, tokens)["key"]
    others = tokens.copy()
    for row, own in enumerate(tokens):
        new = next((key for key in np.roll(keys, -row - 1) if key not in own), None)
        if new is not None:
            others[row, at[row]] = new
    changed = (others != tokens).any(axis=1)
    return others, np.array([new and _is_row(task, other) for other, new in zip(others, changed, strict=True)])


def _is_row(task: Task, tokens: Int[np.ndarray, " length"]) -> bool:
    try:
        task.locate(tokens[None])
    except InputError:
        return False
    return True


def patch(model: nn.Module, pairs: Counterparts) -> Effects:
    """Activation patching: put one activation of every row into the run on its counterpart.

    The table has the columns component, layer (from 1), place (in the order of rows) and effect: 0 if the answer stays
    the counterpart's, 1 if it becomes the row's own (the share of the mean logit difference that is restored).
    """
    clean, corrupt = (pairs.difference(outputs(model, rows)[0]) for rows in (pairs.tokens, pairs.others))
    restored: dict[tuple[str, int, str], list[Float[np.ndarray, " rows"]]] = {}
    for component, layer, module in _modules(parts(model)):
        kept: list[Tensor] = []
        with replaced([module.register_forward_hook(lambda *called: kept.append(first(called[-1])))]):  # noqa: B023
            outputs(model, pairs.tokens, batch=len(pairs.tokens))
        for position in range(pairs.tokens.shape[1]):
            with replaced([module.register_forward_hook(partial(_put, activation=kept[0], position=position))]):
                logits, _ = outputs(model, pairs.others, batch=len(pairs.others))
            change = pairs.difference(logits) - corrupt
            for place in np.unique(pairs.names[:, position].astype(str)):
                here = pairs.names[:, position] == place
                restored.setdefault((component, layer, place), []).append(np.stack([change, clean - corrupt])[:, here])
    means = {where: np.concatenate(found, axis=1).mean(axis=1) for where, found in restored.items()}
    table = [
        (component, layer, place, float(np.divide(*means[component, layer, place])))
        for component, layer, _ in _modules(parts(model))
        for place in ordered_names(pairs.names)
    ]
    return pairs.effects(table, ["component", "layer", "place", "effect"])


def ablate_heads(model: nn.Module, pairs: Counterparts) -> Effects:
    """Replace what one head has read, at every position, by its mean over the rows.

    The table has the columns layer, head, effect and accuracy: `effect` is the share of the logit difference that is
    lost (1: nothing is left of it), `accuracy` what remains.
    """
    with hooked_attention(model, means := _HeadMeans()):
        intact = pairs.difference(outputs(model, pairs.tokens, batch=len(pairs.tokens))[0])
    rows = []
    for layer, mean in means.kept.items():
        for head in range(len(mean)):
            with hooked_attention(model, _AblatedHead(layer, head, mean[head])):
                logits, _ = outputs(model, pairs.tokens)
            rows.append((layer + 1, head + 1, *pairs.lost(intact, logits)))
    return pairs.effects(rows, ["layer", "head", "effect", "accuracy"])


def ablate_neurons(model: nn.Module, pairs: Counterparts, groups: Mapping[str, Sequence[tuple[int, int]]]) -> Effects:
    """Replace feed-forward neurons, at every position, by their means over the rows.

    The table has the columns group, neurons, effect and accuracy, as in `ablate_heads`. `groups` names sets of neurons
    (layer from 1, number from 0). Raises `InputError` for a model without feed-forward nets or a neuron that it does
    not have.
    """
    matrices = parts(model).neurons
    if not matrices:
        raise InputError(f"model: {type(model).__name__} has no feed-forward neurons")
    kept: list[Tensor] = []
    keeps = [matrix.register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0])) for matrix in matrices]
    with replaced(keeps):
        intact = pairs.difference(outputs(model, pairs.tokens, batch=len(pairs.tokens))[0])
    means = [neurons.mean(dim=0) for neurons in kept]
    rows = []
    for name, members in groups.items():
        by_layer = _by_layer(name, members, [mean.shape[-1] for mean in means])
        replacements = [
            matrices[layer].register_forward_pre_hook(partial(_set_neurons, numbers=numbers, mean=means[layer]))
            for layer, numbers in by_layer.items()
        ]
        with replaced(replacements):
            logits, _ = outputs(model, pairs.tokens)
        rows.append((name, len(members), *pairs.lost(intact, logits)))
    return pairs.effects(rows, ["group", "neurons", "effect", "accuracy"])


def _modules(known: Parts) -> Iterator[tuple[Component, int, nn.Module]]:
    for component, modules in zip(COMPONENTS, (known.blocks, known.attentions, known.feed_forwards), strict=True):
        for layer, module in enumerate(modules, start=1):
            yield component, layer, module


def _put(module: nn.Module, inputs: Any, output: Any, *, activation: Tensor, position: int) -> Any:
    changed = first(output).clone()
    changed[:, position] = activation[:, position]
    return with_first(output, changed)


def _set_neurons(module: nn.Module, inputs: Any, *, numbers: list[int], mean: Float[Tensor, "length width"]) -> Any:
    changed = inputs[0].clone()
    changed[..., numbers] = mean[:, numbers]
    return (changed, *inputs[1:])


def _by_layer(group: str, neurons: Sequence[tuple[int, int]], widths: Sequence[int]) -> dict[int, list[int]]:
    by_layer: dict[int, list[int]] = {}
    for layer, number in neurons:
        if not (1 <= layer <= len(widths) and 0 <= number < widths[layer - 1]):
            raise InputError(f"groups: {group!r} has neuron {number} of layer {layer}, which the model does not have")
        by_layer.setdefault(layer - 1, []).append(number)
    return by_layer


class _HeadMeans(AttentionHook):
    """Keeps what every head reads, averaged over the rows."""

    def __init__(self) -> None:
        self.kept: dict[int, Float[Tensor, "heads length head_width"]] = {}

    def mixed(self, layer: int, mixed: Tensor) -> Tensor:
        self.kept[layer] = mixed.mean(dim=0)
        return mixed


@dataclass(frozen=True)
class _AblatedHead(AttentionHook):
    layer: int
    head: int
    mean: Float[Tensor, "length head_width"]

    def mixed(self, layer: int, mixed: Tensor) -> Tensor:
        if layer != self.layer:
            return mixed
        changed = mixed.clone()
        changed[:, self.head] = self.mean
        return changed
