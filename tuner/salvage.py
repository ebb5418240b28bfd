"""Rows out of a journal file that may be damaged: each is taken for what its own checksum says, or not at all.

tuner.journal refuses a damaged file as a whole, and rightly so; this is for the backup, which must not copy damage,
and for `tuner doctor`, which saves what there is.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tuner import journal
from tuner.bodies import decode
from tuner.history import Event

_COLUMNS = "seq, kind, trial, attempt, epoch, at, body, checksum, parent"
_TYPES: tuple[type | tuple[type, ...], ...] = (int, str, str, int, int, float, str, int, (int, type(None)))
# A damaged page shows up as any of these: broken structure, text that is no UTF-8, a number too large.
_READING = (sqlite3.Error, UnicodeError, OverflowError, ValueError)


class Source:
    """A journal file open for reading; nothing that is in it, or missing from it, raises.

    Args:
        path: The file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.error: str | None = None
        self._connection: sqlite3.Connection | None = None
        if not path.is_file():
            self.error = "there is no such file"
            return
        try:
            self._connection = connect(path)
            self._connection.execute("BEGIN")  # one snapshot, also while a driver writes
            self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            self.error = str(error)

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.close()

    def ask(self, query: str, *values: Any) -> list[tuple[Any, ...]] | None:
        """Return a query's rows, or None where the file cannot answer."""
        if self._connection is None:
            return None
        try:
            return self._connection.execute(query, values).fetchall()
        except _READING as error:
            self.error = self.error or str(error)
            return None

    def last(self) -> int:
        """Return the last row's number, valid or not; 0 where none can be read."""
        found = self.ask("SELECT max(seq) FROM events")
        return found[0][0] if found and isinstance(found[0][0], int) else 0

    def version(self) -> int:
        """Return the schema version; 0 where it cannot be read."""
        found = self.ask("PRAGMA user_version")
        return int(found[0][0]) if found else 0

    def row(self, seq: int) -> Event | None:
        """Return one row, or None where it is missing, unreadable, or not as it was committed."""
        found = self.ask(f"SELECT {_COLUMNS} FROM events WHERE seq = ?", seq)
        return _event(found[0]) if found else None

    def rows(self, after: int = 0) -> Iterator[tuple[Event, int | None]]:
        """Yield the valid rows that follow a row, up to the first that is not, each with its parent's number."""
        if self._connection is None:
            return
        with contextlib.suppress(*_READING):
            found = self._connection.execute(f"SELECT {_COLUMNS} FROM events WHERE seq > ? ORDER BY seq", (after,))
            for place, values in enumerate(found, start=after + 1):
                event = _event(values)
                if event is None or event.seq != place:
                    return
                yield event, values[-1]


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection that only reads, also while a driver writes."""
    # Without a log nobody writes to it, and reading it leaves no files of SQLite's own beside it.
    mode = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "immutable=1"
    return sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, timeout=10, isolation_level=None)


def merged(sources: Sequence[Source]) -> Iterator[tuple[Event, Source]]:
    """Yield the rows of a sweep from the first on, out of whichever source has the next one, up to a gap in all."""
    last, before = 0, -1
    while last != before:
        before = last
        for source in sources:
            for event, _ in source.rows(last):
                last = event.seq
                yield event, source


def of_one_sweep(first: Source, other: Source) -> bool:
    """Return whether two files tell of the same sweep, as far as both can still say."""
    ours, theirs = first.row(1), other.row(1)
    return ours is None or theirs is None or ours == theirs


def _event(values: tuple[Any, ...]) -> Event | None:
    seq, kind, trial, attempt, epoch, at, body, checksum, _ = values
    try:
        if not all(isinstance(value, kind) for value, kind in zip(values, _TYPES, strict=True)):
            return None
        if checksum != journal._checksum(seq, kind, trial, attempt, epoch, at, body.encode()):
            return None
        return Event(kind, trial, attempt, epoch, decode(body), at, seq)
    except _READING:
        return None
    except (TypeError, RecursionError):  # a checksum is no signature: whoever makes a row can make one, too
        return None


def row(journal: Path, seq: int | None = None) -> tuple[int, float, int] | None:
    """Return what tells one row of a journal from every other: its place, time and checksum.

    Args:
        journal: The journal file.
        seq: Its place; None: the last one's.

    Returns:
        The three, or None where there is no such row, or it cannot be read.
    """
    if not journal.is_file():
        return None
    which = "?" if seq is not None else "(SELECT max(seq) FROM events)"
    try:
        with contextlib.closing(connect(journal)) as opened:
            values = () if seq is None else (seq,)
            found = opened.execute(f"SELECT seq, at, checksum FROM events WHERE seq = {which}", values).fetchone()
    except sqlite3.Error:
        return None
    return (found[0], found[1], found[2]) if found else None
