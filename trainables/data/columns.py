"""A table's columns as numbers: fills, scales and categories, fitted on the training rows only.

`fit_table` gives a plan of plain values (JSON), and `apply_table` is the one way from a frame to x:
train, val, test and new files all go through it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tuner.errors import DataError, nearest

if TYPE_CHECKING:
    import pandas as pd

MOST_CATEGORIES = 20
"""Categories of a column that get a feature each; rarer ones share "other"."""
MOST_DISTINCT_TEXTS = 50
"""A text column with more distinct values than this, in over half of its rows, is taken for names or ids."""


def fit_table(train: pd.DataFrame, drop: Mapping[str, str]) -> dict[str, Any]:
    """Return how the feature columns of the training rows become numbers.

    Args:
        train: The training rows.
        drop: Columns that are not features, and why.

    Returns:
        JSON-able: `columns` (a plan each), `features` (names in the order of x), `shape` ([F]), `dropped`
        (column -> why).

    Raises:
        DataError: Where no column is left.
    """
    plans, dropped = [], dict(drop)
    for name in train.columns:
        if name in drop:
            continue
        plan = _plan(name, train[name])
        if isinstance(plan, str):
            dropped[name] = plan
        else:
            plans.append(plan)
    features = [feature for plan in plans for feature in _features(plan)]
    if not features:
        why = "; ".join(f"{name}: {reason}" for name, reason in dropped.items())
        raise DataError(f"data.path: no column is left to learn from ({why}).")
    return {"columns": plans, "features": features, "shape": [len(features)], "dropped": dropped}


def apply_table(preprocess: Mapping[str, Any], frame: pd.DataFrame) -> NDArray[np.float32]:
    """Return the rows of a frame as features.

    Args:
        preprocess: What `fit_table` returned, or a Data.preprocess that holds it.
        frame: Rows with at least the columns that the features need; any other column is ignored.

    Returns:
        (N, F) float32, scaled; a missing number is the training median, and an unseen category is "other",
        or none of the categories where there is no "other".

    Raises:
        DataError: A column that is missing, or one of numbers that holds something else.
    """
    plans: Sequence[Mapping[str, Any]] = preprocess["columns"]
    for plan in plans:
        if plan["column"] not in frame.columns:
            remedy = nearest(plan["column"], map(str, frame.columns))
            raise DataError(f'column "{plan["column"]}" is not there, but the model was trained with it. {remedy}')
    blocks = [_encode(plan, frame[plan["column"]]) for plan in plans]
    return np.ascontiguousarray(np.concatenate(blocks, axis=1), dtype=np.float32)


def texts(values: pd.Series) -> NDArray[np.object_]:
    """Return (N,) the values as text, None where missing."""
    missing = values.isna().to_numpy()
    return np.array([None if gone else str(value) for gone, value in zip(missing, values, strict=True)], object)


def is_number(values: pd.Series) -> bool:
    """Tell whether a column holds numbers (true and false are categories)."""
    from pandas.api import types

    return types.is_numeric_dtype(values) and not types.is_bool_dtype(values)


def numbers(values: pd.Series) -> NDArray[np.float64]:
    """Return (N,) the values as floats, NaN where missing or infinite.

    Raises:
        DataError: Naming the first value that is not a number.
    """
    import pandas as pd

    floats = pd.to_numeric(values, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    wrong = values[np.isnan(floats) & values.notna().to_numpy()]
    if len(wrong):
        raise DataError(f'column "{values.name}" must hold numbers, but has ({wrong.iloc[0]!r}).')
    return np.where(np.isfinite(floats), floats, np.nan)


def _plan(name: str, values: pd.Series) -> dict[str, Any] | str:
    """Return a column's plan, or why it is dropped."""
    if is_number(values):
        return _number_plan(name, numbers(values))
    return _category_plan(name, texts(values))


def _number_plan(name: str, values: NDArray[np.float64]) -> dict[str, Any] | str:
    missing = np.isnan(values)
    if len(np.unique(values)) < 2:
        return "one value in all training rows"
    fill = float(np.median(values[~missing]))
    filled = np.where(missing, fill, values)
    # A column of one value and gaps has no deviation; its missing-indicator is what it tells.
    scale = float(filled.std()) or 1.0
    mean = float(filled.mean())
    plan = {"column": name, "kind": "number", "fill": fill, "mean": mean, "std": scale}
    return plan | {"missing": bool(missing.any())}


def _category_plan(name: str, values: NDArray[np.object_]) -> dict[str, Any] | str:
    present = [value for value in values if value is not None]
    missing = len(present) < len(values)
    counts: dict[str, int] = {}
    for value in present:
        counts[value] = counts.get(value, 0) + 1
    if len(counts) + missing < 2:
        return "one value in all training rows"
    if len(counts) > MOST_DISTINCT_TEXTS and len(counts) > len(present) / 2:
        return f"{len(counts)} distinct texts in {len(present)} training rows"
    common = sorted(counts, key=lambda value: (-counts[value], value))
    kept = sorted(common[:MOST_CATEGORIES])
    plan = {"column": name, "kind": "category", "categories": kept}
    return plan | {"other": len(common) > len(kept), "missing": missing}


def _features(plan: Mapping[str, Any]) -> list[str]:
    """Return the names of a column's features, in the order of `_encode`."""
    name = plan["column"]
    missing = [f"{name} is missing"] if plan["missing"] else []
    if plan["kind"] == "number":
        return [name, *missing]
    other = [f"{name} is another"] if plan["other"] else []
    return [f"{name} = {value}" for value in plan["categories"]] + other + missing


def _encode(plan: Mapping[str, Any], values: pd.Series) -> NDArray[np.float64]:
    """Return (N, f) a column's features."""
    if plan["kind"] == "number":
        floats = numbers(values)
        missing = np.isnan(floats)
        filled = np.where(missing, plan["fill"], floats)
        blocks = [(filled - plan["mean"]) / plan["std"]]
    else:
        words = texts(values)
        missing = values.isna().to_numpy()
        blocks = [words == category for category in plan["categories"]]
        if plan["other"]:
            blocks.append(~missing & ~np.any(blocks, axis=0))
    if plan["missing"]:
        blocks.append(missing)
    return np.stack(blocks, axis=1).astype(np.float64)
