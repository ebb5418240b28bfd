"""Checkpoints: commit, verify, load, prune.

A checkpoint is a folder `checkpoints/<trial>/<epoch>-<attempt>/` with state.pt (what the trainable gave, and the random
state of its process) and a manifest of SHA-256 sums. It is written beside its place, flushed to the disk and renamed,
and it counts only once a journal row names it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import reprlib
import shutil
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from tuner.errors import ConfigError
from tuner.history import CheckpointRecord, TrialRecord
from tuner.manifests import MANIFEST_NAME as MANIFEST_NAME
from tuner.manifests import STATE_NAME as STATE_NAME
from tuner.manifests import DamagedCheckpoint as DamagedCheckpoint
from tuner.manifests import verify as verify
from tuner.manifests import verify_files as verify_files

if TYPE_CHECKING:
    from collections.abc import Iterable

# What weights_only can load: these very types, since a subclass is pickled by its name.
_LEAVES = (type(None), bool, int, float, str, bytes)
_MAPPINGS = (dict, OrderedDict, Counter)

# 3-1, and while it is written .3-1.writing
_FOLDER_NAME = re.compile(r"\.?\d+-(\d+)(?:\.writing)?", re.ASCII)


@dataclass(frozen=True)
class Place:
    """Where one checkpoint belongs.

    Args:
        trial: The trial's name.
        epoch: The epoch it holds, from 1.
        attempt: The attempt that wrote it, from 1.
    """

    trial: str
    epoch: int
    attempt: int

    @property
    def path(self) -> str:
        """Path relative to the run folder."""
        return f"checkpoints/{self.trial}/{self.epoch}-{self.attempt}"


def commit(
    run: Path,
    place: Place,
    state: Mapping[str, Any],
    metrics: Mapping[str, float | None],
    random: Mapping[str, Any] | None = None,
    told: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write a checkpoint durably.

    Args:
        run: The run folder.
        place: Where the checkpoint belongs.
        state: Tensors and plain values.
        metrics: That epoch's metrics; the manifest carries them.
        random: The random state of the process, as plain values and tensors.
        told: What else the manifest is to carry, as JSON has it: see tuner.adoption.

    Returns:
        The journal row's body: path (relative to `run`), sha256 of the manifest, bytes of the state.

    Raises:
        ConfigError: The state holds something that weights_only cannot load again.
        OSError: The disk is full, or cannot be written.
    """
    plain = _plain(state, "state") if isinstance(state, dict) else _refuse("state", state)
    final = run / place.path
    scratch = final.with_name(f".{final.name}.writing")
    shutil.rmtree(scratch, ignore_errors=True)
    first = not final.parent.exists()
    try:
        text, size = _fill(scratch, place, {"state": plain, "random": random}, metrics, told or {})
        scratch.rename(final)
    except BaseException:  # what is half there must not keep a full disk full
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    for folder in (final.parent, *final.parents[1:3]) if first else (final.parent,):
        _flush(folder)
    return {"path": place.path, "sha256": hashlib.sha256(text).hexdigest(), "bytes": size}


def _fill(
    scratch: Path, place: Place, plain: dict[str, Any], metrics: Mapping[str, float | None], told: Mapping[str, Any]
) -> tuple[bytes, int]:
    """Write a checkpoint's files; return the manifest and the bytes of the state."""
    scratch.mkdir(parents=True)
    sha256, size = write_tensors(scratch / STATE_NAME, plain)
    manifest = {
        "trial": place.trial,
        "epoch": place.epoch,
        "attempt": place.attempt,
        "metrics": {name: value if value is None else repr(value) for name, value in metrics.items()},
        "files": {STATE_NAME: {"sha256": sha256, "bytes": size}},
        **told,
    }
    text = json.dumps(manifest, sort_keys=True).encode()
    _write(scratch / MANIFEST_NAME, text)
    _flush(scratch)
    return text, size


def write_tensors(path: Path, value: Any) -> tuple[str, int]:
    """Write tensors and plain values as torch.load(weights_only=True) takes them, flushed to the disk.

    Returns:
        The file's SHA-256 and its size in bytes.

    Raises:
        OSError: Such as for a full disk, which torch.save itself tells as a RuntimeError.
    """
    import torch

    buffer = io.BytesIO()
    torch.save(value, buffer)
    data = buffer.getbuffer()
    # The sum is made while the disk is waited for; both let other threads run.
    with ThreadPoolExecutor(1) as aside:
        digest = aside.submit(hashlib.sha256, data)
        _write(path, data)
    return digest.result().hexdigest(), len(data)


class Kept(NamedTuple):
    """What a checkpoint holds: what the trainable gave, and the random state of its process then."""

    state: dict[str, Any]
    random: dict[str, Any] | None


def load(folder: Path) -> Kept:
    """Return what a verified checkpoint folder holds, on the CPU; runs no code from the file.

    Raises:
        DamagedCheckpoint: The file holds something else than tensors and plain values.
    """
    import torch

    path = folder / STATE_NAME
    try:
        kept = Kept(**torch.load(path, map_location="cpu", weights_only=True))
        if not isinstance(kept.state, dict):
            raise TypeError("no state")
        return kept
    except MemoryError:
        raise
    except Exception as error:  # damaged bytes raise almost anything
        raise DamagedCheckpoint(f"{path}: it must hold tensors and plain values, but cannot be loaded.") from error


