"""One sentence a figure: what it shows, with the numbers. They are the figures' captions and alternative texts."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from anchorlab.analysis import Attention, Condensation, EmbeddingPCA, PairMatrix

from .style import split_names


def about_curves(metrics: pd.DataFrame) -> str:
    """Last loss and accuracy of every split."""
    whole = metrics[metrics["group"] == ""]
    last = whole.sort_values("step").groupby(["metric", "split"])["value"].last()
    names = split_names(last["accuracy"].index)
    accuracies = ", ".join(f"{last['accuracy', split]:.3f} on {name}" for split, name in names.items())
    loss = f"; training loss {last['loss', 'train']:.3g}" if ("loss", "train") in last.index else ""
    return f"At the last recorded step, {whole['step'].max():,}, accuracy is {accuracies}{loss}."


def unseen_pairs(matrix: PairMatrix) -> list[str]:
    """Names of the pairs kept out of training."""
    return [f"{matrix.anchors[i]},{matrix.anchors[j]}" for i, j in np.argwhere(matrix.unseen)]


def listed(pairs: Sequence[str], most: int = 6) -> str:
    """`(a,b) and (b,a)`; of a long list the first ones and how many more there are."""
    names = [f"({pair})" for pair in pairs[:most]]
    if len(pairs) > most:
        return f"{', '.join(names)} and {len(pairs) - most} more"
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def about_pairs(matrix: PairMatrix) -> str:
    """Mean accuracy of trained and unseen pairs, the weakest trained pair, and how many pairs no row was drawn of."""
    undrawn = f" Of {matrix.undrawn} pairs no row was drawn." if matrix.undrawn else ""
    return _accuracy_of_pairs(matrix) + undrawn


def _accuracy_of_pairs(matrix: PairMatrix) -> str:
    text = f"Mean accuracy is {matrix.mean(unseen=False):.2f} over the trained pairs"
    if matrix.unseen.any():
        text += f" and {matrix.mean(unseen=True):.2f} over the pairs never trained, {listed(unseen_pairs(matrix))}"
    trained = np.where(matrix.seen, matrix.accuracy, np.nan)
    if np.isnan(trained).all():
        return f"{text}."
    row, column = np.unravel_index(np.nanargmin(trained), trained.shape)
    if trained[row, column] >= 0.995:
        return f"{text}. Every trained pair reaches at least {trained[row, column]:.3f}."
    weakest = f"({matrix.anchors[row]},{matrix.anchors[column]})"
    return f"{text}. The weakest trained pair is {weakest} with {trained[row, column]:.2f}."


def about_classes(table: pd.DataFrame) -> str:
    """Fractions of the three classes over all unseen pairs."""
    total = table[table["pair"] == "all"].iloc[0]
    return (
        f"On unseen pairs {total['inferential']:.1%} of the answers are inferential (right), "
        f"{total['symmetric']:.1%} symmetric (wrong, but the same for both orders) and {total['other']:.1%} other."
    )


def about_deviations(table: pd.DataFrame) -> str:
    """Share of right answers and the most frequent wrong one."""
    known = table.dropna(subset=["deviation"])
    right = float(known.loc[known["deviation"] == 0, "fraction"].sum())
    wrong = known[known["deviation"] != 0]
    text = f"{right:.1%} of the answers on unseen pairs are right"
    if len(wrong):
        most = wrong.iloc[wrong["fraction"].to_numpy(float).argmax()]
        text += f"; the most frequent error is {int(most['deviation']):+d} ({most['fraction']:.1%} of the answers)"
    strange = float(table.loc[table["deviation"].isna(), "fraction"].sum())
    return text + (f"; {strange:.1%} are no number at all." if strange else ".")


def about_attention(attention: Attention) -> str:
    """Where the last position reads from, in the first head of every layer (at most four layers)."""
    example, parts = attention.example, []
    for layer, heads in enumerate(attention.weights[:4], start=1):
        head, source = np.unravel_index(heads[:, -1].argmax(), heads[:, -1].shape)
        role = {"": "", "key": ", the key"}.get(example.roles[source], f", {example.roles[source]}")
        which = f" head {head + 1}" if len(heads) > 1 else ""
        weight = heads[head, -1, source]
        parts.append(
            f"layer {layer}{which} reads most from {example.tokens[source]} (position {source + 1}{role}; {weight:.2f})"
        )
    return "From the last position, where the answer is read, " + "; ".join(parts) + "."


def about_embedding(pca: EmbeddingPCA) -> str:
    """Order in steps, order by size, and explained variance."""
    scores = " and ".join(f"{score:.2f}" for score in pca.order_scores)
    return (
        f"The numbers {_order_in_steps(pca)}: the best step score is {pca.step_score:.2f}, for x → x + "
        f"{pca.best_step} (up to {pca.step_chance:.2f} by chance). Order by size: rank correlations of {scores} for "
        f"components 1 and 2 (about {1 / np.sqrt(len(pca.values)):.2f} by chance). The two components hold "
        f"{pca.explained_variance.sum():.0%} of the variance."
    )


def _order_in_steps(pca: EmbeddingPCA) -> str:
    if pca.step_score <= pca.step_chance:
        return "show no order in steps"
    return "are ordered in steps" if pca.step_score > 0.5 else "show weak order in steps"


def about_condensation(found: Condensation) -> str:
    """Effective number of directions and mean similarity, each beside that of random weights, and groups."""
    neurons, sizes = len(found.groups), found.group_sizes
    return (
        f"The {neurons} neurons use about {found.directions:.1f} directions, where random weights use "
        f"{found.random_directions:.1f}: {_condensed(found.directions / found.random_directions)}. They fall into "
        f"{len(sizes)} {'group' if len(sizes) == 1 else 'groups'} at a cosine above {found.threshold:g} (the largest "
        f"holds {sizes[0]}); the mean absolute cosine is {found.mean_absolute_cosine:.2f} "
        f"({found.random_absolute_cosine:.2f} for random weights); the stable rank is {found.stable_rank:.1f}."
    )


def _condensed(share: float) -> str:
    if share > 0.9:
        return "no condensation"
    return f"{'weak' if share > 0.5 else 'clear'} condensation, {share:.0%} of the random number"
