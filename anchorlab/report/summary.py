"""The top of the page: what was trained, what came out, and worked examples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from anchorlab.analysis import Example, Explanation
from anchorlab.analysis.commutativity import overall

from .sentences import listed, unseen_pairs

_PHASES = {
    1: "does not answer even the seen pairs reliably",
    2: "has learned the pairs it was trained on, not what each anchor does",
    3: "combines single anchors: it is right on pairs it never saw",
}
_SETTING_NAMES = {
    "initialization_rate": "initialization rate γ",
    "weight_decay": "weight decay λ",
    "train_rows": "training rows",
}
RATE_MEANINGS = {
    "arxiv-2405.05409": "Larger γ means smaller initial weights (standard deviation d^−γ, d: a matrix's inputs).",
    "arxiv-2501.08537": "Larger γ means smaller initial weights (standard deviation d^−γ, d: the network's width).",
    "constant": "Larger γ means larger initial weights (γ is the standard deviation of every matrix).",
    "scaled-lecun": "Larger γ means larger initial weights (standard deviation γ / √d, d: a matrix's inputs).",
}
_NOT_COMPARED = ("name", "out", "schema_version", "task_fields")


@dataclass(frozen=True)
class Card:
    """The verdict on one member, and the measured numbers as (name, value) pairs."""

    member: str
    verdict: str
    meaning: str
    numbers: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Answered:
    """An example row with what each member answers: (member, answer, right, probability)."""

    title: str
    example: Example
    relation: str
    answers: tuple[tuple[str, str, bool, str], ...]


def cards(members: Mapping[str, Explanation]) -> list[Card]:
    """One card a member."""
    return [Card(name, *_verdict(explanation), tuple(_numbers(explanation))) for name, explanation in members.items()]


def _verdict(explanation: Explanation) -> tuple[str, str]:
    if explanation.status != "finished":
        note = f"training has not finished: {explanation.status}"
        return (f"Phase {explanation.phase.number}" if explanation.phase else explanation.status.capitalize()), note
    if explanation.phase is None:
        return "Trained", f"no phase: {explanation.reason('phase')}"
    return f"Phase {explanation.phase.number}", _PHASES[explanation.phase.number]


def _numbers(explanation: Explanation) -> list[tuple[str, str]]:
    numbers = []
    if explanation.phase is not None:
        numbers += [
            ("accuracy on seen pairs (ID)", f"{explanation.phase.id_accuracy:.3f}"),
            ("accuracy on unseen pairs (OOD)", f"{explanation.phase.ood_accuracy:.3f}"),
        ]
    elif explanation.accuracy is not None:
        numbers += [(f"accuracy ({split})", f"{mean:.3f}") for split, mean in _split_means(explanation.accuracy)]
    else:
        numbers += _recorded(explanation.metrics)
    if explanation.commutativity is not None and len(explanation.commutativity):
        unseen = bool((explanation.commutativity["unseen"] != "no").any())
        value = overall(explanation.commutativity, unseen_only=unseen)
        numbers.append((f"commutativity{' on unseen pairs' if unseen else ''}", f"{value:.3f}"))
    if explanation.answer_classes is not None:
        total = explanation.answer_classes.iloc[-1]
        shares = " / ".join(f"{total[name]:.0%}" for name in ("inferential", "symmetric", "other"))
        numbers.append(("inferential / symmetric / other", shares))
    return numbers


def _split_means(table: pd.DataFrame) -> list[tuple[str, float]]:
    return [
        (str(split), float((rows["accuracy"] * rows["rows"]).sum() / rows["rows"].sum()))
        for split, rows in table.groupby("split")
    ]


def _recorded(metrics: pd.DataFrame) -> list[tuple[str, str]]:
    chosen = metrics[(metrics["group"] == "") & (metrics["metric"] == "accuracy")].sort_values("step")
    return [
        (f"recorded accuracy ({split})", f"{value:.3f}")
        for split, value in chosen.groupby("split")["value"].last().items()
    ]


def differences(members: Mapping[str, Explanation]) -> list[tuple[str, list[str]]]:
    """Settings in which the members differ: (name, one value a member)."""
    settings = [_settings(explanation.config) for explanation in members.values()]
    if len({flat.get("task") for flat in settings}) > 1:
        settings = [{key: value for key, value in flat.items() if not key.startswith("task: ")} for flat in settings]
    keys = list(dict.fromkeys(key for flat in settings for key in flat))
    rows = [(key, [_shown(flat.get(key)) for flat in settings]) for key in keys if key not in _NOT_COMPARED]
    return [(_SETTING_NAMES.get(key, key.replace("_", " ")), values) for key, values in rows if len(set(values)) > 1]


def rate_meaning(members: Mapping[str, Explanation]) -> str:
    """What γ does under the members' initialization rule; empty if they have several rules or one without a rate."""
    used = {explanation.config.get("initialization_rule", "") for explanation in members.values()}
    return RATE_MEANINGS.get(used.pop(), "") if len(used) == 1 else ""


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    task = config.get("task") or {}
    others = {key: value for key, value in config.items() if key != "task"}
    return {"task": task.get("name")} | _flat(others) | _flat(task.get("fields", {}), "task: ")


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _shown(value: Any) -> str:
    return "–" if value is None else str(value)


