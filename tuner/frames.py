"""Columns of results as pandas frames. pandas is imported here and nowhere else in the engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tuner.row_files import SUFFIXES, Column, Kind, infer, write_table

__all__ = ["SUFFIXES", "to_frame", "write"]


def to_frame(table: Sequence[Column]) -> pd.DataFrame:
    """Return columns of results as a data frame.

    Whole numbers that may be missing are Int64, other numbers float64, times UTC; what is not a number is missing.
    """
    return pd.DataFrame({column.name: _series(column) for column in table})


def _series(column: Column) -> pd.Series[Any]:
    if column.kind == "time":
        # To the millisecond, as files have it.
        whole = pd.Series([None if at is None else round(at * 1000) for at in column.values], dtype="Int64")
        return pd.to_datetime(whole, unit="ms", utc=True).dt.as_unit("us")
    return pd.Series(column.values, dtype=_dtype(column))


def _dtype(column: Column) -> str:
    if column.kind == "int":
        return "Int64" if column.gaps else "int64"
    if column.kind == "bool":
        return "object" if column.gaps else "bool"
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
    write_table([_column(str(name), frame[name]) for name in frame.columns], path)


def _column(name: str, series: pd.Series[Any]) -> Column:
    """Return a frame's column with plain Python values, None where one is missing."""
    kind = _kind(series.dtype)
    if kind == "time":
        return Column(name, kind, [None if pd.isna(at) else at.timestamp() for at in series])
    values = [None if _missing(value) else value for value in series.astype(object)]
    if kind is None:
        return infer(name, values)
    return Column(name, kind, values, gaps=isinstance(series.dtype, pd.Int64Dtype))


def _kind(dtype: Any) -> Kind | None:
    """Return the kind that a dtype tells; None where the values must tell it."""
    if isinstance(dtype, pd.DatetimeTZDtype):
        return "time"
    if isinstance(dtype, pd.StringDtype):
        return "text"
    if pd.api.types.is_bool_dtype(dtype):
        return "bool"
    if pd.api.types.is_integer_dtype(dtype):
        return "int"
    return "float" if pd.api.types.is_float_dtype(dtype) else None


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and value != value)
