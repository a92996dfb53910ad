"""Which heads and edges the answers of a language model depend on, compared with random ones."""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar, get_args

import numpy as np
import pandas as pd
from jaxtyping import Float
from rich.console import Console
from rich.progress import Progress
from scipy.stats import binomtest, t
from transformers import PreTrainedModel

from anchorlab.analysis.attention_hooks import attention_modules, heads_of
from anchorlab.analysis.head_kinds import HeadScores
from anchorlab.analysis.run_table import row_dicts
from anchorlab.errors import InputError
from anchorlab.validation import check_known

from .answers import Answers
from .prompts import Prompt
from .trials import Ablation, Head, Trials

MATTERS, UNDECIDED = "matters", "undecided"
LEAST_SETS = 19  # with fewer, none of them below the group is still p > 0.05
_LEVEL = 0.05
_ORDINARY = 0.2  # more than this share of random sets lower the answer as much
_LEAST_CHANGE = 0.01  # nats: one percent of the probability

_BOTH = ("shift", "broadcast")
_KINDS = (("shift",), ("broadcast",), _BOTH, ("sink",), ("induction",), ("duplicate",), ("self",))
_EDGES = {"edges from key": "from source", "edges from key to last": "from source to last"}
_MEASURED = ("log_probability", "change", "low", "high", "accuracy")
_COMPARED = ("random_mean", "random_low", "random_high", "share_below", "p")
_COLUMNS = ("what", "heads", "control", *_MEASURED, *_COMPARED, "random_sets", "verdict", "note")
_SINGLE = ("layer", "head", "kind", *_MEASURED)

Item = TypeVar("Item")
_Pools = Sequence[tuple[Sequence[Any], int]]


class NothingToKnockOut(InputError):
    """Fewer than two prompts have an answer, or there are neither heads of a kind nor edges."""


@dataclass(frozen=True)
class Knockouts:
    """What is left of a model's answers without some of its heads or edges.

    `table` has one row a knock-out. `what` are the heads of a kind, a named group, or edges: from the key to all later
    tokens or to the last one alone, in all heads or in the broadcast heads; `heads` is how many heads it touches.
    `log_probability` (nats) is the mean of the answers', `change` its difference from the intact model's with the 95 %
    interval over prompts `low` to `high` (Student's t); `accuracy` the share of prompts whose answer is the most
    probable of all tokens.

    Every knock-out is compared with `random_sets` different random ones, which `control` describes: as many "heads" of
    the same layers outside the group that are neither shift nor broadcast heads, "heads of all layers" where these have
    too few such for 19 different sets, or the same edges from other "tokens" than the key (of each prompt one, neither
    the first, on which most models depend for other reasons, nor the last). Where there are no more sets than asked
    for, all are used; where there are none (the model has too few other heads), the `random_…` columns are NaN, and
    `note` says so. `random_mean` is their mean change, `random_low` to `random_high` hold 95 % of them; `share_below`
    is the share that lower the answers as much, and `p` = (1 + how many do) / (1 + random_sets).

    `verdict` is "matters" if p ≤ 0.05 and `high` is below −0.01; "no more than random heads" (or tokens) if p > 0.2 or
    `low` is above −0.01; else, and with fewer than 19 random sets, "undecided". Each row is judged by itself.

    `single_heads` has the same for one head at a time: layer, head (from 1), `kind`, and the columns of the change.

    `choice_accuracy` is the share of prompts for which the intact model holds the right one for the most probable of
    the prompts' `answers` (how many different ones there are), `chance` what always saying the most frequent one gives.
    If it is not `better_than_chance` (binomial test, 5 %), knocking out means nothing, and all verdicts are
    "undecided".
    """

    table: pd.DataFrame
    single_heads: pd.DataFrame
    prompts: int
    ablation: str
    intact_log_probability: float
    intact_accuracy: float
    answers: int
    choice_accuracy: float
    chance: float
    better_than_chance: bool


