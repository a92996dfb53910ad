"""`anchorlab sweep`: many networks over a grid of settings."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from anchorlab.errors import InputError
from anchorlab.validation import check_known

from .settings import Set, merge_settings, parse_settings

if TYPE_CHECKING:
    from anchorlab.experiments import Experiment

_LAUNCHERS = ("local", "ray")
_PLACEMENTS = ("auto", "pool", "stacked")
_VALUES = "VALUES"


def sweep(
    what: Annotated[
        str | None, typer.Argument(metavar="TASK|FILE", help="a task, or a sweep file (.toml or .py)")
    ] = None,
    *,
    gamma: Annotated[
        str | None,
        typer.Option(metavar=_VALUES, help="initialization rates, for example 0.3:0.9:0.05 (start:stop:step) or 0.3,1"),
    ] = None,
    weight_decay: Annotated[str | None, typer.Option(metavar=_VALUES, help="weight decays")] = None,
    learning_rate: Annotated[str | None, typer.Option(metavar=_VALUES, help="peak learning rates")] = None,
    vary: Annotated[
        list[str],
        typer.Option(
            metavar="FIELD=VALUES", help="values of any other setting, for example layers=2,3; also task.NAME"
        ),
    ] = [],  # noqa: B006 - Typer reads the default, nothing changes it
    seeds: Annotated[
        str | None, typer.Option(help="independent trials: their number, or their seeds 0,1,5 (default: 1)")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="instead of a task, as for `anchorlab train`")] = None,
    preset: Annotated[str | None, typer.Option(help="published parameters of the task")] = None,
    model: Annotated[str | None, typer.Option(help="a model that `anchorlab models` lists")] = None,
    steps: Annotated[int | None, typer.Option(help="optimizer steps of every network")] = None,
    epochs: Annotated[int | None, typer.Option(help="passes over the training rows, instead of steps")] = None,
    settings: Set = [],  # noqa: B006 - Typer reads the default, nothing changes it
    out: Annotated[
        Path | None, typer.Option(help="folder of the runs (default: named by the task or file, under runs/)")
    ] = None,
    launcher: Annotated[str, typer.Option(help=f"where to train: {' or '.join(_LAUNCHERS)}")] = "local",
    address: Annotated[str | None, typer.Option(help="of a Ray cluster that exists")] = None,
    placement: Annotated[str, typer.Option(help=f"how on one machine: {', '.join(_PLACEMENTS)}")] = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="list the members and train nothing")] = False,
) -> None:
    """Train a network for every combination of values; the same command again continues."""
    fixed = {"--preset": preset, "--model": model, "--steps": steps, "--epochs": epochs}
    listed = {"--gamma": gamma, "--weight-decay": weight_decay, "--learning-rate": learning_rate}
    _check_choices(launcher, address, placement)
    if what is not None and _is_file(what):
        given = fixed | listed | {"--data": data, "--seeds": seeds, "--vary": vary or None, "--set": settings or None}
        experiments = _from_file(what, given)
    else:
        if what is not None and data is not None:
            raise InputError(f"--data: the task {what!r} is given too; give one of the two")
        source = {"task": what, "data": None if data is None else str(data)}
        chosen = source | {option.removeprefix("--"): value for option, value in fixed.items()}
        experiments = _from_options(chosen, listed, vary, settings, seeds)
    folder = Path("runs") / f"{Path(what or data or 'task').stem}-sweep" if out is None else out
    if dry_run:
        _list(experiments, folder)
    else:
        _train(experiments, folder, launcher, address, placement)


def _check_choices(launcher: str, address: str | None, placement: str) -> None:
    check_known("--launcher", launcher, _LAUNCHERS)
    check_known("--placement", placement, _PLACEMENTS)
    if address is not None and launcher != "ray":
        raise InputError(f"--address={address!r}: belongs to --launcher ray; leave it out")


def _is_file(what: str) -> bool:
    return bool(Path(what).suffix) or os.sep in what


def _from_file(path: str, given: Mapping[str, Any]) -> "dict[str, Experiment]":
    for option, value in given.items():
        if value is not None:
            raise InputError(f"{option}: the file {path!r} describes the sweep; leave the option out or write it there")
    from anchorlab.experiments import read_sweep

    return read_sweep(path)


def _from_options(
    chosen: Mapping[str, Any],
    listed: Mapping[str, str | None],
    vary: Sequence[str],
    settings: Sequence[str],
    seeds: str | None,
) -> "dict[str, Experiment]":
    from anchorlab.experiments import grid, parse_values

    fields = {"--gamma": "initialization_rate", "--weight-decay": "weight_decay", "--learning-rate": "learning_rate"}
    # One value is an axis too: its name stays in those of the members when more values are added later.
    axes = {fields[option]: parse_values(fields[option], text) for option, text in listed.items() if text is not None}
    for text in vary:
        field, equals, written = text.partition("=")
        if not equals:
            raise InputError(f"--vary: {text!r} is not FIELD=VALUES, for example layers=2,3,4")
        if field in axes:
            raise InputError(f"--vary: {field!r} is given twice; give it once")
        axes[field] = parse_values(field, written)
    if not {"task", "data"} & axes.keys() and not any(chosen[name] for name in ("task", "data")):
        raise InputError("task: give a task, a sweep file or --data")
    named = {field: value for field, value in chosen.items() if value is not None}
    return grid(merge_settings(named, parse_settings(settings)), axes, seeds=_seeds(seeds))


def _seeds(text: str | None) -> int | list[int]:
    from anchorlab.experiments import parse_values

    if text is None:
        return 1
    try:
        return int(text)
    except ValueError:
        return parse_values("seed", text)


def _list(experiments: "Mapping[str, Experiment]", folder: Path) -> None:
    from anchorlab.experiments.populations import check_members

    from . import sweep_summary

    check_members(experiments)
    for line in sweep_summary.listing(experiments):
        typer.echo(line)
    typer.echo(f"{sweep_summary.size(experiments)}; nothing was trained, the folder would be {folder}")


def _train(
    experiments: "dict[str, Experiment]", folder: Path, launcher: str, address: str | None, placement: str
) -> None:
    from anchorlab.experiments import sweep as train_sweep

    from . import sweep_summary

    typer.echo(f"{sweep_summary.size(experiments)} into {folder}")
    began = time.monotonic()
    runs = train_sweep(
        experiments,
        folder,
        launcher=cast(Literal["local", "ray"], launcher),
        address=address,
        placement=cast(Literal["auto", "pool", "stacked"], placement),
    )
    typer.echo(f"{sweep_summary.statuses(runs)}, {time.monotonic() - began:.0f} s")
    for line in sweep_summary.accuracies(experiments, runs):
        typer.echo(line)
    typer.echo(f"next: anchorlab phase {folder}    anchorlab runs {folder}")
