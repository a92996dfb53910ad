"""A worked example of a task: one row with its key, anchors and label marked."""

from __future__ import annotations

from typing import Any

from .base import Task


def example_row(task: Task, split: str = "train", seed: int = 0, row: int = 0) -> dict[str, Any]:
    """Return one row in JSON types: token names, a mark for each token that decides the label, and the label."""
    sample = task.sample(split, 1, seed, start=row)
    found = task.locate(sample.tokens)
    marks = [""] * task.length
    marks[int(found.key_position[0])] = "key"
    places = found.anchor_positions[0].tolist()
    for number, place in enumerate(places, start=1):
        marks[place] = "anchor" if len(places) == 1 else f"anchor {number}"
    return {
        "split": split,
        "tokens": [task.vocabulary.token_name(token) for token in sample.tokens[0].tolist()],
        "input_ids": sample.tokens[0].tolist(),
        "marks": marks,
        "label": task.vocabulary.token_name(int(sample.label[0])),
        "group": task.group_names[int(sample.group[0])],
    }


def worked_example(task: Task, split: str = "train", seed: int = 0, row: int = 0) -> str:
    """Return `example_row` as two aligned lines: tokens and label, and below them what each one is."""
    shown = example_row(task, split, seed, row)
    upper = [*shown["tokens"], "→", shown["label"]]
    lower = [*shown["marks"], "", "label"]
    widths = [max(len(one), len(other)) for one, other in zip(upper, lower, strict=True)]
    lines = (
        "  ".join(text.ljust(width) for text, width in zip(texts, widths, strict=True)) for texts in (upper, lower)
    )
    return "\n".join(line.rstrip() for line in lines) + f"\ngroup: {shown['group']}"
