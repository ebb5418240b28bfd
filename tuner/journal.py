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

import hashlib
import json
import math
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tuner.errors import RunError
from tuner.history import Event

SCHEMA_VERSION = 1
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
    checksum TEXT NOT NULL,
    CHECK (parent IS NOT NULL OR kind IN ('sweep', 'session', 'suggestion', 'note'))
) STRICT;
CREATE UNIQUE INDEX one_of_a_kind ON events (kind, trial, attempt, epoch) WHERE kind NOT IN ('session', 'note');
CREATE TRIGGER no_update BEFORE UPDATE ON events BEGIN SELECT RAISE (ABORT, 'the journal is append-only'); END;
CREATE TRIGGER no_delete BEFORE DELETE ON events BEGIN SELECT RAISE (ABORT, 'the journal is append-only'); END;
PRAGMA user_version = {SCHEMA_VERSION};
"""

# A migration turns schema version n into n + 1; the driver applies them in order when it opens an older journal.
_MIGRATIONS: dict[int, str] = {}


def encode(body: Mapping[str, Any]) -> str:
    """Return `body` as strict JSON; non-finite floats, which JSON has not, become {"float": "nan"}."""
    try:
        return json.dumps(body, allow_nan=False, separators=(",", ":"))
    except ValueError:
        return json.dumps(_finite(body), allow_nan=False, separators=(",", ":"))


def decode(text: str) -> dict[str, Any]:
    """Return what encode() was given."""
    if '{"float":' not in text:
        return json.loads(text)  # type: ignore[no-any-return]
    return json.loads(text, object_hook=_unwrap)  # type: ignore[no-any-return]


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    return value


def _unwrap(value: dict[str, Any]) -> Any:
    return float(value["float"]) if value.keys() == {"float"} else value


def _checksum(seq: int, kind: str, trial: str, attempt: int, epoch: int, at: float, body: str) -> str:
    text = f"{seq}|{kind}|{trial}|{attempt}|{epoch}|{at!r}|{body}"
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


class Journal:
    """The writing side of a sweep's journal; only its driver holds one.

    Args:
        path: The journal file; its folder must exist. A new file is created where there is none.

    Raises:
        RunError: The file is no journal, is damaged, is newer than this version, or lost committed rows.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._connection = _connect(path)
            _prepare(self._connection, path)
        except sqlite3.DatabaseError as error:
            raise _damaged(path, error) from error
        self._mark = os.open(path.with_name(MARK_NAME), os.O_RDWR | os.O_CREAT, 0o644)
        self._next_seq = 1 + _last_seq(self._connection)

    def append(self, *events: Event) -> list[Event]:
        """Commit the events in one transaction, in order; they are durable when it returns.

        Returns:
            The same events with their place in the global order and their time.

        Raises:
            sqlite3.IntegrityError: A row of that kind exists, or the row it hangs on does not.
        """
        done: list[Event] = []
        with self._connection:  # one transaction: all or nothing
            self._connection.execute("BEGIN IMMEDIATE")
            for offset, event in enumerate(events):
                done.append(self._insert(event, self._next_seq + offset))
        self._next_seq += len(done)
        # Written after the commit and without fsync: a mark that lags is harmless, one that leads tells of lost rows.
        os.pwrite(self._mark, f"{self._next_seq - 1:020d}\n".encode(), 0)
        return done

    def _insert(self, event: Event, seq: int) -> Event:
        at = event.at or time.time()
        body = encode(event.body)
        parent = self._parent(event)
        key = (seq, event.kind, event.trial, event.attempt, event.epoch)
        self._connection.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*key, parent, at, body, _checksum(*key, at, body)),
        )
        return Event(event.kind, event.trial, event.attempt, event.epoch, event.body, at, seq)

    def _parent(self, event: Event) -> int | None:
        kind = _PARENT.get(event.kind)
        if kind is None:
            return None
        attempt = 0 if kind == "suggestion" else event.attempt
        epoch = event.epoch if kind == "epoch" else 0
        found = self._connection.execute(
            "SELECT seq FROM events WHERE kind = ? AND trial = ? AND attempt = ? AND epoch = ?",
            (kind, event.trial, attempt, epoch),
        ).fetchone()
        return found[0] if found else None  # the table's CHECK refuses the orphan

    def events(self) -> list[Event]:
        """Return every committed event in the global order."""
        return list(_rows(self._connection, self.path))

    def close(self) -> None:
        """Fold the write-ahead log back into the file and close it."""
        self._connection.close()
        os.close(self._mark)


def read(path: Path) -> list[Event]:
    """Return every committed event of a journal, also while its driver writes; changes nothing.

    Args:
        path: The journal file.

    Raises:
        RunError: No journal there, or a damaged one.
    """
    if not path.is_file():
        raise RunError(f"{path}: a run folder has a journal here, but there is none. `tuner ls` lists the runs.")
    try:
        connection = _connect_read_only(path)
        try:
            _check_version(connection, path)
            return list(_rows(connection, path))
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        raise _damaged(path, error) from error


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _connect_read_only(path: Path) -> sqlite3.Connection:
    uri = path.resolve().as_uri()
    connection = sqlite3.connect(f"{uri}?mode=ro", uri=True, timeout=10)
    try:
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        # A WAL file cannot be opened in a folder that may not be written; nobody else can be writing there either.
        connection.close()
        connection = sqlite3.connect(f"{uri}?immutable=1", uri=True)
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == 0 and not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
        connection.executescript(f"BEGIN;{_SCHEMA}COMMIT;")
        return
    _check_version(connection, path)
    for step in range(version, SCHEMA_VERSION):
        connection.executescript(f"BEGIN;{_MIGRATIONS[step]}PRAGMA user_version = {step + 1};COMMIT;")
    _check_mark(connection, path)


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if not 1 <= version <= SCHEMA_VERSION:
        raise RunError(
            f"{path}: the journal's schema version must be 1 to {SCHEMA_VERSION}, but got ({version}). "
            "It was written by a newer version, or is no journal; update this project."
        )


def _check_mark(connection: sqlite3.Connection, path: Path) -> None:
    mark = path.with_name(MARK_NAME)
    text = mark.read_text(errors="replace").strip() if mark.is_file() else ""
    last = _last_seq(connection)
    if text.isdigit() and int(text) > last:
        raise RunError(
            f"{path}: {int(text) - last} committed rows are missing (row {text.lstrip('0')} was the last, "
            f"the file ends at row {last}). It was truncated or replaced by an older copy; put the newer copy back, or run `tuner doctor`."
        )


def _last_seq(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0])


def _rows(connection: sqlite3.Connection, path: Path) -> Iterator[Event]:
    rows = connection.execute("SELECT seq, kind, trial, attempt, epoch, at, body, checksum FROM events ORDER BY seq")
    for place, (seq, kind, trial, attempt, epoch, at, body, checksum) in enumerate(rows, start=1):
        if seq != place or checksum != _checksum(seq, kind, trial, attempt, epoch, at, body):
            what = "is missing" if seq != place else "does not match its checksum"
            raise RunError(f"{path}: row {place} {what}, so the journal is damaged. Run `tuner doctor`.")
        yield Event(kind, trial, attempt, epoch, decode(body), at, seq)


def _damaged(path: Path, error: Exception) -> RunError:
    return RunError(f"{path}: the journal cannot be read ({error}). Run `tuner doctor` on its folder.")
