"""Leases as files of a run folder: lease/<number>.json."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from tuner.lease import standing

FOLDER_NAME = "lease"
_NAME = re.compile(r"([1-9]\d{0,17})\.json", re.ASCII)
_MOST_BYTES = 4096


class LeaseFolder:
    """The leases of one run folder, as tuner.lease.Store has it.

    Nothing is flushed to the disk: after a crash of the host there is no driver left that a lease could speak of.

    Args:
        run: The run folder.
    """

    def __init__(self, run: Path) -> None:
        self.folder = run / FOLDER_NAME

    def path(self, number: int) -> Path:
        """Return a lease's file."""
        return self.folder / f"{number}.json"

    def numbers(self) -> list[int]:
        """See Store; empty where nobody has ever had a lease."""
        try:
            names = [path.name for path in self.folder.iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [int(found[1]) for found in map(_NAME.fullmatch, names) if found]

    def read(self, number: int) -> tuple[str, float]:
        """See Store; follows no link, and waits for nobody where the file is a pipe."""
        changed_at = 0.0
        try:
            changed_at = self.path(number).lstat().st_mtime
            descriptor = os.open(self.path(number), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(descriptor, encoding="utf-8") as file:
                return file.read(_MOST_BYTES), changed_at
        except (OSError, UnicodeDecodeError):
            return "", changed_at

    def create(self, number: int, text: str) -> bool:
        """See Store; by a hard link: the server of a network file system decides, and the file is whole at once."""
        self.folder.mkdir(exist_ok=True)
        with self._scratch(number, text) as scratch:
            try:
                os.link(scratch, self.path(number))
            except FileExistsError:
                # Also where the server's answer to the first try was lost, and the second found what the first did.
                return self.read(number)[0] == text
            except OSError:
                return self._create_without_links(number, text)
        return True

    def _create_without_links(self, number: int, text: str) -> bool:
        try:
            descriptor = os.open(self.path(number), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            return False
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        return True

    def replace(self, number: int, text: str) -> None:
        """See Store; a link in the file's place is replaced, not followed."""
        with self._scratch(number, text) as scratch:
            scratch.rename(self.path(number))

    @contextlib.contextmanager
    def _scratch(self, number: int, text: str) -> Iterator[Path]:
        if self.folder.is_symlink():
            raise OSError(errno.ELOOP, f"{self.folder} is a symbolic link")
        scratch = self.folder / f".{number}-{secrets.token_hex(4)}.writing"
        try:
            with scratch.open("x", encoding="utf-8") as file:  # never through a link, since it must be new
                file.write(text)
            yield scratch
        finally:
            scratch.unlink(missing_ok=True)


def is_driven_elsewhere(run: Path) -> bool:
    """Return whether a driver on another host holds a valid lease of a run folder."""
    found = standing(LeaseFolder(run))
    return found is not None and found.binds
