"""Tables of several seeds, one seed after the other."""

from collections.abc import Iterator

import pandas as pd


def by_seed(table: pd.DataFrame) -> Iterator[tuple[int, pd.DataFrame]]:
    """Every seed of the column `seed`, in order, with its rows."""
    for seed in sorted(table["seed"].unique().tolist()):
        yield int(seed), table[table["seed"] == seed]
