"""Where one attempt writes: the run folder, or, of a run at a storage URI, a folder that is carried there."""

from __future__ import annotations

import contextlib
import errno
import platform
import random
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from tuner import checkpoints
from tuner.storage import Remote, is_uri, patiently

_LOG_EVERY_S = 10.0


class Outbox:
    """Where one attempt writes; closing it carries its log.

    Args:
        run: The run: a path, or a URI.
        log: The attempt's log, relative to the run.

    Raises:
        OSError: This node does not see the run folder, which nobody may make here: what is written would be lost.
    """

    def __init__(self, run: str, log: str) -> None:
        self._remote = Remote(run) if is_uri(run) else None
        self.folder = Path(tempfile.mkdtemp(prefix="tuner-out-")) if self._remote else Path(run)
        self.log = self.folder / log
        self._log_name, self._log_due = log, time.monotonic() + _LOG_EVERY_S
        if not self.folder.is_dir():
            raise OSError(errno.ENOENT, f"{platform.node()} does not see it", str(self.folder))

    @property
    def is_remote(self) -> bool:
        """Whether what is written here has to be carried."""
        return self._remote is not None

    def fetch(self, path: str) -> Path:
        """Return a checkpoint's folder, on this node, every byte as its manifest says.

        Args:
            path: The checkpoint's folder, relative to the run.

        Raises:
            DamagedCheckpoint: A file is missing or differs from the manifest.
            OSError: The store does not answer.
        """
        if self._remote is None:
            return self.folder / path
        remote = self._remote
        for name in (checkpoints.MANIFEST_NAME, checkpoints.STATE_NAME):
            target = self.folder / path / name
            with contextlib.suppress(FileNotFoundError):  # as verify_files will say
                patiently(lambda name=name, target=target: remote.download(f"{path}/{name}", target))  # type: ignore[misc]
        return checkpoints.verify_files(self.folder / path)

    def carry(self, paths: Iterable[str]) -> None:
        """Carry files, in this order, and delete them here; and the log, if that was not carried lately.

        Args:
            paths: Relative to the run.

        Raises:
            OSError: The store has not taken them within 2 minutes.
        """
        if self._remote is None:
            return
        remote = self._remote
        with _random_kept():
            for path in paths:
                patiently(lambda path=path: remote.upload(self.folder / path, path))  # type: ignore[misc]
                (self.folder / path).unlink()
            if time.monotonic() > self._log_due and self.log.is_file():
                self._log_due = time.monotonic() + _LOG_EVERY_S
                with contextlib.suppress(OSError):  # the next time, or at the end
                    remote.upload(self.log, self._log_name)

    def close(self) -> None:
        """Carry the log, as far as that can be, and delete what is here."""
        if self._remote is None:
            return
        with contextlib.suppress(OSError):
            if self.log.is_file():
                self._remote.upload(self.log, self._log_name)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def _random_kept() -> Iterator[None]:
    """Keep Python's random state: clients of stores draw from it how long they wait before they try again.

    A trial whose network had hiccups would else go another way than the same trial without.
    """
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)
