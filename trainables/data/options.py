"""The [data] table: its keys, their defaults and their rules, checked before a file is touched."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tuner.errors import DataError, Problem, nearest
from tuner.trainable import Task

TABLES = ("table",)
IMAGES = ("images",)


@dataclass(frozen=True)
class Options:
    """The options of one data set; what was left out has its default.

    Args:
        name: The data set.
        root: Folder that holds the torchvision sets' folders.
        path: The image folder, or the table's file.
        image_size: Images are resized to this many pixels a side; None keeps the set's own size.
        limit: At most this many samples, stratified, drawn before splitting; None for all.
        val_fraction: Share of the samples that goes to validation, between 0 and 1, neither included.
        test_fraction: Share that is sealed as the test split, from 0 (there is none) to below 1.
        folds: Number of folds for cross-validation, at least 2; None where there is none.
        download: Whether a missing torchvision set is fetched.
        on_corrupt: "fail" at an unreadable image, or "skip" it.
        target: The table's column to predict.
        task: "classification" or "regression"; None finds it from the target.
        group: Column whose equal values stay in one split; not a feature.
        drop: Columns that are not features.
    """

    name: str
    root: Path = Path("data")
    path: Path | None = None
    image_size: int | None = None
    limit: int | None = None
    val_fraction: float = 0.2
    test_fraction: float = 0.2
    folds: int | None = None
    download: bool = False
    on_corrupt: str = "fail"
    target: str | None = None
    task: Task | None = None
    group: str | None = None
    drop: tuple[str, ...] = ()


def complaint(key: str, rule: str, got: str = "", remedy: str = "") -> DataError:
    """Return a DataError `data.key: rule, but got (value). remedy`."""
    return DataError(Problem("", rule, got, remedy).sentence(f"data.{key}"))


def parse(table: Mapping[str, Any], names: tuple[str, ...]) -> Options:
    """Return the checked options of a [data] table.

    Args:
        table: Keys of Options; None means left out.
        names: The known data sets.

    Raises:
        DataError: With every mistake, one a line.
    """
    given = {key: value for key, value in table.items() if value is not None}
    errors = [str(error) for error in _mistakes(given, names)]
    if errors:
        raise DataError("\n".join(errors))
    given["root"] = Path(given.get("root") or os.environ.get("TUNER_DATA") or "data").expanduser()
    if "path" in given:
        given["path"] = Path(given["path"]).expanduser()
    given["drop"] = tuple(given.get("drop", ()))
    return Options(**given)


def _mistakes(given: Mapping[str, Any], names: tuple[str, ...]) -> list[DataError]:
    """Return every rule that the given options break."""
    known = [field.name for field in fields(Options)]
    errors = [complaint(key, "unknown key", "", nearest(key, known)) for key in given if key not in known]
    for key, (holds, rule) in _RULES.items():
        if key in given and not holds(given[key]):
            errors.append(complaint(key, rule, repr(given[key])))
    name = given.get("name")
    if not isinstance(name, str) or name not in names:
        errors.insert(0, complaint("name", "must name a data set", repr(name), nearest(str(name), names)))
        return errors
    for key, sets in _ONLY_FOR.items():
        if given.get(key) and name not in sets:
            errors.append(
                complaint(key, f'does not apply to "{name}"', repr(given[key]), _INSTEAD.get(key, "Remove it."))
            )
    return errors


def _whole(least: int) -> tuple[Callable[[Any], bool], str]:
    def holds(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= least

    return holds, f"must be a whole number of at least {least}"


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _text(value: Any) -> bool:
    return isinstance(value, (str, Path)) and bool(str(value))


_TEXT = (_text, "must be a text")
_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "root": _TEXT,
    "path": _TEXT,
    "image_size": _whole(1),
    "limit": _whole(1),
    "val_fraction": (lambda x: _number(x) and 0 < x < 1, "0 < val_fraction < 1 must hold"),
    "test_fraction": (lambda x: _number(x) and 0 <= x < 1, "0 <= test_fraction < 1 must hold"),
    "folds": _whole(2),
    "download": (lambda x: isinstance(x, bool), "must be true or false"),
    "on_corrupt": (lambda x: x in ("fail", "skip"), 'must be "fail" or "skip"'),
    "target": _TEXT,
    "task": (lambda x: x in ("classification", "regression"), 'must be "classification" or "regression"'),
    "group": _TEXT,
    "drop": (lambda x: isinstance(x, (list, tuple)) and all(map(_text, x)), "must be a list of column names"),
}

_PICTURES = ("digits", "mnist", "fashion_mnist", "cifar10", "cifar100", *IMAGES)
_ONLY_FOR: dict[str, tuple[str, ...]] = {
    "path": (*IMAGES, *TABLES),
    "image_size": _PICTURES,
    "target": TABLES,
    "task": TABLES,
    "group": TABLES,
    "drop": TABLES,
}
_INSTEAD = {
    "path": "Remove it; the torchvision sets are looked for under data.root.",
    "image_size": "Remove it; tables have no pixels.",
}
