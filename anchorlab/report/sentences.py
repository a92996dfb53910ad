"""One sentence a figure: what it shows, with the numbers. They are the figures' captions and alternative texts."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from anchorlab.analysis import Attention, Example, PairMatrix, Phase
from anchorlab.analysis.commutativity import overall

from .style import split_names


def about_curves(metrics: pd.DataFrame) -> str:
    """Last loss and accuracy of every split."""
    whole = metrics[metrics["group"] == ""]
    last = whole.sort_values("step").groupby(["metric", "split"])["value"].last()
    names = split_names(last["accuracy"].index)
    accuracies = ", ".join(f"{last['accuracy', split]:.3f} on {name}" for split, name in names.items())
    loss = f"; training loss {last['loss', 'train']:.3g}" if ("loss", "train") in last.index else ""
    return f"At the last recorded step, {whole['step'].max():,}, accuracy is {accuracies}{loss}."


def about_accuracy(table: pd.DataFrame) -> str:
    """Accuracy of every split over all its rows."""
    parts = []
    for split in table["split"].unique():
        own = table[table["split"] == split]
        accuracy = np.average(own["accuracy"].to_numpy(float), weights=own["rows"].to_numpy(int))
        parts.append(f"{accuracy:.3f} on {own['rows'].sum():,} rows of {split}")
    return f"Accuracy is {' and '.join(parts)}."


def about_phase(found: Phase) -> str:
    """The phase with the accuracies and limits that decide it."""
    return (
        f"Phase {found.number}: accuracy is {found.id_accuracy:.3f} on seen pairs (limit {found.id_threshold:g}) and "
        f"{found.ood_accuracy:.3f} on unseen pairs (limit {found.ood_threshold:g})."
    )


def about_commutativity(table: pd.DataFrame) -> str:
    """Share of unchanged answers over the pairs with an unseen order and over the others."""
    parts = [
        f"{overall(rows, unseen_only=False):.3f} {where}"
        for rows, where in (
            (table[table["unseen"] != "no"], "on pairs with an unseen order"),
            (table[table["unseen"] == "no"], "on trained pairs"),
        )
        if len(rows)
    ]
    return f"The share of answers that stay when the two anchors change places is {' and '.join(parts)}."


def about_examples(examples: Sequence[Example]) -> str:
    """Every example row with its label and answer."""
    rows = (
        f"{example.split} {example.group}: {' '.join(example.tokens)} → {example.answer} "
        f"({'right' if example.correct else f'wrong, it is {example.label}'}, probability {example.probability:.2f})"
        for example in examples
    )
    return "; ".join(rows) + "."


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
    for layer, heads in enumerate(attention.trained[:4], start=1):
        head, source = np.unravel_index(heads[:, -1].argmax(), heads[:, -1].shape)
        role = {"": "", "key": ", the key"}.get(example.roles[source], f", {example.roles[source]}")
        which = f" head {head + 1}" if len(heads) > 1 else ""
        weight = heads[head, -1, source]
        parts.append(
            f"layer {layer}{which} reads most from {example.tokens[source]} (position {source + 1}{role}; {weight:.2f})"
        )
    return "From the last position, where the answer is read, " + "; ".join(parts) + "."
