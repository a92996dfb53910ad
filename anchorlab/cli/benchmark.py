"""`anchorlab benchmark`: one network on all anchor tasks by one protocol, beside those that others reached."""

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from anchorlab.errors import InputError


def benchmark(
    network: Annotated[
        str,
        typer.Argument(
            metavar="MODEL_FACTORY",
            help="FILE.py:FUNCTION or package.module:FUNCTION, where FUNCTION(vocabulary_size, max_length) returns a "
            "torch.nn.Module; or gpt2, post_ln, lstm, fnn",
        ),
    ],
    *,
    scale: Annotated[str, typer.Option(help="smoke (seconds), laptop (minutes) or paper (the source's sizes)")] = (
        "laptop"
    ),
    out: Annotated[
        Path | None, typer.Option(help="folder for runs, card.json and card.md (default: under runs/)")
    ] = None,
    tasks: Annotated[str | None, typer.Option(metavar="A,B,…", help="some of the nine tasks (default: all)")] = None,
    seeds: Annotated[int | None, typer.Option(help="independent trials (default: 3 at laptop scale)")] = None,
    beside: Annotated[
        list[Path], typer.Option(metavar="CARD", help="card.json of another network, to be shown too")
    ] = [],  # noqa: B006 - Typer reads the default, nothing changes it
    name: Annotated[str | None, typer.Option(help="what the table calls the network")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the cards as JSON")] = False,
) -> None:
    """Train MODEL_FACTORY on nine tasks, at laptop scale beside GPT-2, LSTM and FNN; the same command continues."""
    from anchorlab.benchmark_card import benchmark as measure

    names = None if tasks is None else [name.strip() for name in tasks.split(",") if name.strip()]
    if names == []:
        raise InputError("--tasks: names no task")
    began = time.monotonic()
    found = measure(network, out=out, scale=scale, tasks=names, seeds=seeds, beside=beside, name=name)
    if as_json:
        cards = [card.record() for card in found.cards]
        typer.echo(json.dumps({"cards": cards, "notes": found.notes}, ensure_ascii=False, indent=2))
        return
    typer.echo(found.text())
    typer.echo(f"card.json and card.md: {found.folder}    {time.monotonic() - began:.0f} s")
