"""`anchorlab colour`: a text coloured by how well models predict its tokens."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .loading import AllowPickle, Bits, Device, DeviceMap, Dtype, Revision, Tokenizer, TrustRemoteCode

if TYPE_CHECKING:
    from anchorlab.experiments.colouring import Colouring


def colour(
    text: Annotated[
        Path, typer.Argument(metavar="TEXT", help="a text file in UTF-8 (ids for a model without tokenizer)")
    ],
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL [MODEL …]", help="folders, or names on the Hugging Face Hub")
    ],
    out: Annotated[Path, typer.Option(help="the page; the figure gets its name with .png")] = Path("colour.html"),
    length: Annotated[
        int | None, typer.Option(min=1, metavar="CHARACTERS", help="only the first characters of TEXT")
    ] = None,
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
    """Colour every token of TEXT by the probability that each MODEL gives to it."""
    from anchorlab.experiments.colouring import colour_text

    colouring = colour_text(
        text,
        models,
        out=out,
        length=length,
        dtype=dtype,
        device=device,
        device_map=device_map,
        bits=bits,
        revision=revision,
        trust_remote_code=trust_remote_code,
        allow_pickle=allow_pickle,
        tokenizer=tokenizer,
    )
    if as_json:
        typer.echo(json.dumps(_as_json(colouring), ensure_ascii=False, indent=2))
        return
    for line in _lines(colouring):
        typer.echo(line)


def _lines(colouring: "Colouring") -> list[str]:
    from anchorlab.pretrained_probe.colouring import BIN_NAMES, SHARES

    from .tables import aligned

    header = ["model", "tokens", *BIN_NAMES, "perplexity", "bits/character"]
    rows = []
    for model in colouring.coloured.models:
        numbers = model.summary()
        bits = numbers["bits_per_character"]
        shares = [f"{100 * numbers[share]:.1f} %" for share in SHARES]
        row = [model.name, f"{numbers['tokens']:,}", *shares, f"{numbers['perplexity']:.4g}"]
        rows.append([*row, "–" if bits is None else f"{bits:.3f}"])
    return [*aligned(header, rows), f"page: {colouring.page}", f"figure: {colouring.figure}"]


def _as_json(colouring: "Colouring") -> dict[str, Any]:
    coloured = colouring.coloured
    return {
        "characters": len(coloured.text),
        "models": [{name: _plain(value) for name, value in model.summary().items()} for model in coloured.models],
        "page": str(colouring.page),
        "figure": str(colouring.figure),
    }


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
