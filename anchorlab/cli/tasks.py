"""`anchorlab tasks` and `anchorlab generate`: what there is, what it looks like, and datasets of it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .settings import parse_settings

if TYPE_CHECKING:
    from anchorlab.tasks import Task

app = typer.Typer(help="List the tasks or show one of them.")

Name = Annotated[str, typer.Argument(help="a task that `anchorlab tasks` lists")]
Preset = Annotated[str | None, typer.Option(help="published parameters of the task")]
Settings = Annotated[
    list[str], typer.Option("--set", metavar="NAME=VALUE", help="a parameter of the task; may be given several times")
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]


@app.callback(invoke_without_command=True)
def list_tasks(context: typer.Context, as_json: AsJson = False) -> None:
    """List the tasks with their presets."""
    if context.invoked_subcommand is not None:
        return
    from anchorlab import tasks

    listed = [
        {"name": name, "summary": _summary(tasks.task_class(name)), "presets": list(tasks.presets(name))}
        for name in tasks.names()
    ]
    if as_json:
        typer.echo(json.dumps(listed, ensure_ascii=False, indent=2))
        return
    width = max(len(str(one["name"])) for one in listed)
    for one in listed:
        typer.echo(f"{one['name']:<{width}}  {one['summary']}")
        if one["presets"]:
            typer.echo(f"{'':<{width}}  presets: {', '.join(one['presets'])}")


@app.command("show")
def show_task(name: Name, preset: Preset = None, settings: Settings = [], as_json: AsJson = False) -> None:  # noqa: B006 - Typer reads the default, nothing changes it
    """Show a task: parameters, a worked example, and the sizes of the split cells."""
    from anchorlab import tasks

    task = tasks.create(name, preset, **parse_settings(settings))
    shown = describe(task)
    typer.echo(json.dumps(shown, ensure_ascii=False, indent=2) if as_json else _as_text(task, shown))


def generate(
    name: Name,
    *,
    out: Annotated[Path, typer.Option(help="new or empty folder")],
    train: Annotated[int, typer.Option(help="rows of the training split")],
    test: Annotated[int, typer.Option(help="rows of the test split: seen anchors, unseen cells")],
    ood: Annotated[
        int | None, typer.Option(help="rows with held-out anchors (default: as many as --test, if the task has them)")
    ] = None,
    seed: Annotated[int, typer.Option(help="seed of the data")] = 0,
    preset: Preset = None,
    settings: Settings = [],  # noqa: B006 - Typer reads the default, nothing changes it
    shards: Annotated[int, typer.Option(help="files per split")] = 1,
    shard: Annotated[int | None, typer.Option(help="write only this one, from 0")] = None,
    unique: Annotated[bool, typer.Option("--unique", help="each (anchors, key position, key) once in a split")] = False,
) -> None:
    """Write a dataset as sharded Parquet with a card; `datasets.load_dataset(OUT)` opens it."""
    from anchorlab import tasks

    task = tasks.create(name, preset, **parse_settings(settings))
    sizes = {"train": train, "test": test}
    if ood is not None or "ood" in task.splits:
        sizes["ood"] = test if ood is None else ood
    folder = task.generate(out, sizes, seed, shards=shards, shard=shard, unique=unique)
    counts = ", ".join(f"{split} {rows:,}" for split, rows in sizes.items())
    part = "" if shard is None else f" (shard {shard} of {shards})"
    typer.echo(f"{counts} rows{part} in {folder}")


def describe(task: "Task") -> dict[str, Any]:
    """Return everything that `anchorlab tasks show` prints, in JSON types."""
    from anchorlab import tasks

    values, resolved = task.config()["fields"], task.resolved
    return {
        "name": task.name,
        "summary": _summary(type(task)),
        "source": task.source,
        "presets": list(tasks.presets(task.name)),
        "parameters": [
            {
                "name": one.name,
                "type": one.type,
                "value": values[one.name],
                "resolved": resolved.get(one.name, values[one.name]),
                "default": one.default,
                "description": one.description,
            }
            for one in tasks.parameters(task.name)
        ],
        "anchors": dict(task.vocabulary.anchors),
        "vocabulary_size": task.vocabulary.size,
        "labels": list(task.vocabulary.labels),
        "example": tasks.example_row(task),
        "cells": {split: len(task.cells(split)) for split in task.splits},
        "cells_by_group": {split: task.cells(split).by_group(task.group_names) for split in task.splits},
        "hash": task.hash,
    }


def _as_text(task: "Task", shown: dict[str, Any]) -> str:
    from anchorlab import tasks

    width = max(len(one["name"]) for one in shown["parameters"])
    lines = [f"{task.name}: {shown['summary']}", f"source: {task.source}"]
    lines += [f"presets: {', '.join(shown['presets'])}"] if shown["presets"] else []
    lines += ["", "parameters (--set NAME=VALUE, VALUE in JSON)"]
    for one in shown["parameters"]:
        means = "" if one["value"] == one["resolved"] else f" = {json.dumps(one['resolved'])}"
        changed = "" if one["value"] == one["default"] else f" (default {json.dumps(one['default'])})"
        lines.append(f"  {one['name']:<{width}}  {json.dumps(one['value'])}{means}{changed}")
        lines.append(f"  {'':<{width}}    {one['description']}")
    anchors = "  ".join(f"{name}={token}" for name, token in shown["anchors"].items())
    low, high = shown["labels"]
    lines += ["", f"anchor ids: {anchors}", f"labels: {low}..{high}   vocabulary: {shown['vocabulary_size']} ids"]
    lines += ["", "example", *(f"  {line}" for line in tasks.worked_example(task).splitlines())]
    lines += ["", "cells (anchors, key position, key)"]
    lines += [f"  {split:<6}{count:>8,}" for split, count in shown["cells"].items()]
    return "\n".join(lines)


def _summary(kind: type) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0].replace("``", "")