def knock_out(
    model: PreTrainedModel,
    prompts: Sequence[Prompt],
    scores: HeadScores,
    *,
    groups: Mapping[str, Sequence[Head]] | None = None,
    ablation: Ablation = "mean",
    random_sets: int = 20,
    single_heads: int = 64,
    seed: int = 0,
    progress: bool = False,
) -> Knockouts:
    """Knock out the heads of every kind in `scores`, and the edges from the prompts' "key", and compare with random.

    The model reads the prompts once for each knock-out and for each of its random sets. Prompts without an answer are
    left out, edges if a prompt has no place "key" or none of them carries weight.

    Args:
        model: a causal language model with attention.
        prompts: two or more with an answer; lengths may differ.
        scores: of this model; `kinds` decides which heads are of which kind.
        groups: more groups of heads by name, as (layer, head) from 1.
        ablation: what a knocked-out head reads: the mean over all positions of all prompts, or zero.
        random_sets: random sets for each knock-out; fewer than 19 decide nothing.
        single_heads: at most so many heads are knocked out one at a time: all heads of a model that has no more, else
            the strongest shift and broadcast heads.
        seed: of the random sets, which depend on it and on the name of the row alone.
        progress: show a bar on standard error.

    Raises:
        NoAttentionError: the model has no attention that can be hooked.
        NothingToKnockOut: fewer than two answers, or neither heads nor edges.
        InputError: a setting that is not allowed, prompts that do not fit the model, heads that it does not have.
    """
    check_known("ablation", ablation, get_args(Ablation))
    for name, value, least in (("random_sets", random_sets, 1), ("single_heads", single_heads, 0), ("seed", seed, 0)):
        if value < least:
            raise InputError(f"{name}={value}: must be at least {least}")
    answered = [prompt for prompt in prompts if prompt.answer is not None]
    if len(answered) < 2:
        raise NothingToKnockOut(f"prompts: {len(answered)} of {len(prompts)} have an answer; two or more are needed")
    by_name = _head_groups(scores, groups or {})
    size = len(attention_modules(model)), heads_of(model)
    _check_heads({"scores": _heads(scores.kinds), **by_name}, *size)
    with Progress(console=Console(stderr=True), disable=not progress, transient=True) as bar:
        task = bar.add_task("intact", total=None)
        trials = Trials(model, answered, ablation, partial(bar.advance, task))
        ordinary = _ordinary_heads(scores)
        of_edges = _plans_of_edges(trials, by_name, ordinary, math.prod(size))
        plans = [*_plans_of_heads(trials, by_name, ordinary), *of_edges]
        drawn = [_random_sets(plan, random_sets, seed) for plan in plans]
        alone = _alone(scores.kinds, single_heads)
        bar.update(task, total=1 + len(plans) + sum(map(len, drawn)) + len(alone))
        solves = _solves(trials)
        rows: list[dict[str, Any]] = []
        for plan, sets in zip(plans, drawn, strict=True):
            bar.update(task, description=plan.what)
            rows += _rows(trials, plan, sets, solves=solves)
        if not rows:
            raise NothingToKnockOut(
                "scores: no head is of any kind, and no edge from a key carries weight: there is nothing to knock out"
            )
        bar.update(task, description="single heads")
        singles = [
            {**head, **_measured(trials.without_heads([(head["layer"], head["head"])]), trials.intact)}
            for head in alone
        ]
    return Knockouts(
        table=pd.DataFrame(rows, columns=_COLUMNS),
        single_heads=pd.DataFrame(singles, columns=_SINGLE),
        prompts=len(answered),
        ablation=ablation,
        intact_log_probability=float(trials.intact.log_probability.mean()),
        intact_accuracy=float(trials.intact.first.mean()),
        answers=len({prompt.answer for prompt in answered}),
        choice_accuracy=float(trials.intact.chosen.mean()),
        chance=_chance(trials),
        better_than_chance=solves,
    )


