"""`anchorlab models`: what can be built, with its size, and the standard deviations an initialization rate gives."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anchorlab.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from anchorlab.models import InitializationRow

app = typer.Typer(help="List the models, or show the size and the initialization of one.")

# The vocabulary and row length of the two-layer model whose size is published (arXiv 2405.05409).
VOCABULARY, LENGTH = 201, 20

Vocabulary = Annotated[int, typer.Option("--vocabulary", help="Number of token ids.")]
Length = Annotated[int, typer.Option("--length", help="Tokens in the longest row.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@app.callback(invoke_without_command=True)
def list_models(
    context: typer.Context, vocabulary: Vocabulary = VOCABULARY, length: Length = LENGTH, as_json: AsJson = False
) -> None:
    """List the models with their options and their number of parameters at the default options."""
    if context.invoked_subcommand is not None:
        return
    from anchorlab import models

    listing = [_describe(name, models.build(name, vocabulary, length)) for name in models.names()]
    if as_json:
        typer.echo(json.dumps(listing, indent=2))
        return
    typer.echo(f"Parameters are counted at the defaults, for {vocabulary} token ids and rows of {length} tokens.")
    for model in listing:
        typer.echo(f"\n{model['name']}: {model['summary']}\n  {model['parameters']:,} parameters")
        for option, entry in model["options"].items():
            default = "-" if entry["default"] is None else entry["default"]
            typer.echo(f"  {option:<20} {default!s:<18} {entry['meaning']}")


@app.command("show")
def show_model(
    name: str,
    *,
    gamma: Annotated[
        float | None, typer.Option("--gamma", help="Initialization rate; 0.5 if not given. See --rule.")
    ] = None,
    rule: Annotated[
        str | None,
        typer.Option(
            "--rule",
            help="Initialization rule: arxiv-2405.05409 (std = d_in^-gamma, the default), arxiv-2501.08537 "
            "(std = d_model^-gamma), scaled-lecun (std = gamma / sqrt(d_in)), constant (std = gamma) or "
            "pytorch (no gamma).",
        ),
    ] = None,
    components: Annotated[
        list[str] | None,
        typer.Option(
            "--component",
            metavar="NAME=RATE",
            help="Initialization rate of one component (embedding, qk, vo, mlp, head); may be repeated.",
        ),
    ] = None,
    distribution: Annotated[
        str | None, typer.Option("--distribution", help="Law of the weights: normal (the default) or uniform.")
    ] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="A model option, as name=value.")] = None,
    vocabulary: Vocabulary = VOCABULARY,
    length: Length = LENGTH,
    as_json: AsJson = False,
) -> None:
    """Show the number of parameters of a model and the standard deviation of each of its matrices."""
    from anchorlab import models

    from .settings import parse_settings

    options = parse_settings(settings or [])
    models.check_options(name, options)
    model = models.build(name, vocabulary, length, **options)
    chosen = rule or models.rules()[0]
    if not models.takes_rate(chosen):
        _refuse(chosen, {"--gamma": gamma, "--component": components or None, "--distribution": distribution})
    rows = models.initialization_table(
        model,
        rule=chosen,
        rate=0.5 if gamma is None else gamma,
        component_rates=_component_rates(components or []),
        distribution=distribution or "normal",
    )
    count = _parameters(model)
    if as_json:
        table = [asdict(row) for row in rows]
        typer.echo(json.dumps({"name": name, "parameters": count, "rule": chosen, "initialization": table}, indent=2))
        return
    typer.echo(f"{name}: {count:,} parameters, {vocabulary} token ids, rows of {length} tokens")
    typer.echo(f"rule {chosen}" + (f", gamma {_rates(rows)}" if models.takes_rate(chosen) else ""))
    for line in _table(rows):
        typer.echo(line)


def _refuse(rule: str, given: dict[str, Any]) -> None:
    """Refuse what the rule would not use."""
    for option, value in given.items():
        if value is not None:
            raise InputError(f"{option}: the rule {rule!r} has its own law and takes none; leave it out, got {value!r}")


def _component_rates(given: list[str]) -> dict[str, float]:
    rates: dict[str, float] = {}
    for text in given:
        name, _, rate = text.partition("=")
        if name in rates:
            raise InputError(f"--component: {name!r} is given twice; give it once")
        try:
            rates[name] = float(rate)
        except ValueError:
            raise InputError(f"--component: {text!r} is not NAME=RATE, for example mlp=0.8") from None
    return rates


def _rates(rows: "list[InitializationRow]") -> str:
    """One rate, or one per component where they differ."""
    rates = {row.component: f"{row.rate:g}" for row in rows}
    if len(set(rates.values())) == 1:
        return next(iter(rates.values()))
    return ", ".join(f"{component} {rate}" for component, rate in rates.items())


def _describe(name: str, model: "PreTrainedModel") -> dict[str, Any]:
    from anchorlab.models import ARCHITECTURES

    architecture = ARCHITECTURES[name]
    options = {option: asdict(entry) for option, entry in architecture.options.items()}
    return {"name": name, "summary": architecture.summary, "parameters": _parameters(model), "options": options}


def _parameters(model: "PreTrainedModel") -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _table(rows: "list[InitializationRow]") -> list[str]:
    """Aligned lines, one per drawn matrix."""
    names = [row.parameter + (f" [{row.part}]" if row.part else "") for row in rows]
    longest = max(map(len, names))
    lines = [f"{'matrix':<{longest}}  component  {'shape':<14} fan-in  std        law"]
    for name, row in zip(names, rows, strict=True):
        shape = " x ".join(map(str, row.shape))
        lines.append(
            f"{name:<{longest}}  {row.component:<9}  {shape:<14} {row.fan_in:<6}  {row.std:<9.3g}  {row.distribution}"
        )
    return lines
