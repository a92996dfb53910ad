"""Filtering and sorting of the table over runs."""

import math
import operator
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anchorlab.errors import InputError
from anchorlab.validation import check_known

from .run_collection import collect_runs

_CONDITION = re.compile(r"\s*([^\s=!<>]+)\s*(<=|>=|!=|=|<|>)\s*(.*?)\s*")
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def run_table(
    folder: Path | str, *, where: Sequence[str] = (), sort: str | None = None, reverse: bool = False
) -> pd.DataFrame:
    """The runs at or below `folder`, one row each; see `RunCollection.members` for the columns.

    Only rows that meet all conditions of `where` are kept; a condition is `COLUMN OP VALUE` with = != < <= > >=, of
    which columns of text know the first two. Missing values meet != alone. Rows are sorted by the column `sort`
    (default: by path), missing values last. Raises InputError for no runs, an unknown column or a malformed condition.
    """
    table = collect_runs(folder).members
    for condition in where:
        table = table[_meets(table, condition)]
    return sort_rows(table, sort, reverse=reverse).reset_index(drop=True)


def sort_rows(table: pd.DataFrame, column: str | None, *, reverse: bool = False) -> pd.DataFrame:
    """Sort by one column, numbers before text and missing values last; by nothing if `column` is None."""
    if column is None:
        return table[::-1] if reverse else table
    check_known("sort", column, table.columns)
    return table.sort_values(column, key=ranks, ascending=not reverse, kind="stable", na_position="last")


def ranks(values: "pd.Series[Any]") -> "pd.Series[Any]":
    """The place of every value in the order of all: numbers by size, then text; missing ones stay missing."""
    ordered = sorted(set(values.dropna()), key=lambda value: (isinstance(value, str), value))
    return values.map({value: place for place, value in enumerate(ordered)}).astype(float)


def _meets(table: pd.DataFrame, condition: str) -> "pd.Series[bool]":
    parsed = _CONDITION.fullmatch(condition)
    if parsed is None or not parsed[3]:
        raise InputError(
            f"where: {condition!r} is no condition; allowed: COLUMN OP VALUE with OP one of = != < <= > >="
        )
    name, sign, text = parsed.groups()
    check_known("where", name, table.columns)
    column = table[name]
    if column.isna().all() or pd.api.types.is_numeric_dtype(column):
        values: Any = column.to_numpy(float, na_value=np.nan)
        return pd.Series(_OPERATORS[sign](values, _number(condition, text)), table.index)
    if sign not in ("=", "!="):
        raise InputError(f"where: {condition!r}: {name!r} holds text; allowed: = and !=")
    return pd.Series(_OPERATORS[sign](column.map(shown), text), table.index)


def _number(condition: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise InputError(f"where: {condition!r}: {text!r} is not a number")
    return number


def row_dicts(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows, each as a mapping from column to value."""
    return [{str(name): value for name, value in row.items()} for row in table.astype(object).to_dict("records")]


def shown(value: Any) -> str:
    """A setting or count as text; `–` if missing."""
    if pd.isna(value):
        return "–"
    return f"{value:.10g}" if isinstance(value, float | np.floating) else str(value)
