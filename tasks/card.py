"""The dataset card: what the data is, what its splits share, and how to make it again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from .base import GENERATOR_VERSION, Task
from .dataset import COLUMNS
from .example import worked_example
from .registry import parameters

_SIZE_CATEGORIES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))
_LARGER = ((10**7, "1M<n<10M"), (10**8, "10M<n<100M"), (10**9, "100M<n<1B"), (10**10, "1B<n<10B"))


def card_text(task: Task, sizes: Mapping[str, int], seed: int, shards: int, *, unique: bool) -> str:
    """Return the card as Markdown with the YAML header that `datasets.load_dataset` reads."""
    paragraphs = [
        _header(task, sizes),
        f"# {task.name}: {_first_line(task)}",
        f"Rows of the anchor-function task `{task.name}` ({task.source}), made by anchorlab.",
        f"```text\n{worked_example(task, seed=seed)}\n```",
        "## Columns",
        "\n".join(f"- `{column}`: {meaning}" for column, meaning in COLUMNS.items()),
        _vocabulary_line(task),
        "## Parameters",
        _parameters(task),
        "## Splits",
        _splits(task, sizes),
        "## Leaks",
        _leaks(task, sizes, unique),
        "## Making it again",
        _remake(task, sizes, seed, shards, unique),
    ]
    return "\n\n".join(paragraphs) + "\n"


def _header(task: Task, sizes: Mapping[str, int]) -> str:
    files = [f"  - split: {split}\n    path: data/{split}-*.parquet" for split in sizes]
    total = sum(sizes.values())
    category = next((name for bound, name in (*_SIZE_CATEGORIES, *_LARGER) if total < bound), "10B<n<100B")
    lines = [
        "---",
        f"pretty_name: {task.name}",
        "tags:",
        "- anchor-function",
        "- synthetic",
        "size_categories:",
        f"- {category}",
        "configs:",
        "- config_name: default",
        "  data_files:",
        *files,
        "---",
    ]
    return "\n".join(lines)


def _first_line(task: Task) -> str:
    return (task.__doc__ or "").strip().splitlines()[0].replace("``", "`")


def _vocabulary_line(task: Task) -> str:
    words = task.vocabulary
    anchors = ", ".join(f"{name} = {token}" for name, token in words.anchors.items())
    return (
        f"Numbers are their own token ids. Anchors: {anchors}. Labels lie in {words.labels[0]}..{words.labels[1]}; "
        f"{words.size} ids in all; {words.pad} is the pad and never occurs."
    )


def _parameters(task: Task) -> str:
    fields, resolved = task.config()["fields"], task.resolved
    rows = []
    for one in parameters(task.name):
        means = f" (here {resolved[one.name]})" if one.name in resolved else ""
        rows.append(f"| `{one.name}` | `{json.dumps(fields[one.name])}`{means} | {one.description} |")
    return "\n".join(["| parameter | value | meaning |", "|---|---|---|", *rows])


def _splits(task: Task, sizes: Mapping[str, int]) -> str:
    rows = [f"| {split} | {rows} | {len(task.cells(split))} |" for split, rows in sizes.items()]
    return "\n".join(["| split | rows | cells (anchors, key position, key) |", "|---|---|---|", *rows])


def _leaks(task: Task, sizes: Mapping[str, int], unique: bool) -> str:
    report = task.leak_report()
    lines = [
        f"- {' and '.join(pair)}: {count} common cells, {_known(report.shared_rows[pair])} common rows"
        for pair, count in report.shared_cells.items()
        if set(pair) <= set(sizes)
    ]
    if unique:
        lines.append("- duplicates inside a split: none, every cell occurs at most once")
    for split, rows in () if unique else sizes.items():
        expected = report.expected_duplicates(split, rows)
        repeated = f"each row {report.copies} times on purpose; beyond that, " if report.copies > 1 else ""
        lines.append(f"- duplicates inside {split}: {repeated}{_known(expected)} expected by chance")
    return "\n".join([*lines, "", f"How the rows are known: {report.reason}."])


def _known(value: float | None) -> str:
    if value is None:
        return "an unknown number"
    return f"{value:.3g}"


def _remake(task: Task, sizes: Mapping[str, int], seed: int, shards: int, unique: bool) -> str:
    command = ["anchorlab", "generate", task.name, "--out", "DIR"]
    for split, rows in sizes.items():
        command += [f"--{split}", str(rows)]
    command += ["--seed", str(seed)]
    command += ["--shards", str(shards)] if shards > 1 else []
    command += ["--unique"] if unique else []
    for name, value in _changed(task).items():
        command += ["--set", f"{name}={json.dumps(value)}"]
    mode = "unique cells, " if unique else ""
    return (
        f"Seed {seed}, {shards} shard(s), {mode}generator version {GENERATOR_VERSION}, task hash `{task.hash}`.\n\n"
        f"```sh\n{shlex.join(command)}\n```"
    )


def _changed(task: Task) -> dict[str, Any]:
    fields = task.config()["fields"]
    return {one.name: fields[one.name] for one in parameters(task.name) if fields[one.name] != one.default}
