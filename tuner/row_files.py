"""Columns of results as CSV, Parquet and JSON files. Without pandas, whose import alone takes most of a second.

A column has one kind, whatever file it goes to. Numbers that are written as 1 in one trial and as 2.5 in another are
a float column; lists, and columns of several kinds, are JSON text where a format needs one type a column.
"""

from __future__ import annotations

import contextlib
import csv
import datetime
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

from tuner.errors import UsageError
from tuner.strict_json import to_json

SUFFIXES = (".csv", ".parquet", ".json")
Kind = Literal["int", "float", "bool", "text", "time", "json"]


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Args:
        name: Its header.
        kind: What its values are; "time" is seconds since 1970 (UTC).
        values: Plain Python values, None where one is missing; a float that is no number is missing too.
        gaps: Of whole numbers: whether one is missing, or may be in another run.
    """

    name: str
    kind: Kind
    values: list[Any]
    gaps: bool = False


def infer(name: str, values: list[Any]) -> Column:
    """Return the column that values of unknown kind make."""
    found = {type(value) for value in values} - {type(None)}
    kind: Kind = "json"
    if not found or (float in found and found <= {int, float}):
        kind = "float"
    elif found == {int} and all(value is None or abs(value) < 2**63 for value in values):
        kind = "int"
    elif found in ({bool}, {str}):
        kind = "bool" if bool in found else "text"
    return Column(name, kind, values, gaps=None in values)


def to_rows(table: Sequence[Column]) -> list[dict[str, Any]]:
    """Return a table's rows as JSON has them: times as ISO 8601 text, None where a value is missing."""
    names = [column.name for column in table]
    values = [_json_values(column) for column in table]
    return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]


def check_suffix(path: Path) -> None:
    """Refuse a file whose suffix names no format.

    Raises:
        UsageError: With the suffixes there are.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{path}: the suffix must be one of {', '.join(SUFFIXES)}, but got ({path.suffix or 'none'}).")


def write_table(table: Sequence[Column], path: Path) -> None:
    """Write a table as the file's suffix says; beside its place first, then renamed, so that it is never half there.

    Args:
        table: Its columns.
        path: Ends in .csv, .parquet or .json; its folder is made where it is missing.

    Raises:
        UsageError: Another suffix, or a place that cannot be written.
    """
    check_suffix(path)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.writing")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _WRITERS[path.suffix](table, scratch)
        scratch.rename(path)
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be written: {(error.strerror or str(error)).lower()}. Choose another file."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)


def _json_values(column: Column) -> list[Any]:
    if column.kind == "time":
        return [None if at is None else _iso_text(at) for at in column.values]
    if column.kind == "float":
        return [None if value is None or value != value else float(value) for value in column.values]
    return column.values


def _iso_text(at: float) -> str:
    return datetime.datetime.fromtimestamp(round(at, 3), datetime.UTC).isoformat(timespec="milliseconds")


def _write_csv(table: Sequence[Column], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        # Made with "\r\n", since the csv module puts only the characters of the line's own end in quotes.
        lines = SimpleNamespace(write=lambda line: file.write(line.removesuffix("\r\n") + "\n"))
        writer = csv.writer(lines, lineterminator="\r\n")
        writer.writerow([column.name for column in table])
        writer.writerows(zip(*map(_texts, table), strict=True))


def _texts(column: Column) -> list[str]:
    """Return a column's cells as text, "" where a value is missing."""
    as_text = json.dumps if column.kind == "json" else str
    return ["" if value is None else as_text(value) for value in _json_values(column)]


def _write_json(table: Sequence[Column], path: Path) -> None:
    path.write_text(to_json(to_rows(table)) + "\n", encoding="utf-8")


def _write_parquet(table: Sequence[Column], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "time": pa.timestamp("us", "UTC")}
    types = {column.name: kinds.get(column.kind, pa.large_string()) for column in table}
    lines = [",".join(cells) for cells in zip(*map(_quoted, table), strict=True)]
    made = _arrow_table(lines, types) if lines else pa.schema(types.items()).empty_table()
    pq.write_table(made.replace_schema_metadata({"pandas": json.dumps(_pandas_metadata(table))}), path)


def _arrow_table(lines: list[str], types: dict[str, Any]) -> Any:
    """Return lines of CSV as a pyarrow table: its own conversion of Python lists would import pandas."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    return arrow_csv.read_csv(
        pa.BufferReader("\n".join([*lines, ""]).encode()),
        read_options=arrow_csv.ReadOptions(column_names=list(types)),
        parse_options=arrow_csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        convert_options=arrow_csv.ConvertOptions(
            column_types=types,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            true_values=["True"],
            false_values=["False"],
        ),
    )


def _quoted(column: Column) -> list[str]:
    """Return a column's cells with every text in quotes, which tells an empty text from a missing one."""
    if column.kind not in ("text", "json"):
        return _texts(column)
    pairs = zip(column.values, _texts(column), strict=True)
    return ["" if value is None else '"{}"'.format(text.replace('"', '""')) for value, text in pairs]


def _pandas_metadata(table: Sequence[Column]) -> dict[str, Any]:
    """Return what makes pandas read whole numbers with gaps as whole numbers."""
    rows = len(table[0].values) if table else 0
    described = [
        {
            "name": column.name,
            "field_name": column.name,
            "pandas_type": "int64",
            "numpy_type": "Int64" if column.gaps else "int64",
            "metadata": None,
        }
        for column in table
        if column.kind == "int"
    ]
    return {
        "index_columns": [{"kind": "range", "name": None, "start": 0, "stop": rows, "step": 1}],
        "column_indexes": [],
        "columns": described,
        "creator": {"library": "cnn-tuner", "version": "1"},
        "pandas_version": "3.0.0",
    }


_WRITERS = {".csv": _write_csv, ".parquet": _write_parquet, ".json": _write_json}
