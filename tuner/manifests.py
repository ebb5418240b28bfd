"""Checkpoints as they lie in a folder: whether every byte is as it was committed. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tuner.errors import TunerError
from tuner.history import CheckpointRecord

STATE_NAME = "state.pt"
MANIFEST_NAME = "manifest.json"


class DamagedCheckpoint(TunerError):
    """A checkpoint whose files do not match its manifest, or whose manifest does not match the journal."""


def verify(run: Path, record: CheckpointRecord) -> Path:
    """Return the folder of a checkpoint whose every byte is as committed.

    Raises:
        DamagedCheckpoint: A file is missing or differs; the sentence names it.
    """
    folder = run / record.path
    if not folder.resolve().is_relative_to(run.resolve()):
        raise DamagedCheckpoint(f"{folder}: a checkpoint must lie in its run folder.")
    manifest = folder / MANIFEST_NAME
    if _digest(manifest) != record.sha256:
        raise DamagedCheckpoint(f"{manifest}: the manifest is missing, or differs from the journal's row.")
    return verify_files(folder)


def verify_files(folder: Path) -> Path:
    """Return a checkpoint's folder if every file is as its manifest says, whatever the journal says of that.

    Raises:
        DamagedCheckpoint: A file is missing or differs; the sentence names it.
    """
    manifest = folder / MANIFEST_NAME
    try:
        sums = {Path(name).name: entry["sha256"] for name, entry in json.loads(manifest.read_text())["files"].items()}
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
    ) as error:  # whoever writes the row can make such a one
        raise DamagedCheckpoint(f"{manifest}: it must list files and their SHA-256, but does not.") from error
    for name, sha256 in sums.items():
        if _digest(folder / name) != sha256:  # a name never leaves its folder
            raise DamagedCheckpoint(f"{folder / name}: the file is missing, or differs from its manifest.")
    return folder


def _digest(path: Path) -> str | None:
    """Return a file's SHA-256, or None where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
