"""What a sweep is and what came out of it, as lines of text."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from anchorlab.engine import Run
from anchorlab.experiments import Experiment
from anchorlab.experiments.axes import setting, varied
from anchorlab.experiments.plane import plane


def size(experiments: Mapping[str, Experiment]) -> str:
    """How many members, and of how many values: `84 members (7 initialization_rate x 4 weight_decay x 3 seeds)`."""
    axes = varied(list(experiments.values()))
    count = f"{len(experiments)} member{'s' if len(experiments) > 1 else ''}"
    return f"{count} ({_product(axes)})" if axes else count


def _product(axes: Mapping[str, Sequence[Any]]) -> str:
    return " x ".join(f"{len(values)} {'seeds' if field == 'seed' else field}" for field, values in axes.items())


def listing(experiments: Mapping[str, Experiment]) -> list[str]:
    """A line for every member with the settings that vary."""
    fields = list(varied(list(experiments.values())))
    width = max(map(len, experiments))
    return [
        f"{name:<{width}}  {'  '.join(f'{field}={setting(experiment, field)}' for field in fields)}".rstrip()
        for name, experiment in experiments.items()
    ]


def statuses(runs: Sequence[Run]) -> str:
    """How many runs ended how: `83 finished, 1 diverged`."""
    counts = Counter(run.status for run in runs)
    return ", ".join(f"{count} {status}" for status, count in sorted(counts.items(), reverse=True))


def accuracies(experiments: Mapping[str, Experiment], runs: Sequence[Run]) -> list[str]:
    """The mean final accuracy of the finished members as a grid; nothing if fewer than two settings vary."""
    drawn = plane(experiments)
    if drawn is None:
        return []
    finals = {run.name: _final(run) for run in runs if run.status == "finished"}
    split = next((split for split in ("ood", "test") if any(split in found for found in finals.values())), "train")
    label = max(map(len, drawn.row_texts))
    axes = varied(list(experiments.values()))
    others = _product({field: axes[field] for field in axes if field not in (drawn.columns, drawn.rows)})
    mean = f"mean over {others} of the finished members" if others else "of the finished members"
    width = max(4, *map(len, drawn.column_texts)) + 1
    lines = [
        f"{split} accuracy, {mean} ({drawn.title})",
        f"{'':{label}} " + "".join(f"{text:>{width}}" for text in drawn.column_texts),
    ]
    for row, text in enumerate(drawn.row_texts):
        cells = [drawn.members.get((row, column), ()) for column in range(len(drawn.column_texts))]
        shown = [_mean([finals[name][split] for name in cell if split in finals.get(name, {})]) for cell in cells]
        lines.append(f"{text:>{label}} " + "".join(f"{value:>{width}}" for value in shown))
    return lines


def _final(run: Run) -> dict[str, float]:
    table = run.metrics()
    last = table[(table.metric == "accuracy") & (table.group == "")].groupby("split").value.last()
    return {str(split): float(value) for split, value in last.items()}


def _mean(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.2f}" if values else "-"
