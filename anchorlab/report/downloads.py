"""Result tables as CSV, inside links that need no server."""

import base64
import re

import numpy as np
import pandas as pd

from anchorlab.analysis import Attention, Condensation, EmbeddingPCA, PairMatrix


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
    """One row an edge: layer, head, position, read_from (all from 1), their tokens, and the weight to 3 digits."""
    tokens = np.array(attention.example.tokens)
    layer, head, query, source = np.indices(attention.weights.shape).reshape(4, -1)
    return pd.DataFrame(
        {
            "layer": layer + 1,
            "head": head + 1,
            "position": query + 1,
            "read_from": source + 1,
            "token": tokens[query],
            "read_token": tokens[source],
            "weight": attention.weights.reshape(-1).round(3),
        }
    )


def embedding_table(pca: EmbeddingPCA) -> pd.DataFrame:
    """One row a number: its value, coordinates, and the cosines whose mean in a column is that step's score."""
    columns = {f"component_{number}": column for number, column in enumerate(pca.coordinates.T, 1)}
    steps = {f"step_{step}": column for step, column in enumerate(pca.step_cosines.T, 1)}
    return pd.DataFrame({"value": pca.values, **columns, **steps})


def cosine_table(condensation: Condensation) -> pd.DataFrame:
    """The cosine matrix to 3 digits in the figure's order; the first two columns give each row's neuron and group."""
    order = condensation.order
    matrix = pd.DataFrame(condensation.cosine[np.ix_(order, order)].round(3), columns=[str(neuron) for neuron in order])
    matrix.insert(0, "neuron", order)
    matrix.insert(1, "group", condensation.groups[order])
    return matrix


def file_name(member: str, what: str) -> str:
    """A file name for a download that any system accepts."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{member}-{what}").strip("-.") + ".csv"
