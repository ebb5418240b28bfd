"""Copies of the journal as the sweep goes: consistent while the driver writes, and none replaces a better one.

A copy counts only when it is whole: SQLite's own check passes, and every row matches its checksum. So damage to the
journal never reaches its backup, and `tuner doctor --repair` has something good to rebuild from.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from pathlib import Path

from tuner.errors import RunError
from tuner.salvage import Source, connect

FILE_NAME = "journal.backup.sqlite"

# A large journal takes seconds to copy and check; at most this share of the driver's time goes to it.
_MOST_OF_THE_TIME = 0.02


class Backup:
    """The driver's backups of its journal.

    Args:
        journal: The journal file.
        every_s: Seconds between two copies; longer where a copy takes more than 2 % of them.
    """

    def __init__(self, journal: Path, every_s: float = 30.0) -> None:
        self.journal, self.every_s = journal, every_s
        self.path = journal.with_name(FILE_NAME)
        self.error: str | None = None  # why the newest try failed; None where it did not
        self._next = time.monotonic() + every_s

    def maybe(self) -> bool:
        """Make a copy if it is time for one; cheap where it is not. A failure costs the sweep nothing: see `error`.

        Returns:
            Whether a copy was made.
        """
        if time.monotonic() < self._next:
            return False
        try:
            self.now()
        except RunError as error:
            self.error = str(error)
            return False
        return True

    def now(self) -> int:
        """Make a copy now.

        Returns:
            The last row it holds.

        Raises:
            RunError: The journal is damaged, or the disk is full; the copy that was there stays.
        """
        began = time.monotonic()
        try:
            last = copy_journal(self.journal, self.path)
        finally:
            took = time.monotonic() - began
            self._next = time.monotonic() + max(self.every_s, took / _MOST_OF_THE_TIME)
        self.error = None
        return last


def copy_journal(journal: Path, target: Path) -> int:
    """Copy a journal, also while its driver writes, so that the copy is there whole and good, or not at all.

    Args:
        journal: The journal file.
        target: The copy's place, in the same folder or another; one that is there is replaced.

    Returns:
        The last row it holds.

    Raises:
        RunError: The journal is damaged, or the place cannot be written; what was there stays.
    """
    scratch = target.with_name(f".{target.name}.writing")
    try:
        _discard(scratch)
        _copy(journal, scratch)
        last = check(scratch, journal)
        _flush(scratch)
        scratch.rename(target)
        _flush(target.parent)
    except (OSError, sqlite3.Error) as error:
        raise RunError(
            f"{target}: the journal's backup could not be written ({error}). The one before stays; "
            "check the disk's room and the folder's permissions."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            _discard(scratch)
    return last


def check(copy: Path, journal: Path | None = None) -> int:
    """Return the last row of a copy that is whole: every page in order, every row as it was committed.

    Args:
        copy: The copy.
        journal: What it is a copy of, for the error sentence.

    Raises:
        RunError: It is not whole.
    """
    with Source(copy) as source:
        pages = source.ask("PRAGMA integrity_check(1)")
        last, valid = source.last(), sum(1 for _ in source.rows())
    if pages != [("ok",)] or valid != last or not last:
        raise RunError(
            f"{journal or copy}: the journal is damaged (rows 1 to {valid} of {last} are whole), so no backup was "
            "made of it; the one before stays. Run `tuner doctor`."
        )
    return last


def _copy(journal: Path, scratch: Path) -> None:
    with (
        contextlib.closing(connect(journal)) as source,
        contextlib.closing(sqlite3.connect(scratch, isolation_level=None)) as target,
    ):
        target.execute("PRAGMA synchronous = OFF")  # flushed as a whole, before it gets its name
        source.backup(target)
        target.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it


def _discard(scratch: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        scratch.with_name(scratch.name + suffix).unlink(missing_ok=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
