"""Tables: a CSV or Parquet file with a target column, or a bundled frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainables.data.columns import apply_table, fit_table, is_number, numbers, texts
from trainables.data.options import Options, complaint
from trainables.data.pictures import frozen
from trainables.data.splits import Ints, Pool, Rows
from tuner.errors import DataError, nearest
from tuner.trainable import Data, DataInfo, Split, Task

if TYPE_CHECKING:
    import pandas as pd

MOST_CLASSES = 20
"""A target of whole numbers with at most this many distinct values is taken for classes."""


@dataclass(frozen=True)
class TableSet:
    """A table in memory, not yet encoded.

    Args:
        name: The set's name.
        frame: The rows that have a target.
        target: The target's column.
        task: "classification" or "regression".
        classes: Class names in index order; empty for regression.
        y: (N,) class indices int64, or values float32.
        pool: The rows to split.
        drop: Columns that are not features, and why.
        rows_without_target: How many rows were left out for want of a target.
    """

    name: str
    frame: pd.DataFrame
    target: str
    task: Task
    classes: tuple[str, ...]
    y: NDArray[Any]
    pool: Pool
    drop: Mapping[str, str]
    rows_without_target: int

    @classmethod
    def of(cls, frame: pd.DataFrame, options: Options) -> TableSet:
        """Return the table that the options describe: target, task, group and drop are used.

        Raises:
            DataError: A column that is not there, or a target that cannot be learnt.
        """
        frame = frame.rename(columns=str)
        target, group = str(options.target), options.group
        _check_columns("target", [target], frame)
        _check_columns("group", [group] if group else [], frame)
        _check_columns("drop", options.drop, frame)
        has_target = frame[target].notna().to_numpy()
        kept = frame[has_target].reset_index(drop=True)
        task, y, classes = _task_and_targets(kept[target], options.task)
        pool = Pool(_strata(y, classes), _groups(kept[group]) if group else None)
        drop = {target: "the target"} | dict.fromkeys(options.drop, "data.drop")
        if group:
            drop[group] = "data.group"
        return cls(options.name, kept, target, task, classes, y, pool, drop, int((~has_target).sum()))

    def info(self, rows: Rows) -> DataInfo:
        """Return the table's description; the columns are fitted, for they decide the width."""
        preprocess = fit_table(self.frame.iloc[rows.train], self.drop)
        shape = tuple(preprocess["shape"])
        return DataInfo(self.name, self.task, shape, self.classes, len(rows.train), len(rows.val))

    def data(self, rows: Rows, check: bool = True) -> Data:
        """Return train and val, encoded alike; val is None where it has no rows. A table needs no `check`."""
        preprocess = self._preprocess(rows.train)
        return Data(
            self.name,
            self.task,
            tuple(preprocess["shape"]),
            self.classes,
            len(rows.train),
            len(rows.val),
            train=self._encoded(rows.train, preprocess),
            val=self._encoded(rows.val, preprocess) if len(rows.val) else None,
            preprocess=preprocess,
        )

    def test(self, rows: Rows, preprocess: Mapping[str, Any] | None = None) -> Split:
        """Return the sealed split, encoded as `preprocess` says, or as `data` does where that is None."""
        return self._encoded(rows.test, preprocess or self._preprocess(rows.train))

    def _encoded(self, rows: Ints, preprocess: Mapping[str, Any]) -> Split:
        return frozen(apply_table(preprocess, self.frame.iloc[rows]), self.y[rows])

    def _preprocess(self, train: Ints) -> dict[str, Any]:
        plan = fit_table(self.frame.iloc[train], self.drop)
        about: dict[str, Any] = {
            "kind": "table",
            "task": self.task,
            "target": self.target,
            "classes": list(self.classes),
            "rows_without_target": self.rows_without_target,
        }
        if self.task == "regression":
            values = self.y[train].astype(np.float64)
            about["target_mean"] = float(values.mean())
            about["target_std"] = float(values.std()) or 1.0
        return about | plan


