"""The options of every command that loads a pretrained model."""

from typing import Annotated

import typer

Dtype = Annotated[str, typer.Option(help="dtype of the weights (default: as stored)")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, … (default: a GPU if there is one)")]
DeviceMap = Annotated[str | None, typer.Option(help="auto: share a model among all GPUs and the CPU")]
Bits = Annotated[int | None, typer.Option(help="8 or 4: quantize the linear layers")]
Revision = Annotated[str | None, typer.Option(help="branch, tag or commit of a model on the Hub")]
TrustRemoteCode = Annotated[bool, typer.Option("--trust-remote-code", help="run the code that comes with a model")]
AllowPickle = Annotated[bool, typer.Option("--allow-pickle", help="load weights from files that can run code")]
Tokenizer = Annotated[
    str | None, typer.Option(help="folder or Hub name of a tokenizer to use instead of the model's own")
]
