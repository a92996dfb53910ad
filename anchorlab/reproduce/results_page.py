"""The page of all kept results: what was claimed, what was found, and how to repeat it."""

from collections import Counter
from collections.abc import Mapping, Sequence

from .claims import ConditionDecision
from .results import Result

_MARKS = {"holds": "✓ holds", "fails": "✗ fails", "undecided": "? undecided"}

_INTRODUCTION = """# Results

Every row is a result of the literature, made again by one command. Its claim is a list of conditions with limits that
follow from the source and from chance; a condition holds if at least four of five seeds meet it, fails if at least four
of five do not, and is undecided in between. A claim fails if one of its conditions fails. {count} results: {summary}.

This page is made from the files in `docs/results/` (`make docs`), which `anchorlab reproduce` wrote. Core minutes are
wall-clock time: where a machine does other work too, they are more than it needs.
"""


def results_page(results: Sequence[Result], notes: Mapping[str, str], *, figures: str) -> str:
    """Markdown: a table with a row for every result, then a section for each with its figure.

    `notes` are those of the reproductions, by id, shown at laptop scale, which they are about; `figures` is the folder
    of the figures, `ID-SCALE.png`, as seen from the page.
    """
    counts = Counter[str](one.decision.verdict for one in results)
    summary = ", ".join(f"{counts[verdict]} {verdict}" for verdict in _MARKS if counts[verdict])
    parts = [_INTRODUCTION.format(count=len(results), summary=summary or "none"), _table(results)]
    return "\n".join([*parts, *(_section(one, notes[one.id], figures) for one in results)])


def _table(results: Sequence[Result]) -> str:
    header = ["id", "claim", "source", "measured", "verdict", "scale", "core minutes"]
    rows = [
        [
            f"[{one.id}](#{_anchor(one)})",
            one.claim.text,
            "<br>".join(found.condition.source or "–" for found in one.decision.conditions),
            "<br>".join(f"{found.summary()}, wanted {found.condition.limits}" for found in one.decision.conditions),
            _MARKS[one.decision.verdict],
            one.scale,
            f"{one.core_seconds / 60:.1f}",
        ]
        for one in results
    ]
    return _rows(header, rows)


def _section(one: Result, notes: str, figures: str) -> str:
    machine = one.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    parts = [
        f'<a id="{_anchor(one)}"></a>\n\n## {one.id}: {one.title}',
        f"{one.claim.text} ({one.source})",
        f"![{one.title}]({figures}/{one.id}-{one.scale}.png)",
        _conditions(one.decision.conditions),
        *([notes] if notes and one.scale == "laptop" else []),
        f"`{one.command}`: {one.core_seconds / 60:.1f} core minutes on {machine['device']} with {machine['cores']} "
        f"core{'' if machine['cores'] == 1 else 's'}; {versions}.{f' {one.diverged_text}.' if one.diverged else ''}",
    ]
    return "\n" + "\n\n".join(parts) + "\n"


def _conditions(found: Sequence[ConditionDecision]) -> str:
    header = ["condition", "wanted", "measured: mean (range)", "seeds that meet it", "source", "verdict"]
    rows = [
        [
            one.condition.text,
            one.condition.limits,
            one.summary(),
            f"{one.met} of {len(one.values)}{one.unmeasured}",
            one.condition.source or "–",
            _MARKS[one.verdict],
        ]
        for one in found
    ]
    return _rows(header, rows)


def _rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _anchor(one: Result) -> str:
    return f"{one.id.replace('.', '-')}-{one.scale}"
