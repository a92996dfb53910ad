"""A card: what one network reached on the tasks, measured from its runs, as JSON that can be compared later."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from anchorlab.engine import Run
from anchorlab.errors import InputError
from anchorlab.files import replacing

from .protocol import LEARNED, BenchmarkTask, Protocol

SCHEMA_VERSION = 1


class Spread(NamedTuple):
    """Mean, lowest and highest over seeds."""

    mean: float
    lowest: float
    highest: float

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
        diverged: how many trainings diverged; they count as accuracy 0.
    """

    test: Mapping[int, Spread]
    ood: Spread | None
    steps: int | None
    parameters: int
    diverged: int

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
        steps: optimizer steps of the longest training.
        seeds: trials.
        scores: by task.
    """

    network: str
    settings: Mapping[str, Any]
    scale: str
    protocol: str
    steps: int
    seeds: int
    scores: Mapping[str, TaskScore]

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
                    "diverged": score.diverged,
                }
                for name, score in self.scores.items()
            },
        }


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
    mine = [run for (name, _, _), run in runs.items() if name == task]
    return TaskScore(
        test={size: Spread.of([history.final for history in found]) for size, found in by_size.items()},
        ood=Spread.of(ood) if ood else None,
        steps=_first_step([history.test for history in most]),
        parameters=mine[0].config["parameters"],
        diverged=sum(run.status == "diverged" for run in mine),
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

    Raises InputError for a file that holds none, and for a card of another schema version or protocol.
    """
    where = f"card={str(path)!r}"
    try:
        content = json.loads(path.read_text())
        version = content["schema_version"]
        if version == SCHEMA_VERSION:
            card = _card(content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{where}: is no card of a benchmark ({type(error).__name__}: {error})") from None
    if version != SCHEMA_VERSION:
        raise InputError(f"{where}: has schema version {version}, this anchorlab reads {SCHEMA_VERSION}; measure anew")
    if (card.scale, card.protocol) != (protocol.scale, protocol.key):
        raise InputError(
            f"{where}: was measured by protocol {card.protocol} at scale {card.scale}, not by {protocol.key} at "
            f"{protocol.scale}; measure anew"
        )
    return card


def _card(content: Mapping[str, Any]) -> Card:
    def spread(found: Mapping[str, float]) -> Spread:
        return Spread(**{field: float(found[field]) for field in Spread._fields})

    scores = {
        name: TaskScore(
            test={int(rows): spread(found) for rows, found in task["test"].items()},
            ood=spread(task["ood"]) if task["ood"] else None,
            **{field: task[field] for field in ("steps", "parameters", "diverged")},
        )
        for name, task in content["tasks"].items()
    }
    fields = {name: content[name] for name in ("network", "settings", "scale", "protocol", "steps", "seeds")}
    return Card(**fields, scores=scores)
