"""The report's sections: for each, a panel per member with figure, finding and data, or the reason for its absence."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from anchorlab.analysis import Explanation
from anchorlab.errors import InputError

from . import condensation_figures, downloads
from .attention_view import AttentionView, attention_view
from .section_kinds import SectionKind, section_kinds
from .sentences import about_accuracy, about_commutativity, about_examples, about_phase
from .style import FINE, encode

_VIEW_BUDGET = 6_000_000  # bytes of a page that all interactive views share


@dataclass(frozen=True)
class Panel:
    """One member's part of a section; `reason` is set where there is nothing to show."""

    member: str
    image: str = ""
    finding: str = ""
    data: str = ""
    file: str = ""
    reason: str = ""
    view: AttentionView | None = None


@dataclass(frozen=True)
class Section:
    """A section of the page: what its figures are made of (`method`) and how to read them (`reading`)."""

    id: str
    title: str
    method: str
    reading: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Finding:
    """What one field of an explanation tells, apart from a page: in words, and where there is one as figure and table.

    `text` is the reason where it was not measured.
    """

    field: str
    title: str
    text: str
    figure: Figure | None = None
    table: pd.DataFrame | None = None


def build_sections(members: Mapping[str, Explanation], dpi: int = FINE) -> list[Section]:
    """All sections of a report on `members`, by their names on the page; `dpi` as in `style.encode`."""
    sections = []
    for kind in section_kinds(list(members.values())):
        panels = tuple(_panel(kind, name, explanation, len(members), dpi) for name, explanation in members.items())
        sections.append(Section(kind.field.replace("_", "-"), kind.title, kind.method, kind.reading, panels))
        if kind.field == "condensation_survey" and len(members) > 1:
            sections.append(_condensation_compared(members, dpi))
    return sections


def findings(explanation: Explanation) -> list[Finding]:
    """What there is to say about one run: the numbers of the summary, then every section."""
    summary: list[tuple[str, str, Callable[[Any], str]]] = [
        ("accuracy", "Accuracy", about_accuracy),
        ("phase", "Phase", about_phase),
        ("commutativity", "Commutativity", about_commutativity),
        ("examples", "Examples", about_examples),
    ]
    return [
        *(_in_words(explanation, *one) for one in summary),
        *(_finding(kind, explanation) for kind in section_kinds([explanation])),
    ]


def nothing_to_show(section: Section) -> Sequence[str]:
    """Distinct reasons of a section that has no figure at all; empty if it has one."""
    return [] if any(panel.image for panel in section.panels) else sorted({panel.reason for panel in section.panels})


def _in_words(explanation: Explanation, field: str, title: str, tell: Callable[[Any], str]) -> Finding:
    result = getattr(explanation, field)
    if result is None or (isinstance(result, Sequence | pd.DataFrame) and len(result) == 0):
        return Finding(field, title, explanation.reason(field))
    return Finding(field, title, tell(result), table=result if isinstance(result, pd.DataFrame) else None)


def _finding(kind: SectionKind, explanation: Explanation) -> Finding:
    result = getattr(explanation, kind.field)
    if result is None:
        return Finding(kind.field, kind.title, explanation.reason(kind.field))
    if isinstance(result, pd.DataFrame) and result.empty:
        return Finding(kind.field, kind.title, "no measurement was recorded")
    return Finding(kind.field, kind.title, kind.tell(result), kind.draw(result), kind.table(result))


def _panel(kind: SectionKind, name: str, explanation: Explanation, members: int, dpi: int) -> Panel:
    found = _finding(kind, explanation)
    if found.figure is None or found.table is None:
        return Panel(name, reason=found.text)
    view = None
    if kind.field == "attention" and explanation.attention is not None:
        view = attention_view(explanation.attention, budget=_VIEW_BUDGET // members)
    return _filled(name, found.figure, found.text, found.table, kind.field, dpi, view)


def _filled(
    name: str, figure: Figure, text: str, table: pd.DataFrame, field: str, dpi: int, view: AttentionView | None = None
) -> Panel:
    return Panel(name, encode(figure, dpi), text, downloads.csv_uri(table), downloads.file_name(name, field), view=view)


def _condensation_compared(members: Mapping[str, Explanation], dpi: int) -> Section:
    surveys = {
        name: explanation.condensation_survey
        for name, explanation in members.items()
        if explanation.condensation_survey is not None
    }
    try:
        panel = _filled(
            "all networks",
            condensation_figures.condensation_by_member(surveys),
            condensation_figures.about_members(surveys),
            condensation_figures.members_table(surveys),
            "condensation_compared",
            dpi,
        )
    except InputError as error:
        panel = Panel("all networks", reason=str(error))
    return Section(
        "condensation-compared",
        "Condensation of W_Q, networks side by side",
        "Cosine similarities as in the sections before: networks down, layers across (compare figure 13.11).",
        "Larger blocks of strong colour mean fewer directions. Compare networks in one column.",
        (panel,),
    )
