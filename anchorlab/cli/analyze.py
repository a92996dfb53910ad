"""`anchorlab analyze` and `anchorlab report`: what a trained network computes."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from anchorlab.experiments.reports import Analysis

_NAMES = (
    "accuracy, phase, commutativity, examples, pair_matrix, learning_speed, answer_classes, deviations, attention, "
    "heads, path, patching, ablation, readout, key_masked, second_anchor_masked, embedding, condensation, "
    "condensation_survey, condensation_history, metrics"
)

Samples = Annotated[int, typer.Option(min=1, help="fresh rows of every split")]
Seed = Annotated[int, typer.Option(min=0, help="seed of the fresh rows")]


def analyze(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="the folder of a finished run")],
    only: Annotated[list[str], typer.Option(metavar="A,B,…", help=f"these alone: {_NAMES}")] = [],  # noqa: B006 - Typer reads the default, nothing changes it
    out: Annotated[Path | None, typer.Option(help="folder for tables and figures (default: RUN/analysis)")] = None,
    samples: Samples = 2000,
    seed: Seed = 0,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Tell what the network of RUN computes, in words, tables (CSV) and figures (PNG)."""
    from anchorlab.experiments import analyze as analyze_run

    names = [name.strip() for part in only for name in part.split(",") if name.strip()] if only else None
    found = analyze_run(run, only=names, out=out, samples=samples, seed=seed, progress=sys.stderr.isatty())
    if as_json:
        typer.echo(json.dumps(_as_json(found), ensure_ascii=False, indent=2))
        return
    typer.echo(found.text())
    typer.echo(f"tables and figures: {found.folder}")


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN [RUN …]", help="runs, or folders of runs, at most eight")],
    out: Annotated[
        Path | None, typer.Option(help="the page (default: report.html in the folder that the runs share)")
    ] = None,
    samples: Samples = 2000,
    seed: Seed = 0,
) -> None:
    """Write one page, readable offline, that explains a run or compares several."""
    from anchorlab.experiments import write_report

    page = write_report(runs, out=out, samples=samples, seed=seed, progress=sys.stderr.isatty())
    typer.echo(f"report: {page}")


def _as_json(found: "Analysis") -> dict[str, Any]:
    absent = found.explanation.absent or {}
    return {
        "run": found.explanation.name,
        "status": found.explanation.status,
        "step": found.explanation.environment.get("step"),
        "samples": found.explanation.samples,
        "seed": found.explanation.seed,
        "findings": {
            finding.field: {
                "text": finding.text,
                "measured": finding.field not in absent,
                "table": None if finding.table is None else str(found.folder / f"{finding.field}.csv"),
                "figure": None if finding.figure is None else str(found.folder / f"{finding.field}.png"),
            }
            for finding in found.findings
        },
    }
