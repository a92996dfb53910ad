"""`anchorlab phase`: the phase diagram of a folder of runs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from anchorlab.experiments.phase import PhaseDiagram


def phase(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="a folder of runs, such as that of a sweep")],
    id_threshold: Annotated[float, typer.Option(help="least accuracy on seen pairs of phases 2 and 3")] = 0.9,
    ood_threshold: Annotated[float, typer.Option(help="least accuracy on unseen pairs of phase 3")] = 0.9,
    commutativity_threshold: Annotated[float, typer.Option(help="below it a triangle is drawn")] = 0.7,
    reports: Annotated[bool, typer.Option(help="make the missing report.html of every network")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Draw the phase diagram of the runs below DIR over initialization rate and weight decay."""
    from anchorlab.experiments.phase import phase_diagram

    diagram = phase_diagram(
        folder,
        id_threshold=id_threshold,
        ood_threshold=ood_threshold,
        commutativity_threshold=commutativity_threshold,
        reports=reports,
    )
    if as_json:
        typer.echo(json.dumps(_as_json(diagram), ensure_ascii=False, indent=2))
        return
    typer.echo(diagram.text())
    typer.echo(f"page: {diagram.page}\nfigure: {diagram.figure}\ntable: {diagram.table}")


def _as_json(diagram: "PhaseDiagram") -> dict[str, Any]:
    from .tables import records

    grid = diagram.grid
    return {
        "thresholds": vars(grid.runs.thresholds),
        "facets": list(grid.facets),
        "cells": records(grid.cells),
        "unfinished": records(grid.unfinished[["member", "status", "reason", "step", "total_steps"]]),
        "page": str(diagram.page),
        "figure": str(diagram.figure),
        "table": str(diagram.table),
    }
