"""Room on a run folder's disk: what a sweep will write, what is free, and when that is too little to go on.

Standard library only. "Free" is what this account may still write, as statvfs says it; where a quota is not part of
that, the first write that it refuses tells.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tuner.errors import ResourceError, RunError, StorageError

RESERVE = 100_000_000
"""Bytes that must be free for a trial to begin: what other programs, the journal and its copies need meanwhile."""

DISK_ERRORS = (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO)
"""What the system says where a disk, and not a mistake in a program, keeps a file from being written."""

# Bytes in the journal: 749 an epoch with its checkpoint and 685 a trial besides, in 200 trials x 20 epochs of the
# built-in cnn, indexes included; rounded up.
_EPOCH_ROWS, _TRIAL_ROWS, _JOURNAL = 800, 1_000, 40_000
# The journal, its backup, the backup's next copy; the write-ahead log has seldom more than this.
_COPIES, _WRITE_AHEAD = 3, 4_200_000
# A silent trial's log is empty, a traceback takes about this.
_LOG = 4_000
_JOURNAL_ERRORS = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY")


@dataclass(frozen=True)
class Need:
    """What a sweep writes at most, in bytes.

    Args:
        journal: The journal and its copies.
        checkpoints: At their peak; None where the size of one is not known before a trial has committed one.
        predictions: Validation predictions of every epoch.
        logs: What trials print, where they print little.
        checkpoint: One checkpoint; None where it is not known.
    """

    journal: int
    checkpoints: int | None
    predictions: int
    logs: int
    checkpoint: int | None = None

    @property
    def total(self) -> int:
        """All that is known of, in bytes."""
        return self.journal + (self.checkpoints or 0) + self.predictions + self.logs

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {**asdict(self), "total": self.total}


@dataclass(frozen=True)
class FileSystem:
    """Where a path lies.

    Args:
        mount: The file system's mount point.
        free: Bytes that this account may still write; 0 also where there is no room for another file's name.
        read_only: Whether it is mounted so.
    """

    mount: Path
    free: int
    read_only: bool


def estimate(
    *,
    trials: int,
    epochs: int,
    side_by_side: int,
    keep: int,
    repeats: int = 1,
    checkpoint: int | None = None,
    prediction: int = 0,
) -> Need:
    """Return what a sweep writes at most.

    Args:
        trials: Trials in all.
        epochs: Epochs of all trials together.
        side_by_side: Trials that run at a time.
        keep: As checkpoint.keep.
        repeats: Trials a config.
        checkpoint: Bytes of one checkpoint; None where that is not known, 0 where there are none.
        prediction: Bytes of one epoch's predictions.
    """
    journal = _JOURNAL + trials * _TRIAL_ROWS + epochs * _EPOCH_ROWS
    # A running trial has its newest, its best and the one that it is writing. Of the others the best have theirs, and
    # those whose config has repeats to come; best/ has the model once more, and twice while it is replaced.
    most = side_by_side * (keep + 2) + keep + side_by_side * (repeats - 1) + 2
    return Need(
        journal=_COPIES * journal + _WRITE_AHEAD,
        checkpoints=None if checkpoint is None else min(most, epochs + 2) * checkpoint,
        predictions=epochs * prediction,
        logs=trials * _LOG,
        checkpoint=checkpoint,
    )


def file_system(path: Path) -> FileSystem:
    """Return what holds a path, or would hold it if it existed.

    Raises:
        OSError: It cannot be asked.
    """
    here = path.absolute()
    while not here.exists() and here != here.parent:
        here = here.parent
    found = os.statvfs(here)
    no_names = found.f_files > 0 and found.f_favail == 0
    return FileSystem(
        _mount_of(here, found.f_fsid),
        0 if no_names else found.f_bavail * found.f_frsize,
        bool(found.f_flag & os.ST_RDONLY),
    )


@functools.lru_cache(maxsize=64)
def _mount_of(path: Path, file_system: int) -> Path:
    """Return the mount point of a path; it is looked for once a file system, as its id tells them apart."""
    mount = path.resolve()
    while not mount.is_mount():
        mount = mount.parent
    return mount


def written(folder: Path) -> int:
    """Return the bytes that a folder's files take on their disk."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # a checkpoint may go while we look
                total += Path(place, name).lstat().st_blocks * 512
    return total


def require(path: Path, needed: int, remedy: str) -> None:
    """Refuse to begin where a disk cannot be written, or what is needed does not fit on it.

    Args:
        path: The run folder, or where it is to be made.
        needed: Bytes that will be written at most.
        remedy: What to do instead of making room.

    Raises:
        RunError: The file system is mounted read-only.
        ResourceError: There is less room than that, and RESERVE to go on with.
    """
    try:
        found = file_system(path)
    except OSError:
        return  # whoever makes or opens the folder says what is wrong with it
    if found.read_only:
        raise RunError(
            f"{path}: a run folder must be writable, but its file system ({found.mount}) is read-only. "
            f"Mount it writable, or {remedy}."
        )
    if found.free < needed + RESERVE:
        raise ResourceError(
            f"{path}: up to {size(needed)} will be written, and {size(RESERVE)} must stay free, "
            f"but got ({size(found.free)} free on {found.mount}). Make room there, or {remedy}."
        )


class Room:
    """How much room a running sweep has.

    Args:
        folder: Its run folder.
        checkpoint: Bytes of a checkpoint, as far as that is known before the first.
    """

    def __init__(self, folder: Path, checkpoint: int = 0) -> None:
        self.folder, self.checkpoint = folder, checkpoint

    def learn(self, checkpoint: int) -> None:
        """Take a committed checkpoint's size in bytes into account."""
        self.checkpoint = max(self.checkpoint, checkpoint)

    def lacking(self, running: int) -> str | None:
        """Return why no trial may begin now, with what to do about it; None where one may.

        Args:
            running: Trials that go on meanwhile.
        """
        try:
            found = file_system(self.folder)
        except OSError as error:
            return f"{self.folder}: the run folder cannot be reached ({error.strerror})."
        if found.read_only:
            return f"{self.folder}: its file system ({found.mount}) is read-only now. Mount it writable again."
        needed = max(RESERVE, 2 * (running + 1) * self.checkpoint)
        if found.free < needed:
            return (
                f"{self.folder}: a trial begins only where {size(needed)} are free, but got "
                f"({size(found.free)} free on {found.mount}). Make room there."
            )
        return None

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Turn what a full, read-only or failing disk does to a sweep into one sentence.

        Raises:
            StorageError: In place of an OSError, or a journal's RunError, that the disk is the cause of.
        """
        try:
            yield
        except (OSError, RunError) as error:
            if not is_the_disk(error):
                raise
            raise StorageError(self.lacking(0) or failed(self.folder, str(error)), self.folder) from error


def is_the_disk(error: BaseException | None) -> bool:
    """Return whether an error, or what it comes from, is the disk's doing."""
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorname", "").startswith(_JOURNAL_ERRORS)
    if isinstance(error, OSError):
        return error.errno in DISK_ERRORS
    return error is not None and is_the_disk(error.__cause__)


def failed(folder: Path, what: str) -> str:
    """Return the sentence for a run folder that could not be written, though its disk seems to have room."""
    return f"{folder}: a run folder must be writable, but got ({what.rstrip('.')}). Check its disk and its quota."


def size(count: int) -> str:
    """Return a number of bytes for a person: "210 MB"."""
    number = float(count)
    for unit in ("bytes", "kB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:,.3g} GB" if number < 1000 else f"{number:,.0f} GB"
