"""The validation split's labels, and what a model predicted for them. Without torch, and without a download."""

from __future__ import annotations

import functools
import importlib
import io
import math
import struct
import zipfile
import zlib
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
    """Return the arrays of an .npz file by epoch; empty where it is damaged."""
    try:
        content = path.read_bytes()
        with zipfile.ZipFile(io.BytesIO(content)) as kept:
            parts = {part.filename.removesuffix(".npy"): part for part in kept.infolist()}
            return {int(epoch): _array(_part(content, kept, parts[epoch])) for epoch in parts if epoch.isdecimal()}
    except (OSError, struct.error, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError):
        return {}


def _part(content: bytes, kept: zipfile.ZipFile, part: zipfile.ZipInfo) -> bytes:
    """Return one file of an archive, checked by its checksum; what is stored as it is, is not read a second time."""
    if part.compress_type != zipfile.ZIP_STORED or part.flag_bits & 1:
        return kept.read(part)
    name, extra = struct.unpack_from("<HH", content, part.header_offset + 26)
    start = part.header_offset + 30 + name + extra
    found = content[start : start + part.file_size]
    if len(found) != part.file_size or zlib.crc32(found) != part.CRC:
        raise zipfile.BadZipFile(f"the checksum of {part.filename} is another")
    return found


def _array(content: bytes) -> NDArray[Any]:
    """Return the array of an .npy file's content.

    numpy.load takes four times as long for an array of this size, most of it over the header, and a large sweep has
    ten thousand of them with the same one.
    """
    size = 10 if content[6:7] == b"\x01" else 12  # what comes before the header: magic, version, length
    start = size + int.from_bytes(content[8:size], "little")
    shape, in_columns, dtype = _header(content[:start])
    if dtype.hasobject:
        raise ValueError("an array of objects is not read")
    flat = np.frombuffer(content, dtype, count=math.prod(shape), offset=start)
    return flat.reshape(shape, order="F" if in_columns else "C")


@functools.lru_cache(maxsize=64)
def _header(content: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    file = io.BytesIO(content)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(file)
    if version not in read:
        raise ValueError(f"version {version} of the format is not known here")
    shape, in_columns, dtype = read[version](file)
    return shape, in_columns, dtype


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
