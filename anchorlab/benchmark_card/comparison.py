"""Cards of one protocol side by side: one table, as text and as Markdown."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from .card import Card, Spread, TaskScore
from .protocol import LEARNED

HEADER = ("task", "network", "data generalization", "task generalization", "rows needed", "steps needed")
_MEANS = "mean"


class TableRow(NamedTuple):
    """One network on one task, or on the mean of them, in words."""

    task: str
    network: str
    data_generalization: str
    task_generalization: str
    rows: str
    steps: str


@dataclass(frozen=True)
class Comparison:
    """Cards of one protocol; the first one is the card that was asked for.

    `notes` tell which cards were left out; `folder` has the card's runs, `card.json` and `card.md`.
    """

    cards: tuple[Card, ...]
    notes: tuple[str, ...]
    folder: Path

    @property
    def card(self) -> Card:
        """The card that was asked for."""
        return self.cards[0]

    def rows(self) -> list[TableRow]:
        """The table: for every task of the card a row of each network, then the means over these tasks."""
        names = list(self.card.scores)
        table = [_row(task, card, card.scores[task]) for task in names for card in self.cards if task in card.scores]
        if len(names) > 1:
            complete = [card for card in self.cards if card.scores.keys() >= set(names)]
            table += [_mean_row(card, names) for card in complete]
        return table

    def text(self) -> str:
        """The table in aligned columns, with what its columns mean."""
        table = [HEADER, *(self._grouped())]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in table]
        return "\n".join([*(line.rstrip() for line in lines), *self.legend(), *self.notes])

    def markdown(self) -> str:
        """The table in Markdown, with what its columns mean."""
        rows = (HEADER, ["---"] * len(HEADER), *self._grouped())
        lines = ["| " + " | ".join(map(_escaped, row)) + " |" for row in rows]
        return "\n".join([*lines, "", *(f"- {line}" for line in (*self.legend(), *self.notes))]) + "\n"

    def legend(self) -> list[str]:
        """What was measured, in lines."""
        card, sizes = self.card, sorted(next(iter(self.card.scores.values())).test)
        seeds = {card.network: card.seeds for card in self.cards}
        counts = ", ".join(f"{network} {count}" for network, count in seeds.items())
        shown = str(card.seeds) if len(set(seeds.values())) == 1 else counts
        return [
            f"scale {card.scale}, protocol {card.protocol}; mean (lowest-highest) over seeds: {shown}",
            f"data generalization: test accuracy on keys that were not trained, after {sizes[-1]} training rows",
            "task generalization: accuracy on pairs of anchors that were not trained, where a task has such pairs",
            f"rows needed: fewest of {', '.join(map(str, sizes))} training rows with mean test accuracy {LEARNED:g}",
            f"steps needed: first evaluation with mean test accuracy {LEARNED:g}, with {sizes[-1]} training rows",
        ]

    def _grouped(self) -> Iterator[Sequence[str]]:
        """The rows, with the name of a task in the first of its rows alone."""
        before = ""
        for row in self.rows():
            yield row if row.task != before else row._replace(task="")
            before = row.task


def _escaped(cell: str) -> str:
    """The cell in Markdown, where a bar would end it."""
    return re.sub(r"([\\|])", r"\\\1", cell)


def _row(task: str, card: Card, score: TaskScore) -> TableRow:
    most = max(score.test)
    with_most = score.diverged.get(most, 0)
    return TableRow(
        task,
        card.network,
        _spread(score.final) + _diverged(with_most),
        "-" if score.ood is None else _spread(score.ood),
        (f"more than {most}" if score.rows is None else str(score.rows))
        + _diverged(sum(score.diverged.values()) - with_most),
        f"more than {card.steps}" if score.steps is None else str(score.steps),
    )


def _mean_row(card: Card, tasks: Sequence[str]) -> TableRow:
    scores = [card.scores[task] for task in tasks]
    ood = [score.ood.mean for score in scores if score.ood is not None]
    return TableRow(
        _MEANS,
        card.network,
        f"{_mean([score.final.mean for score in scores]):.2f}",
        f"{_mean(ood):.2f}" if ood else "-",
        f"{sum(score.rows is not None for score in scores)} of {len(scores)} learned",
        "",
    )


def _diverged(count: int) -> str:
    return f", {count} diverged" if count else ""


def _spread(spread: Spread) -> str:
    same = spread.lowest == spread.highest
    return f"{spread.mean:.2f}" if same else f"{spread.mean:.2f} ({spread.lowest:.2f}-{spread.highest:.2f})"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
