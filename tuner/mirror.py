"""The journal of a run at a storage URI lies on its driver's own disk, and is carried to the URI as the sweep goes.

The mirror is the run folder that the driver writes; of a run whose storage is a path it is the run itself, and nothing
is carried. What is carried: snapshots of the journal, each consistent and at most 30 s old, and what the driver writes
beside it. Checkpoints, predictions and logs are written to the URI by workers; the driver fetches what it must look
into. Nothing is deleted at the URI before a snapshot holds the rows that it was deleted for.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from tuner import checkpoints
from tuner.backup import Backup
from tuner.errors import RunError
from tuner.history import TrialRecord
from tuner.journal import FILE_NAME, MARK_NAME, mark_text
from tuner.manifests import MANIFEST_NAME, STATE_NAME
from tuner.storage import PATIENCE_S, URI_NAME, Remote, patiently

SNAPSHOT_S, OLDEST_SNAPSHOT_S = 10.0, 30.0
# What workers write there themselves, and what belongs to this host alone.
_THEIRS = ("checkpoints", "predictions", "logs", "lease", "driver.lock", URI_NAME)


class Mirror:
    """One driver's run folder, and the URI that it is carried to.

    Args:
        folder: The run folder on this machine.
        remote: Where it is carried to; None: the folder is the run, and all of this does nothing.
    """

    def __init__(self, folder: Path, remote: Remote | None = None) -> None:
        self.folder, self.remote = folder, remote
        self.last_row = 0  # of the newest snapshot at the URI
        self._backup: Backup | None = None
        self._carrying, self._mutex = threading.Lock(), threading.Lock()  # the first may be held for minutes
        self._late: list[Callable[[], None]] = []  # what may be done once a snapshot holds all that was committed
        self._tasks: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._carried: dict[str, str] = {}

    @property
    def run(self) -> str:
        """The run as workers know it: a path, or a URI."""
        return str(self.remote or self.folder)

    def start(self, backup: Backup) -> None:
        """Carry what is there, and from now on a snapshot every 10 s in which something was committed.

        Args:
            backup: Makes the journal's copies.

        Raises:
            RunError: The storage cannot be written.
        """
        if self.remote is None:
            return
        self._backup = backup
        self.carry()
        self._thread = threading.Thread(target=self._keep_carrying, name="mirror", daemon=True)
        self._thread.start()

    def carry(self, patience_s: float = PATIENCE_S) -> None:
        """Carry all that the driver has written, the journal last; and do what waited for that.

        Args:
            patience_s: How long a storage may be out of reach, in seconds.

        Raises:
            RunError: The storage cannot be written; what is there is as it was.
        """
        if self.remote is None:
            return
        with self._carrying:
            with self._mutex:
                late, self._late = self._late, []
            try:
                patiently(self._carry_all, patience_s)
            except OSError as error:
                self._put_back(late)
                raise RunError(
                    f"{self.remote}: the run's storage must be writable, but got ({error.strerror or error}). All is"
                    f" kept in {self.folder}; once the storage can be written: tuner resume {self.remote}"
                ) from error
            except RunError:
                self._put_back(late)
                raise
        for action in late:
            self._tasks.put(action)
        if self._thread is None or self._closed.is_set():
            self._work_off()

    def _put_back(self, late: list[Callable[[], None]]) -> None:
        with self._mutex:
            self._late = late + self._late

    def _carry_all(self) -> None:
        for path in sorted(self.folder.rglob("*")):
            self._carry_file(path)
        self._snapshot()

    def _carry_file(self, path: Path) -> None:
        assert self.remote is not None
        name = path.relative_to(self.folder).as_posix()
        journals = name.startswith("journal.")
        hidden = any(part.startswith(".") for part in path.relative_to(self.folder).parts)
        if journals or hidden or name.partition("/")[0] in _THEIRS or path.is_symlink() or not path.is_file():
            return
        try:
            data = path.read_bytes()
        except FileNotFoundError:  # it is being replaced
            return
        digest = hashlib.sha256(data).hexdigest()
        if self._carried.get(name) != digest:
            self.remote.write(name, data)
            self._carried[name] = digest

    def _snapshot(self) -> None:
        assert self.remote is not None and self._backup is not None
        last = self._backup.now()
        self.remote.upload(self._backup.path, FILE_NAME)
        # The mark tells that rows are missing: it follows the rows.
        self.remote.write(MARK_NAME, mark_text(last).encode())
        self.last_row = last

    def _keep_carrying(self) -> None:
        assert self._backup is not None
        seen, due = self._standing(), time.monotonic() + SNAPSHOT_S
        while not self._closed.wait(0.2):
            self._work_off()
            if time.monotonic() < due:
                continue
            standing = self._standing()
            began = time.monotonic()
            if standing != seen or self._late:
                with contextlib.suppress(RunError):  # the next time; the last one, at the end, tells
                    self.carry(0)
                    seen = standing
            took = time.monotonic() - began
            due = time.monotonic() + min(max(SNAPSHOT_S, 20 * took), OLDEST_SNAPSHOT_S - took)

    def _standing(self) -> bytes:
        try:
            return (self.folder / MARK_NAME).read_bytes()
        except OSError:
            return os.urandom(8)

    def _work_off(self) -> None:
        while True:
            try:
                action = self._tasks.get_nowait()
            except queue.Empty:
                return
            with contextlib.suppress(OSError):  # what stays too long costs room; what is fetched again, time
                action()

    def close(self) -> None:
        """Stop carrying; what is committed after this is carried by `carry` alone."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    # -- what workers have written there ---------------------------------------------------------------------------

    def fetch(self, path: str) -> None:
        """Bring a checkpoint's folder here, as it is there now; where it is gone, none is.

        Args:
            path: Relative to the run folder.

        Raises:
            RunError: The storage cannot be read.
        """
        if self.remote is None:
            return
        shutil.rmtree(self.folder / path, ignore_errors=True)
        remote = self.remote

        def bring() -> None:
            for name in sorted(remote.entries(path), key=lambda name: name.endswith(MANIFEST_NAME)):
                remote.download(name, self.folder / name)

        try:
            patiently(bring)
        except FileNotFoundError:
            return
        except OSError as error:
            raise RunError(
                f"{self.remote}/{path}: a checkpoint must be readable, but got ({error.strerror or error}). What was"
                f" done is saved; go on with: tuner resume {self.remote}"
            ) from error

    def forget(self, paths: Iterable[str]) -> None:
        """Delete checkpoints at the URI, once a snapshot holds what is committed now.

        Args:
            paths: Their folders, relative to the run folder.
        """
        if self.remote is None:
            return
        remote, gone = self.remote, [*paths]
        files = [f"{path}/{name}" for path in gone for name in (MANIFEST_NAME, STATE_NAME)]
        if files:
            self._later(lambda: remote.delete(files))

    def tidy(self, record: TrialRecord, keep: Iterable[str]) -> None:
        """Gather a finished trial's predictions, and delete what it has left there, as `forget` does.

        Args:
            record: The trial.
            keep: Names of checkpoint folders to keep.
        """
        if self.remote is None:
            return
        kept = set(keep)
        self._later(lambda: self._tidy(record, kept))

    def tidy_all(self, trials: Iterable[tuple[TrialRecord, Iterable[str]]]) -> None:
        """Do `tidy` for every finished trial of which there is anything, as a driver that was killed has left it.

        Args:
            trials: Each with the names of its checkpoint folders to keep.
        """
        if self.remote is None:
            return
        remote, known = self.remote, [(record, set(keep)) for record, keep in trials]

        def look() -> None:
            left = {name.split("/")[1] for top in ("checkpoints", "predictions") for name in remote.entries(top)}
            for record, keep in known:
                if record.trial in left:
                    self._tidy(record, keep)

        self._later(look)

    def _later(self, action: Callable[[], None]) -> None:
        with self._mutex:
            self._late.append(action)

    def _tidy(self, record: TrialRecord, keep: set[str]) -> None:
        assert self.remote is not None
        left = self.remote.entries(f"checkpoints/{record.trial}")
        self.remote.delete(
            name
            for name in left
            if (folder := name.split("/")[-2]) not in keep and checkpoints.attempt_of(folder) <= record.attempts
        )
        parts = self.remote.entries(f"predictions/{record.trial}")
        for name in parts:
            self.remote.download(name, self.folder / name)
        checkpoints.gather_predictions(self.folder, record)
        gathered = f"predictions/{record.trial}.npz"
        if (self.folder / gathered).is_file():
            self.remote.upload(self.folder / gathered, gathered)
            self.remote.delete(parts)
