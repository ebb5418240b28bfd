"""Rows of results as pandas frames. pandas is imported here and nowhere else in the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from tuner.row_files import NO_EPOCHS, NO_TRIALS, SUFFIXES, Column, columns, write_rows

__all__ = ["SUFFIXES", "epochs_frame", "trials_frame", "write"]


def trials_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the trials frame; whole numbers that may be missing are Int64, times are UTC."""
    return _frame(columns(rows, NO_TRIALS))


def epochs_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the epochs frame; a metric that a trial did not report is missing, one that is not a number is NaN too."""
    return _frame(columns(rows, NO_EPOCHS))


def _frame(table: list[Column]) -> pd.DataFrame:
    return pd.DataFrame({column.name: _series(column) for column in table})


def _series(column: Column) -> pd.Series[Any]:
    if column.kind == "time":
        return pd.to_datetime(pd.Series(column.values), utc=True, format="ISO8601").dt.as_unit("us")
    return pd.Series(column.values, dtype=_dtype(column))


def _dtype(column: Column) -> str:
    gaps = None in column.values
    if column.kind == "int":
        return "Int64" if column.nullable else "int64"
    if column.kind == "bool":
        return "object" if gaps else "bool"
    return {"float": "float64", "text": "str"}.get(column.kind, "object")


def write(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame as its suffix says, the same file that `tuner export` writes.

    Lists and mixed columns become JSON text where the format needs one type.

    Args:
        frame: A results frame.
        path: Ends in .csv, .parquet or .json; written beside its place and renamed.

    Raises:
        UsageError: Another suffix, or a place that cannot be written.
    """
    values = [_plain(frame[name]) for name in frame.columns]
    rows = [dict(zip(map(str, frame.columns), row, strict=True)) for row in zip(*values, strict=True)]
    write_rows(rows, path, names=list(map(str, frame.columns)))


def _plain(series: pd.Series[Any]) -> list[Any]:
    """Return a column as plain Python values, None where one is missing."""
    if isinstance(series.dtype, pd.DatetimeTZDtype):
        return [None if pd.isna(at) else at.isoformat(timespec="milliseconds") for at in series]
    return [None if _missing(value) else value for value in series.astype(object)]


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and value != value)
