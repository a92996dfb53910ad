"""Grids: the product of values of several settings, in an order that fills the whole grid from the start."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import cycle, product
from typing import Any

import numpy as np

from anchorlab.errors import InputError
from anchorlab.validation import check_known

from .axes import GROUPS, SEEDS, distinct, identity, is_part, names
from .experiment import Experiment
from .values import parse_values

MOST_MEMBERS = 100_000
_PRIMES = (2, 3, 5, 7, 11, 13)


def grid(
    settings: Mapping[str, Any], vary: Mapping[str, Sequence[Any] | str], *, seeds: int | Sequence[int] = 1
) -> dict[str, Experiment]:
    """Experiments for all combinations of the values in `vary`, by name (`gamma0.3-decay0.01-seed0`).

    `settings` are the fields of Experiment that all share. `vary` gives lists of values, or texts that `parse_values`
    reads, for fields of Experiment, `task.NAME` and `model.NAME`. `seeds`: so many independent trials, or their
    numbers; a trial's number is its `seed` and its `data_seed`, apart from one that `settings` or `vary` give.

    All cells of the first trial come before those of the second. Within a trial the cells follow a low-discrepancy
    order: in any prefix the values of an axis are equally frequent, give or take one.

    Raises InputError, naming the field, for anything that is not a valid grid of valid experiments.
    """
    axes = {field: _values(field, values) for field, values in vary.items()}
    _check_given_once(settings, axes)
    trials = _trials(seeds, [field for field in SEEDS if field not in settings and field not in axes])
    size = math.prod(map(len, axes.values())) * len(trials)
    if size > MOST_MEMBERS:
        raise InputError(f"vary: gives {size:,} members; at most {MOST_MEMBERS:,} are allowed")
    members = [_experiment(settings, trial | cell) for trial, cell in _ordered(axes, trials)]
    if members[0].steps is None and members[0].epochs is None:
        raise InputError("steps: give steps or epochs")
    fields = [*(field for field in axes if field not in SEEDS), *_named_seeds(axes, trials)]
    named = dict(zip(names(members, fields), members, strict=True))
    if len(named) < size:
        raise InputError(f"vary: {_duplicated(axes, members)} has two values that mean the same; give each once")
    return named


def _values(field: str, values: Sequence[Any] | str) -> list[Any]:
    if field in GROUPS.values():
        raise InputError(f"vary: {field!r} cannot vary as a whole; vary task.NAME or model.NAME")
    if not is_part(field):
        check_known("vary", field, Experiment.__dataclass_fields__)
    found = _listed(field, values)
    if not found:
        raise InputError(f"{field}: the list of values is empty")
    known = set()
    for value in found:
        if (key := identity(value)) in known:
            raise InputError(f"{field}={value!r}: is given twice; give every value once")
        known.add(key)
    return found


def _listed(field: str, values: Any) -> list[Any]:
    if isinstance(values, str):
        return parse_values(field, values)
    if isinstance(values, np.ndarray):
        values = values.tolist()
    if not isinstance(values, Sequence):
        raise InputError(f"{field}={values!r}: must be a list of values, or a text such as '0.3:0.9:0.05'")
    return [value.item() if isinstance(value, np.generic) else value for value in values]


def _check_given_once(settings: Mapping[str, Any], axes: Mapping[str, list[Any]]) -> None:
    for field in axes:
        group, dot, name = field.partition(".")
        if field in settings or (dot and name in _part(settings, group)):
            raise InputError(f"{field}: is both set and varied; do one of the two")


def _part(settings: Mapping[str, Any], group: str) -> Mapping[str, Any]:
    given = settings.get(GROUPS[group], {})
    if not isinstance(given, Mapping):
        raise InputError(f"{GROUPS[group]}={given!r}: must map names to values")
    return given


def _trials(seeds: int | Sequence[int], free: list[str]) -> list[dict[str, Any]]:
    if isinstance(seeds, int) and not isinstance(seeds, bool):
        if seeds < 1:
            raise InputError(f"seeds={seeds}: must be at least 1")
        if seeds > MOST_MEMBERS:
            raise InputError(f"seeds={seeds}: at most {MOST_MEMBERS:,} are allowed")
        if seeds == 1 and "seed" not in free:
            return [{}]  # nothing asks for trials
        numbers = list(range(seeds))
    else:
        numbers = list(seeds) if isinstance(seeds, Sequence) and not isinstance(seeds, str) else []
        if not numbers or any(isinstance(number, bool) or not isinstance(number, int) for number in numbers):
            raise InputError(f"seeds={seeds!r}: must be a number of trials or a list of their seeds")
        for index, number in enumerate(numbers):
            if number in numbers[:index]:
                raise InputError(f"seeds={number}: is given twice; give every seed once")
    if not free:
        raise InputError(f"seeds={seeds!r}: seed and data_seed are both given; leave seeds or one of them out")
    return [dict.fromkeys(free, number) for number in numbers]


def _named_seeds(axes: Mapping[str, list[Any]], trials: Sequence[Mapping[str, Any]]) -> list[str]:
    """The seeds that a name shows; of a trial's two equal ones the first is enough."""
    shown = [field for field in SEEDS if field in axes]
    shown += [field for field in SEEDS if field in trials[0]][:1]
    return sorted(shown, key=SEEDS.index) or ([] if axes else ["seed"])


