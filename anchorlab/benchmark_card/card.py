"""A card: what one network reached on the tasks, measured from its runs, as JSON that can be compared later."""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pandas as pd
from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError

from anchorlab.engine import Run
from anchorlab.errors import InputError
from anchorlab.files import replacing
from anchorlab.validation import from_validation_error, unknown_name

from .protocol import LEARNED, TASKS, BenchmarkTask, Protocol

SCHEMA_VERSION = 1


def printable(name: str) -> str:
    """The name of a network, if it can stand in a table; raises InputError otherwise."""
    if not name or not name.isprintable() or name != name.strip():
        raise InputError(f"name={name!r}: must be one line of printable characters, without spaces around them")
    return name


def _by_rows(diverged: object) -> object:
    """What diverged by number of rows: a 0 for all of them is what cards had before."""
    return {} if diverged == 0 else diverged


Name = Annotated[str, AfterValidator(printable)]
Accuracy = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
Natural = Annotated[int, Field(strict=True, ge=0)]
Count = Annotated[int, Field(strict=True, ge=1)]


class Spread(NamedTuple):
    """Mean, lowest and highest over seeds."""

    mean: Accuracy
    lowest: Accuracy
    highest: Accuracy

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of some values; a mean of 0.85 and 0.95 is 0.9, whatever floating point makes of it."""
        return cls(round(sum(values) / len(values), 9), min(values), max(values))


@dataclass(frozen=True, kw_only=True)
class TaskScore:
    """What a network reached on one task; accuracies are those at the end of training.

    Attributes:
        test: accuracy on keys that were not trained (data generalization), by number of training rows, ascending.
        ood: accuracy on pairs of anchors that were not trained (task generalization), at the most training rows; None
            for a task without such pairs.
        steps: the first evaluation at which the mean of test accuracy, at the most training rows, is at least
            `LEARNED`; None if there is none.
        parameters: trained numbers of the network for this task.
        diverged: how many trainings diverged, by number of training rows, where any did; they count as accuracy 0.
    """

    test: Mapping[int, Spread]
    ood: Spread | None
    steps: Natural | None
    parameters: Count
    diverged: Annotated[Mapping[int, Count], BeforeValidator(_by_rows)]

    @property
    def final(self) -> Spread:
        """Test accuracy at the most training rows."""
        return self.test[max(self.test)]

    @property
    def rows(self) -> int | None:
        """Sample efficiency: the fewest training rows with a mean test accuracy of at least `LEARNED`; None: more."""
        return next((rows for rows in sorted(self.test) if self.test[rows].mean >= LEARNED), None)


@dataclass(frozen=True, kw_only=True)
class Card:
    """The scores of one network under one protocol.

    Attributes:
        network: name of a network of this package, or FILE.py:FUNCTION or package.module:FUNCTION.
        settings: what it was made with (settings of `Experiment`).
        scale: of the protocol.
        protocol: the protocol's `key`.
        steps: optimizer steps of the longest training, if nothing ends it early.
        seeds: trials.
        scores: by task.
    """

    network: Name
    settings: Mapping[str, Any]
    scale: Name
    protocol: Name
    steps: Count
    seeds: Count
    scores: Annotated[Mapping[str, TaskScore], Field(validation_alias="tasks", min_length=1)]

    def record(self) -> dict[str, Any]:
        """The card in JSON types; `rows` and `steps` are None where the network did not get so far."""
        return {
            "schema_version": SCHEMA_VERSION,
            **{name: value for name, value in vars(self).items() if name != "scores"},
            "learned": LEARNED,
            "tasks": {
                name: {
                    "test": {str(rows): spread._asdict() for rows, spread in score.test.items()},
                    "ood": score.ood and score.ood._asdict(),
                    "rows": score.rows,
                    "steps": score.steps,
                    "parameters": score.parameters,
                    "diverged": {str(rows): count for rows, count in score.diverged.items()},
                }
                for name, score in self.scores.items()
            },
        }


_ADAPTER = TypeAdapter(Card)


def measure(
    runs: Mapping[tuple[str, int, int], Run], tasks: Mapping[str, BenchmarkTask], name: str, protocol: Protocol
) -> Card:
    """The card of ended runs by task, number of training rows and seed; all combinations of these are there."""
    histories = {key: _history(run, tasks[key[0]].group) for key, run in runs.items()}
    first = next(iter(runs.values()))
    chosen = ("model", "model_options", "layers", "heads", "width", "head_width", "feed_forward_width")
    return Card(
        network=name,
        settings={field: first.config[field] for field in (*chosen, "initialization_rule")},
        scale=protocol.scale,
        protocol=protocol.key,
        steps=max(run.config["total_steps"] for run in runs.values()),
        seeds=len({seed for _, _, seed in runs}),
        scores={task: _score(task, runs, histories) for task in dict.fromkeys(task for task, _, _ in runs)},
    )


class _History(NamedTuple):
    """Accuracy of one run by step, and at its end; 0 at the end of a training that diverged."""

    test: Mapping[int, float]
    final: float
    ood: float | None


def _history(run: Run, group: str) -> _History:
    table = run.metrics()
    table = table[(table.metric == "accuracy") & (table.group == group)]
    test, ood = _by_step(table, "test"), _by_step(table, "ood")
    if run.status == "diverged":
        return _History(dict.fromkeys(test, 0.0), 0.0, 0.0 if ood else None)
    return _History(test, test[max(test)], ood[max(ood)] if ood else None)


def _by_step(table: pd.DataFrame, split: str) -> dict[int, float]:
    rows = table[table.split == split]
    return dict(zip(rows.step.tolist(), rows.value.tolist(), strict=True))


def _score(
    task: str, runs: Mapping[tuple[str, int, int], Run], histories: Mapping[tuple[str, int, int], _History]
) -> TaskScore:
    sizes = sorted({rows for name, rows, _ in runs if name == task})
    by_size = {size: [h for (name, rows, _), h in histories.items() if (name, rows) == (task, size)] for size in sizes}
    most = by_size[sizes[-1]]
    ood = [history.ood for history in most if history.ood is not None]
    mine = {key: run for key, run in runs.items() if key[0] == task}
    return TaskScore(
        test={size: Spread.of([history.final for history in found]) for size, found in by_size.items()},
        ood=Spread.of(ood) if ood else None,
        steps=_first_step([history.test for history in most]),
        parameters=next(iter(mine.values())).config["parameters"],
        diverged=dict(Counter(rows for (_, rows, _), run in mine.items() if run.status == "diverged")),
    )


def _first_step(histories: Sequence[Mapping[int, float]]) -> int | None:
    """The first step at which the mean over histories is high enough; what ended early stays as it was."""
    for step in sorted(set().union(*histories)):
        reached = [history[max(known for known in history if known <= step)] for history in histories]
        if Spread.of(reached).mean >= LEARNED:
            return step
    return None


def write_card(card: Card, path: Path) -> None:
    """Write a card as JSON."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(card.record(), indent=1, allow_nan=False) + "\n")


