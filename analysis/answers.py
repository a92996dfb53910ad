"""What a model answers on anchor pairs it never saw: the rule's answer, one that only respects symmetry, or another.

- *inferential*: equal to the answer of the task's rule (the composition of the two single anchors, eq. 13.1);
- *symmetric*: not inferential, but equal to the model's own answer when the two anchors are exchanged (same key, same
  noise), or, where the exchanged pair was trained under another rule, equal to the answer trained for it;
- *other*: neither.

In the composite task of chapter 13 the two unseen pairs (c,d) and (d,c) are each other's exchange and both anchors add
a constant, so their right answers coincide: *symmetric* then means consistent under exchange, but wrong. Where only one
order is unseen and the other is trained with a target of its own (arXiv 2405.05409), *symmetric* is the answer of a
model that treats the two orders as one mapping.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

CLASSES = ("inferential", "symmetric", "other")


def classify(
    answers: Int[np.ndarray, " n"],
    truth: Int[np.ndarray, " n"],
    swapped_answers: Int[np.ndarray, " n"],
    swapped_truth: Int[np.ndarray, " n"],
    swapped_trained: Bool[np.ndarray, " n"],
) -> Int[np.ndarray, " n"]:
    """The class of every answer, as an index into `CLASSES`.

    `swapped_answers` are the model's answers and `swapped_truth` the rule's on the same rows with the two anchors
    exchanged; `swapped_trained` says where that exchanged pair was part of the training data.
    """
    symmetric = (answers == swapped_answers) | (swapped_trained & (answers == swapped_truth))
    return np.where(answers == truth, 0, np.where(symmetric, 1, 2))


def class_table(classes: Int[np.ndarray, " n"], pairs: Sequence[str]) -> pd.DataFrame:
    """Fraction of each class per pair and over `all` rows (last): columns pair, rows, and one per class."""
    frame = pd.DataFrame({"pair": list(pairs), "class": classes})
    groups = [*((str(pair), rows) for pair, rows in frame.groupby("pair")), ("all", frame)]
    return pd.DataFrame([_fractions(pair, rows["class"].to_numpy()) for pair, rows in groups])


def deviations(
    answers: Int[np.ndarray, " n"], truth: Int[np.ndarray, " n"], numbers: Int[np.ndarray, " m"]
) -> pd.DataFrame:
    """How far answers are from the truth: columns deviation (answer − truth), rows, fraction (of all n rows).

    Answers that are no number (anchor or pad tokens; `numbers` lists the ids that are numbers) have no deviation; they
    are counted in a last row whose deviation is missing, which is left out when there are none.
    """
    is_number = np.isin(answers, numbers)
    values, counts = np.unique((answers - truth)[is_number], return_counts=True)
    table = pd.DataFrame({"deviation": pd.array(values, "Int64"), "rows": counts})
    if not is_number.all():
        strange = pd.DataFrame({"deviation": pd.array([pd.NA], "Int64"), "rows": [int((~is_number).sum())]})
        table = pd.concat([table, strange], ignore_index=True)
    return table.assign(fraction=table["rows"] / len(answers))


def _fractions(pair: str, classes: Int[np.ndarray, " n"]) -> dict[str, object]:
    counts = np.bincount(classes, minlength=len(CLASSES))
    return {"pair": pair, "rows": len(classes)} | dict(zip(CLASSES, (counts / len(classes)).tolist(), strict=True))
