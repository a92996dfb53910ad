"""`anchorlab train`: one network on a task or on the user's own rows."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .settings import Set, merge_settings, parse_settings


def train(
    task: Annotated[str | None, typer.Argument(help="a task that `anchorlab tasks` lists")] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="instead of a task: folder, Parquet or JSON lines (input_ids, label, maybe group)"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="run folder (default: named by the settings, under runs/)")] = None,
    preset: Annotated[str | None, typer.Option(help="published parameters of the task")] = None,
    model: Annotated[str | None, typer.Option(help="a model that `anchorlab models` lists")] = None,
    gamma: Annotated[float | None, typer.Option(help="initialization rate: weights ~ N(0, (d_in^-gamma)^2)")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="weight decay")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="peak learning rate")] = None,
    steps: Annotated[int | None, typer.Option(help="optimizer steps")] = None,
    epochs: Annotated[int | None, typer.Option(help="passes over the training rows, instead of steps")] = None,
    seed: Annotated[int | None, typer.Option(help="seed of the initialization")] = None,
    data_seed: Annotated[int | None, typer.Option(help="seed of the rows and of their order")] = None,
    settings: Set = [],  # noqa: B006 - Typer reads the default, nothing changes it
) -> None:
    """Train one network; the same command again continues or shows the finished run."""
    if (task is None) == (data is None):
        raise typer.BadParameter("give a task name or --data, and not both")
    named: dict[str, Any] = {
        **{"task": task, "data": str(data) if data else None, "preset": preset, "model": model},
        **{"initialization_rate": gamma, "weight_decay": weight_decay, "learning_rate": learning_rate},
        **{"steps": steps, "epochs": epochs, "seed": seed, "data_seed": data_seed},
    }
    chosen = {name: value for name, value in named.items() if value is not None}
    _train(merge_settings(chosen, parse_settings(settings)), out)


def _train(settings: dict[str, Any], out: Path | None) -> None:
    from anchorlab.engine.memory import keep_freed_memory
    from anchorlab.experiments import Experiment
    from anchorlab.experiments import train as train_experiment

    keep_freed_memory()
    run = train_experiment(Experiment(**settings), out)
    table = run.metrics()
    last = table[(table.step == table.step.max()) & (table.group == "") & (table.metric == "accuracy")]
    scores = "  ".join(f"{row.split} {row.value:.4f}" for row in last.itertuples())
    ended = run.environment
    reason = f" ({ended['reason']})" if "reason" in ended else ""
    typer.echo(f"{run.status}{reason} after {ended['step']} steps, {ended['wall_time_seconds']:.0f} s")
    typer.echo(f"accuracy  {scores}")
    typer.echo(f"run folder: {run.folder}")
