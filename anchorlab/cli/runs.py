"""`anchorlab runs`: a table of all runs below a folder."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anchorlab.errors import InputError
from anchorlab.validation import check_known

if TYPE_CHECKING:
    import pandas as pd

_SCORES = ("train_accuracy", "id_accuracy", "ood_accuracy", "commutativity", "best_id_accuracy", "best_ood_accuracy")
_LEFT_OUT = ("folder", "reason", "commutativity", "best_id_accuracy", "total_steps", "evaluated_step", "phase")


def runs(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="the folder whose runs are listed, at any depth")],
    sort: Annotated[str | None, typer.Option(metavar="COLUMN", help="sort by a column (default: by path)")] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="the largest first")] = False,
    where: Annotated[
        list[str],
        typer.Option(
            metavar="'COLUMN OP VALUE'",
            help="keep rows with this, OP one of = != < <= > >=; may be given several times",
        ),
    ] = [],  # noqa: B006 - Typer reads the default, nothing changes it
    columns: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="the columns to show, or `all` (--json shows all)")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """List the runs below DIR: status, the settings that vary, accuracies, step and time."""
    from anchorlab.analysis import run_table
    from anchorlab.analysis.run_table import row_dicts

    from .tables import aligned, records

    table = run_table(folder, where=where, sort=sort, reverse=reverse)
    if as_json:
        chosen = list(table.columns) if columns is None else _columns(table, columns)
        typer.echo(json.dumps(records(table[chosen]), ensure_ascii=False, indent=2))
        return
    chosen = _columns(table, columns)
    rows = [[_shown(name, row[name]) for name in chosen] for row in row_dicts(table)]
    for line in aligned(chosen, rows):
        typer.echo(line)


def _columns(table: "pd.DataFrame", asked: str | None) -> list[str]:
    known = [str(name) for name in table.columns]
    if asked == "all":
        return known
    if asked is None:
        return [name for name in known if name not in _LEFT_OUT]
    chosen = [name.strip() for name in asked.split(",") if name.strip()]
    for name in chosen:
        check_known("--columns", name, known)
    if not chosen:
        raise InputError(f"--columns={asked!r}: names no column; known: {', '.join(known)}")
    return chosen


def _shown(name: str, value: Any) -> str:
    from anchorlab.analysis.run_table import shown

    text = shown(value)
    if text == "–" or isinstance(value, str):
        return text
    return f"{value:.3f}" if name in _SCORES else f"{value:.0f} s" if name == "wall_time" else text