def read_card(path: Path, protocol: Protocol) -> Card:
    """The card in a file.

    Raises InputError for a file that holds none, or one with a value that no benchmark gives, and for a card of another
    schema version or protocol.
    """
    where = f"card={str(path)!r}"
    try:
        content = json.loads(path.read_bytes())
        version = content["schema_version"]
        card = _ADAPTER.validate_python(content) if version == SCHEMA_VERSION else None
    except ValidationError as error:
        raise InputError(f"{where}: is no card of a benchmark ({from_validation_error(error)})") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{where}: is no card of a benchmark ({type(error).__name__}: {error})") from None
    if card is None:
        raise InputError(
            f"{where}: has schema version {version!r}, this anchorlab reads {SCHEMA_VERSION}; measure anew"
        )
    if (card.scale, card.protocol) != (protocol.scale, protocol.key):
        raise InputError(
            f"{where}: was measured by protocol {card.protocol} at scale {card.scale}, not by {protocol.key} at "
            f"{protocol.scale}; measure anew"
        )
    _check_scores(where, card.scores, protocol)
    return card


def _check_scores(where: str, scores: Mapping[str, TaskScore], protocol: Protocol) -> None:
    """Raise InputError for a task that the protocol does not have, or other numbers of training rows than it has."""
    for task, score in scores.items():
        if task not in TASKS:
            raise InputError(f"{where}: {unknown_name('tasks', task, TASKS)}")
        for field, sizes, allowed in (
            ("test", set(score.test), set(score.test) == set(protocol.rows)),
            ("diverged", set(score.diverged), set(score.diverged) <= set(protocol.rows)),
        ):
            if not allowed:
                raise InputError(
                    f"{where}: tasks.{task}.{field}: is of {_numbers(sizes)} training rows; the protocol has "
                    f"{_numbers(protocol.rows)}"
                )


def _numbers(values: Collection[int]) -> str:
    return ", ".join(map(str, sorted(values))) or "no"
