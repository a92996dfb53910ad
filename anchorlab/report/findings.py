"""One sentence a figure: what it shows, with the numbers. They are the figures' captions and alternative texts."""

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


def about_pairs(matrix: PairMatrix) -> str:
    """Mean accuracy of trained and unseen pairs, and the weakest trained pair."""
    text = f"Mean accuracy is {matrix.mean(unseen=False):.2f} over the trained pairs"
    if matrix.unseen.any():
        names = ", ".join(f"({matrix.anchors[i]},{matrix.anchors[j]})" for i, j in np.argwhere(matrix.unseen))
        text += f" and {matrix.mean(unseen=True):.2f} over the pairs never trained: {names}"
    trained = np.where(matrix.unseen, np.nan, matrix.accuracy)
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
    """Order score and explained variance."""
    scores = " and ".join(f"{score:.2f}" for score in pca.order_scores)
    return (
        f"The order score is {pca.order_score:.2f} (rank correlations with the number: {scores} for components 1 and "
        f"2; about {1 / np.sqrt(len(pca.values)):.2f} by chance); "
        f"the two components hold {pca.explained_variance.sum():.0%} of the variance."
    )


def about_condensation(found: Condensation) -> str:
    """Effective number of directions, groups, and mean similarity beside chance."""
    neurons, sizes = len(found.groups), found.group_sizes
    return (
        f"The {neurons} neurons use about {found.directions:.1f} directions and fall into {len(sizes)} groups at a "
        f"cosine above {found.threshold:g} (the largest holds {sizes[0]}); the mean absolute cosine is "
        f"{found.mean_absolute_cosine:.2f}, {found.random_absolute_cosine:.2f} by chance; the stable rank is "
        f"{found.stable_rank:.1f}."
    )
