"""Train one network on all tasks by the protocol and set its card beside the shipped ones."""

import os
import re
from collections.abc import Collection, Sequence
from importlib.resources import as_file, files
from pathlib import Path

import torch

from anchorlab.errors import InputError
from anchorlab.experiments import sweep
from anchorlab.experiments.placement import Placement
from anchorlab.files import replacing
from anchorlab.validation import check_known

from .card import Card, measure, printable, read_card, write_card
from .comparison import Comparison
from .protocol import TASKS, Protocol, protocol_of

_CARD, _TABLE = "card.json", "card.md"
_UNSAFE = re.compile(r"[^A-Za-z0-9._=+]+")


def benchmark(
    network: str,
    *,
    out: Path | str | None = None,
    scale: str = "laptop",
    tasks: Sequence[str] | None = None,
    seeds: int | None = None,
    beside: Sequence[Path | str] = (),
    name: str | None = None,
    progress: bool | None = None,
) -> Comparison:
    """Train a network on the nine tasks of section 12.6 by one protocol and compare it with the shipped cards.

    All trainings are one sweep, in `out/runs`; the same call on the same folder continues it and repeats nothing that
    has ended. `out/card.json` then has the network's own card and `out/card.md` the table.

    Args:
        network: FILE.py:FUNCTION or package.module:FUNCTION, of which FUNCTION(vocabulary_size, max_length) returns a
            `torch.nn.Module` from token ids [batch, length] to logits [batch, length, vocabulary], or [batch,
            vocabulary] behind the last token (see `anchorlab.models.factory`); or `gpt2`, `post_ln`, `lstm`, `fnn`.
        out: folder (default: named by network and scale, under `runs/`).
        scale: `smoke` (seconds), `laptop` (minutes) or `paper` (the sizes of the source).
        tasks: some of the nine (default: all).
        seeds: trials (default: the protocol's number).
        beside: cards (`card.json`) of other networks to be shown too.
        name: what the card calls the network (default: the factory without its folder); not as one of this package.
        progress: a table on standard error (default: if that is a terminal).

    Raises:
        InputError: an unknown network, scale or task; a factory that does not make a network for the vocabulary of
            every task; a card of another protocol or schema version, or of a name that is taken; a folder with other
            trainings, or that cannot be written to.
        Interrupted: stopped; the same call continues.
    """
    protocol = protocol_of(scale)
    chosen = _tasks(tasks)
    if seeds is not None and seeds < 1:
        raise InputError(f"seeds={seeds}: must be at least 1")
    settings = protocol.network(network)
    others = [read_card(Path(path), protocol) for path in beside]
    shipped, notes = shipped_cards(protocol)
    title = name if name is not None else network if network in protocol.networks else Path(network).name
    if printable(title) != network:
        _check_free(f"name={title!r}", title, protocol.networks)
    for path, other in zip(beside, others, strict=True):
        _check_free(f"beside={str(path)!r}", other.network, [one.network for one in shipped])
    measured = [title, *(other.network for other in others)]
    _check_different(measured)
    folder = Path(out) if out is not None else Path("runs") / f"benchmark-{_UNSAFE.sub('-', title)}-{scale}"
    _check_writable(folder)
    experiments = protocol.experiments(settings, chosen, seeds or protocol.seeds)
    members = {f"{task}-{rows}rows-seed{seed}": one for (task, rows, seed), one in experiments.items()}
    # The shapes differ from task to task: on a CPU, measuring for each how to stack it takes longer than it saves.
    placement: Placement = "auto" if torch.cuda.is_available() else "pool"
    runs = sweep(members, folder / "runs", placement=placement, progress=progress)
    card = measure(dict(zip(experiments, runs, strict=True)), TASKS, title, protocol)
    comparison = Comparison((card, *others, *(one for one in shipped if one.network not in measured)), notes, folder)
    write_card(card, folder / _CARD)
    with replacing(folder / _TABLE) as temporary:
        temporary.write_text(comparison.markdown(), encoding="utf-8")
    return comparison


def shipped_cards(protocol: Protocol, folder: Path | None = None) -> tuple[list[Card], tuple[str, ...]]:
    """The cards that come with this package for a protocol, and a line for each that cannot be used.

    `folder` takes the place of the package's own, which holds files NETWORK-SCALE.json.
    """
    if folder is None:
        with as_file(files(__package__) / "shipped") as own:
            return shipped_cards(protocol, own)
    cards, notes = [], []
    for path in sorted(folder.glob(f"*-{protocol.scale}.json")):
        try:
            cards.append(read_card(path, protocol))
        except InputError as error:
            notes.append(f"left out: {error}")
    if not cards:
        notes.append(f"no card of another network comes with this package at scale {protocol.scale}")
    return cards, tuple(notes)


def _tasks(given: Sequence[str] | None) -> list[str]:
    for name in given or ():
        check_known("tasks", name, TASKS)
    return [name for name in TASKS if given is None or name in given]


def _check_free(where: str, name: str, taken: Collection[str]) -> None:
    """Raise InputError for the name of a network of this package: its row would be taken for that one's."""
    if name in taken:
        raise InputError(f"{where}: {name!r} is a network of this package; give another name")


def _check_writable(folder: Path) -> None:
    """Raise InputError if it can be told before all trainings that the cards could not be written behind them."""
    where = f"out={str(folder)!r}"
    try:
        if taken := [name for name in (_CARD, _TABLE) if (folder / name).is_dir()]:
            raise InputError(f"{where}: {taken[0]} in it is a folder; choose another")
        there = next(path for path in (folder, *folder.parents) if path.exists())
    except OSError as error:
        raise InputError(f"{where}: cannot be written to ({error.strerror})") from None
    if not there.is_dir():
        raise InputError(f"{where}: {str(there)!r} is no folder; choose another")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{where}: cannot be written to (no permission in {str(there)!r})")


def _check_different(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"beside: two of the networks are called {name!r}; give yours another name")
