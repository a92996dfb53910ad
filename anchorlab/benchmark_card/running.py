"""Train one network on all tasks by the protocol and set its card beside the shipped ones."""

import re
from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path

import torch

from anchorlab.errors import InputError
from anchorlab.experiments import sweep
from anchorlab.experiments.placement import Placement
from anchorlab.files import replacing
from anchorlab.validation import check_known

from .card import Card, measure, read_card, write_card
from .comparison import Comparison
from .protocol import TASKS, Protocol, protocol_of

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
        name: what the card calls the network (default: the factory without its folder).
        progress: a table on standard error (default: if that is a terminal).

    Raises:
        InputError: an unknown network, scale or task; a factory that does not make a network for the vocabulary of
            every task; a card of another protocol or schema version, or of the same name; a folder with other
            trainings.
        Interrupted: stopped; the same call continues.
    """
    protocol = protocol_of(scale)
    chosen = _tasks(tasks)
    if seeds is not None and seeds < 1:
        raise InputError(f"seeds={seeds}: must be at least 1")
    others = [read_card(Path(path), protocol) for path in beside]
    title = name or (network if network in protocol.networks else Path(network).name)
    _check_names([title, *(other.network for other in others)])
    experiments = protocol.experiments(protocol.network(network), chosen, seeds or protocol.seeds)
    folder = Path(out) if out is not None else Path("runs") / f"benchmark-{_UNSAFE.sub('-', title)}-{scale}"
    members = {f"{task}-{rows}rows-seed{seed}": one for (task, rows, seed), one in experiments.items()}
    # The shapes differ from task to task: on a CPU, measuring for each how to stack it takes longer than it saves.
    placement: Placement = "auto" if torch.cuda.is_available() else "pool"
    runs = sweep(members, folder / "runs", placement=placement, progress=progress)
    card = measure(dict(zip(experiments, runs, strict=True)), TASKS, title, protocol)
    shipped, notes = shipped_cards(protocol)
    measured = (card, *others)
    names = [one.network for one in measured]
    comparison = Comparison((*measured, *(one for one in shipped if one.network not in names)), notes, folder)
    write_card(card, folder / "card.json")
    with replacing(folder / "card.md") as temporary:
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


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"beside: two of the networks are called {name!r}; give yours another name")