def _ordered(
    axes: Mapping[str, list[Any]], trials: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    seeds = {field: values for field, values in axes.items() if field in SEEDS}
    cells = {field: values for field, values in axes.items() if field not in SEEDS}
    places = even_order([len(values) for values in cells.values()])
    for trial in trials:
        for numbers in product(*seeds.values()):
            outer = {**trial, **dict(zip(seeds, numbers, strict=True))}
            for place in places:
                chosen = (values[index] for values, index in zip(cells.values(), place, strict=True))
                yield outer, dict(zip(cells, chosen, strict=True))


def _experiment(settings: Mapping[str, Any], chosen: Mapping[str, Any]) -> Experiment:
    known = {**settings, **{field: value for field, value in chosen.items() if not is_part(field)}}
    for group, field in GROUPS.items():
        prefix = f"{group}."
        parts = {name.removeprefix(prefix): value for name, value in chosen.items() if name.startswith(prefix)}
        if parts:
            known[field] = {**_part(settings, group), **parts}
    return Experiment(**known)


def _duplicated(axes: Mapping[str, list[Any]], members: Iterable[Experiment]) -> str:
    """The axis of which two values have become one by the checks of Experiment, such as 1 and '1'."""
    plain = [field for field in axes if not is_part(field)]
    found = list(members)
    return next(field for field in plain if len(distinct(getattr(m, field) for m in found)) < len(axes[field]))


def even_order(sizes: Sequence[int]) -> list[tuple[int, ...]]:
    """All places of a grid, each once; in any prefix the places of one axis are equally frequent, give or take one.

    Every axis is passed through again and again in the order of van der Corput's sequence, each in a base of its own
    (as in Halton's sequence). Where two axes would meet in the same places again, one of them skips a place.
    """
    order: list[tuple[int, ...]] = [()]
    for size, base in zip(sizes, cycle(_PRIMES), strict=False):
        axis = _van_der_corput(size, base)
        period = math.lcm(len(order), size)
        order = [(*order[turn % len(order)], axis[(turn + turn // period) % size]) for turn in range(len(order) * size)]
    return order


def _van_der_corput(size: int, base: int) -> list[int]:
    """0..size-1 in the order in which van der Corput's sequence first visits these parts of an interval."""
    visited: dict[int, None] = {}
    number = 0
    while len(visited) < size:
        visited[int(_radical_inverse(number, base) * size)] = None
        number += 1
    return list(visited)


def _radical_inverse(number: int, base: int) -> float:
    """The digits of `number`, mirrored at the point."""
    value, weight = 0.0, 1.0
    while number:
        number, digit = divmod(number, base)
        weight /= base
        value += digit * weight
    return value
