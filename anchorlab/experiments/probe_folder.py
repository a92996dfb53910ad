"""A probe as a folder of tables that any program reads: written whole or not at all, and read again to be compared."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anchorlab.analysis import HeadScores
from anchorlab.errors import InputError
from anchorlab.pretrained_probe.depth import DepthTrend
from anchorlab.pretrained_probe.knockouts import Knockouts
from anchorlab.pretrained_probe.probe import Probe, ShownAttention
from anchorlab.pretrained_probe.prompts import Prompt, PromptSet

RECORD = "probe.json"
SCHEMA_VERSION = 1
_TABLES = "tables"
_FILES = {RECORD, _TABLES, "attention.npy", "report.html", "heads.png", "depth.png", "knockouts.png"}
_KNOCKOUT_TABLES = ("table", "single_heads")


@contextmanager
def replacing_folder(folder: Path, settings: Mapping[str, Any]) -> Iterator[Path]:
    """Yield a new folder beside `folder`, which takes its place at the end; after an error, all is as it was.

    Raises `InputError` for a folder with anything but a probe of the same settings.
    """
    _check_replaceable(folder, settings)
    try:
        folder = folder.resolve()
        folder.parent.mkdir(parents=True, exist_ok=True)
        new = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        new.mkdir()
    except OSError as error:
        raise InputError(f"out={str(folder)!r}: cannot be written to ({error.strerror})") from None
    try:
        yield new
        if folder.exists():
            shutil.rmtree(folder)
        new.rename(folder)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def _check_replaceable(folder: Path, settings: Mapping[str, Any]) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"out={str(folder)!r}: is a file; give a folder")
    others = sorted(path.name for path in folder.iterdir() if path.name not in _FILES)
    if others:
        raise InputError(f"out={str(folder)!r}: holds something else than a probe ({others[0]}); give another folder")
    if not (folder / RECORD).is_file():
        return
    try:
        before = json.loads((folder / RECORD).read_text(encoding="utf-8"))["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # a broken probe
    if before != json.loads(json.dumps(settings)):
        raise InputError(f"out={str(folder)!r}: holds a probe with other settings; give another folder with --out")


def save_probe(probe: Probe, folder: Path, settings: Mapping[str, Any]) -> None:
    """Write a probe's record, tables (Parquet) and shown attention into an existing folder."""
    (folder / _TABLES).mkdir()
    tables: dict[str, pd.DataFrame] = {field.name: getattr(probe.scores, field.name) for field in fields(HeadScores)}
    tables |= {f"depth_{field.name}": getattr(probe.trend, field.name) for field in fields(DepthTrend)}
    record: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "name": probe.name,
        "source": dict(probe.source),
        "settings": dict(settings),
        "prompts": {"name": probe.prompts.name, "description": probe.prompts.description},
        "chosen": [list(head) for head in probe.chosen],
        "absent": dict(probe.absent),
    }
    if probe.knockouts is not None:
        tables |= {f"knockouts_{name}": getattr(probe.knockouts, name) for name in _KNOCKOUT_TABLES}
        record["knockouts"] = {
            field.name: getattr(probe.knockouts, field.name)
            for field in fields(Knockouts)
            if field.name not in _KNOCKOUT_TABLES
        }
    tables["prompts"] = _prompt_table(probe.prompts)
    for name, table in tables.items():
        table.to_parquet(folder / _TABLES / f"{name}.parquet", index=False)
    if probe.attention is not None:
        record["attention"] = asdict(probe.attention.prompt) | {"tokens": probe.attention.prompt.tokens.tolist()}
        np.save(folder / "attention.npy", probe.attention.weights.astype(np.float16))
    (folder / RECORD).write_text(json.dumps(record, indent=2, ensure_ascii=False), encoding="utf-8")


def load_probe(folder: Path | str) -> Probe:
    """The probe that a folder holds; raises `InputError` if it holds none, one of another version, or is broken."""
    path = Path(folder)
    if not (path / RECORD).is_file():
        raise InputError(f"probe={str(path)!r}: holds no probe ({RECORD} is missing)")
    try:
        record = json.loads((path / RECORD).read_text(encoding="utf-8"))
        if record["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema version {record['schema_version']}, this anchorlab reads {SCHEMA_VERSION}")
        return _read(path, record)
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"probe={str(path)!r}: cannot be read ({reason}); probe the model again") from None


def _read(path: Path, record: dict[str, Any]) -> Probe:
    def table(name: str) -> pd.DataFrame:
        return pd.read_parquet(path / _TABLES / f"{name}.parquet")

    knockouts = attention = None
    if "knockouts" in record:
        own: dict[str, Any] = {name: table(f"knockouts_{name}") for name in _KNOCKOUT_TABLES}
        knockouts = Knockouts(**own, **record["knockouts"])
    if "attention" in record:
        weights = np.load(path / "attention.npy").astype(np.float32)
        attention = ShownAttention(_prompt(record["attention"]), weights)
    return Probe(
        name=record["name"],
        source=record["source"],
        prompts=_prompts(record["prompts"], table("prompts")),
        scores=HeadScores(**{field.name: table(field.name) for field in fields(HeadScores)}),
        trend=DepthTrend(**{field.name: table(f"depth_{field.name}") for field in fields(DepthTrend)}),
        knockouts=knockouts,
        attention=attention,
        chosen=tuple((layer, head) for layer, head in record["chosen"]),
        absent=record["absent"],
    )


def _prompt_table(prompts: PromptSet) -> pd.DataFrame:
    """One row a prompt; `moved` tells those of the moving test; places as JSON."""
    rows = [
        {
            "moved": moved,
            "tokens": prompt.tokens.tolist(),
            "pieces": list(prompt.pieces),
            "places": json.dumps({role: int(place) for role, place in prompt.places.items()}),
            "answer": prompt.answer,
        }
        for moved, group in ((False, prompts.prompts), (True, prompts.moved))
        for prompt in group
    ]
    return pd.DataFrame(rows).astype({"answer": "Int64"})


def _prompts(record: dict[str, str], table: pd.DataFrame) -> PromptSet:
    rows = [(bool(row.pop("moved")), _prompt(row)) for row in table.to_dict("records")]
    prompts, moved = (tuple(prompt for was_moved, prompt in rows if was_moved is kind) for kind in (False, True))
    return PromptSet(record["name"], record["description"], prompts, moved)


def _prompt(row: dict[Any, Any]) -> Prompt:
    places = json.loads(row["places"]) if isinstance(row["places"], str) else row["places"]
    answer = None if row["answer"] is None or pd.isna(row["answer"]) else int(row["answer"])
    return Prompt(np.array(row["tokens"], np.int64), tuple(row["pieces"]), places, answer)
