"""Copies of a run folder, from a storage URI or a path, also while its driver writes.

A copy is brought up to date, not made again: what has not changed is not read. Every file is there whole or not at all,
and what it holds is verified: checkpoints by their manifests, the journal by its rows' checksums, other files by their
size and, where the store tells it, their MD5. The journal comes last, so what it speaks of is there already.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tuner.backup import check, copy_journal
from tuner.errors import RunError, UsageError, nearest
from tuner.journal import FILE_NAME, MARK_NAME, mark_text
from tuner.manifests import DamagedCheckpoint, verify_files
from tuner.salvage import row
from tuner.storage import URI_NAME, Entry, Remote, unreachable

INDEX_NAME = ".pulled.json"
_MD5 = re.compile(r"[0-9a-f]{32}", re.ASCII)
_TRIES = 3
_THREADS = 8
# What belongs to the driver and its host, or is made anew where it is needed.
_NOT_COPIED = ("driver.lock", MARK_NAME, FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm", "journal.backup.sqlite")

Wanted = Callable[[str], bool]
_SMALL, _SMALL_FOLDERS = ("sweep.toml", "provenance.json"), ("lease", "code")


def everything(path: str) -> bool:
    """Want the whole run."""
    return True


def small(path: str) -> bool:
    """Want what tells how a sweep stands: the frozen sweep, its code and its lease, beside the journal."""
    return path in _SMALL or path.partition("/")[0] in _SMALL_FOLDERS


def frames(path: str) -> bool:
    """Want what a person reads: the report and the best config, beside the journal."""
    top = path.partition("/")[0]
    reported = top in ("report.html", "report.md", "figures", "tables")
    return small(path) or reported or (top in ("best", "final") and not path.endswith(".pt"))


def results(path: str) -> bool:
    """Want all that came out: neither checkpoints nor logs."""
    return path.partition("/")[0] not in ("checkpoints", "logs") and not re.match(r"predictions/[^/]+/", path)


class GoneOn(RunError):
    """A copy whose journal has rows that its source has not."""


@dataclass(frozen=True)
class Pulled:
    """What pulling did.

    Args:
        folder: The copy.
        files: How many files were read; the journal counts as one.
        size: Their bytes.
        kept: How many were there already.
        last_row: The journal's last row.
    """

    folder: Path
    files: int
    size: int
    kept: int
    last_row: int


class Source(Protocol):
    """Where a run lies."""

    def entries(self, wanted: Wanted) -> dict[str, Entry]:
        """Return every file by its path; those that are not wanted may be missing."""

    def download(self, path: str, target: Path) -> None:
        """Write a copy of a file, whole or not at all."""

    def journal(self, target: Path) -> None:
        """Write a consistent copy of the journal."""


@dataclass(frozen=True)
class FolderSource:
    """A run folder that this machine sees."""

    folder: Path

    def entries(self, wanted: Wanted) -> dict[str, Entry]:
        """See Source; links are no files of a run."""
        found: dict[str, Entry] = {}
        for place, names, files in os.walk(self.folder):
            names[:] = [name for name in names if not name.startswith(".")]
            for name in files:
                path = Path(place, name)
                with contextlib.suppress(OSError):
                    if not path.is_symlink() and not name.startswith("."):
                        stat = path.stat()
                        entry = Entry(stat.st_size, f"{stat.st_mtime_ns}-{stat.st_ino}", stat.st_mtime)
                        found[path.relative_to(self.folder).as_posix()] = entry
        return found

    def download(self, path: str, target: Path) -> None:
        """See Source."""
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = target.with_name(f".{target.name}.writing")
        try:
            shutil.copyfile(self.folder / path, scratch)
            scratch.replace(target)
        finally:
            scratch.unlink(missing_ok=True)

    def journal(self, target: Path) -> None:
        """See Source."""
        copy_journal(self.folder / FILE_NAME, target)


@dataclass(frozen=True)
class RemoteSource:
    """A run at a storage URI."""

    remote: Remote

    def entries(self, wanted: Wanted) -> dict[str, Entry]:
        """See Source; a run of thousands of trials is not listed where a few files will do."""
        if wanted is not small:
            return self.remote.entries()
        found = {name: entry for name in _SMALL if (entry := self.remote.entry(name))}
        return found | {path: entry for folder in _SMALL_FOLDERS for path, entry in self.remote.entries(folder).items()}

    def download(self, path: str, target: Path) -> None:
        """See Source."""
        self.remote.download(path, target)

    def journal(self, target: Path) -> None:
        """See Source."""
        self.remote.download(FILE_NAME, target)


def pull(
    source: Path | Remote, folder: Path, wanted: Wanted = everything, *, lease: bool = False, checked: bool = True
) -> Pulled:
    """Make or renew a copy of a run.

    Args:
        source: Where the run lies.
        folder: The copy; made where it is missing.
        wanted: Which files to copy; the journal is always one of them.
        lease: Whether the lease is a part of it, by which a reader sees that a driver is at work.
        checked: Whether what is damaged is refused; `tuner doctor` wants to look at it.

    Returns:
        What was done.

    Raises:
        RunError: There is no run at the source, a file cannot be read or does not match its checksum, or the copy has
            gone on by itself.
    """
    place: Source = RemoteSource(source) if isinstance(source, Remote) else FolderSource(source)
    with unreachable(source, "must be readable"):
        return _pull(place, str(source), folder, wanted, lease, checked)


def target_of(source: Path | Remote, folder: Path) -> Path:
    """Return where the copy of a run goes: the folder that is asked for, or one below it where that has other things.

    Args:
        source: Where the run lies.
        folder: What the user said.

    Raises:
        UsageError: Something else stands there.
    """
    name = source.name
    for place in (folder, folder / name):
        if place.exists() and not place.is_dir():
            raise UsageError(f"{place}: DIR must be a folder, but there is a file. Choose another DIR.")
        if not place.exists() or not any(place.iterdir()) or is_copy_of(place, str(source)):
            return place
    raise UsageError(
        f"{folder / name}: DIR must be new, or a copy of {source}, but something else is there. Choose another DIR."
    )


def renew(remote: Remote, folder: Path, wanted: Wanted) -> None:
    """Bring a run at a URI to this account's cache, to be read; one that was made anew there is copied anew.

    Raises:
        RunError: As pull().
    """
    if not remote.has("sweep.toml"):
        raise none_there(remote)
    for left in (True, False):
        try:
            pull(remote, folder, wanted, lease=True)
            break
        except GoneOn:  # a run of that name was deleted, and another one begun
            if not left:
                raise
            shutil.rmtree(folder)
    (folder / URI_NAME).write_text(remote.uri)


def none_there(remote: Remote) -> RunError:
    """Return what says that there is no run at a URI, and which name is near."""
    uri, _, name = remote.uri.rpartition("/")
    names: list[str] = []
    with contextlib.suppress(OSError, UsageError):
        names = Remote(uri).folders()
    return RunError(
        f"{remote}: RUN must be a run at a storage URI, but there is none there. "
        + (nearest(name, names) or f"`tuner ls {uri}` lists the runs.")
    )


def _pull(source: Source, name: str, folder: Path, wanted: Wanted, lease: bool, checked: bool) -> Pulled:
    folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    known = _index(folder, name)
    scratch = folder / f".{FILE_NAME}.pulled"
    try:
        last = _fetch_journal(source, name, scratch, folder / FILE_NAME, checked)
        listed = source.entries(wanted)
        left_out = (*_NOT_COPIED, *(() if lease else ("lease",)))
        files = {
            path: entry
            for path, entry in listed.items()
            if wanted(path) and path.partition("/")[0] not in left_out and _is_inside(path)
        }
        stale = [path for path, entry in files.items() if not _is_there(folder / path, entry, known.get(path))]
        with ThreadPoolExecutor(_THREADS) as threads:
            fetched = [*threads.map(lambda path: _fetch(source, path, folder / path, files[path]), stale)]
        got = {path for path, done in zip(stale, fetched, strict=True) if done}
        now = {path: entry.tag for path, entry in files.items() if path in got or path not in stale}
        if checked:
            _verify_checkpoints(folder, got)
        gone = {path for path in known if wanted(path) and path not in listed}
        _remove(folder, gone)
        (folder / MARK_NAME).unlink(missing_ok=True)
        size = scratch.stat().st_size + sum(files[path].size for path in got)
        scratch.replace(folder / FILE_NAME)
        (folder / MARK_NAME).write_text(mark_text(last))
        _write_index(folder, name, {path: tag for path, tag in (known | now).items() if path not in gone})
    finally:
        scratch.unlink(missing_ok=True)
    return Pulled(folder, len(got) + 1, size, len(now) - len(got), last)


def _is_inside(path: str) -> bool:
    """Return whether a path that somebody else named stays in its folder."""
    parts = path.split("/")
    return all(part not in ("", ".", "..") for part in parts) and not parts[0].startswith(".")


def _fetch_journal(source: Source, name: str, scratch: Path, present: Path, checked: bool) -> int:
    for left in reversed(range(_TRIES)):
        try:
            source.journal(scratch)
            if not checked:
                return (row(scratch) or (0,))[0]
            last = check(scratch, scratch)
            break
        except FileNotFoundError:
            raise RunError(f"{name}: a run has a journal, but there is none. `tuner ls` lists the runs.") from None
        except RunError as error:
            if not left:
                raise RunError(f"{name}: the journal is damaged. See: tuner doctor {name}") from error
    before = row(present)
    if before is not None and row(scratch, before[0]) != before:
        raise GoneOn(
            f"{present.parent}: a copy must not have gone on by itself, but its journal has rows that {name} has not. "
            "Choose another DIR."
        )
    return last


def _is_there(path: Path, entry: Entry, tag: str | None) -> bool:
    try:
        return tag == entry.tag and path.stat().st_size == entry.size
    except OSError:
        return False


def _fetch(source: Source, path: str, target: Path, entry: Entry) -> bool:
    """Copy a file and compare it; returns False where it is gone meanwhile, as a checkpoint may be.

    Raises:
        OSError: It differs, three times.
    """
    for left in reversed(range(_TRIES)):
        try:
            source.download(path, target)
        except FileNotFoundError:
            return False
        data = target.read_bytes()
        whole = len(data) == entry.size
        if whole and _MD5.fullmatch(entry.tag):
            whole = hashlib.md5(data, usedforsecurity=False).hexdigest() == entry.tag
        if whole or not left:
            break
        entry = source.entries(everything).get(path, entry)  # it was written again meanwhile
    if not whole:
        target.unlink()
        raise OSError(None, f"{path} arrives with other bytes than the store says that it has")
    return True


def _verify_checkpoints(folder: Path, got: set[str]) -> None:
    """Compare checkpoints with their manifests; one that was being deleted is taken away again."""
    for path in sorted({Path(path).parent for path in got if path.startswith("checkpoints/")}):
        try:
            verify_files(folder / path)
        except DamagedCheckpoint:
            shutil.rmtree(folder / path, ignore_errors=True)


def _remove(folder: Path, paths: Iterable[str]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            (folder / path).unlink()
            for parent in (folder / path).parents:
                if parent == folder:
                    break
                parent.rmdir()


def _index(folder: Path, source: str) -> dict[str, str]:
    """Return what is known of a copy: path -> tag; empty where it is of another run, or none yet."""
    try:
        told = json.loads((folder / INDEX_NAME).read_text())
        return dict(told["files"]) if told["source"] == source else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _write_index(folder: Path, source: str, files: Mapping[str, str]) -> None:
    scratch = folder / f"{INDEX_NAME}.writing"
    scratch.write_text(json.dumps({"source": source, "files": files}))
    scratch.replace(folder / INDEX_NAME)


def is_copy_of(folder: Path, source: str) -> bool:
    """Return whether a folder was pulled from there."""
    try:
        return bool(json.loads((folder / INDEX_NAME).read_text())["source"] == source)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def cache_folder(remote: Remote, kind: str) -> Path:
    """Return this account's folder for a run at a URI: $TUNER_CACHE, else ~/.cache/tuner.

    Args:
        remote: The run.
        kind: "runs" for those that are driven from here, "read" for those that are only looked at.
    """
    given = os.environ.get("TUNER_CACHE")
    base = Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tuner"
    return base.absolute() / kind / hashlib.sha256(remote.uri.encode()).hexdigest()[:12] / remote.name
