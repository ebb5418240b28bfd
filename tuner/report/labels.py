"""The validation split's labels, and what a model predicted for them. Without torch, and without a download."""

from __future__ import annotations

import importlib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.errors import TunerError
from tuner.results import Results

Arrays = dict[int, NDArray[Any]]


@dataclass(frozen=True)
class Labels:
    """The validation split's labels.

    Args:
        y: (N,) class indices, or values.
        classes: The classes' names in index order; empty for values.
    """

    y: NDArray[Any]
    classes: tuple[str, ...]


def labels(results: Results) -> Labels | str:
    """Return the labels that the search's trials were measured on, or a sentence that says why they are not here.

    The data is looked for where the sweep has it; it is never downloaded.
    """
    options = results.sweep.get("data")
    if not options:
        return "the sweep has no [data], so the labels of its validation split are not known"
    data = importlib.import_module("trainables.data")
    options = {**options, "download": False}
    seed = results.sweep["sweep"].get("seed", 0)
    try:
        return Labels(data.val_labels(options, seed), tuple(data.info(options, seed).classes))
    except (TunerError, OSError, ValueError) as error:
        return f"the data is not here ({' '.join(str(error).split())})".removesuffix(".)") + ")"


def predictions(folder: Path, trial: str) -> Arrays:
    """Return a trial's validation predictions, epoch by epoch; empty where it kept none, or they are damaged.

    Args:
        folder: The run folder.
        trial: The trial's name, as the journal has it; one that is no plain file name has none.
    """
    if Path(trial).name != trial or trial in (".", ".."):
        return {}
    place = folder / "predictions"
    gathered = _read(place / f"{trial}.npz")
    if gathered:
        return gathered
    parts = sorted((place / trial).glob("*-*.npz"), key=_attempt) if (place / trial).is_dir() else []
    return {epoch: array for path in parts for epoch, array in _read(path).items()}


def _attempt(path: Path) -> tuple[int, str]:
    number = path.stem.rpartition("-")[2]
    return int(number) if number.isdecimal() else 0, path.name


def _read(path: Path) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as kept:
            return {int(name): kept[name] for name in kept.files if name.isdecimal()}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError):
        return {}


def fits(array: NDArray[Any], known: Labels) -> bool:
    """Say whether predictions can be of these labels: as many rows, and a probability a class."""
    shape = (len(known.y), len(known.classes)) if known.classes else (len(known.y),)
    return array.shape == shape and bool(np.isfinite(array).all())


def has_predictions(folder: Path, trial: str) -> bool:
    """Say whether a trial kept predictions, readable or not."""
    place = folder / "predictions"
    return Path(trial).name == trial and ((place / f"{trial}.npz").is_file() or (place / trial).is_dir())


class LazyPredictions(Mapping[str, Arrays]):
    """Trial -> epoch -> predictions, read when they are asked for: all of a large sweep's may not fit in memory.

    Args:
        folder: The run folder.
        trials: Their names, in the order of their numbers.
        known: What the predictions must fit; those that do not are left out.
    """

    def __init__(self, folder: Path, trials: Sequence[str], known: Labels) -> None:
        self._folder, self._known = folder, known
        self._trials = [trial for trial in trials if has_predictions(folder, trial)]

    def __getitem__(self, trial: str) -> Arrays:
        if trial not in self._trials:
            raise KeyError(trial)
        found = predictions(self._folder, trial)
        return {epoch: found[epoch] for epoch in sorted(found) if fits(found[epoch], self._known)}

    def __iter__(self) -> Iterator[str]:
        return iter(self._trials)

    def __len__(self) -> int:
        return len(self._trials)
