"""One self-contained HTML page about one or several runs: no outside address, readable without its script."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anchorlab.analysis import Explanation
from anchorlab.errors import InputError
from anchorlab.files import replacing

from . import downloads, summary
from .sections import build_sections, nothing_to_show
from .style import FINE
from .templates import render_template, resource

_LARGEST, _COARSE = 10_000_000, 80


def write(
    explanations: Sequence[Explanation], path: Path | str, *, title: str | None = None, command: str | None = None
) -> Path:
    """Write the report on `explanations` to `path`, whole or not at all, and return the path.

    `command` is what repeats the runs, one command a line. Raises `InputError` for no explanations, a path that
    cannot be written to, and a page of more than 10 MB.
    """
    path = Path(path)
    if not explanations:
        raise InputError("explanations: none given; a report needs at least one")
    check_writable(path)
    page = render(explanations, title=title, command=command)
    if len(page.encode()) > _LARGEST:
        page = render(explanations, title=title, command=command, dpi=_COARSE)
    if (size := len(page.encode())) > _LARGEST:
        raise InputError(f"out={str(path)!r}: the page would have {size / 1e6:.0f} MB, 10 at most; compare fewer runs")
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def check_writable(path: Path) -> None:
    """Raise InputError unless a page can be written to `path`."""
    if path.is_dir():
        raise InputError(f"out={str(path)!r}: is a folder; give a file, such as {str(path / 'report.html')!r}")
    if not path.parent.is_dir():
        raise InputError(f"out={str(path)!r}: the folder {str(path.parent)!r} does not exist")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"out={str(path)!r}: the folder {str(path.parent)!r} cannot be written to")


def render(
    explanations: Sequence[Explanation], *, title: str | None = None, command: str | None = None, dpi: int = FINE
) -> str:
    """The page as text; `dpi` is the resolution of images that are not drawn as lines."""
    members = _named(explanations)
    return render_template(
        "page.html",
        title=title or _title(members),
        style=resource("page.css") + resource("attention.css"),
        script=resource("attention.js"),
        introduction=summary.introduction(members),
        order=summary.rules(members)[0],
        operations=summary.rules(members)[1],
        cards=summary.cards(members),
        members=members,
        differences=summary.differences(members),
        rate_meaning=summary.rate_meaning(members),
        examples=summary.worked_examples(members),
        sections=build_sections(members, dpi),
        nothing_to_show=nothing_to_show,
        commutativity=_commutativity(members),
        command=command,
        records={name: _record(explanation) for name, explanation in members.items()},
    )


def _named(explanations: Sequence[Explanation]) -> dict[str, Explanation]:
    members: dict[str, Explanation] = {}
    for explanation in explanations:
        number = 1 + sum(other.name == explanation.name for other in members.values())
        members[explanation.name if number == 1 else f"{explanation.name} ({number})"] = explanation
    return members


def _title(members: Mapping[str, Explanation]) -> str:
    tasks = {explanation.config["task"]["name"] for explanation in members.values() if explanation.config.get("task")}
    plural = "s" if len(tasks) > 1 else ""
    on = f"the {' and '.join(sorted(tasks))} task{plural}" if tasks else "the user's own data"
    return f"{summary.count(list(members.values()))} on {on}: {', '.join(members)}"


def _commutativity(members: Mapping[str, Explanation]) -> dict[str, Any]:
    tables = {name: explanation.commutativity for name, explanation in members.items()}
    present = {name: table.assign(member=name) for name, table in tables.items() if table is not None and len(table)}
    if not present:
        return {"reasons": sorted({explanation.reason("commutativity") for explanation in members.values()})}
    joined = pd.concat(present.values(), ignore_index=True)[["member", "pair", "unseen", "rows", "fraction"]]
    wide = joined.pivot_table(
        index=["unseen", "pair"], columns="member", values="fraction", dropna=False, observed=True
    )
    wide = wide[list(present)].dropna(how="all").sort_index(key=_unseen_first)
    trained = wide[wide.index.get_level_values("unseen") == "no"]
    brief = wide.drop(trained.index)
    if len(trained):
        brief.loc[("no", "mean of the trained pairs"), :] = trained.mean()
    return {
        "members": list(present),
        "tables": [_cells(brief), _cells(trained)],
        "data": downloads.csv_uri(joined),
        "reasons": [],
    }


def _cells(table: pd.DataFrame) -> list[tuple[str, str, list[str]]]:
    rows = zip(table.index, table.to_numpy(), strict=True)
    return [
        (unseen, pair, ["–" if np.isnan(value) else f"{value:.3f}" for value in row]) for (unseen, pair), row in rows
    ]


def _unseen_first(index: "pd.Index[Any]") -> "pd.Index[Any]":
    return index.map({"both": 0, "one": 1, "no": 2}) if index.name == "unseen" else index


def _record(explanation: Explanation) -> dict[str, str]:
    return {
        "config": json.dumps(explanation.config, indent=2, ensure_ascii=False),
        "environment": json.dumps(explanation.environment, indent=2, ensure_ascii=False),
        "samples": f"{explanation.samples:,}",
        "seed": str(explanation.seed),
        "row_seed": "" if explanation.row_seed is None else str(explanation.row_seed),
        "status": explanation.status,
    }
