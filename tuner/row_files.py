"""Rows of results as CSV, Parquet and JSON files. Without pandas, whose import alone takes most of a second.

A column has one kind, whatever file it goes to. Numbers that are written as 1 in one trial and as 2.5 in another are
a float column; lists, and columns of several kinds, are JSON text where a format needs one type a column.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tuner.errors import UsageError
from tuner.strict_json import to_json

SUFFIXES = (".csv", ".parquet", ".json")
Kind = Literal["int", "float", "bool", "text", "time", "json"]
Rows = Sequence[dict[str, Any]]

_TEXTS = ("trial", "stage", "status", "cause", "error", "worker")
_TIMES = ("started_at", "reported_at")
# The columns of a frame that has no rows yet.
NO_TRIALS = ("trial", "number", "stage", "fold", "repeat", "status", "cause", "error")
NO_EPOCHS = ("trial", "number", "epoch", "reported_at")
_COUNTS = ("number", "fold", "repeat", "best_epoch", "epochs", "seed", "attempts", "epoch")


@dataclass(frozen=True)
class Column:
    """One column: its values as plain Python of one kind, None where one is missing."""

    name: str
    kind: Kind
    values: list[Any]

    @property
    def nullable(self) -> bool:
        """Whether a value is missing, or may be in another run: whole numbers are Int64 then."""
        return None in self.values or self.name in ("fold", "best_epoch")


def columns(rows: Rows, names: Sequence[str] = ()) -> list[Column]:
    """Return the rows' columns.

    Args:
        rows: All with the same keys.
        names: The columns where there are no rows.
    """
    return [_column(name, [row[name] for row in rows]) for name in (rows[0] if rows else names)]


def _column(name: str, raw: list[Any]) -> Column:
    kind = _kind(name, raw)
    # Data frames do not tell a number that is missing from one that is not a number, so neither does a file.
    values = [None if _is_nan(value) else value for value in raw]
    if kind == "float":
        values = [None if value is None else float(value) for value in values]
    return Column(name, kind, values)


def _kind(name: str, values: list[Any]) -> Kind:
    if name in _TIMES:
        return "time"
    found = {type(value) for value in values if value is not None and not _is_nan(value)}
    if found == {int}:
        # A metric with gaps is a float column, as pandas would have it; counts and parameters stay whole.
        return "int" if not _is_metric(name) or all(type(value) is int for value in values) else "float"
    if found and found <= {int, float}:
        return "float"
    if found in ({bool}, {str}):
        return "bool" if found == {bool} else "text"
    if found:
        return "json"
    return "text" if name in _TEXTS else "int" if name in _COUNTS else "float"


def _is_metric(name: str) -> bool:
    return not name.startswith("config.") and name not in _COUNTS


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and value != value


def check_suffix(path: Path) -> None:
    """Refuse a file whose suffix names no format.

    Raises:
        UsageError: With the suffixes there are.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{path}: the suffix must be one of {', '.join(SUFFIXES)}, but got ({path.suffix or 'none'}).")


def write_rows(rows: Rows, path: Path, names: Sequence[str] = ()) -> None:
    """Write rows as the file's suffix says; beside its place first, then renamed, so that it is never half there.

    Args:
        rows: All with the same keys, values as in Results.trial_rows().
        path: Ends in .csv, .parquet or .json; its folder is made where it is missing.
        names: The columns where there are no rows.

    Raises:
        UsageError: Another suffix, or a place that cannot be written.
    """
    check_suffix(path)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.writing")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _WRITERS[path.suffix](columns(rows, names), scratch)
        scratch.rename(path)
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be written: {(error.strerror or str(error)).lower()}. Choose another file."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)


def _write_csv(table: list[Column], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([column.name for column in table])
        writer.writerows(zip(*(_texts(column) for column in table), strict=True))


def _texts(column: Column) -> list[str]:
    if column.kind == "json":
        return ["" if value is None else json.dumps(value) for value in column.values]
    return ["" if value is None else str(value) for value in column.values]


def _write_json(table: list[Column], path: Path) -> None:
    values = zip(*(column.values for column in table), strict=True)
    rows = [dict(zip((column.name for column in table), row, strict=True)) for row in values]
    path.write_text(to_json(rows) + "\n", encoding="utf-8")


def _write_parquet(table: list[Column], path: Path) -> None:
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


def _pandas_metadata(table: list[Column]) -> dict[str, Any]:
    """Return what makes pandas read whole numbers with gaps as whole numbers."""
    rows = len(table[0].values) if table else 0
    described = [
        {
            "name": column.name,
            "field_name": column.name,
            "pandas_type": "int64",
            "numpy_type": "Int64" if column.nullable else "int64",
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