def extract_model(folder: Path, target: Path) -> None:
    """Write the model of a verified checkpoint folder, or all of its state where that has no "model", as one file.

    Raises:
        DamagedCheckpoint: As in load().
        OSError: The disk is full, or cannot be written.
    """
    state = load(folder).state
    write_tensors(target, state.get("model", state))


def prune(run: Path, trial: str, keep: Iterable[CheckpointRecord], newest: int) -> None:
    """Delete a trial's checkpoints except those to keep; a folder that cannot be deleted is left.

    Args:
        run: The run folder.
        trial: The trial's name.
        keep: Those to keep.
        newest: The trial's newest attempt. What a later one wrote is left alone: this driver was asleep, and another
            has taken over.
    """
    names = {Path(record.path).name for record in keep}
    folder = run / "checkpoints" / trial
    if not folder.is_dir():
        return
    for child in folder.iterdir():
        if child.name not in names and attempt_of(child.name) <= newest:
            shutil.rmtree(child, ignore_errors=True)
    if not names:
        with contextlib.suppress(OSError):
            folder.rmdir()


def attempt_of(name: str) -> int:
    """Return the attempt of a checkpoint's folder, or of one half written; 0 where the name is no such thing."""
    found = _FOLDER_NAME.fullmatch(name)
    return int(found[1]) if found else 0


def save_predictions(run: Path, place: Place, predictions: NDArray[Any]) -> str:
    """Write one epoch's validation predictions, durably, to a file that no other attempt writes.

    Args:
        run: The run folder.
        place: Whose they are.
        predictions: (N, K) class probabilities or (N,) values, in the order of the validation split.

    Returns:
        The file, relative to the run folder.

    Raises:
        ConfigError: The predictions are no array of numbers.
        OSError: The disk is full, or cannot be written.
    """
    values = _numbers(predictions)
    path = f"predictions/{place.trial}/{place.epoch}-{place.attempt}.npz"
    (run / path).parent.mkdir(parents=True, exist_ok=True)
    _write_arrays(run / path, {str(place.epoch): values})
    return path


def gather_predictions(run: Path, record: TrialRecord) -> list[str]:
    """Put a finished trial's predictions into predictions/<trial>.npz: an array an epoch whose row counts.

    Args:
        run: The run folder.
        record: The trial. One without predictions, or gathered before, is left as it is.

    Returns:
        Names of files that cannot be read; they are kept beside the others, as *.damaged.

    Raises:
        OSError: The disk is full, or cannot be written; nothing is lost, and it can be asked again.
    """
    folder = run / "predictions" / record.trial
    final = folder.with_name(f"{record.trial}.npz")
    if final.exists():  # whoever gathered them was killed before all of them were deleted
        shutil.rmtree(folder, ignore_errors=True)
    if not folder.is_dir():
        return []
    arrays, damaged = dict[str, NDArray[Any]](), list[str]()
    for epoch in sorted(record.epochs):
        path = folder / f"{epoch}-{record.epochs[epoch].attempt}.npz"
        try:
            with np.load(path, allow_pickle=False) as kept:
                arrays[str(epoch)] = kept[str(epoch)]
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError):
            aside = folder.parent / f"{record.trial}.npz.{path.stem}.damaged"
            path.rename(aside)
            damaged.append(str(aside))
    if arrays:
        _write_arrays(final, arrays)
    shutil.rmtree(folder, ignore_errors=True)
    return damaged


def _write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    scratch = path.with_name(f".{path.name}.writing")
    _write(scratch, buffer.getbuffer())
    scratch.rename(path)
    _flush(path.parent)


def _numbers(predictions: Any) -> NDArray[Any]:
    try:
        values = np.asarray(predictions)
    except (TypeError, ValueError, RuntimeError):  # ragged, or a tensor that is on a GPU or requires its gradient
        values = np.empty(0, dtype=object)
    if values.dtype.kind in "biuf":  # what npz holds without pickle, and a person can compute with
        return values
    raise ConfigError(
        f"trial.report: predictions must be an array of numbers, but got ({type(predictions).__name__} "
        f"{reprlib.repr(predictions)}). Give a NumPy array: class probabilities (N, K), or values (N,)."
    )


def _plain(value: Any, where: str) -> Any:
    """Return a value as torch.load(weights_only=True) takes it: NumPy's scalars become Python's own."""
    import torch

    if isinstance(value, np.generic):
        value = value.item()
    kind = type(value)
    if kind in _LEAVES or isinstance(value, torch.Tensor):
        return value
    if kind in _MAPPINGS:
        for key in value:
            if type(key) not in _LEAVES:
                _refuse(f"a key of {where}", key)
        items = {key: _plain(item, f"{where}[{key!r}]") for key, item in value.items()}
        # Itself where it can be: a module's state_dict carries more than its items.
        return value if all(items[key] is item for key, item in value.items()) else items
    if kind in (list, tuple, torch.Size):
        parts = [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
        if all(new is old for new, old in zip(parts, value, strict=True)):
            return value
        return parts if kind is list else tuple(parts)
    return _refuse(where, value)


def _refuse(where: str, value: Any) -> NoReturn:
    raise ConfigError(
        f"trial.report: state must be a dict of tensors and plain values, but got ({where} is a "
        f"{type(value).__name__}). Give a state_dict(), torch.from_numpy(array), dict(...) or float(...)."
    )


def _write(path: Path, data: bytes | memoryview) -> None:
    try:
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:  # what is half there must not keep a full disk full
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        raise


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