def from_file(options: Options) -> TableSet:
    """Return the table at options.path.

    Raises:
        DataError: A file that is missing or unreadable, or does not have the columns named.
    """
    if options.path is None:
        raise complaint("path", 'name = "table" needs the file', "", 'Set data.path = "file.csv" (or .parquet).')
    frame = read_frame(options.path)
    if options.target is None:
        rule = 'name = "table" needs the column to predict'
        raise complaint("target", rule, "", f"Columns: {', '.join(map(str, frame.columns))}.")
    return TableSet.of(frame, options)


def read_frame(path: Path) -> pd.DataFrame:
    """Return the rows of a .csv or .parquet file.

    Raises:
        DataError: Naming the file and what is wrong with it.
    """
    import pandas as pd

    is_csv = path.suffix.lower() == ".csv"
    if not is_csv and path.suffix.lower() != ".parquet":
        raise complaint("path", "must end in .csv or .parquet", str(path))
    if not path.is_file():
        raise complaint("path", "no file is there", str(path.absolute()), "A path in a sweep file is relative to it.")
    try:
        frame = pd.read_csv(path, low_memory=False) if is_csv else pd.read_parquet(path)
    # pandas and pyarrow raise a dozen kinds at a garbled file; whatever it is, the file cannot be used.
    except Exception as error:
        what = str(error).strip().partition("\n")[0]
        raise DataError(f"{path}: not a readable {path.suffix[1:]} file ({what}).") from error
    if not len(frame):
        raise DataError(f"{path}: there are no rows.")
    return frame


def _check_columns(key: str, names: Sequence[str], frame: pd.DataFrame) -> None:
    for name in names:
        if name not in frame.columns:
            raise complaint(key, "the table has no such column", f'"{name}"', nearest(name, frame.columns))


def _task_and_targets(target: pd.Series, task: Task | None) -> tuple[Task, NDArray[Any], tuple[str, ...]]:
    """Return the task, the targets (N,), and the class names (none for regression)."""
    if is_number(target) and np.isnan(numbers(target)).any():
        raise complaint("target", "must be finite in every row that has one", "infinity")
    task = task or _task(target)
    if task == "regression":
        return task, _values(target), ()
    y, classes = _classes(target)
    return task, y, classes


def _strata(y: NDArray[Any], classes: tuple[str, ...]) -> Ints:
    return y if classes else np.zeros(len(y), np.int64)


def _task(target: pd.Series) -> Task:
    """Return the task that a target column without gaps looks like."""
    if not is_number(target):
        return "classification"
    values = numbers(target)
    # Compared as numbers, for gaps elsewhere in the column turn whole numbers into floats.
    whole = (values == np.rint(values)).all()
    return "classification" if whole and len(np.unique(values)) <= MOST_CLASSES else "regression"


def _classes(target: pd.Series) -> tuple[Ints, tuple[str, ...]]:
    """Return class indices and names, numbers in their order and texts in the alphabet's."""
    if is_number(target):
        values = numbers(target)
        distinct, y = np.unique(values, return_inverse=True)
        names = tuple(str(int(value)) if value == int(value) else str(value) for value in distinct.tolist())
    else:
        distinct, y = np.unique(texts(target).astype(str), return_inverse=True)
        names = tuple(distinct.tolist())
    if len(names) < 2:
        remedy = "Is it the right column?" if names else "Every row lacks it."
        raise complaint("target", "must have two classes or more", ", ".join(names), remedy)
    return y.astype(np.int64), names


def _values(target: pd.Series) -> NDArray[np.float32]:
    """Return the target in its own units."""
    try:
        return numbers(target).astype(np.float32)
    except DataError as error:
        raise complaint("target", 'task = "regression" needs numbers', "", str(error)) from error


def _groups(column: pd.Series) -> Ints:
    """Return (N,) group numbers; rows without a group are one group, for they may belong together."""
    words = [word or "" for word in texts(column)]
    return np.unique(words, return_inverse=True)[1].astype(np.int64)
