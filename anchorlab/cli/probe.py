"""`anchorlab probe`: which heads of a pretrained model shift and broadcast, at which depth, and whether they matter."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anchorlab.errors import InputError

from .loading import AllowPickle, Bits, Device, DeviceMap, Dtype, Revision, Tokenizer, TrustRemoteCode

if TYPE_CHECKING:
    from anchorlab.experiments.probing import ProbeRun


def probe(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL", help="a folder, or a name on the Hugging Face Hub", show_default=False),
    ],
    compare: Annotated[
        bool, typer.Option("--compare", help="several models, or folders of finished probes, on one page")
    ] = False,
    prompts: Annotated[
        str | None,
        typer.Option(
            help="names (the default with a tokenizer), name (the book's alone), random (the default without), "
            "task:NAME, a .txt, .jsonl, .csv or .parquet file, or a dataset"
        ),
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, help="prompts (default: 32, or all of a text)")] = None,
    length: Annotated[
        int | None, typer.Option(min=2, help="tokens of a random prompt (64), most tokens of a text")
    ] = None,
    column: Annotated[str | None, typer.Option(help="column of a table: texts, or lists of token ids")] = None,
    language: Annotated[str | None, typer.Option(help="of names: en, de, fr, es, it or zh")] = None,
    heads: Annotated[
        str | None, typer.Option(metavar="LAYER.HEAD,…", help="heads to show first and to knock out together: 2.1,29.5")
    ] = None,
    knock_outs: Annotated[bool, typer.Option(help="knock out heads, and compare with random ones")] = True,
    out: Annotated[Path | None, typer.Option(help="folder (default: probes/NAME); with --compare the page")] = None,
    seed: Annotated[int, typer.Option(min=0, help="seed of prompts, random sets and intervals")] = 0,
    dtype: Dtype = "auto",
    device: Device = None,
    device_map: DeviceMap = None,
    bits: Bits = None,
    revision: Revision = None,
    trust_remote_code: TrustRemoteCode = False,
    allow_pickle: AllowPickle = False,
    tokenizer: Tokenizer = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Score every attention head of MODEL, tell how scores change with depth, and knock heads out (section 12.7.3)."""
    from anchorlab.experiments.probing import compare_probes
    from anchorlab.experiments.probing import probe as probe_model

    if len(models) > 1 and not compare:
        raise InputError(f"models: {len(models)} given; to see them on one page add --compare")
    options: dict[str, Any] = {
        **{"prompts": prompts, "count": count, "length": length, "column": column, "language": language},
        **{"heads": _heads(heads), "knock_outs": knock_outs, "seed": seed, "progress": sys.stderr.isatty()},
        **{"dtype": dtype, "device": device, "device_map": device_map, "bits": bits, "revision": revision},
        **{"trust_remote_code": trust_remote_code, "allow_pickle": allow_pickle, "tokenizer": tokenizer},
    }
    if compare:
        page, runs = compare_probes(models, out=out, **options)
    else:
        runs = [probe_model(models[0], out=out, **options)]
        page = runs[0].folder / "report.html"
    if as_json:
        listed = {"report": str(page), "probes": [_as_json(run) for run in runs]}
        typer.echo(json.dumps(listed, indent=2, ensure_ascii=False))
        return
    for run in runs:
        typer.echo(run.text())
        typer.echo(f"tables and figures: {run.folder}")
    typer.echo(f"report: {page}")


def _heads(text: str | None) -> tuple[tuple[int, int], ...]:
    """Layers and heads, from 1."""
    try:
        pairs = [part.strip().split(".") for part in (text or "").split(",") if part.strip()]
        return tuple((int(layer), int(head)) for layer, head in pairs)
    except ValueError:
        raise InputError(f"--heads: {text!r} is not LAYER.HEAD,…, for example 2.1,29.5") from None


def _as_json(run: "ProbeRun") -> dict[str, Any]:
    from .tables import records

    found = run.probe
    return {
        "name": found.name,
        "folder": str(run.folder),
        "source": dict(found.source),
        "prompts": {"name": found.prompts.name, "description": found.prompts.description},
        "text": run.text(),
        "kinds": records(found.scores.kinds),
        "correlations": records(found.trend.correlations),
        "knockouts": [] if found.knockouts is None else records(found.knockouts.table),
        "absent": dict(found.absent),
    }