@dataclass(frozen=True)
class _Plan(Generic[Item]):
    """A knock-out of `own` items; random sets take as many from each of the `pools`."""

    what: str
    heads: int
    control: str
    pools: Sequence[tuple[Sequence[Item], int]]
    own: Sequence[Item]
    run: Callable[[Sequence[Item]], Answers | None]


def _head_groups(scores: HeadScores, named: Mapping[str, Sequence[Head]]) -> dict[str, list[Head]]:
    """The heads of every kind that there is, then the groups that the user names."""
    family = scores.kinds["kind"].str.partition(" ")[0]
    found = {
        f"{' and '.join(kinds)} heads": _heads(scores.kinds[family.isin(kinds)])
        for kinds in _KINDS
        if set(kinds) <= set(family)
    }
    for name, heads in named.items():
        if name in found or not heads or len(set(heads)) < len(heads):
            raise InputError(f"groups: {name!r} must have a name of its own, at least one head, and none twice")
    return found | {name: list(heads) for name, heads in named.items()}


def _heads(table: pd.DataFrame) -> list[Head]:
    return [(int(layer), int(head)) for layer, head in zip(table["layer"], table["head"], strict=True)]


def _check_heads(groups: Mapping[str, Sequence[Head]], layers: int, heads: int) -> None:
    for name, group in groups.items():
        for layer, head in group:
            if not (1 <= layer <= layers and 1 <= head <= heads):
                raise InputError(
                    f"{name}: layer {layer} head {head} is not allowed; the model has layers 1 to {layers}, heads 1 to "
                    f"{heads}"
                )


def _plans_of_heads(
    trials: Trials, groups: Mapping[str, Sequence[Head]], ordinary: Sequence[Head]
) -> Iterator[_Plan[Head]]:
    for name, heads in groups.items():
        yield _Plan(name, len(heads), *_other_heads(heads, ordinary), heads, trials.without_heads)


def _plans_of_edges(
    trials: Trials, groups: Mapping[str, Sequence[Head]], ordinary: Sequence[Head], heads: int
) -> Iterator[_Plan[Any]]:
    if any("key" not in prompt.places for prompt in trials.prompts):
        return
    keys = [prompt.places["key"] for prompt in trials.prompts]
    others = [
        ([position for position in range(1, len(prompt.tokens) - 1) if position != key], 1)
        for prompt, key in zip(trials.prompts, keys, strict=True)
    ]
    for name, words in _EDGES.items():
        yield _Plan(name, heads, "tokens", others, keys, partial(trials.without_edges, words))
    readers = groups.get("broadcast heads", ())
    for name, words in _EDGES.items() if readers else ():
        run = partial(trials.without_edges, words, keys)
        yield _Plan(f"{name} in broadcast heads", len(readers), *_other_heads(readers, ordinary), readers, run)


def _ordinary_heads(scores: HeadScores) -> list[Head]:
    """The heads that are neither shift nor broadcast heads."""
    return _heads(scores.kinds[~scores.kinds["kind"].str.partition(" ")[0].isin(_BOTH)])


def _other_heads(own: Sequence[Head], ordinary: Sequence[Head]) -> tuple[str, _Pools]:
    """For each layer of a group the ordinary heads outside it, and how many to take; else those of all layers."""
    others = sorted(set(ordinary) - set(own))
    by_layer = itertools.groupby(sorted(own), key=lambda head: head[0])
    same = [([head for head in others if head[0] == layer], len(list(members))) for layer, members in by_layer]
    if _choices(same) < LEAST_SETS <= math.comb(len(others), len(own)):
        return "heads of all layers", [(others, len(own))]
    return "heads", same


def _choices(pools: _Pools) -> int:
    return math.prod(math.comb(len(pool), count) for pool, count in pools)


