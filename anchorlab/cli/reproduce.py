"""`anchorlab reproduce`: results of the literature, made again and decided by numbers."""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anchorlab.errors import InputError

from .settings import parse_settings
from .tables import aligned

if TYPE_CHECKING:
    from anchorlab.reproduce import Reproduced


def reproduce(
    ids: Annotated[
        list[str],
        typer.Argument(metavar="ID…", help="ids, fig12.13; `list` shows all, `all` runs all", show_default=False),
    ],
    scale: Annotated[str, typer.Option(help="smoke (seconds), laptop (minutes on 2 cores) or paper")] = "laptop",
    out: Annotated[Path, typer.Option(help="folder of results and of trainings, which are used again")] = Path(
        "reproductions"
    ),
    settings: Annotated[
        list[str], typer.Option("--set", metavar="NAME=VALUE", help="replace a setting of the scale: --set seeds=5")
    ] = [],  # noqa: B006 - Typer reads the default, nothing changes it
    strict: Annotated[bool, typer.Option("--strict", help="exit with 1 if a claim fails")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Reproduce results of the literature: each is a claim with thresholds that measured numbers decide."""
    from anchorlab import reproduce as package

    if ids == ["list"]:
        _list(as_json)
        return
    chosen, replaced = _chosen(ids, scale), parse_settings(settings)
    done = []
    for name in chosen:
        one = package.run(name, scale=scale, out=out, settings=replaced, progress=sys.stderr.isatty())
        done.append(one)
        if not as_json:
            typer.echo(_shown(one, package.get(name).notes))
    if as_json:
        typer.echo(json.dumps([one.result.record() | {"folder": str(one.folder)} for one in done], indent=2))
    verdicts = Counter(one.result.decision.verdict for one in done)
    if len(done) > 1 and not as_json:
        typer.echo(", ".join(f"{count} {verdict}" for verdict, count in verdicts.items()))
    if strict and verdicts["fails"]:
        raise typer.Exit(1)


def _chosen(ids: Sequence[str], scale: str) -> Sequence[str]:
    """The ids that are meant; of `all`, those that have the scale."""
    from anchorlab.reproduce import SCALES, get, names
    from anchorlab.validation import check_known

    if "list" in ids or ("all" in ids and len(ids) > 1):
        raise InputError(f"ids: {' '.join(ids)!r}: 'list' and 'all' stand alone")
    if ids != ["all"]:
        for name in ids:
            get(name).settings(scale)
        return ids
    check_known("scale", scale, SCALES)
    return [name for name in names() if scale in get(name).scales]


def _list(as_json: bool) -> None:
    from anchorlab.reproduce import get, names

    listed = [get(name) for name in names()]
    if as_json:
        rows: list[dict[str, Any]] = [
            {
                "id": one.id,
                "title": one.title,
                "source": one.source,
                "claim": one.claim.text,
                "scales": list(one.scales),
                "seeds": one.claim.seeds,
                "conditions": [condition.text for condition in one.claim.conditions],
            }
            for one in listed
        ]
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    for line in aligned(["id", "scales", "title"], [[one.id, ", ".join(one.scales), one.title] for one in listed]):
        typer.echo(line)


def _shown(one: "Reproduced", notes: str) -> str:
    known = " (measured before)" if one.cached else ""
    told = f"\n  {notes}" if notes and one.result.decision.verdict != "holds" else ""
    return f"{one.result.text()}{told}\n  figure: {one.figure}{known}"
