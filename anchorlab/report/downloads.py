"""Result tables as CSV, inside links that need no server."""

import base64
import re

import numpy as np
import pandas as pd

from anchorlab.analysis import Attention, PairMatrix


def csv_uri(table: pd.DataFrame) -> str:
    """The table as a `data:` link to a CSV file (six significant digits)."""
    content = table.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    return f"data:text/csv;charset=utf-8;base64,{base64.b64encode(content.encode()).decode()}"


def pair_table(matrix: PairMatrix) -> pd.DataFrame:
    """One row a pair: first_anchor, second_anchor, trained, accuracy (empty if no row of the pair was drawn)."""
    rows = [
        (matrix.anchors[i], matrix.anchors[j], matrix.seen[i, j], matrix.accuracy[i, j])
        for i, j in np.argwhere(matrix.seen | matrix.unseen)
    ]
    return pd.DataFrame(rows, columns=["first_anchor", "second_anchor", "trained", "accuracy"])


def attention_table(attention: Attention) -> pd.DataFrame:
    """One row an edge of the trained model: layer, head, position, read_from (from 1), their tokens, weight.

    Weights are given to 3 digits; edges of less than 0.005 are left out.
    """
    tokens = np.array(attention.example.tokens)
    kept = attention.trained >= 0.005
    layer, head, query, source = np.nonzero(kept)
    return pd.DataFrame(
        {
            "layer": layer + 1,
            "head": head + 1,
            "position": query + 1,
            "read_from": source + 1,
            "token": tokens[query],
            "read_token": tokens[source],
            "weight": attention.trained[kept].round(3),
        }
    )


def file_name(member: str, what: str) -> str:
    """A file name for a download that any system accepts."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{member}-{what}").strip("-.") + ".csv"
