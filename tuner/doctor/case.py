"""A run folder as far as it can be read, and what is found to be wrong with it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from tuner import journal
from tuner.backup import FILE_NAME as BACKUP_NAME
from tuner.errors import RunError
from tuner.history import Event, History
from tuner.lease_folder import FOLDER_NAME as LEASE_NAME
from tuner.results import LOCK_NAME, is_driven
from tuner.salvage import Source

QUARANTINE = "quarantine"
# What this project makes in a run folder; whatever else lies there is its owner's.
FOLDERS = ("checkpoints", "logs", "predictions", "best", "code", LEASE_NAME, QUARANTINE)
FILES = (journal.FILE_NAME, journal.MARK_NAME, BACKUP_NAME, LOCK_NAME, "sweep.toml", "provenance.json")

Severity = Literal["error", "warning", "note"]
_NAME = re.compile(r"\w[\w+-]*", re.ASCII)


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    Args:
        severity: "error": a resume would lose something, or go wrong. "warning": something is lost or damaged that
            no resume needs. "note": nothing is wrong.
        what: What was found; it begins with the file.
        meaning: What that means.
        remedy: What to do.
        repair: The step of a repair that puts it right; None where a person must.
        path: The file, relative to the run folder.
    """

    severity: Severity
    what: str
    meaning: str
    remedy: str
    repair: str | None = None
    path: str = ""


@dataclasses.dataclass(frozen=True)
class Case:
    """A run folder under examination.

    Args:
        folder: The run folder.
        driven: Whether a live driver is at it.
    """

    folder: Path
    driven: bool

    @classmethod
    def of(cls, folder: Path) -> Case:
        """Look at a folder.

        Raises:
            RunError: There is none.
        """
        if not folder.is_dir():
            raise RunError(f"{folder}: RUN must be a run folder, but there is none. `tuner ls` lists the runs.")
        return cls(folder, is_driven(folder))

    @functools.cached_property
    def rows(self) -> list[tuple[Event, int | None]]:
        """The rows of the journal, each with its parent's number, up to the first that is damaged."""
        with Source(self.folder / journal.FILE_NAME) as source:
            return list(source.rows())

    @property
    def events(self) -> list[Event]:
        """The same without parents."""
        return [event for event, _ in self.rows]

    @functools.cached_property
    def history(self) -> History:
        """Those rows, folded; what no driver could have written is left out."""
        history = History()
        for event in self.events:
            with contextlib.suppress(Exception):  # examine_journal tells of each
                history.add(event)
        return history

    @functools.cached_property
    def tables(self) -> Mapping[str, Any]:
        """The frozen sweep's tables as the journal has them; empty where it has none."""
        try:
            return tomllib.loads(self.history.sweep_toml)
        except (tomllib.TOMLDecodeError, TypeError):
            return {}

    def path(self, relative: str) -> str:
        """Return how a file of this folder is named in a sentence."""
        return str(self.folder / relative)

    def known(self, trial: str) -> bool:
        """Return whether a row suggests this trial."""
        return trial in self.history.trials


def is_name(text: str) -> bool:
    """Return whether a trial's name is one that may become a part of a path."""
    return _NAME.fullmatch(text) is not None


def inside(folder: Path, relative: str) -> Path | None:
    """Return a path below a folder, or None where it would lead outside: by "..", by being absolute, by a link."""
    parts = PurePosixPath(relative).parts
    if not parts or "\0" in relative or any(part in ("/", "//", "..") for part in parts):
        return None
    path = folder
    for part in parts:
        path = path / part
        if path.is_symlink():
            return None
    return path


def links(folder: Path) -> Iterator[str]:
    """Yield the symbolic links among what this project makes in a run folder: it makes none itself."""
    yield from (name for name in (*FILES, *FOLDERS) if (folder / name).is_symlink())
    yield from (path.name for path in folder.glob(".*.writing") if path.is_symlink())
    for name in FOLDERS:
        for place, folders, files in os.walk(folder / name):  # follows no links
            found = (Path(place) / entry for entry in (*folders, *files))
            yield from (path.relative_to(folder).as_posix() for path in found if path.is_symlink())


def children(folder: Path) -> list[Path]:
    """Return what lies in a folder, sorted; nothing where there is none, or where it is a link."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    return sorted(folder.iterdir())


def is_leftover(path: Path) -> bool:
    """Return whether something is what a write left behind that was never finished."""
    return path.name.startswith(".") and path.name.endswith(".writing")


def read_json(path: Path) -> Any:
    """Return a JSON file's content, or None where it is missing, damaged or no JSON."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def digest(path: Path) -> str | None:
    """Return a file's SHA-256, or None where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
