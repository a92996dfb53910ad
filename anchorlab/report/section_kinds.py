"""What each section of a report shows of an explanation, and how it is said."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from anchorlab.analysis import Explanation

from . import (
    causal_figures,
    condensation_figures,
    curves,
    downloads,
    geometry_figures,
    head_figures,
    mechanism_figures,
    pair_figures,
    readout_figures,
    sentences,
    speed_figures,
)


@dataclass(frozen=True)
class SectionKind:
    """A section: the field of `Explanation` it shows, how that was computed and is read, and three ways to show it."""

    field: str
    title: str
    method: str
    reading: str
    draw: Callable[[Any], Figure]
    tell: Callable[[Any], str]
    table: Callable[[Any], pd.DataFrame]


def section_kinds(found: Sequence[Explanation]) -> list[SectionKind]:
    """The sections in the order of the page; axes are shared by all of `found`."""
    return [*_answers(found), *_mechanism(), *_geometry(), *_condensation()]


def _unchanged(table: pd.DataFrame) -> pd.DataFrame:
    return table


def _answers(found: Sequence[Explanation]) -> list[SectionKind]:
    samples = " and ".join(sorted({f"{explanation.samples:,}" for explanation in found}))
    limits = curves.loss_range([explanation.metrics for explanation in found])
    thresholds = {explanation.phase.id_threshold for explanation in found if explanation.phase}
    widest = pair_figures.deviation_limit([e.deviations for e in found if e.deviations is not None])
    return [
        SectionKind(
            "metrics",
            "Learning curves",
            "Recorded while training, on rows of the training set and on held-out rows; every recorded step is drawn.",
            _reading_of_curves(found),
            draw=partial(curves.learning_curves, loss_range=limits, threshold=min(thresholds, default=None)),
            tell=sentences.about_curves,
            table=_unchanged,
        ),
        SectionKind(
            "pair_matrix",
            "Accuracy by anchor pair",
            f"{samples} fresh rows of every split; an answer is right if it is the label.",
            "One cell a pair, first anchor down, second across. The outlined pairs were kept out of training: bright "
            "there means the network combines single anchors.",
            draw=pair_figures.accuracy_by_pair,
            tell=sentences.about_pairs,
            table=downloads.pair_table,
        ),
        SectionKind(
            "learning_speed",
            "Learning speed by group",
            "The first recorded step at which the training accuracy of a group reached 60 %, as in figure 13.19. Slow "
            "groups are outliers of the logarithm of that step: more than three scaled median absolute deviations, and "
            "half as long again as the median.",
            "Groups whose rows break a rule that the others share need longer: a slow group is a candidate. The "
            "interval between two measurements limits how exactly a step is known.",
            draw=speed_figures.speed_by_group,
            tell=speed_figures.about_speed,
            table=lambda speed: speed.table,
        ),
        SectionKind(
            "answer_classes",
            "Answers on the unseen pairs",
            "Each answer is compared with the rule's and with the network's own answer after exchanging the two "
            "anchors (same key, same noise).",
            "Inferential: the rule's answer. Symmetric: wrong, but the same after the exchange (or the answer trained "
            "for the exchanged pair). Other: neither.",
            draw=pair_figures.answer_classes,
            tell=sentences.about_classes,
            table=_unchanged,
        ),
        SectionKind(
            "deviations",
            "How far the answers are off",
            "Answer minus right answer on the same rows of unseen pairs.",
            "A bar at 0 is right; a tall bar elsewhere is a systematic error, such as the constant of another pair.",
            draw=partial(pair_figures.deviation_histogram, limit=widest),
            tell=sentences.about_deviations,
            table=_unchanged,
        ),
    ]


def _reading_of_curves(found: Sequence[Explanation]) -> str:
    if all(explanation.phase is None for explanation in found):
        return "Dotted: training rows. Solid: test rows, which were not trained on."
    return (
        "Solid: pairs seen in training, in rows that were not. Dashed: pairs never seen. A network that only memorises "
        "pairs lifts the solid line alone."
    )


def _mechanism() -> list[SectionKind]:
    return [
        SectionKind(
            "attention",
            "Attention in one example",
            "Attention weights of the row shown above as the last example, for every layer and head, at every training "
            "step whose parameters were kept.",
            "Every line leads from a position to one that it reads from; the answer is read at the last position. The "
            "key's token is blue, the anchors' are orange.",
            draw=mechanism_figures.attention_maps,
            tell=sentences.about_attention,
            table=downloads.attention_table,
        ),
        SectionKind(
            "heads",
            "What the heads do",
            "Fresh rows of the test split, 500 at most. Shift: mean weight at a fixed distance. Broadcast: one column, "
            "other than a sink, that most of the later positions read. Sink: a column with more than 0.3 of the weight "
            "of later positions, wherever the tokens stand. Induction: what follows an earlier occurrence of the same "
            "token; duplicate: that occurrence; self: the position itself. Strength is the weight above even "
            "attention, as a share of what is possible. To tell broadcast from sink, the rows are turned so that key "
            "and anchors stand elsewhere.",
            "Shift heads bring together what stands at a fixed distance, and broadcast heads carry a result to all "
            "later positions (section 12.7.1). A sink usually carries little: it is where a head rests.",
            draw=head_figures.head_map,
            tell=head_figures.about_heads,
            table=head_figures.heads_table,
        ),
        SectionKind(
            "path",
            "The way to the answer",
            "Every row is paired with the same row under another key; only pairs count that the network answers right. "
            "The logit difference is that of the two right answers. All attention from one place to another is cut in "
            "one layer alone, the rest renormalised; the number is the share of the logit difference that is lost. "
            "Solid arrows lie on a way from key or anchors to the last position, dashed ones do not; arrows below 0.1 "
            "are left out. Positions before, between and after the key and anchors are taken together.",
            "Read it upwards: which token is brought to which in layer 1, and what the last position reads from there. "
            "If information takes several ways at once, no single arrow is strong.",
            draw=causal_figures.path_drawing,
            tell=causal_figures.about_path,
            table=lambda graph: graph.edges,
        ),
        SectionKind(
            "patching",
            "Activation patching",
            "One activation of a row is put into the run on its counterpart, the same row under another key; only "
            "pairs count that the network answers right. 0: the answer stays the counterpart's; 1: it becomes the "
            "row's own.",
            "In the residual stream: where the information about the key stands behind each layer. In the outputs of "
            "attention and feed-forward nets: where it is written.",
            draw=causal_figures.patching_maps,
            tell=causal_figures.about_patching,
            table=lambda found: found.table,
        ),
        SectionKind(
            "ablation",
            "Heads that the answer needs",
            "What one head has read is replaced, at every position, by its mean over the rows; only rows count that "
            "the network answers right together with their counterpart under another key.",
            "1: without the head nothing is left of the logit difference; 0: the head does not matter; below 0: the "
            "answer is clearer without it.",
            draw=causal_figures.ablation_map,
            tell=causal_figures.about_ablation,
            table=lambda found: found.table,
        ),
        SectionKind(
            "readout",
            "What every position would answer",
            "The logit lens: the residual stream of every position behind every layer goes through the final layer "
            "norm and the head as if the network ended there. f_a1 is the function of the anchor that acts first, f_a2 "
            "of the second; only rows count in which all readings have different values.",
            "A cell names the reading that at least half of the positions share, and their share; in a cell of “–” "
            "most positions hold none of the readings, in a “mixed” one several. f_a1∘f_a1 at the first anchor, and "
            "the answer from the second on, is the pattern of figure 12.8.",
            draw=readout_figures.readout_map,
            tell=readout_figures.about_readout,
            table=readout_figures.readout_table,
        ),
    ]


def _geometry() -> list[SectionKind]:
    return [
        SectionKind(
            "key_masked",
            "Outputs with the key hidden",
            "All attention to the key is zeroed after the softmax in every layer (figure 13.7A; the other weights stay "
            "as they were), for 50 rows of every pair (fewer of more than 20 pairs). Principal components and t-SNE of "
            "the last hidden states; distances are measured in all their dimensions.",
            "One cluster a pair: the network holds pairs apart. If the two orders of a pair share a cluster, it treats "
            "them as one mapping. Overlapping clusters: without the key, the outputs do not tell the pairs apart, as "
            "in a network that has not learned them or looks up key and pair as a whole (figure 13.8). Pairs of equal "
            "sum can share a cluster too. Silhouettes are 1 for tight clusters far apart and 0 for mixed ones.",
            draw=lambda masked: geometry_figures.clusters_plot(masked.clusters, masked.by_tsne),
            tell=lambda masked: geometry_figures.about_clusters(masked.clusters),
            table=lambda masked: geometry_figures.clusters_table(masked.clusters),
        ),
        SectionKind(
            "second_anchor_masked",
            "Outputs with the second anchor hidden",
            "The same with the anchor hidden that acts last (figure 13.7B): cosine similarity of the last hidden "
            "states of one row for every key x and anchor a1, sorted by g(x; a1).",
            "Red blocks on the diagonal, paler elsewhere: rows with equal g(x; a1) look alike, so the network works "
            "out the first anchor's result on its own. One colour everywhere: it knows pairs as a whole (figure 13.9).",
            draw=lambda masked: geometry_figures.similarity_plot(masked.similarity),
            tell=lambda masked: geometry_figures.about_similarity(masked.similarity),
            table=lambda masked: geometry_figures.similarity_table(masked.similarity),
        ),
        SectionKind(
            "embedding",
            "Embeddings of the numbers",
            "Principal components and t-SNE of the number tokens' embedding vectors e(x). The score of a step s is the "
            "mean cosine between e(x + s) − e(x) and the same difference one number further on (two for s = 1, so that "
            "the differences share no number), in all dimensions of the embedding; 95 % of 200 shuffles of the numbers "
            "have a best score below the line of chance. Order by size is the absolute Spearman rank correlation of a "
            "component with the numbers. A lattice of steps s and t: how much opposite sides of the parallelograms x, "
            "x + s, x + s + t, x + t have in common, for the shortest and most nearly orthogonal pair above chance.",
            "Numbers can be ordered without being sorted by size. A bar well above the dashed line says that the way "
            "from x to x + s is the same for neighbouring x: order in steps, such as a lattice built on the "
            "differences between the anchors' offsets. Colours that run smoothly across the plane mean order by size. "
            "Only bars at chance and mixed colours together mean that the network treats numbers as unrelated symbols.",
            draw=geometry_figures.geometry_plot,
            tell=geometry_figures.about_geometry,
            table=geometry_figures.geometry_table,
        ),
    ]


def _condensation() -> list[SectionKind]:
    return [
        SectionKind(
            "condensation",
            "Condensation of the first queries, W_Q(1)",
            "Cosine similarity between the input weights of the first block's query neurons, sorted so that neurons of "
            "one group (cosine above 0.7) lie together.",
            "Blocks of strong colour are neurons that point the same way (red) or opposite ways (blue): fewer "
            "directions, a simpler network. A pale matrix with a red diagonal is what random weights give. Count the "
            "directions against those of random weights: even these use fewer than there are neurons. Directions: n² / "
            "Σ cosine², so that k equally used orthogonal directions give k; n random neurons of d inputs give n / (1 "
            "+ (n − 1) / d). Stable rank: ‖W‖²_F / ‖W‖²_2.",
            draw=condensation_figures.cosine_plot,
            tell=condensation_figures.about_condensation,
            table=condensation_figures.cosine_table,
        ),
        SectionKind(
            "condensation_survey",
            "Condensation of all layers",
            "The same for every weight matrix of every layer; a matrix of many neurons is averaged over blocks of "
            "neighbours for the picture, not for the numbers.",
            "Layers down, matrices across: where in the network neurons have condensed. W_1 and W_2 are the matrices "
            "into and out of the feed-forward net. The percentages are directions as a share of those of random "
            "weights.",
            draw=condensation_figures.condensation_overview,
            tell=condensation_figures.about_overview,
            table=lambda survey: survey.table,
        ),
        SectionKind(
            "condensation_history",
            "Condensation along training",
            "The number of directions that the query neurons use, divided by that of random weights, at every training "
            "step whose parameters were kept.",
            "A line that falls: the neurons condense while training.",
            draw=condensation_figures.condensation_curves,
            tell=condensation_figures.about_training,
            table=_unchanged,
        ),
    ]
