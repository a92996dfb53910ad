"""`anchorlab analyze` and `anchorlab report`: what a trained network computes."""

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anchorlab.errors import InputError

from .settings import Set, merge_settings, parse_settings
from .tables import aligned, records

if TYPE_CHECKING:
    import pandas as pd

    from anchorlab.experiments.group_speed import SlowGroups
    from anchorlab.experiments.reports import Analysis

_NAMES = (
    "accuracy, phase, commutativity, examples, pair_matrix, learning_speed, answer_classes, deviations, attention, "
    "heads, path, patching, ablation, readout, key_masked, second_anchor_masked, embedding, condensation, "
    "condensation_survey, condensation_history, metrics"
)

Samples = Annotated[int, typer.Option(min=1, help="fresh rows of every split")]
Seed = Annotated[int, typer.Option(min=0, help="seed of the fresh rows")]

_SAMPLES, _SEED = 2000, 0


def analyze(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="the folder of a finished run; with --slow-groups also rows to train on"),
    ],
    only: Annotated[list[str], typer.Option(metavar="A,B,…", help=f"these alone: {_NAMES}")] = [],  # noqa: B006 - Typer reads the default, nothing changes it
    out: Annotated[Path | None, typer.Option(help="folder for tables and figures (default: RUN/analysis)")] = None,
    samples: Samples = _SAMPLES,
    seed: Seed = _SEED,
    slow_groups: Annotated[
        bool, typer.Option("--slow-groups", help="instead: rank groups of rows by learning speed, flag the slow ones")
    ] = False,
    noise: Annotated[
        list[str],
        typer.Option(metavar="GROUP,…", help="with --slow-groups: known noisy groups, for precision and recall"),
    ] = [],  # noqa: B006
    settings: Set = [],  # noqa: B006
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Tell what the network of RUN computes, in words, tables (CSV) and figures (PNG)."""
    if slow_groups:
        _refuse(
            "--slow-groups reads learning curves", {"--only": only, "--samples": samples != _SAMPLES, "--seed": seed}
        )
        _show_slow_groups(run, noise, out, merge_settings({}, parse_settings(settings)), as_json=as_json)
        return
    _refuse("it belongs to --slow-groups", {"--noise": noise, "--set": settings})
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
    samples: Samples = _SAMPLES,
    seed: Seed = _SEED,
) -> None:
    """Write one page, readable offline, that explains a run or compares several."""
    from anchorlab.experiments import write_report

    page = write_report(runs, out=out, samples=samples, seed=seed, progress=sys.stderr.isatty())
    typer.echo(f"report: {page}")


def _refuse(reason: str, options: Mapping[str, object]) -> None:
    """Raise InputError if one of the options, which would have no effect, was given."""
    for name, given in options.items():
        if given:
            raise InputError(f"{name}: {reason}; leave it out")


def _show_slow_groups(
    source: Path, noise: list[str], out: Path | None, settings: dict[str, Any], *, as_json: bool
) -> None:
    from anchorlab.engine.memory import keep_freed_memory
    from anchorlab.experiments.group_speed import slow_groups

    keep_freed_memory()
    found = slow_groups(source, noise=noise, out=out, settings=settings)
    if as_json:
        typer.echo(json.dumps(_slow_groups_as_json(found), ensure_ascii=False, indent=2))
        return
    for line in _ranking(found.table):
        typer.echo(line)
    typer.echo(found.text())
    typer.echo(f"table and figure: {found.folder}")


def _ranking(table: "pd.DataFrame") -> list[str]:
    rows = [
        [
            row["group"],
            "never" if row["step"] is None else f"{row['step']:,}",
            f"{'≥ ' if row['step'] is None else ''}{row['ratio']:.2f}",
            f"{row['final_accuracy']:.3f}",
            "slow" if row["slow"] else "",
        ]
        for row in records(table)
    ]
    return aligned(["group", "step", "× median", "final accuracy", ""], rows)


def _slow_groups_as_json(found: "SlowGroups") -> dict[str, Any]:
    speed, detection = found.speed, found.detection
    return {
        "run": str(found.run.folder),
        "split": speed.split,
        "threshold": speed.threshold,
        "resolution": speed.resolution,
        "last_step": speed.last_step,
        "median_step": speed.median_step,
        "slow_after": speed.slow_after,
        "slow": speed.slow,
        "groups": records(found.table),
        "noise": None
        if detection is None
        else {
            "groups": list(detection.noisy),
            "precision": None if math.isnan(detection.precision) else detection.precision,
            "recall": detection.recall,
        },
        "folder": str(found.folder),
    }


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
