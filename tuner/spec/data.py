"""[data]: which sets there are, which options each has, and what is left out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuner.errors import Problem, nearest
from tuner.spec.code import absolute_path
from tuner.spec.tables import DataSpec, read_table
from tuner.spec.text import toml_text

_COMMON = ("limit", "val_fraction", "folds")
_TORCHVISION = (*_COMMON, "root", "download", "image_size")  # they keep the test split that they come with
_BUNDLED = (*_COMMON, "test_fraction")

OPTIONS: dict[str, tuple[str, ...]] = {
    "digits": (*_BUNDLED, "image_size"),
    "breast_cancer": _BUNDLED,
    "wine": _BUNDLED,
    "diabetes": _BUNDLED,
    "mnist": _TORCHVISION,
    "fashion_mnist": _TORCHVISION,
    "cifar10": _TORCHVISION,
    "cifar100": _TORCHVISION,
    "images": (*_BUNDLED, "path", "image_size", "on_corrupt"),
    "table": (*_BUNDLED, "path", "target", "task", "group", "drop"),
}
"""Each data set's options."""

IMAGE_SETS = tuple(name for name, options in OPTIONS.items() if "image_size" in options)

_DEFAULTS: dict[str, Any] = {
    "val_fraction": 0.2,
    "test_fraction": 0.2,
    "on_corrupt": "fail",
    "download": False,
}
_REQUIRED = {
    "images": {"path": 'Give the folder of class folders: path = "...".'},
    "table": {
        "path": 'Give the CSV or Parquet file: path = "...".',
        "target": 'Name the column to predict: target = "...".',
    },
}


def resolve_data(raw: Any, problems: list[Problem]) -> DataSpec | None:
    """Return [data] with its defaults; None where there is none, or where its set is unknown.

    Args:
        raw: The table as written, with absolute paths.
        problems: Receives every mistake.
    """
    if raw is None:
        return None
    data = read_table(DataSpec, raw, "data", problems)
    if data is None:
        return None
    if data.name not in OPTIONS:
        remedy = nearest(data.name, OPTIONS)
        problems.append(Problem("data.name", "must be the name of a data set", toml_text(data.name), remedy))
        return None
    given = data.model_dump(exclude_none=True)
    problems.extend(_misplaced(data.name, given))
    problems.extend(_missing(data.name, given, raw))
    problems.extend(_fractions(data.name, given))
    allowed = ("name", *OPTIONS[data.name])
    filled = {**_DEFAULTS, "root": default_root(), **given}
    return DataSpec.model_validate({name: value for name, value in filled.items() if name in allowed})


def default_root() -> str:
    """Return where the torchvision sets' files lie where data.root is left out."""
    return absolute_path(os.environ.get("TUNER_DATA") or "data", Path.cwd())


def _misplaced(name: str, given: Mapping[str, Any]) -> list[Problem]:
    """Return the options that belong to other sets: they would have no effect."""
    allowed = OPTIONS[name]
    return [
        Problem(
            f"data.{option}",
            f"is not an option of {name}",
            toml_text(value),
            f"Remove it. Options of {name}: {', '.join(allowed)}.",
        )
        for option, value in given.items()
        if option not in ("name", *allowed)
    ]


def _missing(name: str, given: Mapping[str, Any], raw: Any) -> list[Problem]:
    required = _REQUIRED.get(name, {})
    return [
        Problem(f"data.{option}", f"is required for {name}", remedy=remedy)
        for option, remedy in required.items()
        if option not in given and option not in raw  # one that broke its rule has been reported
    ]


def _fractions(name: str, given: Mapping[str, Any]) -> list[Problem]:
    val, test = (given.get(key, _DEFAULTS[key]) for key in ("val_fraction", "test_fraction"))
    if "test_fraction" not in OPTIONS[name] or val + test < 1:
        return []
    key = "data.val_fraction" if "val_fraction" in given else "data.test_fraction"
    got = f"val_fraction={val}, test_fraction={test}"
    return [Problem(key, "val_fraction + test_fraction < 1 must hold", got, "Leave samples to train on.")]
