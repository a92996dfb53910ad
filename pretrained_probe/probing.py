"""The whole probe of one model: prompts, scores, depth, knock-outs and the attention of one prompt."""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import track

from anchorlab import tasks
from anchorlab.analysis import attention_maps
from anchorlab.analysis.attention import sees_later_positions
from anchorlab.analysis.attention_hooks import attention_modules, heads_of
from anchorlab.engine.memory import is_out_of_memory
from anchorlab.errors import InputError

from .depth import depth_trend
from .fitting import out_of_memory
from .id_prompts import random_prompts, task_prompts
from .knockouts import NothingToKnockOut, knock_out
from .loading import Pretrained
from .name_prompts import book_prompt, name_prompts
from .probe import Probe, ShownAttention
from .prompts import Prompt, PromptSet
from .scoring import score_prompts
from .text_prompts import text_prompts

SHOWN_TOKENS = 128
_SHOWN_WEIGHTS = 2**26  # of all heads together
_TASK = "task:"

Item = TypeVar("Item")


def choose_prompts(
    pretrained: Pretrained,
    kind: str | None = None,
    *,
    count: int | None = None,
    length: int | None = None,
    column: str | None = None,
    language: str | None = None,
    seed: int = 0,
) -> PromptSet:
    """The prompts that `kind` names: `name` (the book's), `names`, `random`, `task:NAME`, or a text, table or dataset.

    By default `names`, or `random` for a model without tokenizer. `count` is how many there are (32, or the whole of a
    text), `length` the tokens of random prompts (64) and of a task's rows, and the most of a text's, `column` that of a
    table, `language` that of `names`. Raises `InputError` for a setting that the kind does not have, and as the
    functions that make them.
    """
    kind = kind or ("random" if pretrained.tokenizer is None else "names")
    given = {"count": count, "length": length, "column": column, "language": language}
    known = {"name": (), "names": ("count", "language"), "random": ("count", "length")}
    usable = known.get(kind, ("count", "length") if kind.startswith(_TASK) else ("count", "length", "column"))
    for name, value in given.items():
        if value is not None and name not in usable:
            raise InputError(f"{name}={value}: prompts={kind!r} have none; leave it out")
    if kind == "name":
        return book_prompt(pretrained.tokenizer)
    if kind == "names":
        return name_prompts(pretrained.tokenizer, count or 32, seed=seed, language=language or "en")
    if kind == "random":
        vocabulary = pretrained.model.config.get_text_config().vocab_size
        tokenizer = pretrained.tokenizer
        return random_prompts(vocabulary, n=count or 32, length=length or 64, seed=seed, tokenizer=tokenizer)
    if kind.startswith(_TASK):
        fields: dict[str, Any] = {} if length is None else {"length": length}
        return task_prompts(tasks.create(kind.removeprefix(_TASK), **fields), n=count or 32, seed=seed)
    return text_prompts(kind, pretrained.tokenizer, column=column, n=count, length=length, seed=seed)


def probe_model(
    pretrained: Pretrained,
    prompts: PromptSet,
    *,
    heads: Sequence[tuple[int, int]] = (),
    knock_outs: bool = True,
    seed: int = 0,
    progress: bool = False,
) -> Probe:
    """Score all heads of a model on `prompts`, say how scores change with depth, and knock heads out.

    `heads`, as (layer, head) from 1, are shown first and knocked out together, beside the heads of every kind.
    Without `knock_outs`, or where the prompts have no answers, heads are scored alone. `seed` is that of random sets
    and intervals.

    Raises:
        InputError: a model that reads later tokens, prompts or heads that it does not have room for, heads named
            twice, or too little memory, with the setting that would fit.
        NoAttentionError: a model without attention.
    """
    model = pretrained.model
    if sees_later_positions(model):
        raise InputError(f"model={pretrained.name}: reads later tokens too, so it is no causal language model")
    _check_heads(heads, len(attention_modules(model)), heads_of(model))
    doing = "attention was scored"
    try:
        scores = score_prompts(model, prompts, track=lambda layers: _tracked(layers, "layers", enabled=progress))
        doing = "one prompt's attention was read"
        attention = ShownAttention(shown := _beginning(prompts, pretrained), attention_maps(model, shown.tokens))
        doing = "heads were knocked out"
        knockouts, absent = None, {"knockouts": "it was not asked for"}
        if knock_outs:
            try:
                groups = {"chosen heads": heads} if heads else None
                knockouts = knock_out(model, prompts.prompts, scores, groups=groups, seed=seed, progress=progress)
                absent = {}
            except NothingToKnockOut as error:
                absent = {"knockouts": str(error)}
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(pretrained.source, doing, "fewer prompts (--count)", "shorter ones (--length)") from None
    return Probe(
        name=pretrained.name,
        source=pretrained.source,
        prompts=prompts,
        scores=scores,
        trend=depth_trend(scores, seed=seed),
        knockouts=knockouts,
        attention=attention,
        chosen=tuple(heads),
        absent=absent,
    )


def _check_heads(heads: Sequence[tuple[int, int]], layers: int, heads_of_layer: int) -> None:
    if len(set(heads)) < len(heads):
        raise InputError(f"heads={','.join(f'{layer}.{head}' for layer, head in heads)}: one is named twice")
    for layer, head in heads:
        if not (1 <= layer <= layers and 1 <= head <= heads_of_layer):
            raise InputError(
                f"heads={layer}.{head}: the model has layers 1 to {layers} with heads 1 to {heads_of_layer}"
            )


def _beginning(prompts: PromptSet, pretrained: Pretrained) -> Prompt:
    """The first tokens of the prompt whose key comes first, or of the first one without keys.

    The earlier the key, the more positions can read it. What tokens attend to does not depend on what follows.
    """
    prompt, model = min(prompts.prompts, key=lambda one: one.places.get("key", 0)), pretrained.model
    fitting = int((_SHOWN_WEIGHTS / (len(attention_modules(model)) * heads_of(model))) ** 0.5)
    length = min(len(prompt.tokens), SHOWN_TOKENS, fitting)
    places = {role: place for role, place in prompt.places.items() if place < length}
    whole = length == len(prompt.tokens)
    return Prompt(prompt.tokens[:length], prompt.pieces[:length], places, prompt.answer if whole else None)


def _tracked(items: Iterable[Item], what: str, *, enabled: bool) -> Iterable[Item]:
    return track(items, description=what, console=Console(stderr=True), disable=not enabled, transient=True)
