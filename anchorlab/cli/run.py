"""`anchorlab run`: from nothing to an explained model."""

from pathlib import Path
from typing import Annotated

import typer


def run(
    task: Annotated[str, typer.Argument(help="the task; so far: composite")],
    out: Annotated[Path, typer.Option(help="folder for the runs and report.html")] = Path("runs/composite"),
    seed: Annotated[int, typer.Option(help="seed of the initialization and, apart from it, of the data")] = 0,
) -> None:
    """Train a memorising and a reasoning network on TASK and write a report that explains both."""
    from anchorlab.experiments import run_contrast

    contrast = run_contrast(task, out, seed=seed)
    typer.echo(contrast.summary())
    typer.echo(f"report: {contrast.report}")
