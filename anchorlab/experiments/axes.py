"""What differs between the experiments of a sweep, and the names that follow from it."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any

from .experiment import Experiment

# Settings of the task and of the model are written task.NAME and model.NAME.
GROUPS = {"task": "task_fields", "model": "model_options"}
SEEDS = ("seed", "data_seed")
LONGEST_NAME = 200

_SHORT_FIELDS = {"initialization_rate": "gamma", "weight_decay": "decay"}
_LONGEST_VALUE = 40


def is_part(field: str) -> bool:
    """Whether `field` is written task.NAME or model.NAME."""
    group, dot, name = field.partition(".")
    return bool(dot and name) and group in GROUPS


def setting(experiment: Experiment, field: str) -> Any:
    """The value of a field, also of `task.NAME` and `model.NAME`."""
    if not is_part(field):
        return getattr(experiment, field)
    group, _, name = field.partition(".")
    return getattr(experiment, GROUPS[group]).get(name, "default")


def varied(experiments: Sequence[Experiment]) -> dict[str, list[Any]]:
    """The fields that are not the same in all experiments, with their values; seeds come last.

    Numbers are sorted, other values in order of appearance. `data_seed` is left out where it always is `seed`.
    """
    found = {}
    for field in _fields(experiments):
        values = distinct(setting(experiment, field) for experiment in experiments)
        if len(values) > 1:
            found[field] = sorted(values) if all(_is_number(value) for value in values) else values
    if "seed" in found and all(experiment.seed == experiment.data_seed for experiment in experiments):
        del found["data_seed"]
    return {field: found[field] for field in sorted(found, key=lambda field: field in SEEDS)}


def names(experiments: Sequence[Experiment], fields: Sequence[str]) -> list[str]:
    """File names made of the values of `fields`, which tell the experiments apart: `gamma0.3-decay0.01-seed0`."""
    texts = {field: _value_texts(distinct(setting(e, field) for e in experiments)) for field in fields}

    def name(experiment: Experiment) -> str:
        return "-".join(
            _SHORT_FIELDS.get(field, field) + texts[field][identity(setting(experiment, field))] for field in fields
        )

    return [_shortened(name(experiment), LONGEST_NAME) for experiment in experiments]


def distinct(values: Iterable[Any]) -> list[Any]:
    """The values without repetitions, in order of appearance."""
    return list({identity(value): value for value in values}.values())


def identity(value: Any) -> str:
    """A text that two values share if they mean the same: 1 and 1.0, a list and a tuple."""
    if not _is_number(value):
        return json.dumps(value, sort_keys=True, default=repr)
    return str(int(value)) if abs(value) < 1e15 and value == int(value) else repr(value)


def value_text(value: Any) -> str:
    """A value as a reader would write it: 0.6 also for the 0.6000000000000001 that arithmetic may give."""
    if isinstance(value, str):
        return value
    return f"{value:.12g}" if isinstance(value, float) and not value.is_integer() else identity(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _fields(experiments: Sequence[Experiment]) -> list[str]:
    plain = [field for field in Experiment.__dataclass_fields__ if field not in GROUPS.values()]
    parts = {f"{group}.{name}" for group, field in GROUPS.items() for e in experiments for name in getattr(e, field)}
    return [*plain, *sorted(parts)]


def _value_texts(values: list[Any]) -> dict[str, str]:
    """A short text for every value, by identity; a hash is added where two values would read the same."""
    texts = {identity(value): _value_text(value) for value in values}
    # File systems may not tell capitals apart.
    uses = Counter(text.casefold() for text in texts.values())
    return {key: text if uses[text.casefold()] == 1 else f"{text}_{_hash(key)}" for key, text in texts.items()}


def _value_text(value: Any) -> str:
    if _is_number(value):
        return value_text(value)
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), default=repr)
    # The dash separates the fields of a name.
    return _shortened(re.sub(r"[^A-Za-z0-9.]+", "_", text).strip("_"), _LONGEST_VALUE)


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 9]}_{_hash(text)}"


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:8]
