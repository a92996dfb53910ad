"""All commands in one Typer application."""

import typer

from . import analyze, benchmark, colour, models, pde, phase, probe, reproduce, run, runs, sweep, tasks, train

app = typer.Typer(
    name="anchorlab",
    help="Anchor-function benchmarks for Transformer reasoning: exact data, fast training, explained models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(tasks.app, name="tasks")
app.add_typer(models.app, name="models")
app.command("generate")(tasks.generate)
app.command("train")(train.train)
app.command("run")(run.run)
app.command("sweep")(sweep.sweep)
app.command("analyze")(analyze.analyze)
app.command("report")(analyze.report)
app.command("phase")(phase.phase)
app.command("probe")(probe.probe)
app.command("colour")(colour.colour)
app.command("pde")(pde.pde)
app.command("reproduce")(reproduce.reproduce)
app.command("benchmark")(benchmark.benchmark)
app.command("runs")(runs.runs)
