"""`anchorlab reproduce`: results of the literature, made again and decided by numbers."""

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
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
    replaced = parse_settings(settings)
    chosen = _chosen(ids, scale, replaced)
    done: list[Reproduced] = []
    try:
        for name in chosen:
            done.append(package.run(name, scale=scale, out=out, settings=replaced, progress=sys.stderr.isatty()))
            if not as_json:
                typer.echo(_shown(done[-1], package.get(name).notes))
    finally:  # what has finished is told even if a later one fails
        if as_json and done:
            typer.echo(json.dumps([one.result.record() | {"folder": str(one.folder)} for one in done], indent=2))
    verdicts = Counter(one.result.decision.verdict for one in done)
    if len(done) > 1 and not as_json:
        typer.echo(", ".join(f"{count} {verdict}" for verdict, count in verdicts.items()))
    if strict and verdicts["fails"]:
        raise typer.Exit(1)


def _chosen(ids: Sequence[str], scale: str, replaced: Mapping[str, Any]) -> Sequence[str]:
    """The ids that are meant; of `all`, those that have the scale. Raises InputError if one of them cannot be run."""
    from anchorlab.reproduce import SCALES, chosen_settings, get, names
    from anchorlab.validation import check_known

    if "list" in ids or ("all" in ids and len(ids) > 1):
        raise InputError(f"ids: {' '.join(ids)!r}: 'list' and 'all' stand alone")
    check_known("scale", scale, SCALES)
    chosen = ids if ids != ["all"] else [name for name in names() if scale in get(name).scales]
    for name in chosen:
        chosen_settings(name, scale, replaced)
    return chosen


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
                "seeds": one.claim.seeds,
                "agreement": one.claim.agreement,
                "conditions": [asdict(condition) for condition in one.claim.conditions],
                "scales": one.scales,
            }
            for one in listed
        ]
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    for line in aligned(["id", "scales", "title"], [[one.id, ", ".join(one.scales), one.title] for one in listed]):
        typer.echo(line)


def _shown(one: "Reproduced", notes: str) -> str:
    known = " (measured before)" if one.cached else ""
    # Notes are about the laptop scale.
    told = f"\n  {notes}" if notes and one.result.scale == "laptop" and one.result.decision.verdict != "holds" else ""
    return f"{one.result.text()}{told}\n  figure: {one.figure}{known}"
