"""Tables as text and as JSON."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with columns of equal width; a line is as long as it needs to be, on a terminal or in a file."""
    table = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip() for row in table]


def records(table: "pd.DataFrame") -> list[dict[str, Any]]:
    """The rows in JSON types; missing values are None."""
    from anchorlab.analysis.run_table import row_dicts

    return [{name: _plain(value) for name, value in row.items()} for row in row_dicts(table)]


def _plain(value: Any) -> Any:
    plain = value.item() if hasattr(value, "item") else value
    if isinstance(plain, str | int | float) and not (isinstance(plain, float) and math.isnan(plain)):
        return plain
    return None
