"""Checkpoints: commit, verify, load, prune.

A checkpoint is a folder `checkpoints/<trial>/<epoch>-<attempt>/` with state.pt and a manifest of SHA-256 sums. It is
written beside its place, flushed to the disk and renamed, and it counts only once a journal row names it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tuner.errors import ConfigError, TunerError
from tuner.history import CheckpointRecord

if TYPE_CHECKING:
    from collections.abc import Iterable

STATE_NAME = "state.pt"
MANIFEST_NAME = "manifest.json"


class DamagedCheckpoint(TunerError):
    """A checkpoint whose files do not match its manifest, or whose manifest does not match the journal."""


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


def commit(run: Path, place: Place, state: Mapping[str, Any], metrics: Mapping[str, float | None]) -> dict[str, Any]:
    """Write a checkpoint durably.

    Args:
        run: The run folder.
        place: Where the checkpoint belongs.
        state: Tensors and plain values.
        metrics: That epoch's metrics; the manifest carries them.

    Returns:
        The journal row's body: path (relative to `run`), sha256 of the manifest, bytes of the state.

    Raises:
        ConfigError: The state holds something that weights_only cannot load again.
    """
    import torch

    _check_plain(state, "state")
    final = run / place.path
    scratch = final.with_name(f".{final.name}.writing")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    torch.save(dict(state), scratch / STATE_NAME)
    size = (scratch / STATE_NAME).stat().st_size
    manifest = {
        "trial": place.trial,
        "epoch": place.epoch,
        "attempt": place.attempt,
        "metrics": {name: value if value is None else repr(value) for name, value in metrics.items()},
        "files": {STATE_NAME: {"sha256": _sha256(scratch / STATE_NAME), "bytes": size}},
    }
    (scratch / MANIFEST_NAME).write_text(json.dumps(manifest, indent=1, sort_keys=True))
    for path in (scratch / STATE_NAME, scratch / MANIFEST_NAME, scratch):
        _flush(path)
    scratch.rename(final)
    _flush(final.parent)
    return {"path": place.path, "sha256": _sha256(final / MANIFEST_NAME), "bytes": size}


def verify(run: Path, record: CheckpointRecord) -> Path:
    """Return the folder of a checkpoint whose every byte is as committed.

    Raises:
        DamagedCheckpoint: A file is missing or differs; the sentence names it.
    """
    folder = run / record.path
    manifest = folder / MANIFEST_NAME
    if not manifest.is_file():
        raise DamagedCheckpoint(f"{manifest}: a checkpoint's manifest must be here, but there is none.")
    if _sha256(manifest) != record.sha256:
        raise DamagedCheckpoint(f"{manifest}: the manifest differs from the journal's row.")
    for name, entry in json.loads(manifest.read_text())["files"].items():
        path = folder / Path(name).name  # a name never leaves its folder
        if not path.is_file() or _sha256(path) != entry["sha256"]:
            raise DamagedCheckpoint(f"{path}: the file is missing or differs from its manifest.")
    return folder


def load(folder: Path) -> dict[str, Any]:
    """Return the state in a verified checkpoint folder, on the CPU; runs no code from the file."""
    import torch

    return torch.load(folder / STATE_NAME, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]


def prune(run: Path, trial: str, keep: Iterable[CheckpointRecord]) -> None:
    """Delete this trial's checkpoints except those to keep; a folder that cannot be deleted is left."""
    names = {Path(record.path).name for record in keep}
    folder = run / "checkpoints" / trial
    if not folder.is_dir():
        return
    for child in folder.iterdir():
        if child.name not in names:
            shutil.rmtree(child, ignore_errors=True)
    if not names:
        shutil.rmtree(folder, ignore_errors=True)


def save_predictions(run: Path, trial: str, epoch: int, predictions: NDArray[Any]) -> None:
    """Add one epoch's validation predictions to predictions/<trial>.npz, atomically.

    Args:
        run: The run folder.
        trial: The trial's name.
        epoch: The epoch, from 1; later epochs in the file (of an attempt that was lost) are dropped.
        predictions: (N, K) class probabilities or (N,) values, in the order of the validation split.
    """
    final = run / "predictions" / f"{trial}.npz"
    final.parent.mkdir(exist_ok=True)
    arrays = {}
    if epoch > 1 and final.is_file():
        with np.load(final, allow_pickle=False) as old:
            arrays = {name: old[name] for name in old.files if int(name) < epoch}
    arrays[str(epoch)] = np.asarray(predictions)
    scratch = final.with_name(f".{trial}.npz.writing")
    with scratch.open("wb") as file:
        np.savez(file, **arrays)
    scratch.rename(final)


def _check_plain(value: Any, where: str) -> None:
    import torch

    if value is None or isinstance(value, bool | int | float | str | bytes | torch.Tensor):
        return
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_plain(item, f"{where}[{key!r}]")
        return
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_plain(item, f"{where}[{index}]")
        return
    raise ConfigError(
        f"trial.report: state must hold tensors and plain values, but got ({where} = {type(value).__name__}). "
        "Pass a state_dict(), or torch.from_numpy(array)."
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
