"""The journal: one SQLite file, the only truth about a sweep.

It is append-only and has one global order. One driver writes; any number of readers read. Each event is a committed
row with a checksum before the next thing depends on it, so a frame, a report and a resume can all be rebuilt from it.

    sweep -> session*           the frozen sweep; who drove it, when
    suggestion                  a config and who proposed it; makes a trial
    `-- attempt*                one try of it on a worker
        |-- epoch*              the metrics of one epoch
        |   |-- checkpoint      a committed checkpoint folder; it counts only through this row
        |   `-- stop            a stopping rule's decision
        `-- end                 how the attempt ended
    note*                       anything else that must be remembered in order
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sqlite3
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tuner.bodies import decoded, encode
from tuner.errors import RunError
from tuner.history import Event, History, fold
from tuner.timing import Clock

T = TypeVar("T")

SCHEMA_VERSION = 2  # 1 was never released
FILE_NAME = "journal.sqlite"
MARK_NAME = "journal.mark"

# A row of each kind hangs on the row of the kind named here (same trial, attempt, epoch as far as that kind has them).
_PARENT = {
    "attempt": "suggestion",
    "epoch": "attempt",
    "end": "attempt",
    "checkpoint": "epoch",
    "stop": "epoch",
}

_SCHEMA = f"""
CREATE TABLE events (
    seq      INTEGER PRIMARY KEY,
    kind     TEXT NOT NULL CHECK (kind IN
             ('sweep', 'session', 'suggestion', 'attempt', 'epoch', 'checkpoint', 'stop', 'end', 'note')),
    trial    TEXT NOT NULL,
    attempt  INTEGER NOT NULL,
    epoch    INTEGER NOT NULL,
    parent   INTEGER REFERENCES events (seq),
    at       REAL NOT NULL,
    body     TEXT NOT NULL,
    checksum INTEGER NOT NULL,
    CHECK (parent IS NOT NULL OR kind IN ('sweep', 'session', 'suggestion', 'note'))
) STRICT;
CREATE UNIQUE INDEX one_of_a_kind ON events (kind, trial, attempt, epoch) WHERE kind NOT IN ('session', 'note');
CREATE TRIGGER no_update BEFORE UPDATE ON events BEGIN SELECT RAISE (ABORT, 'the journal is append-only'); END;
CREATE TRIGGER no_delete BEFORE DELETE ON events BEGIN SELECT RAISE (ABORT, 'the journal is append-only'); END;
PRAGMA user_version = {SCHEMA_VERSION};
"""

# A migration turns schema version n into n + 1; the driver applies them in order when it opens an older journal.
_MIGRATIONS: dict[int, str] = {}
_OLDEST_VERSION = 2

_BATCH = 500
_NUMBERS = struct.Struct("<qqqd").pack  # seq, attempt, epoch, at


def _checksum(seq: int, kind: str, trial: str, attempt: int, epoch: int, at: float, body: bytes) -> int | None:
    # CRC-32: it is damage that must be found, not malice. Numbers are packed, which takes a fifth of what text takes.
    try:
        return zlib.crc32(body, zlib.crc32(f"{kind}|{trial}|".encode(), zlib.crc32(_NUMBERS(seq, attempt, epoch, at))))
    except (struct.error, TypeError):  # damaged, in a way that even changed a column's type
        return None


class Journal:
    """The writing side of a sweep's journal; only its driver holds one.

    Args:
        path: The journal file; its folder must exist. A new file is created where there is none.
        check: Called before every write; raises RunError where this process is no longer the sweep's driver.

    Raises:
        RunError: The file is no journal, is damaged, is newer than this version, or lost committed rows.
    """

    def __init__(self, path: Path, check: Callable[[], None] = lambda: None) -> None:
        self.path, self.check = path, check
        self.clock = Clock()  # what its writing is counted on
        with _told(path), contextlib.ExitStack() as opened:
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
            opened.callback(self._connection.close)
            _prepare(self._connection, path)
            self._next_seq: int | None = 1 + _last_seq(self._connection)
            self._mark = os.open(path.with_name(MARK_NAME), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
            opened.pop_all()  # nothing went wrong, so it stays open

    def append(self, *events: Event) -> list[Event]:
        """Commit the events in one transaction, in order; they are durable when it returns.

        Returns:
            The same events with their place in the global order and their time.

        Raises:
            RunError: The disk is full, the file cannot be written, or somebody else has appended; nothing was
                committed.
            sqlite3.IntegrityError: A row of that kind exists, or the row it hangs on does not; nothing was committed.
        """
        with self.clock.phase("journal"):
            return self._append(events)

    def _append(self, events: Sequence[Event]) -> list[Event]:
        self.check()
        first = self._next_seq or 1 + _last_seq(self._connection)
        # A signal may come just after the commit: unless it is known what was committed, the next append looks.
        self._next_seq = None
        try:
            with self._connection:  # one transaction: all or nothing
                self._connection.execute("BEGIN IMMEDIATE")
                done = [self._insert(event, seq) for seq, event in enumerate(events, start=first)]
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError) as error:
            self._next_seq = first
            if _last_seq(self._connection) >= first:
                raise RunError(
                    f"{self.path}: only one driver may append, but another has appended row {first}. "
                    f"Nothing more is written here; see how that one goes: tuner show {self.path.parent}"
                ) from error
            raise
        except sqlite3.DatabaseError as error:
            raise _unusable(self.path, error) from error
        self._write_mark(first + len(done) - 1)
        self._next_seq = first + len(done)
        return done

    def _write_mark(self, last: int) -> None:
        """Note the last row, after its commit: a mark that lags is harmless, one that leads tells of lost rows."""
        with contextlib.suppress(OSError):  # the rows are safe, whatever becomes of their mark
            os.pwrite(self._mark, mark_text(last).encode(), 0)

    def _insert(self, event: Event, seq: int) -> Event:
        at = event.at or time.time()
        body = encode(event.body)
        parent = self._parent(event)
        key = (seq, event.kind, event.trial, event.attempt, event.epoch)
        self._connection.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*key, parent, at, body, _checksum(*key, at, body.encode())),
        )
        return Event(event.kind, event.trial, event.attempt, event.epoch, event.body, at, seq)

    def _parent(self, event: Event) -> int | None:
        kind = _PARENT.get(event.kind)
        if kind is None:
            return None
        attempt = 0 if kind == "suggestion" else event.attempt
        epoch = event.epoch if kind == "epoch" else 0
        found = self._connection.execute(
            # The index is used only where the query repeats the index's own condition.
            "SELECT seq FROM events WHERE kind = ? AND trial = ? AND attempt = ? AND epoch = ?"
            " AND kind NOT IN ('session', 'note')",
            (kind, event.trial, attempt, epoch),
        ).fetchone()
        return found[0] if found else None  # the table's CHECK refuses the orphan

    def events(self) -> list[Event]:
        """Return every committed event in the global order."""
        with _told(self.path), uncollected():
            return list(_rows(self._connection, self.path))

    def history(self) -> History:
        """Return every committed event, folded; in less time than to fold what events() returns."""
        with _told(self.path), uncollected():
            return fold(_rows(self._connection, self.path))

    def close(self) -> None:
        """Fold the write-ahead log back into the file and close it; not where another driver has taken over."""
        try:
            self.check()
        except RunError:
            _abandon(self._connection)
        else:
            self._connection.close()
        os.close(self._mark)


def _abandon(connection: sqlite3.Connection) -> None:
    """Leave a connection as it is until the process ends.

    To close it, as Python does with what nobody refers to, would fold the log and delete it: across hosts SQLite cannot
    see that another driver is writing to it.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


