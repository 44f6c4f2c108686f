"""Tables as what JSON has: lists and dicts of plain values, None where one is missing."""

from typing import Any

import numpy as np
import pandas as pd


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A dict a row, its numbers to the last bit (pandas' own JSON has 15 digits)."""
    rows = _with_none(table).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def nested(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """A dict a row, by the name of the row."""
    rows = _with_none(table).to_dict("index")
    return {
        str(name): {str(key): value for key, value in row.items()} for name, row in rows.items()
    }


def nested_records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A dict a row with its index, and for each first level of the columns a dict by the second."""
    rows = records(table.index.to_frame(index=False))
    for column in table.columns.get_level_values(0).unique():
        for row, values in zip(rows, records(table[column]), strict=True):
            row[str(column)] = values
    return rows


def _with_none(table: pd.DataFrame) -> pd.DataFrame:
    known = table.notna() & ~table.isin([np.inf, -np.inf])  # JSON has neither
    return table.astype(object).where(known, None)