def introduction(members: Mapping[str, Explanation]) -> str:
    """How many networks of which shape, on which task, and which pairs they never saw."""
    found = list(members.values())
    shapes = sorted({_shape(explanation) for explanation in found})
    names = sorted({_task_name(explanation) for explanation in found})
    verb = "was" if len(found) == 1 else "were"
    text = f"{count(found)} {verb} trained on {' and '.join(names)} ({'; '.join(shapes)})."
    unseen = {pair for explanation in found for pair in _unseen_pairs(explanation)}
    if unseen:
        which = (
            f"The pair {listed(sorted(unseen))} was" if len(unseen) == 1 else f"The pairs {listed(sorted(unseen))} were"
        )
        text += (
            f" Two anchors in each row say what to do with a number. {which} kept out of training: "
            "only a network that has learned what each single anchor does can answer them."
        )
    return text


def count(found: Sequence[Explanation]) -> str:
    """`One network`, `Two networks`, …"""
    word = {1: "One", 2: "Two", 3: "Three", 4: "Four"}.get(len(found), str(len(found)))
    return f"{word} network{'' if len(found) == 1 else 's'}"


def _unseen_pairs(explanation: Explanation) -> list[str]:
    return [] if explanation.pair_matrix is None else unseen_pairs(explanation.pair_matrix)


def _task_name(explanation: Explanation) -> str:
    task = explanation.config.get("task")
    return f"the task “{task['name']}”" if task else "the user's own data"


def _shape(explanation: Explanation) -> str:
    config = explanation.config
    parts = [str(config["model"])] if "model" in config else []
    for field, unit in (("layers", "layer"), ("heads", "head")):
        if field in config:
            parts.append(f"{config[field]} {unit}{'' if config[field] == 1 else 's'}")
    if "width" in config:
        parts.append(f"width {config['width']}")
    if explanation.parameters is not None:
        parts.append(f"{explanation.parameters:,} parameters")
    return ", ".join(parts)


def rules(members: Mapping[str, Explanation]) -> tuple[str, dict[str, str]]:
    """How anchors act (`left to right` or the reverse) and what each does; empty unless all members' tasks agree."""
    found = [(explanation.config.get("task") or {}).get("fields", {}) for explanation in members.values()]
    stated = [(fields.get("order", ""), fields.get("operations"), fields.get("overrides", {})) for fields in found]
    order, operations, overrides = stated[0]
    if not isinstance(operations, Mapping) or any(other != stated[0] for other in stated):
        return "", {}
    named = dict(operations) | {f"({pair}) as an exception": rule for pair, rule in overrides.items()}
    return str(order).replace("_", " "), {str(anchor): _in_words(str(rule)) for anchor, rule in named.items()}


def _in_words(rule: str) -> str:
    kind, _, value = rule.partition(":")
    if kind == "add" and value.lstrip("+-").isdecimal():
        return f"x → x {'−' if value.startswith('-') else '+'} {value.lstrip('+-')}"
    return rule


def worked_examples(members: Mapping[str, Explanation]) -> list[Answered]:
    """Every distinct example row with the answers of the members that were asked it."""
    asked: dict[tuple[str, tuple[str, ...]], list[tuple[str, Example]]] = {}
    for name, explanation in members.items():
        for example in explanation.examples:
            asked.setdefault((_kind(explanation, example), example.tokens), []).append((name, example))
    return [_answered(kind, answers) for (kind, _), answers in asked.items()]


def _kind(explanation: Explanation, example: Example) -> str:
    if all(other.split != "ood" for other in explanation.examples):
        return f"a row of the {example.split} split"
    return "a pair never seen in training" if example.split == "ood" else "a pair seen in training, in a new row"


def _answered(kind: str, answers: Sequence[tuple[str, Example]]) -> Answered:
    example = answers[0][1]
    rows = tuple((name, row.answer, row.correct, f"{row.probability:.2f}") for name, row in answers)
    return Answered(f"{example.group}: {kind}", example, _relation(example), rows)


def _relation(example: Example) -> str:
    key = next((token for token, role in zip(example.tokens, example.roles, strict=True) if role == "key"), "")
    if not (key.isdecimal() and example.label.isdecimal()):
        return ""
    shift = int(example.label) - int(key)
    return f" = {key} {'−' if shift < 0 else '+'} {abs(shift)}"