def read(path: Path) -> list[Event]:
    """Return every committed event of a journal, also while its driver writes; changes nothing.

    Args:
        path: The journal file.

    Raises:
        RunError: No journal there, a damaged one, or one that lost committed rows.
    """
    return _read_into(list, path)


def has_rows(path: Path) -> bool:
    """Return whether a journal has a committed row; False where there is no journal yet. Changes nothing."""
    if not path.is_file():
        return False
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=10)) as opened:
            return bool(opened.execute("SELECT 1 FROM sqlite_master").fetchone()) and _last_seq(opened) > 0
    except sqlite3.Error as error:
        raise _unusable(path, error) from error


def read_history(path: Path) -> History:
    """Return what read() returns, folded; in less time and memory, since no event outlives its folding."""
    return _read_into(fold, path)


def _read_into(consume: Callable[[Iterator[Event]], T], path: Path) -> T:
    if not path.is_file():
        raise RunError(f"{path}: a run folder has a journal here, but there is none. `tuner ls` lists the runs.")
    if not _has_log(path):  # no driver is at it, so it can be read without leaving SQLite's own files beside it
        try:
            return _read_as("immutable=1", consume, path)
        except RunError:
            if not _has_log(path):  # else one has begun in the meantime
                raise
    return _read_as("mode=ro", consume, path)


def _has_log(path: Path) -> bool:
    return path.with_name(f"{path.name}-wal").exists()