def _random_sets(plan: _Plan[Item], sets: int, seed: int) -> list[tuple[Item, ...]]:
    """Different random choices from the plan's pools: all there are if these are no more than `sets`."""
    if _choices(plan.pools) <= sets:
        choices = (itertools.combinations(pool, count) for pool, count in plan.pools)
        return [tuple(itertools.chain(*choice)) for choice in itertools.product(*choices)]
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, zlib.crc32(plan.what.encode())])))
    found: dict[tuple[Item, ...], None] = {}
    while len(found) < sets:
        numbers = [sorted(generator.permutation(len(pool))[:count]) for pool, count in plan.pools]
        chosen = [[pool[number] for number in own] for (pool, _), own in zip(plan.pools, numbers, strict=True)]
        found[tuple(itertools.chain(*chosen))] = None
    return list(found)


def _chance(trials: Trials) -> float:
    _, counts = np.unique([prompt.answer for prompt in trials.prompts], return_counts=True)
    return float(counts.max() / counts.sum())


def _solves(trials: Trials) -> bool:
    chosen = trials.intact.chosen
    return bool(binomtest(int(chosen.sum()), len(chosen), _chance(trials), alternative="greater").pvalue <= _LEVEL)


def _alone(kinds: pd.DataFrame, most: int) -> list[dict[str, Any]]:
    """The heads to knock out one at a time."""
    if len(kinds) > most:
        family = kinds["kind"].str.partition(" ")[0]
        kinds = kinds[family.isin(_BOTH)].nlargest(most, "strength").sort_values(["layer", "head"])
    return row_dicts(kinds[["layer", "head", "kind"]])


def _rows(
    trials: Trials, plan: _Plan[Item], sets: Sequence[Sequence[Item]], *, solves: bool
) -> Iterator[dict[str, Any]]:
    """The plan's row of the table; none if it takes nothing away."""
    own = plan.run(plan.own)
    if own is None:
        return
    found = _measured(own, trials.intact)
    # Edges from a token that no window shows to the last one are nothing to take away.
    others = [_measured(plan.run(chosen) or trials.intact, trials.intact)["change"] for chosen in sets]
    compared = _compared(found["change"], np.array(others))
    few = f"only {len(sets)} random sets" if sets else f"no random sets: too few other {plan.control}"
    decided = solves and len(sets) >= LEAST_SETS
    yield {
        "what": plan.what,
        "heads": plan.heads,
        "control": plan.control,
        **found,
        **compared,
        "random_sets": len(sets),
        "verdict": _verdict(found, compared["p"], plan.control) if decided else UNDECIDED,
        "note": few if len(sets) < LEAST_SETS else "",
    }


def _measured(answers: Answers, intact: Answers) -> dict[str, float]:
    """Mean log-probability and accuracy, and the change of the former with its 95 % interval over prompts."""
    changes = answers.log_probability - intact.log_probability
    change = float(changes.mean())
    half = float(t.ppf(1 - _LEVEL / 2, len(changes) - 1) * changes.std(ddof=1) / len(changes) ** 0.5)
    return {
        "log_probability": float(answers.log_probability.mean()),
        "change": change,
        "low": change - half,
        "high": change + half,
        "accuracy": float(answers.first.mean()),
    }


def _compared(change: float, others: Float[np.ndarray, " sets"]) -> dict[str, float]:
    if not len(others):
        return dict.fromkeys(_COMPARED, math.nan)
    below = int((others <= change).sum())
    low, high = np.quantile(others, (_LEVEL / 2, 1 - _LEVEL / 2))
    return {
        "random_mean": float(others.mean()),
        "random_low": float(low),
        "random_high": float(high),
        "share_below": below / len(others),
        "p": (1 + below) / (1 + len(others)),
    }


def _verdict(found: Mapping[str, float], p: float, control: str) -> str:
    if p <= _LEVEL and found["high"] < -_LEAST_CHANGE:
        return MATTERS
    if p > _ORDINARY or found["low"] > -_LEAST_CHANGE:
        return f"no more than random {control}"
    return UNDECIDED
