"""Write docs/tasks/<name>.md from the code: ``python docs/generate_task_pages.py``."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

from anchorlab import tasks

FOLDER = Path(__file__).parent / "tasks"


def pages() -> dict[str, str]:
    """Return the text of every page by file name."""
    return {"index.md": _index(), **{f"{name}.md": page(name) for name in tasks.names()}}


def page(name: str) -> str:
    """Return the page of one task as Markdown."""
    kind, task = tasks.task_class(name), tasks.create(name)
    parts = [
        f"# {name}",
        _markdown(inspect.getdoc(kind) or ""),
        f"Source: {kind.source}.",
        "## Example",
        *(_example(task, split) for split in task.splits),
        "## Parameters",
        f'`tasks.create("{name}", parameter=value)`, or `--set parameter=value` on the command line.',
        _parameters(name),
        "## Presets",
        _presets(name),
        "## Vocabulary",
        _vocabulary(task),
        "## Splits",
        _splits(task),
    ]
    return "\n\n".join(parts) + "\n"


def _index() -> str:
    rows = [f"| [{name}]({name}.md) | {_summary(name)} |" for name in tasks.names()]
    operations = [f"| `{name}` | {kind.summary} |" for name, kind in sorted(tasks.operations().items())]
    return "\n".join(
        [
            "# Tasks",
            "",
            "Made from the code by `docs/generate_task_pages.py`.",
            "",
            "| task | what it is |",
            "|---|---|",
            *rows,
            "",
            "## Operations",
            "",
            "What an anchor does to its key items, written `name` or `name:k`.",
            "",
            "| operation | result |",
            "|---|---|",
            *operations,
            "",
        ]
    )


def _summary(name: str) -> str:
    return _markdown(inspect.getdoc(tasks.task_class(name)) or "").splitlines()[0]


def _markdown(docstring: str) -> str:
    return docstring.replace("``", "`")


def _example(task: tasks.Task, split: str) -> str:
    return f"A row of the {split} split:\n\n```text\n{tasks.worked_example(task, split)}\n```"


def _parameters(name: str) -> str:
    rows = [
        f"| `{one.name}` | `{_cell(one.type)}` | `{_cell(json.dumps(one.default))}` | {_cell(one.description)} |"
        for one in tasks.parameters(name)
    ]
    return "\n".join(["| parameter | type | default | meaning |", "|---|---|---|---|", *rows])


def _presets(name: str) -> str:
    fields = tasks.task_class(name).preset_fields
    if not fields:
        return "None: no source defines this task."
    rows = [f"| `{preset}` | {_changes(dict(changed))} |" for preset, changed in fields.items()]
    return "\n".join(["| preset | parameters that differ from the defaults |", "|---|---|", *rows])


def _changes(changed: dict[str, object]) -> str:
    return ", ".join(f"`{field}={_cell(json.dumps(value))}`" for field, value in changed.items()) or "none"


def _vocabulary(task: tasks.Task) -> str:
    words = task.vocabulary
    anchors = ", ".join(f"`{name}` = {token}" for name, token in words.anchors.items())
    return (
        f"{words.size} token ids. Numbers {words.low}..{words.high} are their own ids. Anchors: {anchors}. "
        f"Labels lie in {words.labels[0]}..{words.labels[1]}. The pad is {words.pad} and never occurs."
    )


def _splits(task: tasks.Task) -> str:
    rows = [f"| {split} | {len(task.cells(split))} |" for split in task.splits]
    groups = ", ".join(f"`{name}`" for name in task.group_names[:20])
    more = f" and {len(task.group_names) - 20} more" if len(task.group_names) > 20 else ""
    table = "\n".join(["| split | cells (anchors, key position, key) |", "|---|---|", *rows])
    return f"{table}\n\nAccuracy is reported by group: {groups}{more}."


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Write the pages."""
    FOLDER.mkdir(exist_ok=True)
    for file, text in pages().items():
        (FOLDER / file).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