def _read_as(mode: str, consume: Callable[[Iterator[Event]], T], path: Path) -> T:
    mark = _mark(path)  # before the rows, which its driver may be adding to
    uri = f"{path.resolve().as_uri()}?{mode}"
    with _told(path), uncollected(), contextlib.closing(sqlite3.connect(uri, uri=True, timeout=10)) as connection:
        connection.execute("BEGIN")  # one snapshot
        _check_version(connection, path)
        _check_mark(path, mark, _last_seq(connection))
        return consume(_rows(connection, path))


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    is_new = not connection.execute("SELECT 1 FROM sqlite_master").fetchone() and _user_version(connection) == 0
    if not is_new:
        _check_version(connection, path)
    _check_mark(path, _mark(path), 0 if is_new else _last_seq(connection))
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    if is_new:
        connection.executescript(f"BEGIN;{_SCHEMA}COMMIT;")
    for step in range(_user_version(connection), SCHEMA_VERSION):
        connection.executescript(f"BEGIN;{_MIGRATIONS[step]}PRAGMA user_version = {step + 1};COMMIT;")


def _user_version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    version = _user_version(connection)
    if not _OLDEST_VERSION <= version <= SCHEMA_VERSION:
        remedy = "It is empty, or no journal."
        if version:
            remedy = "A newer version wrote it: update this project."
            if version < _OLDEST_VERSION:
                remedy = "A version before the first release wrote it: run that sweep again."
        raise RunError(f"{path}: the journal's schema version must be {SCHEMA_VERSION}, but got ({version}). {remedy}")


def mark_text(last: int) -> str:
    """Return what the mark beside a journal holds whose last row is `last`."""
    number = f"{last:020d}"
    return f"{number} {zlib.crc32(number.encode()):08x}\n"


def _mark(path: Path) -> int:
    """Return the last row that the mark beside a journal knows of; 0 where there is none, or it is damaged itself."""
    try:
        with path.with_name(MARK_NAME).open("rb") as file:
            text = file.read(len(mark_text(0))).decode(errors="replace")
    except OSError:
        return 0
    number = text[:20]
    return int(number) if number.isdecimal() and text == mark_text(int(number)) else 0


def _check_mark(path: Path, mark: int, last: int) -> None:
    if mark > last:
        raise RunError(
            f"{path}: {mark - last} committed rows are missing (row {mark} was the last, the file ends at row {last}). "
            f"It was truncated, replaced by an older copy, or copied without {path.name}-wal; "
            "put the newer copy back, or run `tuner doctor`."
        )


def _last_seq(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0])


def _rows(connection: sqlite3.Connection, path: Path) -> Iterator[Event]:
    # In batches, and bodies as bytes: a large journal has a quarter of a million rows, and each microsecond counts.
    cursor = connection.execute(
        "SELECT seq, kind, trial, attempt, epoch, at, CAST(body AS BLOB), checksum FROM events ORDER BY seq"
    )
    place, new = 0, tuple.__new__
    while rows := cursor.fetchmany(_BATCH):
        for seq, kind, trial, attempt, epoch, at, body, checksum in rows:
            place += 1
            if seq != place or checksum != _checksum(seq, kind, trial, attempt, epoch, at, body):
                what = "is missing" if seq != place else "does not match its checksum"
                raise RunError(f"{path}: row {place} {what}, so the journal is damaged. Run `tuner doctor`.")
            told = _Unread(body) if kind == "epoch" else decoded(body)
            yield new(Event, (kind, trial, attempt, epoch, told, at, seq))


class _Unread(Mapping[str, Any]):
    """A row's body that is decoded when it is first looked at: nine rows of ten are epochs, and few are asked for."""

    __slots__ = ("_text", "_value")

    def __init__(self, text: bytes) -> None:
        self._text: bytes | None = text

    def __getitem__(self, key: str) -> Any:
        return self._value[key] if self._text is None else self._read()[key]  # a call less, a million times

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __repr__(self) -> str:
        return repr(self._read())

    def _read(self) -> dict[str, Any]:
        if self._text is not None:
            self._value, self._text = decoded(self._text), None
        return self._value


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Keep the garbage collector, which looks at all rows again and again, from a third of the time that they take."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Say what SQLite says of a journal in one sentence."""
    try:
        yield
    except (sqlite3.Error, OSError, UnicodeDecodeError) as error:  # the last: SQLite quotes a damaged name
        raise _unusable(path, error) from error


def _unusable(path: Path, error: Exception) -> RunError:
    return RunError(
        f"{path}: the journal cannot be used ({error}). Check the disk's room and the file's permissions; "
        "if they are fine, run `tuner doctor` on its folder."
    )
