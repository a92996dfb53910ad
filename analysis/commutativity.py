"""Commutativity (section 13.3): does exchanging the two anchors, with key and noise unchanged, leave the answer as is?

Whether the answer is right plays no part. A pair of twice the same anchor is unchanged by the exchange and is left out.
"""

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Int

from .pairs import swapped_name, unordered_name


def commutativity_table(
    answers: Int[np.ndarray, " n"],
    swapped_answers: Int[np.ndarray, " n"],
    pairs: Sequence[str],
    unseen: Collection[str],
) -> pd.DataFrame:
    """Fraction of rows whose answer is unchanged, per unordered pair.

    Columns: pair (anchors in alphabetical order), unseen (`both`, `one` or `no` order kept out of training), rows,
    fraction. Empty if every pair holds the same anchor twice.
    """
    frame = pd.DataFrame(
        {"pair": [unordered_name(pair) for pair in pairs], "unchanged": np.asarray(answers) == swapped_answers}
    )
    frame = frame[[not _same_anchor(pair) for pair in pairs]]
    table = frame.groupby("pair")["unchanged"].agg(rows="size", fraction="mean").reset_index()
    table.insert(1, "unseen", [_unseen_orders(pair, unseen) for pair in table["pair"]])
    return table


def overall(table: pd.DataFrame, *, unseen_only: bool) -> float:
    """Row-weighted mean of a table, over all pairs or those with an unseen order; NaN if there are none."""
    chosen = table[table["unseen"] != "no"] if unseen_only else table
    rows = chosen["rows"].sum()
    return float((chosen["fraction"] * chosen["rows"]).sum() / rows) if rows else float("nan")


def _same_anchor(pair: str) -> bool:
    return pair == swapped_name(pair)


def _unseen_orders(pair: str, unseen: Collection[str]) -> str:
    return ("no", "one", "both")[sum(order in unseen for order in (pair, swapped_name(pair)))]
