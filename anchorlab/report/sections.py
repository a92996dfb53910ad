"""The report's sections: for each, a panel per member with figure, finding and data, or the reason for its absence."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from anchorlab.analysis import Explanation

from . import curves, downloads, findings, mechanism_figures, pair_figures
from .style import encode


@dataclass(frozen=True)
class Panel:
    """One member's part of a section; `reason` is set where there is nothing to show."""

    member: str
    image: str = ""
    finding: str = ""
    data: str = ""
    file: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Section:
    """A section of the page: what its figures are made of (`method`) and how to read them (`reading`)."""

    id: str
    title: str
    method: str
    reading: str
    panels: tuple[Panel, ...]


def build_sections(members: dict[str, Explanation]) -> list[Section]:
    """All sections of a report on `members`, by their names on the page."""
    found = list(members.values())
    limits = curves.loss_range([explanation.metrics for explanation in found])
    widest = pair_figures.deviation_limit([e.deviations for e in found if e.deviations is not None])
    samples = " and ".join(sorted({f"{explanation.samples:,}" for explanation in found}))

    def section(field: str, title: str, method: str, reading: str, **parts: Callable[[Any], Any]) -> Section:
        return Section(field.replace("_", "-"), title, method, reading, _panels(members, field, **parts))

    return [
        Section(
            "curves",
            "Learning curves",
            "Recorded while training, on rows of the training set and on held-out rows; every recorded step is drawn.",
            _reading_of_curves(found),
            tuple(_curve_panel(name, explanation, limits) for name, explanation in members.items()),
        ),
        section(
            "pair_matrix",
            "Accuracy by anchor pair",
            f"{samples} fresh rows of every split; an answer is right if it is the label.",
            "One cell a pair, first anchor down, second across. The outlined pairs were kept out of training: bright "
            "there means the network combines single anchors.",
            draw=pair_figures.accuracy_by_pair,
            tell=findings.about_pairs,
            table=downloads.pair_table,
        ),
        section(
            "answer_classes",
            "Answers on the unseen pairs",
            "Each answer is compared with the rule's and with the network's own answer after exchanging the two "
            "anchors (same key, same noise).",
            "Inferential: the rule's answer. Symmetric: wrong, but the same after the exchange (or the answer trained "
            "for the exchanged pair). Other: neither.",
            draw=pair_figures.answer_classes,
            tell=findings.about_classes,
            table=lambda table: table,
        ),
        section(
            "deviations",
            "How far the answers are off",
            "Answer minus right answer on the same rows of unseen pairs.",
            "A bar at 0 is right; a tall bar elsewhere is a systematic error, such as the constant of another pair.",
            draw=lambda table: pair_figures.deviation_histogram(table, limit=widest),
            tell=findings.about_deviations,
            table=lambda table: table,
        ),
        section(
            "attention",
            "Attention in one example",
            "Attention weights of the row shown above as the last example, for every layer and head.",
            "Each row of a map is a position, each column a position it reads from. The answer is read at the last "
            "row. The key's token is blue, the anchors' are orange.",
            draw=mechanism_figures.attention_maps,
            tell=findings.about_attention,
            table=downloads.attention_table,
        ),
        section(
            "embedding",
            "Embeddings of the numbers",
            "Principal components of the number tokens' embedding vectors e(x). The score of a step s is the mean "
            "cosine between e(x + s) − e(x) and the same difference one number further on (two for s = 1, so that the "
            "differences share no number), in all dimensions of the embedding; 95 % of 200 shuffles of the numbers "
            "have a best score below the line of chance. Order by size is the absolute Spearman rank correlation of a "
            "component with the numbers.",
            "Numbers can be ordered without being sorted by size. A bar well above the dashed line says that the way "
            "from x to x + s is the same for neighbouring x: order in steps, such as a lattice built on the "
            "differences between the anchors' offsets. Colours that run smoothly across the plane mean order by size. "
            "Only bars at chance and mixed colours together mean that the network treats numbers as unrelated symbols.",
            draw=mechanism_figures.embedding_plot,
            tell=findings.about_embedding,
            table=downloads.embedding_table,
        ),
        section(
            "condensation",
            "Condensation of the first queries, W_Q(1)",
            "Cosine similarity between the input weights of the first block's query neurons, sorted so that neurons of "
            "one group (cosine above 0.7) lie together.",
            "Blocks of strong colour are neurons that point the same way (red) or opposite ways (blue): fewer "
            "directions, a simpler network. A pale matrix with a red diagonal is what random weights give. Count the "
            "directions against those of random weights: even these use fewer than there are neurons.",
            draw=mechanism_figures.cosine_plot,
            tell=findings.about_condensation,
            table=downloads.cosine_table,
        ),
    ]


def _reading_of_curves(found: Sequence[Explanation]) -> str:
    if all(explanation.phase is None for explanation in found):
        return "Dotted: training rows. Solid: test rows, which were not trained on."
    return (
        "Solid: pairs seen in training, in rows that were not. Dashed: pairs never seen. A network that only memorises "
        "pairs lifts the solid line alone."
    )


def _panels(
    members: dict[str, Explanation],
    field: str,
    *,
    draw: Callable[[Any], Figure],
    tell: Callable[[Any], str],
    table: Callable[[Any], Any],
) -> tuple[Panel, ...]:
    def panel(name: str, explanation: Explanation) -> Panel:
        result = getattr(explanation, field)
        if result is None:
            return Panel(name, reason=explanation.reason(field))
        data = downloads.csv_uri(table(result))
        return Panel(name, encode(draw(result)), tell(result), data, downloads.file_name(name, field))

    return tuple(panel(name, explanation) for name, explanation in members.items())


def _curve_panel(name: str, explanation: Explanation, limits: tuple[float, float] | None) -> Panel:
    metrics = explanation.metrics
    if metrics.empty:
        return Panel(name, reason="no measurement was recorded")
    threshold = explanation.phase.id_threshold if explanation.phase else None
    figure = curves.learning_curves(metrics, loss_range=limits, threshold=threshold)
    return Panel(
        name,
        encode(figure),
        findings.about_curves(metrics),
        downloads.csv_uri(metrics),
        downloads.file_name(name, "metrics"),
    )


def nothing_to_show(section: Section) -> Sequence[str]:
    """Distinct reasons of a section that has no figure at all; empty if it has one."""
    return [] if any(panel.image for panel in section.panels) else sorted({panel.reason for panel in section.panels})
